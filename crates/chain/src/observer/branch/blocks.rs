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

    /// Keeps a block, unless as much of it is there.
    pub(super) fn insert(&mut self, block: Block<T>) {
        let hash = block.header.hash;
        let before = self.by_hash.get(&hash).map(|before| before.detail);
        if before.is_none_or(|before| before < block.detail) {
            self.by_hash.insert(hash, Arc::new(block));
        }
        if before.is_none() {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Detail, Header};

    #[test]
    fn a_late_answer_with_less_of_a_block_does_not_replace_it() {
        let header = Header { hash: Hash([1; 32]), parent: Hash([0; 32]), height: 1, work: 1, time: 0 };
        let mut blocks = Blocks::new();
        for (block, kept) in [
            (Block::unread(header), Detail::Header),
            (Block::new(header, vec!["paid"]), Detail::Results),
            (Block { detail: Detail::Transactions, ..Block::new(header, vec!["paid"]) }, Detail::Results),
            (Block::unread(header), Detail::Results),
        ] {
            blocks.insert(block);
            assert_eq!(blocks.get(&header.hash).map(|block| block.detail), Some(kept));
        }
        assert_eq!(blocks.len(), 1);
        blocks.keep(0);
        assert_eq!(blocks.len(), 0);
    }
}
