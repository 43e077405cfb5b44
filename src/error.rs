//! What can go wrong when a runtime is started or controlled.

use std::fmt::Write as _;
use std::time::Duration;

use watchkeeper_fsm::StopReason;

use crate::DynError;
use crate::error_text::{causes, debug_as_text};

/// Why a runtime did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ObservationRuntimeError {
    /// `interval` is zero or over 24 h.
    #[error("ObservationConfig::interval is {value:?}: it must be more than zero and at most 24 h")]
    InvalidInterval {
        /// What was given.
        value: Duration,
    },
    /// A timeout is zero or over 24 h.
    #[error("ObservationConfig::{field} is {value:?}: it must be more than zero and at most 24 h")]
    InvalidTimeout {
        /// Which one: `refresh_timeout`, `init_timeout`, `poll_timeout` or `stop_timeout`.
        field: &'static str,
        /// What was given.
        value: Duration,
    },
    /// `stale_after` is zero or over 24 h.
    #[error(
        "ObservationConfig::stale_after is {value:?}: it must be more than zero and at most 24 h, \
         or None for the default"
    )]
    InvalidStaleAfter {
        /// What was given.
        value: Duration,
    },
    /// `offset` is over 24 h.
    #[error("ObservationConfig::offset is {value:?}: it must be at most 24 h")]
    InvalidOffset {
        /// What was given.
        value: Duration,
    },
    /// `min_gap` is zero or over 24 h.
    #[error("ObservationConfig::min_gap is {value:?}: it must be more than zero and at most 24 h")]
    InvalidMinGap {
        /// What was given.
        value: Duration,
    },
    /// A field of the backoff is out of its range.
    #[error(
        "Backoff::{field} is {value}: `first` must be more than zero, `max` at least `first` and \
         at most 24 h, `jitter` between 0 and 1"
    )]
    InvalidRetry {
        /// Which one: `first`, `max` or `jitter`.
        field: &'static str,
        /// What was given.
        value: String,
    },
    /// There is no tokio runtime to run on.
    #[error("no tokio runtime here: start the observation from inside one, or enter its handle first")]
    NoTokioRuntime,
    /// The first source refresh failed.
    #[error(
        "the first source refresh failed: make the sources reachable, or start in the background to keep retrying"
    )]
    SourceRefresh {
        /// Why.
        source: DynError,
    },
    /// The observer's first `init` failed.
    #[error("the observer's init failed: mend its cause, or start in the background to keep retrying")]
    ObserverInit {
        /// Why.
        source: DynError,
    },
    /// The runtime ended before its first cycle did.
    #[error(
        "the runtime ended before its first cycle did ({reason}): keep its executor running, and start another one"
    )]
    Ended {
        /// Why it ended.
        reason: StopReason,
    },
}

/// Why a control was not taken.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Too many controls wait to be taken; nothing was changed.
    #[error("{capacity} controls are waiting to be taken: await the earlier ones, then try again")]
    Full {
        /// How many may wait.
        capacity: usize,
    },
    /// The runtime was stopped.
    #[error("the runtime has stopped ({reason}): start another one")]
    Stopped {
        /// Why it ended.
        reason: StopReason,
    },
    /// The runtime died: its executor went away, or its driver had a bug.
    #[error("the runtime is dead ({reason}): start another one")]
    Dead {
        /// Why it ended.
        reason: StopReason,
    },
}

impl ControlError {
    pub(crate) fn ended(reason: StopReason) -> Self {
        match reason {
            StopReason::Shutdown | StopReason::Died => Self::Dead { reason },
            _ => Self::Stopped { reason },
        }
    }
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a detached runtime still has app code running"]
pub enum StopOutcome {
    /// The driver has ended: it runs no app code any more. A task that the app has spawned, such as a
    /// probe of `PerSource`, ends at its next await.
    Stopped,
    /// App code blocked its thread past `stop_timeout` and cannot be cancelled. The runtime counts
    /// as stopped, and nothing that code does later is published.
    ///
    /// Blocking work belongs into [`tokio::task::spawn_blocking`].
    Detached,
}

/// Why a cursor was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The cursor is of another runtime.
    #[error("this cursor is of another runtime: take one from this runtime's snapshots, batches or marks")]
    Foreign,
    /// The cursor is ahead of everything published.
    #[error(
        "this cursor stands at batch {seq}, but only {published} were published: take cursors from this runtime's \
         snapshots, batches or marks"
    )]
    Future {
        /// The batch the cursor expects next.
        seq: u64,
        /// How many batches there have been.
        published: u64,
    },
}

/// An error with all its causes, `outer: middle: root`, as it is recorded: bounded, and not escaped yet.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    /// In bytes, beside the count of what was cut.
    const LONGEST: usize = 4_000;
    let mut text = error.to_string();
    for cause in causes(error) {
        let said = cause.to_string();
        // Some errors already end with their cause: do not say it twice.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rfind(|at| text.is_char_boundary(*at)).unwrap_or_default();
        let more = text.len() - end;
        text.truncate(end);
        let _ = write!(text, " ... ({more} more bytes)");
    }
    text
}

debug_as_text!(ObservationRuntimeError, ControlError, CursorError);
