//! The newest operations in memory, and the statistics over them.

use std::collections::{BTreeMap, VecDeque};

use serde::Serialize;
use utoipa::ToSchema;

use crate::operation::{Operation, SCENARIO};

/// How many operations the ring holds.
pub const RING: usize = 2_000;

/// How many scenario operations the statistics list.
pub const RECENT_SCENARIO_OPS: usize = 10;

/// The newest [`RING`] operations, in the order of their numbers.
#[derive(Debug, Default)]
pub struct Ring {
    entries: VecDeque<RingEntry>,
    successes: usize,
    /// How many entries there are of each source.
    by_source: BTreeMap<String, usize>,
}

/// What the statistics need of an operation.
#[derive(Debug)]
struct RingEntry {
    /// `None` for what the journal could not take, with `buffered`: it comes after all before it.
    number: Option<u64>,
    source: String,
    success: bool,
    scenario: Option<Box<ScenarioOp>>,
}

impl Ring {
    /// Puts an operation where its number belongs. Answers to appends may come in another order than the records.
    pub fn push(&mut self, number: Option<u64>, operation: Operation) {
        let after =
            |entry: &RingEntry| matches!((entry.number, number), (Some(there), Some(new)) if there > new);
        let place = self.entries.len() - self.entries.iter().rev().take_while(|entry| after(entry)).count();
        if place == 0 && self.entries.len() == RING {
            return;
        }
        let is_scenario = operation.source == SCENARIO;
        let entry = RingEntry {
            number,
            success: operation.success,
            source: operation.source,
            scenario: is_scenario.then(|| {
                Box::new(ScenarioOp {
                    ts: operation.timestamp_text,
                    ok: operation.success,
                    staffer: operation.staffer,
                    kind: operation.kind,
                    role: operation.role,
                })
            }),
        };
        self.successes += usize::from(entry.success);
        match self.by_source.get_mut(&entry.source) {
            Some(count) => *count += 1,
            None => drop(self.by_source.insert(entry.source.clone(), 1)),
        }
        self.entries.insert(place, entry);
        if self.entries.len() > RING {
            self.pop();
        }
    }

    /// Forgets the oldest one.
    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.successes -= usize::from(entry.success);
        if let Some(count) = self.by_source.get_mut(&entry.source) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&entry.source);
            }
        }
    }

    /// The statistics over what the ring holds.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let newest = self.entries.iter().rev().filter_map(|entry| entry.scenario.as_deref());
        let mut recent: Vec<_> = newest.take(RECENT_SCENARIO_OPS).cloned().collect();
        recent.reverse();
        Stats {
            total: self.entries.len(),
            successes: self.successes,
            failures: self.entries.len() - self.successes,
            by_source: self.by_source.clone(),
            recent_scenario_ops: recent,
        }
    }

    /// How many operations it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// The statistics over the newest [`RING`] operations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Stats {
    /// How many operations there are: at most 2,000.
    pub total: usize,
    /// How many of them succeeded.
    pub successes: usize,
    /// How many of them did not.
    pub failures: usize,
    /// How many there are of each source.
    pub by_source: BTreeMap<String, usize>,
    /// The last ten operations of the source `scenario`, oldest first.
    pub recent_scenario_ops: Vec<ScenarioOp>,
}

/// One operation of a scenario. What it does not say is an empty text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ScenarioOp {
    /// Its timestamp.
    pub ts: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// Its `staffer_id`.
    pub staffer: String,
    /// Its `event_kind`.
    pub kind: String,
    /// Its `role`.
    pub role: String,
}
