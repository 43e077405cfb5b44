//! Questions about blocks and branches.

use super::Graph;
use super::arena::Id;
use super::skips::Skips;
use crate::{Hash, Header, Height};

/// Whether a block is on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBranch {
    /// It is the tip or an ancestor of the tip.
    Yes,
    /// It is on another branch.
    No,
    /// The block or the tip is not in the graph: never seen, or pruned.
    Unknown,
}

/// The path from one tip to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The last block of both branches.
    pub ancestor: Header,
    /// The blocks that are only on the first branch, highest first.
    pub left: Vec<Header>,
    /// The blocks that are only on the second branch, lowest first.
    pub joined: Vec<Header>,
}

/// A branch by its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its last block, which has no child.
    pub tip: Header,
    /// The highest block that it shares with branches before it in the list; for the first branch the root.
    pub fork: Header,
}

impl Graph {
    /// The block at `height` on the branch of `tip`; `None` above the tip, below the root, and for a tip that is not in
    /// the graph.
    #[must_use]
    pub fn ancestor_at(&self, tip: &Hash, height: Height) -> Option<Header> {
        let tip = self.inner.arena.find(tip)?;
        self.ancestor(tip, height).map(|id| self.header(id))
    }

    /// Whether `block` is on the branch of `tip`.
    #[must_use]
    pub fn is_on_branch(&self, block: &Hash, tip: &Hash) -> OnBranch {
        let (Some(block), Some(tip)) = (self.inner.arena.find(block), self.inner.arena.find(tip)) else {
            return OnBranch::Unknown;
        };
        if self.ancestor(tip, self.node(block).height) == Some(block) { OnBranch::Yes } else { OnBranch::No }
    }

    /// The last block that is on both branches; `None` if one of the tips is not in the graph.
    #[must_use]
    pub fn common_ancestor(&self, one: &Hash, other: &Hash) -> Option<Header> {
        let (one, other) = (self.inner.arena.find(one)?, self.inner.arena.find(other)?);
        Some(self.header(self.meet(one, other)))
    }

    /// Whether `block` is known to be on a branch without `anchor`, and not below it.
    pub(crate) fn leaves(&self, block: &Header, anchor: &Header) -> bool {
        let shared = self.common_ancestor(&block.hash, &anchor.hash);
        shared.is_some_and(|shared| shared != *anchor && shared != *block)
    }

    /// How many blocks are disconnected and connected on the path from one tip to the other.
    #[must_use]
    pub fn distance(&self, one: &Hash, other: &Hash) -> Option<u64> {
        let (one, other) = (self.inner.arena.find(one)?, self.inner.arena.find(other)?);
        let meet = self.node(self.meet(one, other)).height;
        Some(self.node(one).height - meet + (self.node(other).height - meet))
    }

    /// Which blocks are disconnected and connected on the path from one tip to the other.
    #[must_use]
    pub fn path(&self, from: &Hash, to: &Hash) -> Option<Path> {
        let ancestor = self.common_ancestor(from, to)?;
        let left = self.down(from, ancestor.height).collect();
        let mut joined: Vec<Header> = self.down(to, ancestor.height).collect();
        joined.reverse();
        Some(Path { ancestor, left, joined })
    }

    /// The blocks of the branch of `tip` that are above `height`, highest first.
    pub fn down(&self, tip: &Hash, height: Height) -> impl Iterator<Item = Header> + '_ {
        let mut next = self.inner.arena.find(tip);
        std::iter::from_fn(move || {
            let id = next.filter(|id| self.node(*id).height > height)?;
            next = (id != self.inner.root).then(|| self.links(id).parent);
            Some(self.header(id))
        })
    }

    /// The blocks without children, in the order they were first seen.
    pub fn tips(&self) -> impl Iterator<Item = Header> + '_ {
        self.inner.leaves.iter().map(|id| self.header(*id))
    }

    /// The branches whose tips are above `height`, in the order the tips were first seen.
    ///
    /// `fork` refers only to these: branches that end at `height` or below are ignored. Each branch is compared with
    /// all before it, so that a thousand branches take half a million comparisons: choose a height with few branches
    /// above.
    #[must_use]
    pub fn branches_above(&self, height: Height) -> Vec<Branch> {
        let mut before: Vec<Id> = Vec::new();
        let mut branches = Vec::new();
        for &tip in self.inner.leaves.iter().filter(|id| self.node(**id).height > height) {
            let forks = before.iter().map(|other| self.meet(tip, *other));
            let fork = forks.max_by_key(|id| self.node(*id).height).unwrap_or(self.inner.root);
            branches.push(Branch { tip: self.header(tip), fork: self.header(fork) });
            before.push(tip);
        }
        branches
    }

    /// The highest block that more than half of `heads` have on their branches. Heads that are not in the graph count,
    /// with none of its blocks on their branches.
    #[must_use]
    pub fn majority(&self, heads: &[Hash]) -> Option<Header> {
        let known: Vec<Id> = heads.iter().filter_map(|head| self.inner.arena.find(head)).collect();
        // If most have a block, most have its parent: a binary search finds the highest.
        let most_have = |height| {
            let mut there: Vec<Id> = known.iter().filter_map(|head| self.ancestor(*head, height)).collect();
            there.sort_unstable();
            let runs = there.chunk_by(|a, b| a == b);
            runs.max_by_key(|run| run.len()).filter(|run| run.len() * 2 > heads.len()).map(|run| run[0])
        };
        let mut low = self.root().height;
        let mut best = most_have(low)?;
        let mut high = known.iter().map(|head| self.node(*head).height).max()?;
        while low < high {
            let middle = low + (high - low).div_ceil(2);
            match most_have(middle) {
                Some(block) => (low, best) = (middle, block),
                None => high = middle - 1,
            }
        }
        Some(self.header(best))
    }

    fn ancestor(&self, tip: Id, height: Height) -> Option<Id> {
        let reachable = self.root().height..=self.node(tip).height;
        reachable.contains(&height).then(|| self.climb_down(tip, height))
    }

    /// The ancestor at `height`, which is neither above the block nor below the root.
    pub(super) fn climb_down(&self, from: Id, height: Height) -> Id {
        let (top, goal) = (self.above_base(from), height - self.inner.base);
        if let Some(found) = self.by_trunk(from, top, goal) {
            return found;
        }
        let (mut id, mut at) = (from, Skips::at(top));
        while at.height() > goal {
            let (links, skip) = (self.links(id), at.skip());
            (id, at) = if skip.height() >= goal { (links.skip, skip) } else { (links.parent, at.parent()) };
            if let Some(found) = self.by_trunk(id, at.height(), goal) {
                return found;
            }
        }
        id
    }

    fn meet(&self, one: Id, other: Id) -> Id {
        for (tip, other) in [(one, other), (other, one)] {
            if self.is_on_trunk(tip, self.above_base(tip)) {
                let shared = self.climb_to_trunk(other);
                return if self.node(shared).height < self.node(tip).height { shared } else { tip };
            }
        }
        let lower = self.node(one).height.min(self.node(other).height);
        let (mut one, mut other) = (self.climb_down(one, lower), self.climb_down(other, lower));
        if one == other {
            return one;
        }
        let mut at = Skips::at(lower - self.inner.base);
        let root = self.above_base(self.inner.root);
        // Skip pointers from one height lead to one height: if they differ, the branches have not met yet.
        while one != other {
            let (a, b, skip) = (self.links(one), self.links(other), at.skip());
            (one, other, at) = if skip.height() >= root && a.skip != b.skip {
                (a.skip, b.skip, skip)
            } else {
                (a.parent, b.parent, at.parent())
            };
        }
        one
    }

    /// The highest block of the branch that is on the trunk; all below it are too.
    fn climb_to_trunk(&self, from: Id) -> Id {
        let (mut id, mut at) = (from, Skips::at(self.above_base(from)));
        let root = self.above_base(self.inner.root);
        while !self.is_on_trunk(id, at.height()) {
            let (links, skip) = (self.links(id), at.skip());
            let is_too_far = skip.height() < root || self.is_on_trunk(links.skip, skip.height());
            (id, at) = if is_too_far { (links.parent, at.parent()) } else { (links.skip, skip) };
        }
        id
    }

    fn above_base(&self, id: Id) -> Height {
        self.node(id).height - self.inner.base
    }
}
