//! The trace of the newest transitions.

use std::collections::VecDeque;
use std::fmt;

use tokio::time::Instant;

use super::name::VariantName;

/// A published transition, also one to the same state; or a change of data inside the state.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Transition<S> {
    /// When it happened.
    pub at: Instant,
    /// The state before.
    pub from: S,
    /// The state after.
    pub to: S,
    /// Where the event came from.
    pub trigger: Trigger,
    /// The name of the event.
    pub event: VariantName,
}

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trigger {
    /// A handle.
    Sent,
    /// It had been deferred, wherever it came from.
    Deferred,
    /// The worker.
    Work,
    /// Failed work.
    Failure,
    /// The state's time-out.
    Timeout,
    /// A requested stop.
    Stop,
    /// The last handle was dropped.
    Abandoned,
    /// A new life began: there is no event.
    Restart,
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::Deferred => "deferred",
            Self::Work => "work",
            Self::Failure => "failure",
            Self::Timeout => "time-out",
            Self::Stop => "stop",
            Self::Abandoned => "abandoned",
            Self::Restart => "restart",
        })
    }
}

/// One line: `Locked -> Unlocked by Coin (sent)`.
impl<S: fmt::Debug> fmt::Display for Transition<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, trigger, event, .. } = self;
        match trigger {
            Trigger::Restart => write!(f, "{from:?} -> {to:?} by a restart"),
            _ => write!(f, "{from:?} -> {to:?} by {event} ({trigger})"),
        }
    }
}

/// The newest transitions, without the state after each: that is the state before the next one.
#[derive(Debug)]
pub(super) struct Trace<S> {
    rows: VecDeque<TraceRow<S>>,
    most: usize,
}

#[derive(Debug)]
pub(super) struct TraceRow<S> {
    pub(super) at: Instant,
    pub(super) from: S,
    pub(super) trigger: Trigger,
    pub(super) event: VariantName,
}

impl<S> Trace<S> {
    pub(super) const fn new(most: usize) -> Self {
        Self { rows: VecDeque::new(), most }
    }

    /// Returns the row that is to be dropped without a lock: its state is an app value.
    #[must_use]
    pub(super) fn push(&mut self, row: TraceRow<S>) -> Option<TraceRow<S>> {
        if self.most == 0 {
            return Some(row);
        }
        let oldest = if self.rows.len() == self.most { self.rows.pop_front() } else { None };
        if self.rows.len() == self.rows.capacity() {
            // Many machines are idle: the first transitions take little.
            self.rows.reserve_exact(self.rows.len().clamp(1, self.most - self.rows.len()));
        }
        self.rows.push_back(row);
        oldest
    }
}

impl<S: Clone> Trace<S> {
    /// Oldest first; `last` is the present state.
    pub(super) fn transitions(&self, last: &S) -> Vec<Transition<S>> {
        let states = self.rows.iter().skip(1).map(|row| &row.from).chain([last]);
        let rows = self.rows.iter().zip(states);
        rows.map(|(row, to)| Transition {
            at: row.at,
            from: row.from.clone(),
            to: to.clone(),
            trigger: row.trigger,
            event: row.event,
        })
        .collect()
    }
}
