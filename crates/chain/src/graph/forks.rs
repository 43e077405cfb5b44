//! The branches beside one, and the ways to them.

use std::cmp::Reverse;

use super::Graph;
use super::query::Path;
use crate::{Hash, Header, Height, Work};

/// Another branch, from the point of view of a tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Its last block.
    pub tip: Header,
    /// How many blocks are disconnected and connected on the way to it.
    pub distance: u64,
    /// Which ones these are.
    pub path: Path,
    /// What it weighs above the fork.
    pub weight: Work,
    /// What the branch of the tip weighs there.
    pub weight_of_tip: Work,
}

impl Graph {
    /// The branches whose tips are above `height` and beside the branch of `tip`, the heaviest first; empty for a tip that
    /// is not in the graph.
    ///
    /// A branch that goes on where the tip is, is none of them. All are compared with each other, as
    /// [`branches_above`](Self::branches_above) does, and so of those at most `most` are looked up: the highest, and
    /// none of those of equal height that do not fit.
    #[must_use]
    pub fn forks(&self, tip: &Hash, height: Height, most: usize) -> Vec<Fork> {
        let mut heights: Vec<Height> = self.tips().map(|tip| tip.height).collect();
        heights.sort_unstable_by_key(|height| Reverse(*height));
        let lowest = heights.get(most).map_or(height, |first_left_out| height.max(*first_left_out));
        let branches = self.branches_above(lowest);
        let mut forks: Vec<Fork> = branches.iter().filter_map(|branch| self.fork(tip, &branch.tip)).collect();
        forks.sort_by_key(|fork| Reverse(fork.weight));
        forks
    }

    fn fork(&self, tip: &Hash, other: &Header) -> Option<Fork> {
        let path = self.path(tip, &other.hash).filter(|path| !path.left.is_empty())?;
        let below = self.total_work(&path.ancestor.hash)?;
        let above = |tip: &Hash| Some(self.total_work(tip)?.saturating_sub(below));
        let distance = self.distance(tip, &other.hash)?;
        Some(Fork { tip: *other, distance, weight: above(&other.hash)?, weight_of_tip: above(tip)?, path })
    }
}
