//! The status that a runtime publishes, as one consistent value.

pub(crate) mod freshness;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper_fsm::{State, StateKind};

use crate::config::ObservationConfig;
use crate::cursor::{Cursor, Resume};
use crate::error::ObservationFailure;
use crate::observer::Observer;
use crate::panics::discard_logged;
use crate::source::LeftOut;
use crate::source::SourceNames;
use crate::status::freshness::Freshness;
use crate::text::render::debug_line;
use crate::text::{NAMES, names};

/// Byte limit of the snapshot in a status's `Debug`.
const SNAPSHOT: usize = 2_000;

/// The observer's view after a successful cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservationSnapshot<S> {
    /// The generation of the observer's state.
    pub generation: u64,
    /// The cycle that published it.
    pub cycle: u64,
    /// The position after the snapshot's events: `subscribe_from(snapshot.cursor)` misses nothing and repeats
    /// nothing.
    pub cursor: Cursor,
    /// When it was published, on tokio's clock.
    pub observed_at: Instant,
    /// The wall time of publication, for display.
    pub system_time: SystemTime,
    /// How long the cycle took; the data is no older than `observed_at - elapsed`.
    pub elapsed: Duration,
    /// How many sources there were.
    pub source_count: usize,
    /// How many events were published up to this snapshot, by all cycles of this runtime and of those that it
    /// [resumed](crate::subscription::Resume).
    pub event_count: u64,
    /// The observer's snapshot. A wait returns it without the answers of probes that began before
    /// its start.
    pub value: S,
    /// The sources that were left out of the set.
    pub(crate) left_out: Option<Arc<LeftOut>>,
    /// Approximate size with its events, in bytes, for taps.
    pub(crate) weight: usize,
    /// Whether a poll made it. The first snapshot of each generation shows the state after `init`.
    pub is_polled: bool,
}

impl<S> ObservationSnapshot<S> {
    /// When its cycle began.
    pub(crate) fn began(&self) -> Instant {
        self.observed_at - self.elapsed
    }

    /// The same snapshot with another value.
    pub(crate) fn showing(&self, value: S) -> Self {
        Self { value, left_out: self.left_out.clone(), ..*self }
    }
}

/// Resumes right after this snapshot. If a later cycle has failed, set `cycle` to that cycle, or resume after its
/// [`Record`](crate::subscription::Record).
impl<S> From<&ObservationSnapshot<S>> for Resume {
    fn from(snapshot: &ObservationSnapshot<S>) -> Self {
        Self { cursor: snapshot.cursor, cycle: snapshot.cycle, event_count: snapshot.event_count }
    }
}

/// Whether `state` is terminal.
pub(crate) fn is_over(state: State) -> bool {
    state.kind() == StateKind::Stopped
}

/// The published status: all fields are of the same moment.
pub(crate) struct Published<S> {
    /// Counts publications.
    pub(crate) number: u64,
    pub(crate) state: State,
    pub(crate) since: Instant,
    pub(crate) paused: bool,
    pub(crate) generation: u64,
    pub(crate) cycle: u64,
    /// The first cycle that has not begun. Before the start it equals `cycle`.
    pub(crate) next_cycle: u64,
    pub(crate) snapshot: Option<Arc<ObservationSnapshot<S>>>,
    pub(crate) last_error: Option<Arc<ObservationFailure>>,
    /// How many cycles have failed so far.
    pub(crate) failures: u64,
    pub(crate) last_success: Option<Instant>,
    pub(crate) stale_after: Duration,
    pub(crate) source_names: SourceNames,
    /// The cycle that refreshed the names; `None` before the first refresh.
    pub(crate) set_cycle: Option<u64>,
    pub(crate) missed_ticks: u64,
    /// The time between two ticks.
    pub(crate) interval: Duration,
}

/// The snapshot's destructor is app code and may panic. A queue holds many of these, so each drops its own snapshot.
impl<S> Drop for Published<S> {
    fn drop(&mut self) {
        if let Some(snapshot) = self.snapshot.take() {
            discard_logged(snapshot, "a snapshot");
        }
    }
}

// A derived `Clone` would require `S: Clone`.
impl<S> Clone for Published<S> {
    fn clone(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            last_error: self.last_error.clone(),
            source_names: Arc::clone(&self.source_names),
            ..*self
        }
    }
}

impl<S> Published<S> {
    pub(crate) fn before_the_start(at: Instant, config: &ObservationConfig) -> Self {
        let first = config.first();
        Self {
            number: 0,
            state: State::Starting,
            since: at,
            paused: false,
            generation: first.generation,
            cycle: first.cycle,
            next_cycle: first.cycle,
            snapshot: None,
            last_error: None,
            failures: 0,
            last_success: None,
            stale_after: config.pace().stale_after(Duration::ZERO),
            source_names: SourceNames::from([]),
            set_cycle: None,
            missed_ticks: 0,
            interval: config.interval,
        }
    }

    /// Whether it is the last publication.
    pub(crate) fn is_over(&self) -> bool {
        self.state.kind() == StateKind::Stopped
    }

    /// The snapshot, if a cycle has succeeded after `before`.
    pub(crate) fn succeeded_since(&self, before: &Self) -> Option<&Arc<ObservationSnapshot<S>>> {
        let known =
            |snapshot: &&Arc<_>| before.snapshot.as_ref().is_some_and(|known| Arc::ptr_eq(known, snapshot));
        self.snapshot.as_ref().filter(|snapshot| !known(snapshot))
    }

    /// The failure, if a cycle has failed after `before`.
    pub(crate) fn failed_since(&self, before: &Self) -> Option<&Arc<ObservationFailure>> {
        self.last_error.as_ref().filter(|_| self.failures != before.failures)
    }

    pub(crate) fn freshness(&self, read_at: Instant) -> Freshness {
        Freshness { last_success: self.last_success, stale_after: self.stale_after, read_at }
    }

    /// When the data turns stale without another success.
    pub(crate) fn stale_at(&self) -> Option<Instant> {
        self.last_success.map(|began| began + self.stale_after)
    }
}

/// One consistent view of a runtime: all fields are of the same moment.
#[non_exhaustive]
pub struct ObservationStatus<O: Observer> {
    /// The machine's state.
    pub state: State,
    /// When the machine entered that state, on tokio's clock.
    pub since: Instant,
    /// Whether ticks and wakes are held back.
    pub paused: bool,
    /// The generation of the observer's state. While a lost state is rebuilt, it is still the last one.
    pub generation: u64,
    /// The cycle in flight, or the last one.
    pub cycle: u64,
    /// The last success; a failure keeps it.
    pub snapshot: Option<Arc<ObservationSnapshot<O::Snapshot>>>,
    /// The last failure, if no success came after it.
    pub last_error: Option<Arc<ObservationFailure>>,
    /// How old the data was when this status was read.
    pub freshness: Freshness,
    /// The names of the sources, in the provider's order.
    pub source_names: Arc<[Arc<str>]>,
    /// How many ticks were missed because a cycle took too long.
    pub missed_ticks: u64,
}

impl<O: Observer> ObservationStatus<O> {
    pub(crate) fn read(published: &Published<O::Snapshot>, read_at: Instant) -> Self {
        Self {
            state: published.state,
            since: published.since,
            paused: published.paused,
            generation: published.generation,
            cycle: published.cycle,
            snapshot: published.snapshot.clone(),
            last_error: published.last_error.clone(),
            freshness: published.freshness(read_at),
            source_names: Arc::clone(&published.source_names),
            missed_ticks: published.missed_ticks,
        }
    }
}

impl<O: Observer> Clone for ObservationStatus<O> {
    fn clone(&self) -> Self {
        Self {
            snapshot: self.snapshot.clone(),
            last_error: self.last_error.clone(),
            source_names: Arc::clone(&self.source_names),
            ..*self
        }
    }
}

impl<O: Observer<Snapshot: fmt::Debug>> fmt::Debug for ObservationStatus<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = names(self.source_names.iter().map(|name| &**name), NAMES);
        f.debug_struct("ObservationStatus")
            .field("state", &self.state)
            .field("since", &self.since)
            .field("paused", &self.paused)
            .field("generation", &self.generation)
            .field("cycle", &self.cycle)
            .field("snapshot", &format_args!("{}", debug_line(&self.snapshot, SNAPSHOT)))
            .field("last_error", &self.last_error)
            .field("freshness", &self.freshness)
            .field("source_names", &format_args!("{sources}"))
            .field("missed_ticks", &self.missed_ticks)
            .finish()
    }
}
