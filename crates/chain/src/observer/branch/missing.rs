//! The blocks that are not there yet.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::{Block, Hash, Header};

/// The missing blocks on the paths to better heads, in the order of these paths, each with the best that a node returned of
/// it.
#[derive(Debug)]
pub(super) struct MissingBlocks<T> {
    headers: Vec<Header>,
    by_hash: HashMap<Hash, Missing<T>>,
}

#[derive(Debug)]
struct Missing<T> {
    since: Instant,
    /// Less than was asked for.
    best: Option<Block<T>>,
}

impl<T> MissingBlocks<T> {
    pub(super) fn new() -> Self {
        Self { headers: Vec::new(), by_hash: HashMap::new() }
    }

    pub(super) fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// Records which blocks are missing now. Others are forgotten.
    pub(super) fn are(&mut self, headers: Vec<Header>, now: Instant) {
        let mut before = std::mem::take(&mut self.by_hash);
        let missing = |header: &Header| {
            let missing = before.remove(&header.hash);
            (header.hash, missing.unwrap_or(Missing { since: now, best: None }))
        };
        self.by_hash = headers.iter().map(missing).collect();
        self.headers = headers;
    }

    /// Since when a block is missing.
    pub(super) fn since(&self, block: &Hash) -> Option<Instant> {
        Some(self.by_hash.get(block)?.since)
    }

    /// Keeps less of a missing block than was asked for, unless as much of it is kept.
    pub(super) fn keep(&mut self, block: Block<T>) {
        let Some(missing) = self.by_hash.get_mut(&block.header.hash) else { return };
        if missing.best.as_ref().is_none_or(|best| best.detail < block.detail) {
            missing.best = Some(block);
        }
    }

    /// What was kept of a block.
    pub(super) fn best(&self, block: &Hash) -> Option<&Block<T>> {
        self.by_hash.get(block)?.best.as_ref()
    }

    /// A block is there.
    pub(super) fn arrived(&mut self, block: &Hash) {
        if self.by_hash.remove(block).is_some() {
            self.headers.retain(|header| header.hash != *block);
        }
    }
}
