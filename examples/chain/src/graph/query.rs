//! Questions about blocks and branches.

use super::Graph;
use super::arena::{Id, Node};
use crate::{Hash, Header, Height};

/// Whether a block is on a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBranch {
    /// It is the tip or an ancestor of it.
    Yes,
    /// It is on another one.
    No,
    /// The block or the tip is not in the graph: never seen, or pruned.
    Unknown,
}

/// The way from one tip to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The last block of both branches.
    pub ancestor: Header,
    /// What is only on the first branch, highest first.
    pub left: Vec<Header>,
    /// What is only on the second branch, lowest first.
    pub joined: Vec<Header>,
}

/// A branch by its ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Its last block, which has no child.
    pub tip: Header,
    /// The block where it leaves the branches that were seen earlier; for the first one the root.
    pub fork: Header,
}

/// The height to which the skip pointer of a block at `height` leads, both counted from the base.
///
/// The scheme is that of Bitcoin Core's `CBlockIndex` (`GetSkipHeight` in `chain.cpp`): the lowest bit
/// that is set is cleared, for odd heights the two lowest and one is added, so that a walk can leave the
/// path of any block after a step or two.
pub(super) fn skip_height(height: Height) -> Height {
    let without_lowest = |bits: Height| bits & bits.wrapping_sub(1);
    if height < 2 {
        0
    } else if height.is_multiple_of(2) {
        without_lowest(height)
    } else {
        without_lowest(without_lowest(height - 1)) + 1
    }
}

impl Graph {
    /// The block at `height` on the branch of `tip`; `None` above the tip, below the root, and for a tip
    /// that is not in the graph.
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

    /// How many blocks have to leave and to join to get from one tip to the other.
    #[must_use]
    pub fn distance(&self, one: &Hash, other: &Hash) -> Option<u64> {
        let (one, other) = (self.inner.arena.find(one)?, self.inner.arena.find(other)?);
        let meet = self.node(self.meet(one, other)).height;
        Some(self.node(one).height - meet + (self.node(other).height - meet))
    }

    /// Which blocks leave and which join on the way from one tip to the other.
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
            next = (id != self.inner.root).then(|| self.node(id).parent);
            Some(self.header(id))
        })
    }

    /// The blocks without children, in the order they were first seen.
    pub fn tips(&self) -> impl Iterator<Item = Header> + '_ {
        self.inner.leaves.iter().map(|id| self.header(*id))
    }

    /// The branches whose tips are above `height`, in the order the tips were first seen.
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

    /// The highest block that more than half of `heads` have on their branches. Heads that are not in the
    /// graph count, and have none of its blocks on theirs.
    #[must_use]
    pub fn majority(&self, heads: &[Hash]) -> Option<Header> {
        let known: Vec<Id> = heads.iter().filter_map(|head| self.inner.arena.find(head)).collect();
        // If most have one block at a height, most have its parent below: search between yes and no.
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
        let base = self.inner.base;
        let mut id = from;
        let mut node: &Node = self.node(id);
        while node.height > height {
            if self.trunk_at(node.height) == Some(id)
                && let Some(ancestor) = self.trunk_at(height)
            {
                return ancestor;
            }
            let above = node.height - base;
            let skip = skip_height(above) + base;
            // The parent's own skip may lead much further down without passing by.
            let skip_of_parent = skip_height(above - 1) + base;
            let by_parent = skip_of_parent.saturating_add(2) < skip && skip_of_parent >= height;
            id = if skip == height || (skip > height && !by_parent) { node.skip } else { node.parent };
            node = self.node(id);
        }
        id
    }

    fn meet(&self, one: Id, other: Id) -> Id {
        let lower = self.node(one).height.min(self.node(other).height);
        let (mut one, mut other) = (self.climb_down(one, lower), self.climb_down(other, lower));
        // At one height skip pointers lead to one height: where they differ, the branches have not met.
        while one != other {
            let (a, b) = (self.node(one), self.node(other));
            let above_root = skip_height(a.height - self.inner.base) + self.inner.base >= self.root_height();
            (one, other) =
                if above_root && a.skip != b.skip { (a.skip, b.skip) } else { (a.parent, b.parent) };
        }
        one
    }

    fn root_height(&self) -> Height {
        self.node(self.inner.root).height
    }
}
