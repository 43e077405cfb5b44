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

/// What is known of a running observation; cloneable.
///
/// Reading never waits for the runtime, and what is returned is owned: an `Arc` of what was
/// published, never a copy of the app's data. Handles stay usable after the end and show the last
/// state.
///
/// # Which executor must run
///
/// An observation is a task of the tokio runtime in whose context it was started, and that runtime's clock is its time.
/// So that runtime must be driven for as long as something is expected of the observation. A multi-thread runtime
/// drives itself. A current-thread runtime runs only while somebody is inside its `block_on`: once
/// `rt.block_on(ObservationRuntime::start(..))` has returned, nothing is observed until the next `rt.block_on`.
/// Waits, watches and controls may be awaited anywhere: on another runtime, or on a plain thread.
///
/// Where nobody drives the runtime, or something blocks its thread, what is awaited elsewhere still ends: a thread of this library watches it. A wait ends within some 1.5 s after its window, as
/// [`Inconclusive::NotDriven`](crate::wait::Inconclusive::NotDriven). A call that has no window ends with an error of
/// that name after some 5 s without a turn: controls, [`Watch::changed`],
/// [`Invariant::finish`](crate::wait::Invariant::finish),
/// [`ObservationRuntime::start`](crate::ObservationRuntime::start). Those who only read wait for as long as it lives:
/// [`Subscription::recv`], that of a tap, and [`stopped`](Self::stopped). All of this holds where tokio's clock runs
/// with the system's. Under a paused clock real time means nothing, and nothing is ended.
///
/// A probe, a poll or a predicate that blocks its thread is logged as a warning after 3 s, while somebody waits. If it
/// was 1 s or longer, the reports of waits and invariants say so. Blocking work belongs into
/// [`spawn_blocking`](tokio::task::spawn_blocking). A paused clock does not wait for real I/O: the report of a wait in
/// which nothing answered says that the clock is paused.
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

    /// What the config calls the observation: see [`ObservationConfig::name`](crate::ObservationConfig::name).
    #[must_use]
    pub fn name(&self) -> Option<&Arc<str>> {
        self.shared.name.as_ref()
    }

    /// What the machine is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.read(|status| status.state)
    }

    /// Everything that is known, of one moment.
    #[must_use]
    pub fn status(&self) -> ObservationStatus<O> {
        let now = self.shared.clock.now();
        self.shared.read(|status| ObservationStatus::read(status, now))
    }

    /// The last success: one `Arc`, whatever its size. `None` before the first; a failure keeps it.
    #[must_use]
    pub fn latest_snapshot(&self) -> Option<Arc<ObservationSnapshot<O::Snapshot>>> {
        self.shared.read(|status| status.snapshot.clone())
    }

    /// The newest batches, oldest first: at most `history_limit`.
    ///
    /// For looking. To consume every batch, [`subscribe`](Self::subscribe).
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

    /// How old the last success is now.
    #[must_use]
    pub fn freshness(&self) -> Freshness {
        let now = self.shared.clock.now();
        self.shared.read(|status| status.freshness(now))
    }

    /// Every batch from now on, each exactly once.
    ///
    /// A snapshot that was read before may already contain the first of them: to go on right
    /// after a snapshot, use [`subscribe_from`](Self::subscribe_from) with its cursor.
    #[must_use]
    pub fn subscribe(&self) -> Subscription<O::Event> {
        Subscription::from_now(Arc::clone(&self.shared.history))
    }

    /// Every batch after `cursor`, each exactly once: with a snapshot's cursor there is no gap and no repetition. A
    /// cursor that is too old starts with [`Lagged`](crate::subscription::RecvError::Lagged). So does one of an
    /// earlier process that this runtime goes on for
    /// ([`ObservationConfig::resume`](crate::ObservationConfig::resume)); then it is
    /// [`Rebuilt`](crate::subscription::RecvError::Rebuilt).
    ///
    /// # Errors
    ///
    /// [`CursorError`]: the cursor is of another runtime, or from the future.
    pub fn subscribe_from(&self, cursor: Cursor) -> Result<Subscription<O::Event>, CursorError> {
        Subscription::from_cursor(Arc::clone(&self.shared.history), cursor)
    }

    /// Wakes when the status changes, and when the data turns stale by itself.
    #[must_use]
    pub fn watch(&self) -> Watch<O> {
        Watch::new(Arc::clone(&self.shared))
    }

    /// Everything that is published from now on, numbered and in order: see [`Tap`].
    ///
    /// It holds up to `limits` for a reader that is slow.
    #[must_use]
    pub fn tap(&self, limits: TapLimits) -> Tap<O> {
        Tap::new(Arc::clone(&self.shared), limits)
    }

    /// This moment, for waits that are to count only what was asked after it.
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

    /// A tokio instant of this runtime as wall-clock time, for display.
    ///
    /// Reckoned from what the wall's clock shows now; so an instant from before the machine slept, or before its
    /// clock was set, is off by that. What was published carries its own `system_time`, which was read then.
    /// Under a paused clock it is the wall time of the start and what tokio's clock has elapsed since.
    #[must_use]
    pub fn system_time(&self, instant: Instant) -> std::time::SystemTime {
        let clock = &self.shared.clock;
        clock.wall(instant, clock.now())
    }

    /// Waits for the end of the runtime, and returns its reason.
    ///
    /// It waits for as long as the runtime lives, also where nobody drives its executor.
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
            // What it says of an executor that nobody drives is no end.
            let _ = watch.changed().await;
        }
    }

    /// Why the runtime ended, if it has.
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
