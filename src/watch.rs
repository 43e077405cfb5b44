//! Following the status.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::error_text::debug_as_text;
use crate::observer::Observer;
use crate::shared::Shared;
use crate::status::{ObservationStatus, Published};
use crate::sync::watch;

/// Follows a runtime's status.
///
/// It conflates: who is slow sees the newest status, not each one. For every batch use a
/// [`Subscription`](crate::Subscription), for every publication a wait such as
/// [`eventually`](crate::ObservationHandle::eventually). Unlike tokio's receiver it also wakes when
/// nothing happens: data that turns stale is news.
pub struct Watch<O: Observer> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    status: watch::Receiver<Published<O::Snapshot>>,
    /// The number of the last publication that was told.
    told: u64,
    /// The success whose turning stale was told.
    told_stale: Option<Instant>,
    told_end: bool,
}

/// The runtime has ended, and its last status was seen.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the runtime has stopped ({0}): start another one, and watch that")]
pub struct WatchClosed(pub StopReason);

debug_as_text!(WatchClosed);

impl<O: Observer> Watch<O> {
    pub(crate) fn new(shared: Arc<Shared<O::Snapshot, O::Event>>) -> Self {
        let mut watch = Self { status: shared.watch(), shared, told: 0, told_stale: None, told_end: false };
        let _ = watch.status();
        watch
    }

    /// The status now; what it shows counts as seen.
    pub fn status(&mut self) -> ObservationStatus<O> {
        let now = self.shared.clock.now();
        let status = {
            let published = self.status.borrow_and_update();
            self.told = published.number;
            ObservationStatus::read(&published, now)
        };
        if status.freshness.is_stale() {
            self.told_stale = status.freshness.last_success();
        }
        self.told_end = matches!(status.state, State::Stopped { .. });
        status
    }

    /// Waits for a status that was not seen, and returns it. Data that turns stale makes one.
    ///
    /// # Errors
    ///
    /// [`WatchClosed`] with the reason, once the terminal status has been seen.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a status counts as seen only when it is returned.
    pub async fn changed(&mut self) -> Result<ObservationStatus<O>, WatchClosed> {
        if self.told_end
            && let State::Stopped { reason } = self.status.borrow().state
        {
            return Err(WatchClosed(reason));
        }
        loop {
            let stale_at = {
                let published = self.status.borrow();
                let told = self.told_stale.is_some() && self.told_stale == published.last_success;
                if told { None } else { published.stale_at() }
            };
            if let Some(stale_at) = stale_at {
                let turns_stale = self.shared.clock.timer(stale_at);
                tokio::select! {
                    biased;
                    _ = self.status.changed() => {}
                    () = turns_stale => break,
                }
            } else {
                // We hold what holds the sender: there is always another change, or the end.
                let _ = self.status.changed().await;
            }
            // A publication is visible a moment before its wake-up: one that was told is no news.
            if self.status.borrow().number != self.told {
                break;
            }
        }
        Ok(self.status())
    }

    /// Waits for a status that satisfies `condition`, beginning with the present one.
    ///
    /// # Errors
    ///
    /// [`WatchClosed`] when the runtime ended and its last status does not satisfy it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(
        &mut self,
        mut condition: impl FnMut(&ObservationStatus<O>) -> bool,
    ) -> Result<ObservationStatus<O>, WatchClosed> {
        let mut status = self.status();
        while !condition(&status) {
            status = self.changed().await?;
        }
        Ok(status)
    }
}

impl<O: Observer> fmt::Debug for Watch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("state", &self.status.borrow().state).finish_non_exhaustive()
    }
}
