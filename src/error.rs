//! Errors of starts, controls and cursors, and failed cycles.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper_fsm::StopReason;
pub use watchkeeper_fsm::{Cause, Stage as ObservationFailureStage};

use crate::report::debug_as_text;
use crate::text::{MESSAGE, one_line};

/// Any error of app code.
pub type DynError = Box<dyn std::error::Error + Send + Sync>;

/// Why a runtime did not start.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ObservationRuntimeError {
    /// `interval` is zero or over 24 h.
    #[error("ObservationConfig::interval is {value:?}: it must be more than zero and at most 24 h")]
    InvalidInterval {
        /// The configured value.
        value: Duration,
    },
    /// A time-out is zero or over 24 h.
    #[error("ObservationConfig::{field} is {value:?}: it must be more than zero and at most 24 h")]
    InvalidTimeout {
        /// The field: `refresh_timeout`, `init_timeout`, `poll_timeout` or `stop_timeout`.
        field: &'static str,
        /// The configured value.
        value: Duration,
    },
    /// `stale_after` is zero or over 24 h.
    #[error(
        "ObservationConfig::stale_after is {value:?}: it must be more than zero and at most 24 h, \
         or None for the default"
    )]
    InvalidStaleAfter {
        /// The configured value.
        value: Duration,
    },
    /// `offset` is over 24 h.
    #[error("ObservationConfig::offset is {value:?}: it must be at most 24 h")]
    InvalidOffset {
        /// The configured value.
        value: Duration,
    },
    /// `min_gap` is zero or over 24 h.
    #[error("ObservationConfig::min_gap is {value:?}: it must be more than zero and at most 24 h")]
    InvalidMinGap {
        /// The configured value.
        value: Duration,
    },
    /// A field of the backoff is out of its range.
    #[error(
        "Backoff::{field} is {value}: `first` must be more than zero, `max` at least `first` and \
         at most 24 h, `jitter` between 0 and 1"
    )]
    InvalidRetry {
        /// The field: `first`, `max` or `jitter`.
        field: &'static str,
        /// The configured value.
        value: String,
    },
    /// `name` is empty or longer than 256 bytes.
    #[error("ObservationConfig::name has {length} bytes: it must be 1 to 256 bytes long, or None")]
    InvalidName {
        /// Its length in bytes.
        length: usize,
    },
    /// A number of `resume` leaves no room to count on.
    #[error(
        "ObservationConfig::resume: its {field} is {value}: it must be at most {max}, because the runtime counts on \
         from it; resume from another record, or start without one",
        max = crate::cursor::LAST_RESUMED
    )]
    InvalidResume {
        /// The field: `cursor.generation`, `cursor.seq`, `cycle` or `event_count`.
        field: &'static str,
        /// The configured value.
        value: u64,
    },
    /// A number of a [`FeedStart`](crate::feed::FeedStart) leaves no room to count on.
    #[error(
        "FeedStart: its {field} is {value}: it must be at most {max}, because the feed counts on from it",
        max = crate::cursor::LAST_RESUMED
    )]
    InvalidFeedStart {
        /// The field: `cursor.generation`, `cursor.seq`, `cycle` or `event_count`.
        field: &'static str,
        /// The given value.
        value: u64,
    },
    /// A [`FeedStart`](crate::feed::FeedStart) is so late that windows and ages cannot be represented.
    #[error(
        "FeedStart::at is within a year of the latest time that can be represented: give a time of the run"
    )]
    FeedStartTooLate,
    /// The call was made outside of a tokio runtime.
    #[error("no tokio runtime here: start the observation from inside one, or enter its handle first")]
    NoTokioRuntime,
    /// The observer panicked before its first cycle.
    #[error("the observer's `{method}` panicked: {}; fix the panic", one_line(message, MESSAGE))]
    ObserverPanicked {
        /// The method: `configured` or `poll_is_cancel_safe`.
        method: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// The first source refresh failed.
    #[error(
        "the first source refresh failed: make the sources reachable, or start in the background to keep retrying"
    )]
    SourceRefresh {
        /// The cause of the failure.
        source: DynError,
    },
    /// The observer's first `init` failed.
    #[error("the observer's init failed: fix its cause, or start in the background to keep retrying")]
    ObserverInit {
        /// The cause of the failure.
        source: DynError,
    },
    /// The executor gave the observation no turn: a current-thread runtime runs only inside `block_on`. The
    /// observation was asked to stop.
    #[error("the first cycle has not ended: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// How long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime ended before its first cycle did.
    #[error("the runtime ended before its first cycle did ({reason}): {}", what_to_do(*reason))]
    Ended {
        /// The reason for the end.
        reason: StopReason,
    },
}

/// Why a control was not taken.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// Too many controls are queued; nothing was changed.
    #[error("{capacity} controls are queued: await the earlier ones, then try again")]
    Full {
        /// The most controls that may be queued.
        capacity: usize,
    },
    /// The control was sent and not taken: the runtime's executor gave its driver no turn for about 5 s. The control
    /// may still be taken at the next turn.
    #[error("the control was not taken yet: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// How long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime has stopped.
    #[error("the runtime has stopped ({reason}): start another one")]
    Stopped {
        /// The reason for the end.
        reason: StopReason,
    },
    /// The runtime died: its executor was shut down, or its driver has a bug.
    #[error("the runtime is dead ({reason}): start another one")]
    Dead {
        /// The reason for the end.
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

/// Why `poll_now_and_wait` of [`ObservationRuntime`](crate::ObservationRuntime) or
/// [`ObservationControl`](crate::ObservationControl) failed.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum PollNowError {
    /// The control was not taken: no cycle was started.
    #[error(transparent)]
    NotTaken(#[from] ControlError),
    /// The cycle has failed.
    #[error("the requested cycle has failed: {0}")]
    Failed(Arc<ObservationFailure>),
    /// The runtime ended before the cycle did.
    #[error("the runtime ended before the requested cycle did ({reason}): start another one")]
    Ended {
        /// The reason for the end.
        reason: StopReason,
    },
    /// The runtime's executor gave it no turn for about 5 s, or app code blocked it as long. The cycle may still end.
    #[error("the requested cycle has not ended: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// How long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// More than 1,000 publications came before this call had a turn, and the result of its cycle is among the lost
    /// ones.
    #[error(
        "{missed} publications were missed, and the requested cycle with them: await this where nothing blocks"
    )]
    FellBehind {
        /// The number of missed publications.
        missed: u64,
    },
}

/// Why a cursor was refused.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The cursor is of another runtime.
    #[error("this cursor is from another runtime: take one from this runtime's snapshots, batches or marks")]
    Foreign,
    /// The cursor is ahead of everything published. A cursor of an earlier process is ahead if it is after the point
    /// from which this process [resumed](crate::subscription::Resume).
    #[error(
        "this cursor stands at batch {seq}, but only {published} were published: take cursors from this runtime's \
         snapshots, batches or marks"
    )]
    Future {
        /// The number of the cursor's next batch.
        seq: u64,
        /// The number of batches published so far.
        published: u64,
    },
}

/// One failed cycle.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservationFailure {
    /// The generation at the failure.
    pub generation: u64,
    /// The number of the failed cycle; it is not used again.
    pub cycle: u64,
    /// The time at which the failure was recorded, on tokio's clock.
    pub observed_at: Instant,
    /// The same moment as wall-clock time, for display.
    pub system_time: SystemTime,
    /// The time from the begin of the cycle to its failure.
    pub elapsed: Duration,
    /// The number of known sources.
    pub source_count: usize,
    /// The work that failed.
    pub stage: ObservationFailureStage,
    /// How it failed.
    pub cause: Cause,
    /// The error with all its causes, or the message of the panic: at most 1 KiB. A truncated text ends in the count
    /// of what was cut. `Display` escapes it.
    pub message: String,
    /// The number of this failure among the consecutive failures, from 1.
    pub consecutive: u64,
}

/// One line, escaped.
impl fmt::Display for ObservationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {} failed in {}: {}", self.cycle, self.stage, one_line(&self.message, MESSAGE))
    }
}

impl std::error::Error for ObservationFailure {}

/// How to fix an end that came too early.
fn what_to_do(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Requested => "start another one, with a `parent` that is not cancelled if it has one",
        _ => "keep its executor running, and start another one",
    }
}

/// Explains the missing turn, and how to fix it.
pub(crate) fn no_turn(no_turn_for: Duration) -> String {
    format!(
        "the runtime's executor gave it no turn for {:.1} s: keep its `block_on` running, or use a multi-thread \
         runtime; work that blocks a thread belongs into `spawn_blocking`",
        no_turn_for.as_secs_f64()
    )
}

debug_as_text!(ObservationRuntimeError, ControlError, CursorError, PollNowError, ObservationFailure);
