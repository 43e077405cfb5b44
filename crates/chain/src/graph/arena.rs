//! The storage of headers: chunks in the order of arrival, and an index by hash, both shared between clones.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::chunks::Chunks;
use crate::{Hash, Height, Work};

/// A header's place; a parent's is lower than its children's.
pub(super) type Id = u32;

const SHARDS: usize = 1024;

/// A header as it is stored: its work and its parent's hash follow from the parent.
#[derive(Clone, Copy, Debug)]
pub(super) struct StoredHeader {
    pub(super) hash: Hash,
    /// The weight of the branch from the first root to this block, both included.
    pub(super) total: Work,
    pub(super) height: Height,
    pub(super) time: u64,
}

/// The links of a header; stored separately, so that a walk touches little memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Links {
    pub(super) parent: Id,
    /// A lower ancestor: see [`Skips`](super::skips::Skips).
    pub(super) skip: Id,
}

/// Append-only, except that whole chunks are dropped. A clone shares all that neither side changes later.
#[derive(Clone, Debug)]
pub(super) struct Arena {
    nodes: Chunks<StoredHeader>,
    links: Chunks<Links>,
    index: Index,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self { nodes: Chunks::new(), links: Chunks::new(), index: Index::new() }
    }

    /// The id that the next header gets, unless there are too many.
    pub(super) fn next_id(&self) -> Option<Id> {
        Id::try_from(self.nodes.len()).ok()
    }

    /// The ids of all headers that were ever inserted, dropped ones included.
    pub(super) fn ids(&self) -> std::ops::Range<usize> {
        0..self.nodes.len()
    }

    pub(super) fn push(&mut self, id: Id, node: StoredHeader, links: Links) {
        self.nodes.push(node);
        self.links.push(links);
        self.index.insert(node.hash, id);
    }

    pub(super) fn find(&self, hash: &Hash) -> Option<Id> {
        self.index.get(hash)
    }

    /// `None` for a dropped header.
    pub(super) fn get(&self, id: Id) -> Option<&StoredHeader> {
        self.nodes.get(id as usize)
    }

    /// `None` for a dropped header.
    pub(super) fn links(&self, id: Id) -> Option<Links> {
        self.links.get(id as usize).copied()
    }

    /// What is in this place, unless it was dropped: also if the rest of its chunk is kept, or it was inserted again.
    pub(super) fn at(&self, place: usize) -> Option<(Id, Hash, Links)> {
        let id = Id::try_from(place).ok()?;
        let (node, links) = (self.get(id)?, self.links(id)?);
        (self.find(&node.hash) == Some(id)).then_some((id, node.hash, links))
    }

    pub(super) fn forget(&mut self, hash: &Hash) {
        self.index.remove(hash);
    }

    /// Drops chunks without a needed header.
    pub(super) fn keep(&mut self, needed: impl Fn(usize) -> bool) {
        self.nodes.keep(&needed);
        self.links.keep(needed);
    }

    #[cfg(test)]
    pub(super) fn shared_with(&self, other: &Self) -> (usize, usize) {
        let shards = self.index.shards.iter().zip(&other.index.shards);
        (self.nodes.shared_with(&other.nodes), shards.filter(|(a, b)| Arc::ptr_eq(a, b)).count())
    }

    #[cfg(test)]
    pub(super) fn chunks(&self) -> usize {
        self.nodes.allocated()
    }
}

/// Ids by hash, in many small maps: a change copies one of them.
#[derive(Clone, Debug)]
struct Index {
    shards: Vec<Arc<HashMap<Hash, Id>>>,
    /// Random, so that makers of blocks cannot choose the shard.
    shard: RandomState,
}

impl Index {
    fn new() -> Self {
        Self { shards: vec![Arc::default(); SHARDS], shard: RandomState::new() }
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower bits are what is asked for")]
    fn shard(&self, hash: &Hash) -> usize {
        self.shard.hash_one(hash) as usize % SHARDS
    }

    fn get(&self, hash: &Hash) -> Option<Id> {
        self.shards[self.shard(hash)].get(hash).copied()
    }

    fn insert(&mut self, hash: Hash, id: Id) {
        let shard = self.shard(&hash);
        Arc::make_mut(&mut self.shards[shard]).insert(hash, id);
    }

    fn remove(&mut self, hash: &Hash) {
        let shard = self.shard(hash);
        Arc::make_mut(&mut self.shards[shard]).remove(hash);
    }
}
