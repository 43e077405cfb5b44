//! What was asked in this cycle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::question::{Purpose, Question};
use crate::{Detail, Hash};

/// The questions of one cycle that are not repeated in it.
#[derive(Debug, Default)]
pub(super) struct Asked {
    cycle: u64,
    /// A node is asked at most once in a cycle for each purpose except blocks.
    once: HashSet<(Arc<str>, Purpose)>,
    /// The nodes that did not return so much of a block.
    withheld: HashMap<Hash, Vec<(Arc<str>, Detail)>>,
}

impl Asked {
    pub(super) fn begin_cycle(&mut self) {
        *self = Self { cycle: self.cycle + 1, ..Self::default() };
    }

    pub(super) fn cycle(&self) -> u64 {
        self.cycle
    }

    pub(super) fn note(&mut self, node: &Arc<str>, question: &Question) {
        if question.purpose() != Purpose::Block {
            self.once.insert((Arc::clone(node), question.purpose()));
        }
    }

    /// Whether a node was asked for this purpose.
    pub(super) fn was_asked(&self, node: &Arc<str>, purpose: Purpose) -> bool {
        self.once.contains(&(Arc::clone(node), purpose))
    }

    pub(super) fn withheld(&mut self, block: Hash, detail: Detail, node: &Arc<str>) {
        self.withheld.entry(block).or_default().push((Arc::clone(node), detail));
    }

    pub(super) fn block_arrived(&mut self, block: &Hash) {
        self.withheld.remove(block);
    }

    /// Whether a node did not return so much of a block.
    pub(super) fn was_withheld_by(&self, node: &Arc<str>, block: &Hash, detail: Detail) -> bool {
        let withheld = self.withheld.get(block).map_or(&[][..], Vec::as_slice);
        withheld.iter().any(|(name, asked)| name == node && *asked == detail)
    }
}
