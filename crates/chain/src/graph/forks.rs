//! The branches beside one, and the ways to them.

use std::cmp::Reverse;

use super::Graph;
use super::query::{OnBranch, Path};
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

/// The branches beside that of a tip.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForkList {
    /// The heaviest first.
    pub forks: Vec<Fork>,
    /// How many more there are.
    pub left_out: usize,
}

impl Graph {
    /// The branches whose tips are above `height` and beside the branch of `tip`, the heaviest first; empty for a tip that
    /// is not in the graph.
    ///
    /// A branch that goes on where the tip is, is none of them. Of more than `most`, those with the highest tips are in
    /// the list, of equal height those seen first; the others are counted.
    #[must_use]
    pub fn forks(&self, tip: &Hash, height: Height, most: usize) -> ForkList {
        let is_beside = |other: &Header| self.is_on_branch(tip, &other.hash) == OnBranch::No;
        let mut beside: Vec<Header> =
            self.tips().filter(|other| other.height > height && is_beside(other)).collect();
        beside.sort_by_key(|other| Reverse(other.height));
        let left_out = beside.len().saturating_sub(most);
        let mut forks: Vec<Fork> =
            beside.iter().take(most).filter_map(|other| self.fork(tip, other)).collect();
        forks.sort_by_key(|fork| (Reverse(fork.weight), self.first_seen(&fork.tip.hash)));
        ForkList { forks, left_out }
    }

    fn fork(&self, tip: &Hash, other: &Header) -> Option<Fork> {
        let path = self.path(tip, &other.hash)?;
        let below = self.total_work(&path.ancestor.hash)?;
        let above = |tip: &Hash| Some(self.total_work(tip)?.saturating_sub(below));
        let distance = self.distance(tip, &other.hash)?;
        Some(Fork { tip: *other, distance, weight: above(&other.hash)?, weight_of_tip: above(tip)?, path })
    }
}
