//! Blocks with their transactions.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::{Block, Hash};

/// The blocks that were fetched last.
#[derive(Debug)]
pub(super) struct Blocks<T> {
    by_hash: HashMap<Hash, Arc<Block<T>>>,
    /// Oldest first.
    order: VecDeque<Hash>,
}

impl<T> Blocks<T> {
    pub(super) fn new() -> Self {
        Self { by_hash: HashMap::new(), order: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Arc<Block<T>>> {
        self.by_hash.get(hash)
    }

    pub(super) fn insert(&mut self, block: Block<T>) {
        let hash = block.header.hash;
        if self.by_hash.insert(hash, Arc::new(block)).is_none() {
            self.order.push_back(hash);
        }
    }

    /// Lets the oldest go.
    pub(super) fn keep(&mut self, limit: usize) {
        while self.order.len() > limit {
            if let Some(oldest) = self.order.pop_front() {
                self.by_hash.remove(&oldest);
            }
        }
    }
}
