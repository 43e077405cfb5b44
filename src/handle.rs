//! The read side of a runtime.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::cursor::Cursor;
use crate::error::CursorError;
use crate::error::ObservationFailure;
use crate::mark::Mark;
use crate::observer::Observer;
use crate::publish::history::ObservationBatch;
use crate::publish::shared::Shared;
use crate::status::freshness::Freshness;
use crate::status::{ObservationSnapshot, ObservationStatus};
use crate::subscription::Subscription;
use crate::tap::{Tap, TapLimits};
use crate::watch::Watch;

/// Reads a running observation; cloneable.
///
/// Reading never waits for the runtime, and returns `Arc`s of the app's data, never copies. After the end of the
/// runtime a handle shows the last state.
///
/// # Which executor must run
///
/// An observation is a task of the tokio runtime that started it, on that runtime's clock. A multi-thread runtime
/// drives itself. A current-thread runtime runs only inside `block_on`: after
/// `rt.block_on(ObservationRuntime::start(..))` has returned, nothing is observed until the next `rt.block_on`.
/// Waits, watches and controls may be awaited anywhere, also on another runtime or a plain thread.
///
/// If the runtime is not driven, or its thread is blocked, these calls still end where they are awaited elsewhere,
/// unless the clock is paused:
///
/// - A wait ends within about 1.5 s after its window, as
///   [`Inconclusive::NotDriven`](crate::wait::Inconclusive::NotDriven).
/// - After about 5 s without a turn, controls, [`Watch::changed`],
///   [`Invariant::finish`](crate::wait::Invariant::finish) and
///   [`ObservationRuntime::start`](crate::ObservationRuntime::start) return their `NotDriven` error.
///
/// [`Subscription::recv`], [`Tap::recv`] and [`stopped`](Self::stopped) wait as long as the observation lives.
///
/// A probe, a poll or a predicate that blocks its thread for 3 s while a call waits is logged as a warning. From 1 s
/// on the reports of waits and invariants mention it: use [`spawn_blocking`](tokio::task::spawn_blocking). A paused
/// clock does not wait for real I/O; the report of a wait without any answer says that the clock is paused.
pub struct ObservationHandle<O: Observer> {
    pub(crate) shared: Arc<Shared<O::Snapshot, O::Event>>,
}

impl<O: Observer> Clone for ObservationHandle<O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<O: Observer> ObservationHandle<O> {
    pub(crate) fn new(shared: Arc<Shared<O::Snapshot, O::Event>>) -> Self {
        Self { shared }
    }

    /// The observation's name: see [`ObservationConfig::name`](crate::ObservationConfig::name).
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.shared.name.as_ref()
    }

    /// The state of the machine.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.read(|status| status.state)
    }

    /// The whole status, read at one moment.
    #[must_use]
    pub fn status(&self) -> ObservationStatus<O> {
        let now = self.shared.clock.now();
        self.shared.read(|status| ObservationStatus::read(status, now))
    }

    /// The snapshot of the last success, without a copy. `None` before the first success; a failure keeps it.
    #[must_use]
    pub fn latest_snapshot(&self) -> Option<Arc<ObservationSnapshot<O::Snapshot>>> {
        self.shared.read(|status| status.snapshot.clone())
    }

    /// The newest batches, oldest first: at most `history_limit`. To read every batch,
    /// [`subscribe`](Self::subscribe).
    #[must_use]
    pub fn history(&self) -> Vec<Arc<ObservationBatch<O::Event>>> {
        self.shared.history.kept()
    }

    /// The last failure, if no success came after it.
    #[must_use]
    pub fn last_error(&self) -> Option<Arc<ObservationFailure>> {
        self.shared.read(|status| status.last_error.clone())
    }

    /// The newest 64 failures, oldest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Arc<ObservationFailure>> {
        self.shared.failures()
    }

    /// The age of the last success, now.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let now = self.shared.clock.now();
        self.shared.read(|status| status.freshness(now))
    }

    /// Every batch from now on, each exactly once.
    ///
    /// An earlier snapshot may already contain the first of them: to continue right after a snapshot, use
    /// [`subscribe_from`](Self::subscribe_from) with its cursor.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<O::Event> {
        Subscription::from_now(Arc::clone(&self.shared.history))
    }

    /// Every batch after `cursor`, each exactly once. After a snapshot's cursor there is no gap and no repetition.
    ///
    /// If the next batch is no longer kept, the first result is [`Lagged`](crate::subscription::RecvError::Lagged). What
    /// a cursor of an earlier process gets is said at [`Resume`](crate::subscription::Resume).
    ///
    /// # Errors
    ///
    /// [`CursorError`]: the cursor is of another runtime, or ahead of everything published.
    pub fn subscribe_from(&self, cursor: Cursor) -> Result<Subscription<O::Event>, CursorError> {
        Subscription::from_cursor(Arc::clone(&self.shared.history), cursor)
    }

    /// A watch of the status. It wakes when the status changes, and when the data becomes stale.
    #[must_use]
    pub fn watch(&self) -> Watch<O> {
        Watch::new(Arc::clone(&self.shared))
    }

    /// Every publication from now on, in order, with up to `limits` held for a slow reader: see [`Tap`].
    #[must_use]
    pub fn tap(&self, limits: TapLimits) -> Tap<O> {
        Tap::new(Arc::clone(&self.shared), limits)
    }

    /// The present moment, for waits that count only answers asked after it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::wait::Unmet;
    /// # async fn write(_: &str) {}
    /// # async fn example<O: Observer<Snapshot = String>>(handle: ObservationHandle<O>) -> Result<(), Unmet> {
    /// write("x").await;
    /// let written = handle.mark();
    /// // Only what was asked after the write can show it.
    /// handle.eventually("x is seen", |seen| seen == "x").after(written).within(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mark(&self) -> Mark {
        let (history, at) = (&self.shared.history, self.shared.clock.now());
        self.shared.read(|status| Mark {
            instance: history.instance(),
            at,
            number: status.number,
            next_cycle: status.next_cycle,
            next_seq: status.snapshot.as_ref().map_or(history.first().seq, |snapshot| snapshot.cursor.seq),
        })
    }

    /// Converts a tokio instant of this runtime to wall-clock time, for display.
    ///
    /// The result is wrong by the time for which the machine slept, or by which its clock was set, after `instant`.
    /// Published values have their own `system_time`, which was read at publication. Under a paused clock the result
    /// is the wall-clock time of the start plus the time elapsed on tokio's clock.
    #[must_use]
    pub fn system_time(&self, instant: Instant) -> std::time::SystemTime {
        let clock = &self.shared.clock;
        clock.wall(instant, clock.now())
    }

    /// Waits for the end of the runtime, and returns the reason. It has no time-out: if the executor is not driven, it
    /// keeps waiting.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    ///
    /// # Examples
    ///
    /// ```
    /// # use watchkeeper::{ObservationHandle, Observer};
    /// # use watchkeeper::runtime::StopReason;
    /// # async fn example<O: Observer>(handle: ObservationHandle<O>) {
    /// if handle.stopped().await != StopReason::Requested {
    ///     eprintln!("the observation has ended by itself");
    /// }
    /// # }
    /// ```
    pub async fn stopped(&self) -> StopReason {
        let mut watch = self.watch();
        loop {
            if let Some(reason) = self.stop_reason() {
                return reason;
            }
            // An error because of an executor that is not driven is not the end.
            let _ = watch.changed().await;
        }
    }

    /// The reason for which the runtime ended, or `None` while it runs.
    #[must_use]
    pub fn stop_reason(&self) -> Option<StopReason> {
        match self.state() {
            State::Stopped { reason } => Some(reason),
            _ => None,
        }
    }
}

impl<O: Observer> fmt::Debug for ObservationHandle<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, cycle) = self.shared.read(|status| (status.state, status.cycle));
        f.debug_struct("ObservationHandle")
            .field("name", &self.name())
            .field("state", &state)
            .field("cycle", &cycle)
            .finish_non_exhaustive()
    }
}
