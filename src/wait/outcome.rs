//! How a wait ends that is not met.

use std::fmt;
use std::time::Duration;

use watchkeeper_fsm::StopReason;

use crate::error::no_turn;

/// Why a wait was not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnmetOutcome {
    /// The window is over: fresh data was judged, and none satisfied the condition.
    NotMet,
    /// What was to hold throughout did not.
    Violated,
    /// The predicate gave up: [`Verdict::GiveUp`](super::Verdict::GiveUp). [`Unmet::reason`](super::Unmet::reason)
    /// says why.
    GaveUp,
    /// Nothing can be said: the condition may or may not have held.
    Inconclusive(Inconclusive),
    /// The wait itself makes no sense.
    Invalid(InvalidWait),
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inconclusive {
    /// No cycle that counts has succeeded inside the window.
    NothingObserved,
    /// The runtime's executor gave no turn until the window was over: nobody drives it, or something blocks
    /// its thread.
    NotDriven {
        /// For how long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime was paused, and no cycle that counts has succeeded.
    Paused,
    /// There was data, all of it stale when it came.
    Stale,
    /// The runtime ended inside the window.
    Stopped {
        /// Why it ended.
        reason: StopReason,
    },
    /// Not every source was asked since the start: there was neither an answer nor a failure of some, and they
    /// were not silent for long enough to say so. The report names them.
    SourcesNotAsked,
    /// The predicate of an invariant has panicked.
    Panicked,
    /// The waiting task did not keep up, or the [`Feed`](crate::feed::Feed) has lost some of its run: some
    /// publications were not judged.
    FellBehind {
        /// How many.
        missed: u64,
    },
}

/// Why a wait makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWait {
    /// The window is zero or over 24 h.
    Window,
    /// The mark was taken from another runtime.
    ForeignMark,
    /// The time for which a value is to be the same is zero, or does not fit into the window. The report says which
    /// window would do.
    Hold,
    /// The wait is for at least no sources: anything would meet it.
    NoSources,
    /// The wait is for one source, and the observer keeps nothing by source.
    NoSourceHealth,
    /// The wait had ended: its outcome was returned by an earlier poll.
    PolledAgain,
    /// What was to be observed for it could not be started; the report says why.
    NotStarted,
}

impl fmt::Display for UnmetOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMet => f.write_str("not met in time"),
            Self::Violated => f.write_str("violated"),
            Self::GaveUp => f.write_str("given up"),
            Self::Inconclusive(Inconclusive::NothingObserved) => {
                f.write_str("inconclusive (no cycle that counts has succeeded)")
            }
            Self::Inconclusive(Inconclusive::NotDriven { no_turn_for }) => {
                write!(f, "inconclusive ({})", no_turn(*no_turn_for))
            }
            Self::Inconclusive(Inconclusive::Paused) => f.write_str("inconclusive (the runtime was paused)"),
            Self::Inconclusive(Inconclusive::Stale) => f.write_str("inconclusive (the data was stale)"),
            Self::Inconclusive(Inconclusive::Stopped { reason }) => {
                write!(f, "inconclusive (the runtime has stopped: {reason})")
            }
            Self::Inconclusive(Inconclusive::SourcesNotAsked) => {
                f.write_str("inconclusive (not every source was asked since the start)")
            }
            Self::Inconclusive(Inconclusive::Panicked) => f.write_str("inconclusive (app code has panicked)"),
            Self::Inconclusive(Inconclusive::FellBehind { missed }) => {
                write!(f, "inconclusive ({missed} publications were missed)")
            }
            Self::Invalid(InvalidWait::Window) => {
                f.write_str("invalid wait (the window must be more than zero and at most 24 h)")
            }
            Self::Invalid(InvalidWait::ForeignMark) => {
                f.write_str("invalid wait (the mark is from another runtime: take one from this handle)")
            }
            Self::Invalid(InvalidWait::Hold) => f.write_str(
                "invalid wait (the time to be stable for must be more than zero and fit into the window)",
            ),
            Self::Invalid(InvalidWait::NoSources) => {
                f.write_str("invalid wait (it is for at least 0 sources: ask for one or more)")
            }
            Self::Invalid(InvalidWait::NoSourceHealth) => f.write_str(
                "invalid wait (the observer keeps nothing by source: have it implement source_health)",
            ),
            Self::Invalid(InvalidWait::NotStarted) => f.write_str("not started: there is nothing to wait on"),
            Self::Invalid(InvalidWait::PolledAgain) => {
                f.write_str("invalid wait (it has ended, and was polled again)")
            }
        }
    }
}
