//! Which node each header came from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Hash;

/// Which node a header came from first, until its block is there. What remains are headers beside the canonical branch,
/// which are bounded for each node.
#[derive(Debug, Default)]
pub(super) struct HeaderOrigins {
    by_hash: HashMap<Hash, Arc<str>>,
    counts: HashMap<Arc<str>, usize>,
}

impl HeaderOrigins {
    pub(super) fn get(&self, hash: &Hash) -> Option<&Arc<str>> {
        self.by_hash.get(hash)
    }

    /// How many headers from this node have no block yet.
    pub(super) fn count(&self, node: &str) -> usize {
        self.counts.get(node).copied().unwrap_or_default()
    }

    pub(super) fn insert(&mut self, hash: Hash, node: Arc<str>) {
        self.remove(&hash);
        *self.counts.entry(Arc::clone(&node)).or_default() += 1;
        self.by_hash.insert(hash, node);
    }

    pub(super) fn remove(&mut self, hash: &Hash) {
        let Some(node) = self.by_hash.remove(hash) else { return };
        if let Some(count) = self.counts.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&node);
            }
        }
    }

    pub(super) fn retain(&mut self, stays: impl Fn(&Hash) -> bool) {
        let gone: Vec<Hash> = self.by_hash.keys().filter(|hash| !stays(hash)).copied().collect();
        for hash in &gone {
            self.remove(hash);
        }
    }
}
