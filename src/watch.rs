//! Watches, which follow the status.

use std::fmt;
use std::future::{pending, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::error::no_turn;
use crate::observer::Observer;
use crate::publish::shared::Shared;
use crate::report::debug_as_text;
use crate::shield::shielded;
use crate::status::{ObservationStatus, Published};
use crate::waiting::WakerSlot;

/// Follows a runtime's status.
///
/// A watch conflates: a slow reader sees the newest status, and may miss earlier ones. For every batch use a
/// [`Subscription`](crate::subscription::Subscription), for every publication a wait such as
/// [`eventually`](crate::ObservationHandle::eventually). Unlike tokio's receiver, a watch also wakes without a
/// publication, when the data becomes stale.
pub struct Watch<O: Observer> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    place: WakerSlot,
    /// The number of the last publication that was returned.
    returned: u64,
    /// The last success that was returned as stale.
    returned_stale: Option<Instant>,
    returned_end: bool,
}

/// Why there is no next status.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The runtime has ended, and its last status was returned.
    #[error("the runtime has stopped ({0}): start another one, and watch that")]
    Closed(StopReason),
    /// The runtime's executor gave no turn for about 5 s, so the status cannot change. The next call waits again.
    #[error("no status can come: {}", no_turn(*no_turn_for))]
    NotDriven {
        /// How long there was no turn, at least.
        no_turn_for: Duration,
    },
}

/// Why the wait for the next status ended.
enum News {
    Changed,
    Stale,
    NoTurn(Duration),
}

debug_as_text!(WatchError);

impl<O: Observer> Watch<O> {
    pub(crate) fn new(shared: Arc<Shared<O::Snapshot, O::Event>>) -> Self {
        let mut watch = Self {
            shared,
            place: WakerSlot::default(),
            returned: 0,
            returned_stale: None,
            returned_end: false,
        };
        let _ = watch.status();
        watch
    }

    /// The present status, which then counts as seen.
    pub fn status(&mut self) -> ObservationStatus<O> {
        let now = self.shared.clock.now();
        let (number, status) =
            self.shared.read(|published| (published.number, ObservationStatus::read(published, now)));
        self.returned = number;
        if status.freshness.is_stale() {
            self.returned_stale = status.freshness.last_success();
        }
        self.returned_end = matches!(status.state, State::Stopped { .. });
        status
    }

    /// Waits for a status that was not seen yet, and returns it. Data that becomes stale makes a new status, even if
    /// the runtime's executor is not driven.
    ///
    /// # Errors
    ///
    /// [`WatchError::Closed`] with the reason, once the terminal status was seen; [`WatchError::NotDriven`] if the
    /// runtime's executor gives no turn for about 5 s.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a status counts as seen only when it is returned.
    pub async fn changed(&mut self) -> Result<ObservationStatus<O>, WatchError> {
        if self.returned_end
            && let State::Stopped { reason } = self.shared.read(|status| status.state)
        {
            return Err(WatchError::Closed(reason));
        }
        let (shared, clock) = (&self.shared, &self.shared.clock);
        let (known, returned_stale) = (self.returned, self.returned_stale);
        let stale_at = shared.read(|status| {
            let returned = returned_stale.is_some() && returned_stale == status.last_success;
            if returned { None } else { status.stale_at() }
        });
        let turns_stale = async {
            match stale_at {
                Some(stale_at) => clock.timer(stale_at).await,
                None => pending().await,
            }
        };
        let place = &mut self.place;
        let changed = poll_fn(|context| {
            let is_news = |status: &Published<_>| (status.number != known).then_some(());
            shared.poll_status(is_news, place, context.waker())
        });
        let news = shielded(async {
            tokio::select! {
                biased;
                () = changed => News::Changed,
                () = turns_stale => News::Stale,
                no_turn_for = clock.no_turn(stale_at) => News::NoTurn(no_turn_for),
            }
        });
        match news.await {
            News::Changed | News::Stale => {}
            // The stale timer runs on that executor, so it may not have fired.
            News::NoTurn(_) if stale_at.is_some_and(|stale_at| stale_at <= clock.now()) => {}
            News::NoTurn(no_turn_for) => return Err(WatchError::NotDriven { no_turn_for }),
        }
        Ok(self.status())
    }

    /// Waits for a status that satisfies `condition`, starting with the present one.
    ///
    /// # Errors
    ///
    /// [`WatchError::Closed`] if the runtime has ended and its last status does not satisfy `condition`;
    /// [`WatchError::NotDriven`] as with [`changed`](Self::changed).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(
        &mut self,
        mut condition: impl FnMut(&ObservationStatus<O>) -> bool,
    ) -> Result<ObservationStatus<O>, WatchError> {
        let mut status = self.status();
        while !condition(&status) {
            status = self.changed().await?;
        }
        Ok(status)
    }
}

impl<O: Observer> Drop for Watch<O> {
    fn drop(&mut self) {
        self.shared.leave(&mut self.place);
    }
}

impl<O: Observer> fmt::Debug for Watch<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("state", &self.shared.read(|status| status.state))
            .finish_non_exhaustive()
    }
}
