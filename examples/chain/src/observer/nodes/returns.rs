//! How much of its blocks a node returns.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::ChainError;
use crate::{Detail, Hash};

/// A node that fails for a block in so many cycles does not return that much of it.
const LOOKS: u32 = 3;

/// From so many consecutive blocks on, a node is not asked for that much at each block.
const BLOCKS: u32 = 2;

/// Failures are kept for so many blocks.
const LIMIT: usize = 1024;

/// Whether a node returns blocks, and how much of them it does not.
#[derive(Debug)]
pub(super) struct BlockReturns {
    last: LastBlock,
    failures: HashMap<Hash, Failures>,
    lowered: Option<Lowered>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastBlock {
    Returned,
    Withheld,
}

/// The failures for one block.
#[derive(Clone, Copy, Debug)]
struct Failures {
    at: Detail,
    looks: u32,
    /// The cycle of the last one.
    cycle: u64,
    /// It is not asked for that much of this block again.
    given_up: Option<Detail>,
}

/// What the node does not return.
#[derive(Debug)]
struct Lowered {
    at: Detail,
    error: ChainError,
    blocks: u32,
    since: Instant,
}

impl BlockReturns {
    pub(super) fn new() -> Self {
        Self { last: LastBlock::Returned, failures: HashMap::new(), lowered: None }
    }

    /// Whether it did not return the last block that it was asked for.
    pub(super) fn withheld_last(&self) -> bool {
        self.last == LastBlock::Withheld
    }

    /// Why it does not return all of its blocks.
    pub(super) fn error(&self) -> Option<&ChainError> {
        self.lowered.as_ref().map(|lowered| &lowered.error)
    }

    /// How much of a block it can be asked for, if `wanted` is enough. After `every` it is asked for all again.
    pub(super) fn offers(&self, block: &Hash, wanted: Detail, every: Duration, now: Instant) -> Detail {
        let is_skipped = |lowered: &&Lowered| {
            lowered.blocks >= BLOCKS && now.saturating_duration_since(lowered.since) < every
        };
        let of_all = self.lowered.as_ref().filter(is_skipped).map(|lowered| lowered.at);
        let of_block = self.failures.get(block).and_then(|failures| failures.given_up);
        let failed = of_all.into_iter().chain(of_block).min();
        failed.map_or(wanted, |failed| below(failed).min(wanted))
    }

    /// It returned a block; `is_all` if it returned as much as is wanted of all blocks.
    pub(super) fn returned(&mut self, is_all: bool) {
        self.last = LastBlock::Returned;
        if is_all {
            self.lowered = None;
        }
    }

    /// It did not return a block.
    pub(super) fn withheld(&mut self) {
        self.last = LastBlock::Withheld;
    }

    /// It will not return that much of a block, as far as its answer goes. Whether it is known from now on not to return
    /// that much.
    pub(super) fn failed(
        &mut self,
        block: Hash,
        at: Detail,
        error: ChainError,
        cycle: u64,
        now: Instant,
    ) -> bool {
        if self.failures.len() >= LIMIT && !self.failures.contains_key(&block) {
            self.failures.clear();
        }
        let new = Failures { at, looks: 0, cycle: 0, given_up: None };
        let failures = self.failures.entry(block).or_insert(new);
        if failures.at != at {
            *failures = Failures { given_up: failures.given_up, ..new };
        }
        failures.looks += u32::from(failures.cycle != cycle);
        failures.cycle = cycle;
        let is_known = self.lowered.as_ref().is_some_and(|lowered| lowered.at <= at);
        if failures.given_up.is_some_and(|given_up| given_up <= at) || failures.looks < LOOKS && !is_known {
            return false;
        }
        failures.given_up = Some(at);
        let before = self.lowered.take();
        let is_new = before.is_none();
        self.lowered = Some(match before {
            Some(Lowered { at: before, error, blocks, .. }) if before <= at => {
                Lowered { at: before, error, blocks: blocks.saturating_add(1), since: now }
            }
            Some(Lowered { blocks, .. }) => Lowered { at, error, blocks, since: now },
            None => Lowered { at, error, blocks: 1, since: now },
        });
        is_new
    }

    /// A block needs no other question.
    pub(super) fn settled(&mut self, block: &Hash) {
        self.failures.remove(block);
    }

    /// Forgets what it did not return a while ago, and was not asked for since.
    pub(super) fn age(&mut self, every: Duration, now: Instant) {
        let is_old =
            |lowered: &mut Lowered| now.saturating_duration_since(lowered.since) >= every.saturating_mul(2);
        self.lowered.take_if(is_old);
    }
}

fn below(detail: Detail) -> Detail {
    match detail {
        Detail::Results => Detail::Transactions,
        Detail::Transactions | Detail::Header => Detail::Header,
    }
}
