//! What can go wrong: errors of starts and controls, and failed cycles.

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
    /// `name` is empty or too long.
    #[error("ObservationConfig::name has {length} bytes: it must be 1 to 256 bytes long, or None")]
    InvalidName {
        /// How long it is, in bytes.
        length: usize,
    },
    /// A number of `resume` leaves no room for what is to come.
    #[error(
        "ObservationConfig::resume: its {field} is {value}: it must be at most {max}, because the runtime counts on \
         from it; resume from another record, or start without one",
        max = crate::cursor::LAST_RESUMED
    )]
    InvalidResume {
        /// Which one: `cursor.generation`, `cursor.seq`, `cycle` or `event_count`.
        field: &'static str,
        /// What was given.
        value: u64,
    },
    /// A number of a [`FeedStart`](crate::feed::FeedStart) leaves no room for what is to come.
    #[error(
        "FeedStart: its {field} is {value}: it must be at most {max}, because the feed counts on from it",
        max = crate::cursor::LAST_RESUMED
    )]
    InvalidFeedStart {
        /// Which one: `cursor.generation`, `cursor.seq`, `cycle` or `event_count`.
        field: &'static str,
        /// What was given.
        value: u64,
    },
    /// A [`FeedStart`](crate::feed::FeedStart) is so late that there is no time left for windows and ages.
    #[error(
        "FeedStart::at is within a year of the latest time that can be represented: give a time of the run"
    )]
    FeedStartTooLate,
    /// There is no tokio runtime to run on.
    #[error("no tokio runtime here: start the observation from inside one, or enter its handle first")]
    NoTokioRuntime,
    /// The observer panicked before its first cycle.
    #[error("the observer's `{method}` panicked: {}; fix the panic", one_line(message, MESSAGE))]
    ObserverPanicked {
        /// Where: `configured` or `poll_is_cancel_safe`.
        method: &'static str,
        /// What the panic said.
        message: String,
    },
    /// The first source refresh failed.
    #[error(
        "the first source refresh failed: make the sources reachable, or start in the background to keep retrying"
    )]
    SourceRefresh {
        /// Why.
        source: DynError,
    },
    /// The observer's first `init` failed.
    #[error("the observer's init failed: fix its cause, or start in the background to keep retrying")]
    ObserverInit {
        /// Why.
        source: DynError,
    },
    /// The executor that is to run the observation gave it no turn: on a current-thread runtime nothing runs
    /// while nobody drives its `block_on`. What was started has been asked to stop.
    #[error("the first cycle has not ended: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// For how long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// The runtime ended before its first cycle did.
    #[error("the runtime ended before its first cycle did ({reason}): {}", what_to_do(*reason))]
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
    #[error("{capacity} controls are queued: await the earlier ones, then try again")]
    Full {
        /// How many may wait.
        capacity: usize,
    },
    /// The control was sent and not taken: the runtime's executor has given its driver no turn for some 5 s.
    /// It may still be taken, once there is a turn.
    #[error("the control was not taken yet: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// For how long there was no turn, at least.
        no_turn_for: Duration,
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

/// Why a `poll_now_and_wait` of [`ObservationRuntime`](crate::ObservationRuntime) or of
/// [`ObservationControl`](crate::ObservationControl) has nothing to return.
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
        /// Why it ended.
        reason: StopReason,
    },
    /// The runtime's executor has given it no turn for some 5 s, or app code has blocked it for so long. The cycle may
    /// still end.
    #[error("the requested cycle has not ended: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// For how long there was no turn, at least.
        no_turn_for: Duration,
    },
    /// More than 1,000 publications came before this call had a turn, and its cycle was among those that were lost.
    #[error(
        "{missed} publications were missed, and the requested cycle with them: await this where nothing blocks"
    )]
    FellBehind {
        /// How many.
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
    /// The cursor is ahead of everything published; one of an earlier process, of the point that this one
    /// [resumed](crate::subscription::Resume) from.
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

/// One failed cycle.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservationFailure {
    /// The generation that was current.
    pub generation: u64,
    /// The cycle that failed; its number is used up.
    pub cycle: u64,
    /// When the failure was recorded, on tokio's clock.
    pub observed_at: Instant,
    /// The same moment on the wall, for display.
    pub system_time: SystemTime,
    /// How long the cycle ran before it failed.
    pub elapsed: Duration,
    /// How many sources were known.
    pub source_count: usize,
    /// What was being done.
    pub stage: ObservationFailureStage,
    /// How it failed.
    pub cause: Cause,
    /// The error with all its causes, or what the panic said: at most 1 KiB. What is longer ends in the count
    /// of what was cut. `Display` escapes it.
    pub message: String,
    /// Which consecutive failure this is, from 1.
    pub consecutive: u64,
}

/// One line, escaped.
impl fmt::Display for ObservationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {} failed in {}: {}", self.cycle, self.stage, one_line(&self.message, MESSAGE))
    }
}

impl std::error::Error for ObservationFailure {}

/// After an end that came too early.
fn what_to_do(reason: StopReason) -> &'static str {
    match reason {
        StopReason::Requested => "start another one, with a `parent` that is not cancelled if it has one",
        _ => "keep its executor running, and start another one",
    }
}

/// What it means that there was no turn, and what to do about it.
pub(crate) fn no_turn(no_turn_for: Duration) -> String {
    format!(
        "the runtime's executor gave it no turn for {:.1} s: keep its `block_on` running, or use a multi-thread \
         runtime; work that blocks a thread belongs into `spawn_blocking`",
        no_turn_for.as_secs_f64()
    )
}

debug_as_text!(ObservationRuntimeError, ControlError, CursorError, PollNowError, ObservationFailure);
