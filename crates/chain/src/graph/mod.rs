//! The headers of all branches, and how they are linked.
//!
//! A [`Graph`] holds facts: which block has which parent. Which branch is canonical is not one of them: questions name
//! a tip. What is not in the graph is unknown, not false.
//!
//! A clone costs one counter: clones share chunks of headers, and a change copies only the chunks that it
//! touches. Ancestors are found by skip pointers in a logarithmic number of steps.

mod arena;
mod chunks;
mod draw;
mod error;
mod forks;
mod prune;
mod query;
mod skips;
mod trunk;

use std::fmt;
use std::sync::Arc;

use crate::{Hash, Header, Height, Work};
use arena::{Arena, Id, Links, StoredHeader};
use chunks::Chunks;
use skips::Skips;

pub use error::{InsertError, Inserted, PruneError};
pub use forks::{Fork, ForkList};
pub use query::{Branch, OnBranch, Path};

/// Headers from a root on, linked to their parents, in the order they were first seen.
///
/// # Examples
///
/// ```
/// use watchkeeper_chain::{Graph, Hash, Header, Inserted, OnBranch};
///
/// let header = |name: u8, parent: u8, height| {
///     Header { hash: Hash([name; 32]), parent: Hash([parent; 32]), height, work: 1, time: 0 }
/// };
/// let (root, a, b) = (header(1, 0, 7), header(2, 1, 8), header(3, 1, 8));
/// let mut graph = Graph::new(root);
/// assert_eq!(graph.insert(a), Ok(Inserted::New));
/// assert_eq!(graph.insert(b), Ok(Inserted::New));
///
/// assert_eq!(graph.common_ancestor(&a.hash, &b.hash), Some(root));
/// assert_eq!(graph.is_on_branch(&root.hash, &b.hash), OnBranch::Yes);
/// assert_eq!(graph.is_on_branch(&a.hash, &b.hash), OnBranch::No);
/// assert_eq!(graph.is_on_branch(&Hash([9; 32]), &b.hash), OnBranch::Unknown);
/// ```
#[derive(Clone)]
pub struct Graph {
    inner: Arc<Inner>,
}

#[derive(Clone)]
struct Inner {
    arena: Arena,
    root: Id,
    root_parent: Hash,
    root_work: Work,
    /// The heaviest branch by height above the base: a short cut, on which no answer depends. Of equals the one seen
    /// first stays.
    trunk: Chunks<Id>,
    /// Skip pointers count heights from here, also after pruning.
    base: Height,
    /// The blocks without children, in the order they were first seen.
    leaves: Vec<Id>,
    len: usize,
}

impl Graph {
    /// A graph of one block, the root.
    #[must_use]
    pub fn new(root: Header) -> Self {
        let mut arena = Arena::new();
        let Header { hash, parent, height, work, time } = root;
        arena.push(0, StoredHeader { hash, total: work, height, time }, Links { parent: 0, skip: 0 });
        let mut trunk = Chunks::new();
        trunk.push(0);
        let inner = Inner {
            arena,
            trunk,
            root: 0,
            root_parent: parent,
            root_work: work,
            base: height,
            leaves: vec![0],
            len: 1,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Inserts a header whose parent is in the graph.
    ///
    /// # Errors
    ///
    /// [`InsertError`]: what is missing or contradicts. The graph is unchanged.
    pub fn insert(&mut self, header: Header) -> Result<Inserted, InsertError> {
        let Header { hash, parent, height, work, time } = header;
        if let Some(known) = self.get(&hash) {
            return if known == header {
                Ok(Inserted::Known)
            } else {
                Err(InsertError::Contradicts { hash, height: known.height })
            };
        }
        let root = self.root().height;
        if height <= root {
            return Err(InsertError::BelowRoot { hash, height, root });
        }
        let Some(parent_id) = self.inner.arena.find(&parent) else {
            return Err(InsertError::MissingParent { hash, height, parent });
        };
        let below = *self.node(parent_id);
        if below.height.checked_add(1) != Some(height) {
            let expected = below.height.saturating_add(1);
            return Err(InsertError::WrongHeight { hash, found: height, expected });
        }
        let total = below.total.checked_add(work).ok_or(InsertError::TooHeavy { hash })?;
        let id = self.inner.arena.next_id().ok_or(InsertError::Full)?;
        let skip_to = Skips::at(height - self.inner.base).skip().height() + self.inner.base;
        let skip = self.climb_down(parent_id, skip_to.max(root));
        let inner = Arc::make_mut(&mut self.inner);
        inner.arena.push(id, StoredHeader { hash, total, height, time }, Links { parent: parent_id, skip });
        // A parent that is a leaf is most often the last one.
        if let Some(leaf) = inner.leaves.iter().rposition(|leaf| *leaf == parent_id) {
            inner.leaves.remove(leaf);
        }
        inner.leaves.push(id);
        inner.len += 1;
        self.grow_trunk(id);
        Ok(Inserted::New)
    }

    /// The lowest block, of which all others are descendants.
    #[must_use]
    pub fn root(&self) -> Header {
        self.header(self.inner.root)
    }

    /// The header of this hash.
    #[must_use]
    pub fn get(&self, hash: &Hash) -> Option<Header> {
        self.inner.arena.find(hash).map(|id| self.header(id))
    }

    /// Whether the block is in the graph.
    #[must_use]
    pub fn contains(&self, hash: &Hash) -> bool {
        self.inner.arena.find(hash).is_some()
    }

    /// How many headers are kept; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a graph is never empty")]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// The weight of the branch up to this block. It is counted from the first root of this graph, so that it serves to
    /// compare branches, and pruning does not change it.
    #[must_use]
    pub fn total_work(&self, hash: &Hash) -> Option<Work> {
        self.find(hash).map(|node| node.total)
    }

    /// When the block was first seen, as a number that is lower for those seen earlier.
    #[must_use]
    pub fn first_seen(&self, hash: &Hash) -> Option<u32> {
        self.inner.arena.find(hash)
    }

    fn find(&self, hash: &Hash) -> Option<&StoredHeader> {
        self.inner.arena.find(hash).map(|id| self.node(id))
    }

    /// For an id that was reached from one in the index: neither it nor its ancestors up to the root are dropped.
    fn node(&self, id: Id) -> &StoredHeader {
        self.inner.arena.get(id).expect("what is above the root is kept")
    }

    /// For such an id too.
    fn links(&self, id: Id) -> Links {
        self.inner.arena.links(id).expect("what is above the root is kept")
    }

    fn header(&self, id: Id) -> Header {
        let StoredHeader { hash, total, height, time } = *self.node(id);
        let (parent, work) = if id == self.inner.root {
            (self.inner.root_parent, self.inner.root_work)
        } else {
            let parent = self.node(self.links(id).parent);
            (parent.hash, total - parent.total)
        };
        Header { hash, parent, height, work, time }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tips: Vec<String> = self.tips().map(|tip| format!("{:.8} at {}", tip.hash, tip.height)).collect();
        f.debug_struct("Graph").field("headers", &self.len()).field("tips", &tips).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten chunks of one branch.
    fn long() -> Graph {
        let header = |height: u64| {
            let name = |height: u64| Hash(std::array::from_fn(|byte| height.to_le_bytes()[byte % 8]));
            Header { hash: name(height + 1), parent: name(height), height, work: 1, time: 0 }
        };
        let mut graph = Graph::new(header(0));
        for height in 1..10_000 {
            graph.insert(header(height)).unwrap();
        }
        graph
    }

    #[test]
    fn clones_share_all_unchanged_chunks() {
        let before = long();
        let mut after = before.clone();
        assert!(Arc::ptr_eq(&before.inner, &after.inner), "a clone copies nothing");
        let tip = before.tips().next().unwrap();
        let hash = Hash([0xff; 32]);
        after.insert(Header { hash, parent: tip.hash, height: tip.height + 1, ..tip }).unwrap();
        let (chunks, shards) = before.inner.arena.shared_with(&after.inner.arena);
        assert_eq!((chunks, shards), (9, 1023), "all except one of 10 and one of 1024");
        assert!(!before.contains(&hash) && after.contains(&hash));
    }

    #[test]
    fn what_is_pruned_is_freed() {
        let mut graph = long();
        let boundary = graph.ancestor_at(&graph.tips().next().unwrap().hash, 9_000).unwrap();
        assert_eq!(graph.prune(&boundary.hash), Ok(9_000));
        assert_eq!(graph.inner.arena.chunks(), 2, "of 10");
        assert_eq!(graph.inner.trunk.allocated(), 2, "of 10");
        let tip = graph.tips().next().unwrap();
        assert_eq!(graph.ancestor_at(&tip.hash, 9_000), Some(graph.root()));
        assert_eq!(graph.ancestor_at(&tip.hash, 8_999), None);
    }
}
