//! A small log of events without snapshots, for the reports of waits.
//!
//! It is bounded in bytes: an entry about a source change holds a sentence, not the names.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use crate::error::ObservationFailure;
use crate::source::SourceChange;
use crate::text::names;

/// How many entries are kept. A run of successful cycles is one entry, as is a run of equal failures.
const LIMIT: usize = 256;

/// How many failures are kept for the reports of waits.
const FAILURES: usize = 256;

/// How many sources that have left are remembered.
const LEFT: usize = 1_024;

/// Byte limit of the names in each list of an entry.
const NAMED: usize = 200;

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The number of its publication; for a run, that of the last one.
    pub(crate) number: u64,
    /// When it happened; for a run, when it ended.
    pub(crate) at: Instant,
    pub(crate) what: LogEvent,
}

#[derive(Clone, Debug)]
pub(crate) enum LogEvent {
    /// Consecutive successful cycles.
    Succeeded {
        first: u64,
        last: u64,
    },
    /// Consecutive failed cycles, for the same reason.
    Failed {
        first: Arc<ObservationFailure>,
        /// The last failed cycle.
        last: u64,
    },
    Sources(SetChange),
    Paused,
    Resumed,
    /// A transition that is not part of every cycle.
    Entered(State),
}

/// Which sources came and went.
#[derive(Clone, Debug)]
pub(crate) struct SetChange {
    /// As a bounded sentence.
    pub(crate) said: Arc<str>,
    /// The hashes of the newest sources that have left, until the log takes them over.
    left: Vec<u64>,
    /// The cycle that found it.
    cycle: u64,
}

impl LogEvent {
    pub(crate) fn failed(failure: &Arc<ObservationFailure>) -> Self {
        Self::Failed { last: failure.cycle, first: Arc::clone(failure) }
    }

    /// `None` if only the order changed. Call it without a lock: it goes through all names.
    pub(crate) fn sources(change: &SourceChange, cycle: u64) -> Option<Self> {
        let list = |names_of: &[Arc<str>]| names(names_of.iter().map(|name| &**name), NAMED);
        let said = match (&change.joined[..], &change.left[..]) {
            ([], []) => return None,
            (joined, []) => format!("sources joined: {}", list(joined)),
            ([], left) => format!("sources left: {}", list(left)),
            (joined, left) => format!("sources joined: {}; left: {}", list(joined), list(left)),
        };
        let older = change.left.len().saturating_sub(LEFT);
        let left = change.left[older..].iter().map(|name| hash(name)).collect();
        Some(Self::Sources(SetChange { said: said.into(), left, cycle }))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    /// All entries but the newest. A run of successes changes only `newest`, in place.
    older: VecDeque<Entry>,
    newest: Option<Entry>,
    /// How many entries were dropped to make room.
    forgotten: u64,
    failures: VecDeque<Arc<ObservationFailure>>,
    /// How many failures there were, including those no longer kept.
    failed: u64,
    left: Left,
}

impl Log {
    pub(crate) fn push(&mut self, number: u64, at: Instant, mut what: LogEvent) {
        match &mut what {
            LogEvent::Succeeded { last: cycle, .. } => {
                if let Some(Entry { what: LogEvent::Succeeded { last, .. }, number: of, at: ended }) =
                    &mut self.newest
                {
                    (*last, *of, *ended) = (*cycle, number, at);
                    return;
                }
            }
            LogEvent::Sources(change) => self.left.extend(std::mem::take(&mut change.left), change.cycle),
            LogEvent::Failed { first, .. } => {
                if self.failures.len() == FAILURES {
                    self.failures.pop_front();
                }
                self.failures.push_back(Arc::clone(first));
                self.failed += 1;
            }
            _ => {}
        }
        if self.continues(&what) {
            if self.is_rebuilding() {
                self.newest = self.older.pop_back();
            }
            if let (
                Some(Entry { what: LogEvent::Failed { last, .. }, number: of, at: ended }),
                LogEvent::Failed { last: cycle, .. },
            ) = (&mut self.newest, &what)
            {
                (*last, *of, *ended) = (*cycle, number, at);
                return;
            }
        }
        if let Some(before) = self.newest.replace(Entry { number, at, what }) {
            if self.older.len() + 1 == LIMIT {
                self.older.pop_front();
                self.forgotten += 1;
            }
            self.older.push_back(before);
        }
    }

    /// Oldest first.
    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.older.iter().chain(&self.newest)
    }

    /// Whether the newest entry is only a rebuild of the state.
    fn is_rebuilding(&self) -> bool {
        matches!(self.newest, Some(Entry { what: LogEvent::Entered(State::Starting), .. }))
    }

    /// Whether `what` continues the newest run of failures, also across a rebuild that failed.
    fn continues(&self, what: &LogEvent) -> bool {
        let LogEvent::Failed { first: failure, .. } = what else { return false };
        let run = if self.is_rebuilding() { self.older.back() } else { self.newest.as_ref() };
        matches!(run, Some(Entry { what: LogEvent::Failed { first, .. }, .. }) if is_same(first, failure))
    }

    /// The entries after publication `number`, and whether older ones of that time were dropped. A run may have begun
    /// before.
    pub(crate) fn since(&self, number: u64) -> (Vec<Entry>, bool) {
        let inside: Vec<Entry> = self.entries().filter(|entry| entry.number > number).cloned().collect();
        let cut = self.forgotten > 0 && inside.len() == self.entries().count();
        (inside, cut)
    }

    /// The failures after the first `before` up to `ended`, and how many of them are no longer kept. `known` is the
    /// number of failures by then; if it is `None`, the returned number is an upper bound.
    pub(crate) fn failures(
        &self,
        before: u64,
        ended: Instant,
        known: Option<u64>,
    ) -> (Vec<Arc<ObservationFailure>>, u64) {
        let dropped = self.failed - self.failures.len() as u64;
        let numbered = (dropped + 1..).zip(&self.failures);
        let wanted = numbered.filter(|(nth, failure)| *nth > before && failure.observed_at <= ended);
        let kept: Vec<_> = wanted.map(|(_, failure)| Arc::clone(failure)).collect();
        // A failure that is older than one inside is inside as well.
        let dropped = if kept.is_empty() { dropped.min(known.unwrap_or(dropped)) } else { dropped };
        (kept, dropped.saturating_sub(before))
    }

    /// The newest failures, oldest first.
    pub(crate) fn newest_failures(&self, most: usize) -> Vec<Arc<ObservationFailure>> {
        self.failures.range(self.failures.len().saturating_sub(most)..).cloned().collect()
    }

    /// The cycle in which source `name` last left, if it is still remembered.
    pub(crate) fn left_in(&self, name: &str) -> Option<u64> {
        self.left.newest.get(&hash(name)).map(|leaving| leaving.cycle)
    }
}

/// Whether two failures have the same stage, cause and message.
pub(crate) fn is_same(one: &ObservationFailure, other: &ObservationFailure) -> bool {
    (one.stage, one.cause, &one.message) == (other.stage, other.cause, &other.message)
}

/// The newest sources that have left, at least [`LEFT`] of them, by the hashes of their names: names have any size.
#[derive(Debug, Default)]
struct Left {
    newest: HashMap<u64, Leaving>,
    count: u64,
}

/// When a source last left.
#[derive(Debug)]
struct Leaving {
    /// The number of this departure.
    number: u64,
    cycle: u64,
}

impl Left {
    fn extend(&mut self, left: Vec<u64>, cycle: u64) {
        for name in left {
            self.count += 1;
            self.newest.insert(name, Leaving { number: self.count, cycle });
        }
        if self.newest.len() > 2 * LEFT {
            let mut numbers: Vec<u64> = self.newest.values().map(|leaving| leaving.number).collect();
            let surplus = numbers.len() - LEFT;
            let (_, oldest, _) = numbers.select_nth_unstable(surplus);
            let oldest = *oldest;
            self.newest.retain(|_, leaving| leaving.number >= oldest);
        }
    }
}

fn hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::time::{Duration, SystemTime};

    use watchkeeper_fsm::{Cause, Stage};

    use super::*;

    fn failure(cycle: u64, message: &str) -> LogEvent {
        LogEvent::failed(&Arc::new(ObservationFailure {
            generation: 1,
            cycle,
            observed_at: Instant::now(),
            system_time: SystemTime::now(),
            elapsed: Duration::ZERO,
            source_count: 1,
            stage: Stage::Init,
            cause: Cause::Error,
            message: message.to_owned(),
            consecutive: 1,
        }))
    }

    fn change(joined: &[&str], left: &[&str]) -> SourceChange {
        let names = |names: &[&str]| names.iter().map(|name| Arc::from(*name)).collect();
        SourceChange { joined: names(joined), left: names(left) }
    }

    #[test]
    fn ten_thousand_names_that_are_new_each_cycle_are_a_short_entry_and_are_known_to_have_left() {
        let mut log = Log::default();
        let set = |cycle: usize| (0..10_000).map(|n| format!("c{cycle}-{n}")).collect::<Vec<_>>();
        for cycle in 1..=3 {
            let (joined, left) = (set(cycle), set(cycle - 1));
            let all = |names: &'_ [String]| names.iter().map(|name| Arc::from(name.as_str())).collect();
            let change = SourceChange { joined: all(&joined), left: all(&left) };
            log.push(cycle as u64, Instant::now(), LogEvent::sources(&change, cycle as u64).unwrap());
        }
        for entry in log.entries() {
            let LogEvent::Sources(change) = &entry.what else { panic!("{entry:?}") };
            assert!(change.said.len() < 500 && change.left.capacity() == 0, "{change:?}");
            assert!(change.said.contains(" and 99") && change.said.contains(" more; left: c"), "{change:?}");
        }
        assert!(log.left.newest.len() <= 2 * LEFT, "{}", log.left.newest.len());
        let remembered =
            (0..10_000).filter(|n| log.left_in(&format!("c2-{n}")) == Some(3)).collect::<Vec<_>>();
        assert_eq!(remembered, (10_000 - LEFT..10_000).collect::<Vec<_>>());
        assert_eq!((log.left_in("c3-9999"), log.left_in("never seen")), (None, None));
    }

    #[test]
    fn a_source_that_leaves_again_and_again_makes_no_other_forgotten() {
        let mut log = Log::default();
        log.push(1, Instant::now(), LogEvent::sources(&change(&[], &["first"]), 1).unwrap());
        for n in 0..10_000 {
            log.push(n + 2, Instant::now(), LogEvent::sources(&change(&[], &["again"]), n + 2).unwrap());
        }
        assert_eq!((log.left_in("first"), log.left_in("again")), (Some(1), Some(10_001)));
    }

    #[test]
    fn a_failure_that_is_repeated_is_one_entry_also_while_a_state_is_rebuilt() {
        let mut log = Log::default();
        let starting = || LogEvent::Entered(State::Starting);
        let all = [failure(0, "down"), starting(), failure(1, "down"), starting(), failure(2, "up")];
        for (number, what) in (1..).zip(all) {
            log.push(number, Instant::now(), what);
        }
        let cycles = |entry: &Entry| match &entry.what {
            LogEvent::Failed { first, last } => Some((first.cycle, *last)),
            _ => None,
        };
        let entries: Vec<_> = log.entries().map(cycles).collect();
        assert_eq!(entries, [Some((0, 1)), None, Some((2, 2))]);
        assert_eq!(log.failures(0, Instant::now(), Some(3)).0.len(), 3);
    }

    #[test]
    fn failures_are_complete_or_counted() {
        let mut log = Log::default();
        let began = Instant::now();
        let at = |nth: u64| began + Duration::from_secs(nth);
        for cycle in 0..300 {
            let LogEvent::Failed { first, .. } = failure(cycle, &cycle.to_string()) else { unreachable!() };
            let failure =
                ObservationFailure { observed_at: at(cycle + 1), ..ObservationFailure::clone(&first) };
            log.push(cycle, Instant::now(), LogEvent::failed(&Arc::new(failure)));
        }
        // (failures before, failures until the end, whether that is known; first kept cycle, how many are kept, are
        // lost)
        let cases = [
            (0, 300, true, Some(44), 256, 44),
            (0, 300, false, Some(44), 256, 44),
            (44, 300, true, Some(44), 256, 0),
            (290, 295, true, Some(290), 5, 0),
            (0, 10, true, None, 0, 10),
            // Not known how many of the 44 are after the end.
            (0, 10, false, None, 0, 44),
            (300, 300, true, None, 0, 0),
        ];
        for (before, until, is_known, first, count, lost) in cases {
            let (kept, cut) = log.failures(before, at(until), is_known.then_some(until));
            let found = (kept.first().map(|failure| failure.cycle), kept.len(), cut);
            assert_eq!(found, (first, count, lost), "after {before}, up to {until}");
        }
        let newest = log.newest_failures(64);
        assert_eq!((newest[0].cycle, newest.len()), (236, 64));
    }
}
