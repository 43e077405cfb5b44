//! How a wait ends when it is not met.

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
    /// A condition that must hold throughout was violated.
    Violated,
    /// The predicate gave up ([`Verdict::GiveUp`](super::Verdict::GiveUp)); see
    /// [`Unmet::reason`](super::Unmet::reason).
    GaveUp,
    /// The [supervised machine](crate::supervise) has ended, and none of its states satisfied the condition.
    Ended,
    /// Inconclusive: the condition may or may not have held.
    Inconclusive(Inconclusive),
    /// The wait itself is invalid.
    Invalid(InvalidWait),
}

/// Why a wait is inconclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inconclusive {
    /// No cycle that counts succeeded inside the window.
    NothingObserved,
    /// The runtime's executor gave no turn until the window was over: nobody drives it, or something blocks its
    /// thread.
    NotDriven {
        /// How long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime was paused, and no cycle that counts succeeded, or the data was stale at the end of the window.
    Paused,
    /// All data was stale when it came, or at the end of the window.
    Stale,
    /// The runtime stopped inside the window.
    Stopped {
        /// Why it stopped.
        reason: StopReason,
    },
    /// After the start, at least one source was not asked, or has neither answered nor failed and was not silent long
    /// enough. The report names these sources.
    SourcesNotAsked,
    /// The predicate of an invariant panicked.
    Panicked,
    /// Some publications were not judged: the waiting task did not keep up, or the [`Feed`](crate::feed::Feed) lost
    /// some of its run.
    FellBehind {
        /// How many publications.
        missed: u64,
    },
}

/// Why a wait is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InvalidWait {
    /// The window is zero or over 24 h.
    Window,
    /// The mark was taken from another runtime.
    ForeignMark,
    /// `hold` is zero or does not fit into the window. The report suggests a window.
    Hold,
    /// The wait is for at least 0 sources, which every snapshot would meet.
    NoSources,
    /// The wait is for one source, and the observer keeps nothing by source.
    NoSourceHealth,
    /// The wait was polled again after it had returned its outcome.
    PolledAgain,
    /// The observation for the wait could not be started; the report says why.
    NotStarted,
}

impl fmt::Display for UnmetOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotMet => f.write_str("not met in time"),
            Self::Violated => f.write_str("violated"),
            Self::GaveUp => f.write_str("given up"),
            Self::Ended => f.write_str("not met before the machine ended"),
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
