//! A small log of what happened, without snapshots, for the reports of waits.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use crate::failure::ObservationFailure;
use crate::source::SourceChange;

/// Entries that are kept. A run of successful cycles is one entry.
const LIMIT: usize = 256;

/// Sources that have left and are remembered.
const LEFT: usize = 1_024;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The number of its publication.
    number: u64,
    pub(crate) at: Instant,
    pub(crate) what: What,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Cycles that succeeded one after the other; the entry's `at` is the last one's.
    Succeeded {
        first: u64,
        last: u64,
    },
    Failed(Arc<ObservationFailure>),
    Sources(Arc<SourceChange>),
    Paused,
    Resumed,
    /// A transition that is not part of every cycle.
    Entered(State),
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    entries: VecDeque<Entry>,
    /// How many entries were dropped to make room.
    forgotten: u64,
    /// The newest sources that have left.
    left: VecDeque<Arc<str>>,
}

impl Log {
    pub(crate) fn push(&mut self, number: u64, at: Instant, what: What) {
        if let What::Sources(change) = &what {
            self.left.retain(|known| !change.left.contains(known));
            self.left.extend(change.left.iter().cloned());
            let surplus = self.left.len().saturating_sub(LEFT);
            self.left.drain(..surplus);
        }
        if let (Some(last), What::Succeeded { last: cycle, .. }) = (self.entries.back_mut(), &what)
            && let What::Succeeded { last: so_far, .. } = &mut last.what
        {
            (*so_far, last.number, last.at) = (*cycle, number, at);
            return;
        }
        if self.entries.len() == LIMIT {
            self.entries.pop_front();
            self.forgotten += 1;
        }
        self.entries.push_back(Entry { number, at, what });
    }

    /// What happened behind publication `number`, and whether older entries of that time were
    /// dropped. A run of successes may have begun before.
    pub(crate) fn since(&self, number: u64) -> (Vec<Entry>, bool) {
        let inside: Vec<Entry> = self.entries.iter().filter(|entry| entry.number > number).cloned().collect();
        let cut = self.forgotten > 0 && inside.len() == self.entries.len();
        (inside, cut)
    }

    /// Whether a source called `name` has left, among the newest that have.
    pub(crate) fn has_left(&self, name: &str) -> bool {
        self.left.iter().any(|known| **known == *name)
    }
}
