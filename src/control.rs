//! The control side of a runtime.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use watchkeeper_fsm::StopReason;

use crate::error::{ControlError, PollNowError};
use crate::parent::Parent;
use crate::shield::shielded;
use crate::task::inbox::{ItemSender, NotPut};
use crate::task::lifetime::{Reason, StopOutcome};

/// How many controls may wait.
const CONTROLS: usize = 16;

/// A request to a running observation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Pause,
    Resume,
    PollNow,
}

/// A control in the mailbox. The reply is the number of the cycle that a `PollNow` starts.
pub(crate) struct Request {
    pub(crate) control: Control,
    pub(crate) reply: oneshot::Sender<u64>,
}

impl Reason for StopReason {
    const REQUESTED: Self = Self::Requested;
    const SHUTDOWN: Self = Self::Shutdown;
    const DIED: Self = Self::Died;
}

/// Type-erased `poll_now_and_wait`: a control does not know the observer's types.
pub(crate) trait Polled: Send + Sync {
    fn poll_now_and_wait<'a>(&'a self, control: &'a ObservationControl) -> EndedCycle<'a>;
}

/// Resolves to the number of the cycle when the cycle has ended.
pub(crate) type EndedCycle<'a> = Pin<Box<dyn Future<Output = Result<u64, PollNowError>> + Send + 'a>>;

/// Pauses, resumes, polls now and stops a runtime; cloneable, and the same type for every observer.
///
/// Each call resolves when the machine has taken the control, even while a poll hangs. A control that cannot be taken
/// changes nothing and returns an error.
///
/// # Cancel safety
///
/// A control is sent when its call is first polled. A call that is dropped later may still take effect.
#[derive(Clone)]
pub struct ObservationControl {
    remote: ItemSender<Request, StopReason>,
    /// Waits for the published result of a cycle.
    polled: Arc<dyn Polled>,
}

impl ObservationControl {
    pub(crate) fn new(remote: ItemSender<Request, StopReason>, polled: Arc<dyn Polled>) -> Self {
        Self { remote, polled }
    }

    /// Holds ticks and wakes back until [`resume`](Self::resume). A cycle in flight continues.
    /// [`poll_now`](Self::poll_now) still starts a cycle.
    ///
    /// # Errors
    ///
    /// [`ControlError`]: too many controls are queued, the runtime has ended, or its driver had no turn for about 5 s:
    /// its executor is not driven, or app code blocks it.
    pub async fn pause(&self) -> Result<(), ControlError> {
        self.ask(Control::Pause).await.map(|_| ())
    }

    /// Lets ticks and wakes start cycles again: ticks from the next one on, a remembered wake at once, after `min_gap`.
    /// After a failure with a backoff, the interrupted delay begins again at its full length.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), ControlError> {
        self.ask(Control::Resume).await.map(|_| ())
    }

    /// Starts a cycle now, or right after the cycle in flight, and returns its number.
    ///
    /// Several requests during one cycle start one cycle. The grid of ticks does not move.
    ///
    /// During the delay of a [backoff](crate::runtime::Retry::Backoff) the cycle starts at once. A success ends the
    /// backoff. After a failure the retry keeps its time, and the next delay does not grow. If the cycle still runs
    /// when the retry is due, it replaces the retry.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    pub async fn poll_now(&self) -> Result<u64, ControlError> {
        self.ask(Control::PollNow).await
    }

    /// Starts a cycle as [`poll_now`](Self::poll_now) does, waits until that cycle has succeeded, and returns its
    /// number.
    ///
    /// The handle's latest snapshot is then of that cycle or a later one. For exactly its snapshot use
    /// [`ObservationRuntime::poll_now_and_wait`](crate::ObservationRuntime::poll_now_and_wait).
    ///
    /// # Errors
    ///
    /// [`PollNowError`]: the control was not taken, the cycle failed, the runtime ended, or its executor gave it no
    /// turn.
    ///
    /// # Cancel safety
    ///
    /// The cycle runs even if this future is dropped.
    pub async fn poll_now_and_wait(&self) -> Result<u64, PollNowError> {
        self.polled.poll_now_and_wait(self).await
    }

    /// Stops the runtime: drops work in flight, publishes the end, and drops app values.
    ///
    /// It returns within `stop_timeout` after the first request, at once if the runtime has ended. It may be called
    /// again, also by several tasks or after a dropped call.
    pub async fn stop(&self) -> StopOutcome {
        self.remote.life.stop().await
    }

    async fn ask(&self, control: Control) -> Result<u64, ControlError> {
        let life = &self.remote.life;
        if let Some(reason) = life.ended() {
            return Err(ControlError::ended(reason));
        }
        let (reply, taken) = oneshot::channel();
        match self.remote.put(Request { control, reply }, CONTROLS) {
            Ok(()) => {}
            Err(NotPut::Full(_)) => return Err(ControlError::Full { capacity: CONTROLS }),
            Err(NotPut::Closed(_)) => return Err(ControlError::ended(self.end().await)),
        }
        shielded(async {
            tokio::select! {
                biased;
                reply = taken => match reply {
                    Ok(cycle) => Ok(cycle),
                    // The mailbox may close a moment before the end is published.
                    Err(_) => Err(ControlError::ended(self.end().await)),
                },
                reason = self.end() => Err(ControlError::ended(reason)),
                no_turn_for = life.pulse.no_turn(None, true) => Err(ControlError::NotDriven { no_turn_for }),
            }
        })
        .await
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
