//! The newest blocks by hash, a projection's value at each, and which of them are on the branch.

use std::collections::BTreeMap;
use std::sync::Arc;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use serde::{Deserialize, Serialize};

use crate::{Hash, Header, Height};

/// How many blocks are kept that are not on the branch.
const RIVALS: usize = 1_024;

/// A place on a branch: right after one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchPosition {
    /// The block.
    pub hash: Hash,
    /// The height of the next block: 0 before a genesis block.
    pub next: Height,
}

impl BranchPosition {
    /// Right after `block`.
    #[must_use]
    pub fn behind(block: &Header) -> Self {
        // No chain reaches the greatest height, but a node may claim it.
        Self { hash: block.hash, next: block.height.saturating_add(1) }
    }

    /// Right before `block`.
    #[must_use]
    pub fn before(block: &Header) -> Self {
        Self { hash: block.parent, next: block.height }
    }
}

/// A block, or the root before the first one, and the value there.
#[derive(Debug)]
pub(super) struct WindowBlock<V> {
    pub(super) place: BranchPosition,
    /// None at a root of which only the hash is known.
    pub(super) header: Option<Header>,
    pub(super) value: V,
}

/// What readers get: blocks by hash, and the branch to the tip. A clone shares everything.
#[derive(Debug)]
pub(super) struct Branches<V> {
    nodes: HashTrieMapSync<Hash, Arc<WindowBlock<V>>>,
    /// The branch from root to tip, by the next height.
    branch: RedBlackTreeMapSync<Height, Hash>,
    root: BranchPosition,
    tip: BranchPosition,
}

impl<V> Clone for Branches<V> {
    fn clone(&self) -> Self {
        let Self { nodes, branch, root, tip } = self;
        Self { nodes: nodes.clone(), branch: branch.clone(), root: *root, tip: *tip }
    }
}

impl<V> Branches<V> {
    pub(super) fn root(&self) -> BranchPosition {
        self.root
    }

    pub(super) fn tip(&self) -> BranchPosition {
        self.tip
    }

    pub(super) fn get(&self, hash: &Hash) -> Option<&Arc<WindowBlock<V>>> {
        self.nodes.get(hash)
    }

    /// Whether the branch of the tip goes through this place.
    pub(super) fn is_on_branch(&self, place: BranchPosition) -> bool {
        self.branch.get(&place.next) == Some(&place.hash)
    }

    /// The places of the branch, root first.
    pub(super) fn branch(&self) -> impl Iterator<Item = &Arc<WindowBlock<V>>> {
        self.branch.values().filter_map(|hash| self.nodes.get(hash))
    }

    /// The place on the branch that is `blocks` below the tip, or the root if that is nearer.
    pub(super) fn below_tip(&self, blocks: u64) -> BranchPosition {
        let next = self.tip.next.saturating_sub(blocks).max(self.root.next);
        self.branch.get(&next).map_or(self.root, |hash| BranchPosition { hash: *hash, next })
    }

    /// Every kept place, on any branch, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<WindowBlock<V>>> {
        self.nodes.values()
    }
}

/// All kept blocks, for the one writer.
#[derive(Clone, Debug)]
pub(super) struct Window<V> {
    pub(super) seen: Branches<V>,
    heights: BTreeMap<Height, Vec<Hash>>,
}

/// A block that is no longer kept.
#[derive(Debug)]
pub(super) struct Dropped<V> {
    pub(super) node: Arc<WindowBlock<V>>,
    /// Whether it is on the branch, so that it is now part of the root.
    pub(super) settled: bool,
}

impl<V: Clone> Window<V> {
    /// Begins at `root`.
    pub(super) fn new(root: BranchPosition, header: Option<Header>, value: V) -> Self {
        let node = Arc::new(WindowBlock { place: root, header, value });
        let nodes = HashTrieMapSync::new_sync().insert(root.hash, node);
        let branch = RedBlackTreeMapSync::new_sync().insert(root.next, root.hash);
        let heights = BTreeMap::from([(root.next, vec![root.hash])]);
        Self { seen: Branches { nodes, branch, root, tip: root }, heights }
    }

    /// Adds a block whose parent is kept. The tip stays where it is.
    pub(super) fn insert(&mut self, header: Header, value: V) {
        debug_assert!(self.seen.nodes.contains_key(&header.parent), "a block is added after its parent");
        let place = BranchPosition::behind(&header);
        self.seen.nodes.insert_mut(header.hash, Arc::new(WindowBlock { place, header: Some(header), value }));
        self.heights.entry(place.next).or_default().push(header.hash);
    }

    /// Makes a kept block the tip. Its cost grows with the blocks that are connected and disconnected.
    pub(super) fn lead_to(&mut self, tip: Hash) {
        let Some(node) = self.seen.nodes.get(&tip) else { return };
        self.seen.tip = node.place;
        while let Some((&above, _)) = self.seen.branch.last()
            && above > self.seen.tip.next
        {
            self.seen.branch.remove_mut(&above);
        }
        let mut walk = Some(node);
        while let Some(node) = walk
            && !self.seen.is_on_branch(node.place)
        {
            self.seen.branch.insert_mut(node.place.next, node.place.hash);
            walk = node.header.and_then(|header| self.seen.nodes.get(&header.parent));
        }
    }

    /// Changes the value at every kept place, parents first. `change` gets a place and its parent; the root has none.
    pub(super) fn update(&mut self, mut change: impl FnMut(&WindowBlock<V>, Option<&WindowBlock<V>>) -> V) {
        for hash in self.heights.values().flatten() {
            let Some(node) = self.seen.nodes.get(hash) else { continue };
            let parent = match node.header {
                Some(header) if node.place != self.seen.root => self.seen.nodes.get(&header.parent),
                _ => None,
            };
            let value = change(node, parent.map(|parent| &**parent));
            let node = WindowBlock { place: node.place, header: node.header, value };
            self.seen.nodes.insert_mut(*hash, Arc::new(node));
        }
    }

    /// Makes a place of the branch the root, drops what does not descend from it, and then excess blocks beside the
    /// branch. Returns the dropped blocks; its cost grows with their number.
    pub(super) fn settle(&mut self, root: BranchPosition) -> Vec<Dropped<V>> {
        let mut dropped = Vec::new();
        if root.next > self.seen.root.next && self.seen.is_on_branch(root) {
            self.move_root(root, &mut dropped);
        }
        self.drop_rivals(&mut dropped);
        dropped
    }

    fn move_root(&mut self, root: BranchPosition, dropped: &mut Vec<Dropped<V>>) {
        let below = self.heights.split_off(&root.next);
        let below = std::mem::replace(&mut self.heights, below);
        for hash in below.into_values().flatten() {
            self.forget(&hash, dropped);
        }
        self.seen.root = root;
        // Blocks beside the root are dropped with their descendants.
        self.drop_orphans(root.next, dropped);
        while let Some((&lowest, _)) = self.seen.branch.first()
            && lowest < root.next
        {
            self.seen.branch.remove_mut(&lowest);
        }
    }

    /// Of the blocks beside the branch, the lowest are dropped first, and of those the first seen. Without this limit,
    /// endless reorgs under a tip that does not rise would keep blocks for ever.
    fn drop_rivals(&mut self, dropped: &mut Vec<Dropped<V>>) {
        while self.seen.nodes.size().saturating_sub(self.seen.branch.size()) > RIVALS {
            let is_rival = |hash: &Hash| {
                self.seen.nodes.get(hash).is_some_and(|node| !self.seen.is_on_branch(node.place))
            };
            let lowest = self.heights.iter_mut().find_map(|(height, hashes)| {
                let at = hashes.iter().position(is_rival)?;
                Some((*height, hashes.remove(at)))
            });
            let Some((height, hash)) = lowest else { return };
            self.forget(&hash, dropped);
            self.drop_orphans(height.saturating_add(1), dropped);
        }
    }

    /// Drops blocks whose parent was dropped, from height `from` upwards. It stops at the first height without one:
    /// there are none above it.
    fn drop_orphans(&mut self, from: Height, dropped: &mut Vec<Dropped<V>>) {
        let mut next = Some(from);
        while let Some(height) = next
            && let Some(hashes) = self.heights.get_mut(&height)
        {
            let is_orphan = |hash: &mut Hash| {
                let node = self.seen.nodes.get(hash);
                let parent = node.and_then(|node| node.header).map(|header| header.parent);
                *hash != self.seen.root.hash
                    && !parent.is_some_and(|parent| self.seen.nodes.contains_key(&parent))
            };
            let gone: Vec<Hash> = hashes.extract_if(.., is_orphan).collect();
            if gone.is_empty() {
                return;
            }
            for hash in gone {
                self.forget(&hash, dropped);
            }
            next = height.checked_add(1);
        }
    }

    /// Drops every place that is neither the root nor on the branch nor `wanted`, with its descendants, and returns
    /// them.
    pub(super) fn drop_unless(
        &mut self,
        wanted: impl Fn(&WindowBlock<V>) -> bool,
    ) -> Vec<Arc<WindowBlock<V>>> {
        let mut dropped = Vec::new();
        for hashes in self.heights.values_mut() {
            hashes.retain(|hash| {
                let Some(node) = self.seen.nodes.get(hash).map(Arc::clone) else { return false };
                let parent = node.header.map(|header| header.parent);
                let linked = parent.is_some_and(|parent| self.seen.nodes.contains_key(&parent));
                let stays = self.seen.is_on_branch(node.place) || linked && wanted(&node);
                if !stays {
                    self.seen.nodes.remove_mut(hash);
                    dropped.push(node);
                }
                stays
            });
        }
        dropped
    }

    fn forget(&mut self, hash: &Hash, dropped: &mut Vec<Dropped<V>>) {
        if let Some(node) = self.seen.nodes.get(hash) {
            let settled = self.seen.is_on_branch(node.place);
            dropped.push(Dropped { node: Arc::clone(node), settled });
            self.seen.nodes.remove_mut(hash);
        }
    }
}
