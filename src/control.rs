//! The control side of a runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use watchkeeper_fsm::StopReason;

use crate::error::{ControlError, PollNowError};
use crate::parent::Parent;
use crate::task::inbox::{ControlSender, NotTaken};
use crate::task::lifetime::{Reason, StopOutcome};

/// What somebody may ask of a running observation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Pause,
    Resume,
    PollNow,
}

impl Reason for StopReason {
    const REQUESTED: Self = Self::Requested;
    const SHUTDOWN: Self = Self::Shutdown;
    const DIED: Self = Self::Died;
}

impl From<NotTaken<StopReason>> for ControlError {
    fn from(not_taken: NotTaken<StopReason>) -> Self {
        match not_taken {
            NotTaken::Full { capacity } => Self::Full { capacity },
            NotTaken::NotDriven { no_turn_for } => Self::NotDriven { no_turn_for },
            NotTaken::Ended(reason) => Self::ended(reason),
        }
    }
}

/// `poll_now_and_wait` for a control, which does not know the observer's types.
pub(crate) trait Polled: Send + Sync {
    fn poll_now_and_wait<'a>(&'a self, control: &'a ObservationControl) -> EndedCycle<'a>;
}

/// The number of the cycle, once it has ended.
pub(crate) type EndedCycle<'a> = Pin<Box<dyn Future<Output = Result<u64, PollNowError>> + Send + 'a>>;

/// Pauses, resumes, hurries and stops a runtime; cloneable, and the same type for every observer.
///
/// Each call resolves when the machine has taken the control, also while a poll hangs. A control
/// that cannot be taken changes nothing and says why.
///
/// # Cancel safety
///
/// A call that is dropped may still be taken: it was sent when it was first polled.
#[derive(Clone)]
pub struct ObservationControl {
    remote: ControlSender<Control, u64, StopReason>,
    /// Where what comes of a cycle is published.
    polled: Arc<dyn Polled>,
}

impl ObservationControl {
    pub(crate) fn new(remote: ControlSender<Control, u64, StopReason>, polled: Arc<dyn Polled>) -> Self {
        Self { remote, polled }
    }

    /// Holds ticks and wakes back until [`resume`](Self::resume). A cycle in flight goes on;
    /// [`poll_now`](Self::poll_now) still starts one.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: too many waiting controls, a stopped runtime, a dead one, or one that had no turn to
    /// take it for some 5 s.
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.ask(Control::Pause).await.map(|_| ())
    }

    /// Lets ticks and wakes start cycles again, at the next point of the grid; after a failure with
    /// a backoff, a delay as long as the one that was paused begins.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), ControlError> {
        self.ask(Control::Resume).await.map(|_| ())
    }

    /// Starts a cycle now, or right after the one in flight, and returns its number.
    ///
    /// Several requests during one cycle start one cycle. The grid of ticks does not move.
    ///
    /// While a [backoff](crate::runtime::Retry::Backoff) waits, it tries at once. If that fails, the retry keeps its time, and the delay after it is no longer; a success ends the backoff. Where the
    /// cycle lasts until the retry is due, it stands for it.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn poll_now(&self) -> Result<u64, ControlError> {
        self.ask(Control::PollNow).await
    }

    /// Starts a cycle as [`poll_now`](Self::poll_now) does, waits until that very cycle has succeeded, and returns its
    /// number. The handle's latest snapshot is then of that cycle, or of a later one; see
    /// [`ObservationRuntime::poll_now_and_wait`](crate::ObservationRuntime::poll_now_and_wait) for the snapshot of that
    /// very cycle.
    ///
    /// # Errors
    ///
    /// [`PollNowError`]: the control was not taken, that very cycle failed, the runtime ended, or its executor gives
    /// no turn.
    ///
    /// # Cancel safety
    ///
    /// The cycle runs whether this is awaited to its end or not.
    pub async fn poll_now_and_wait(&self) -> Result<u64, PollNowError> {
        self.polled.poll_now_and_wait(self).await
    }

    /// Stops the runtime: work in flight is dropped, the end is published, app values are dropped.
    ///
    /// Answers within `stop_timeout` of the first request. May be called again, by several, and
    /// after a call that was dropped; a runtime that has already ended answers at once.
    pub async fn stop(&self) -> StopOutcome {
        self.remote.life.stop().await
    }

    async fn ask(&self, control: Control) -> Result<u64, ControlError> {
        Ok(self.remote.ask(control).await?)
    }

    pub(crate) fn request_stop(&self, reason: StopReason) {
        self.remote.life.request_stop(reason);
    }

    pub(crate) fn stopped_by(&self, parent: &CancellationToken) -> Parent {
        Parent::of(&self.remote.life, parent)
    }

    pub(crate) async fn end(&self) -> StopReason {
        self.remote.life.end_reason().await
    }
}

impl fmt::Debug for ObservationControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObservationControl").field("ended", &self.remote.life.ended()).finish_non_exhaustive()
    }
}
