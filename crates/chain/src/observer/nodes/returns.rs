//! How much of its blocks a node returns.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::ChainError;
use crate::{Detail, Hash};

/// A node that fails for a block in so many cycles, and for long enough, does not return that much of it.
const CYCLES: u32 = 3;

/// From so many consecutive blocks on, a node is not asked for that much at each block.
const BLOCKS: u32 = 2;

/// Failures are kept for so many blocks.
const LIMIT: usize = 1024;

/// Whether a node returns blocks, and how much of them it does not. Each detail is counted for itself.
#[derive(Debug)]
pub(super) struct BlockReturns {
    last: LastBlock,
    /// By block, and by how much of it the node was asked for.
    failures: HashMap<Hash, BTreeMap<Detail, Failures>>,
    /// By how much of its blocks the node was asked for.
    lowered: BTreeMap<Detail, Lowered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastBlock {
    Returned,
    Withheld,
}

/// The failures for so much of one block.
#[derive(Clone, Copy, Debug)]
struct Failures {
    first: Instant,
    cycles: u32,
    /// The cycle of the last one.
    cycle: u64,
    /// It is not asked for that much of this block again.
    is_given_up: bool,
}

/// So much the node does not return of its last blocks.
#[derive(Debug)]
struct Lowered {
    error: ChainError,
    blocks: u32,
    since: Instant,
}

impl Lowered {
    /// Whether the node does not return so much of any block, as far as is known.
    fn is_known(&self) -> bool {
        self.blocks >= BLOCKS
    }
}

impl BlockReturns {
    pub(super) fn new() -> Self {
        Self { last: LastBlock::Returned, failures: HashMap::new(), lowered: BTreeMap::new() }
    }

    /// Whether it did not return the last block that it was asked for.
    pub(super) fn withheld_last(&self) -> bool {
        self.last == LastBlock::Withheld
    }

    /// Why it does not return all of its blocks.
    pub(super) fn error(&self) -> Option<&ChainError> {
        self.lowered.values().next().map(|lowered| &lowered.error)
    }

    /// How much of a block it can be asked for, if `wanted` is enough. After `every` it is asked for all again.
    pub(super) fn offers(&self, block: &Hash, wanted: Detail, every: Duration, now: Instant) -> Detail {
        let is_skipped =
            |lowered: &Lowered| lowered.is_known() && now.saturating_duration_since(lowered.since) < every;
        let of_all = self.lowered.iter().filter(|(_, lowered)| is_skipped(lowered)).map(|(at, _)| *at);
        let of_block = self.failures.get(block).into_iter().flatten();
        let of_block = of_block.filter(|(_, failures)| failures.is_given_up).map(|(at, _)| *at);
        of_all.chain(of_block).min().map_or(wanted, |failed| below(failed).min(wanted))
    }

    /// It returned so much of a block.
    pub(super) fn returned(&mut self, detail: Detail) {
        self.last = LastBlock::Returned;
        self.lowered.retain(|at, _| *at > detail);
    }

    /// It did not return a block, or less of it than it was asked for.
    pub(super) fn withheld(&mut self) {
        self.last = LastBlock::Withheld;
    }

    /// It will not return that much of a block, as far as its answer goes. If it fails so for three cycles and for as
    /// long as `patience`, or is known not to return that much of any block, it is not asked for that much of this block
    /// again. Whether it was not known before to fail at that much.
    pub(super) fn failed(
        &mut self,
        block: Hash,
        at: Detail,
        error: ChainError,
        cycle: u64,
        patience: Duration,
        now: Instant,
    ) -> bool {
        if self.failures.len() >= LIMIT && !self.failures.contains_key(&block) {
            self.failures.clear();
        }
        let new = Failures { first: now, cycles: 1, cycle, is_given_up: false };
        let failures = self.failures.entry(block).or_default().entry(at).or_insert(new);
        failures.cycles += u32::from(failures.cycle != cycle);
        failures.cycle = cycle;
        let lasts = failures.cycles >= CYCLES && now.saturating_duration_since(failures.first) >= patience;
        let is_known = self.lowered.get(&at).is_some_and(Lowered::is_known);
        if failures.is_given_up || !lasts && !is_known {
            return false;
        }
        failures.is_given_up = true;
        let is_new = !self.lowered.contains_key(&at);
        let lowered = self.lowered.entry(at).or_insert(Lowered { error, blocks: 0, since: now });
        lowered.blocks = lowered.blocks.saturating_add(1);
        lowered.since = now;
        is_new
    }

    /// A block needs no other question.
    pub(super) fn settled(&mut self, block: &Hash) {
        self.failures.remove(block);
    }

    /// Forgets what it did not return a while ago, and was not asked for since.
    pub(super) fn age(&mut self, every: Duration, now: Instant) {
        let is_new =
            |lowered: &Lowered| now.saturating_duration_since(lowered.since) < every.saturating_mul(2);
        self.lowered.retain(|_, lowered| is_new(lowered));
    }
}

fn below(detail: Detail) -> Detail {
    match detail {
        Detail::Results => Detail::Transactions,
        Detail::Transactions | Detail::Header => Detail::Header,
    }
}
