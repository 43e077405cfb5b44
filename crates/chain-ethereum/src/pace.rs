//! The pauses that a node asks for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The longest pause that a node may ask for: an absurd value must not stop the requests for good.
const MAX_DURATION: Duration = Duration::from_mins(1);

/// When a node may be asked again; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<Option<Instant>>>);

impl Pace {
    /// The time until it may be asked again; `None` if it may be now.
    pub(super) fn left(&self) -> Option<Duration> {
        let again = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        again?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// The node asks for no requests during this time.
    pub(super) fn pause(&self, pause: Duration) {
        let again = Instant::now() + pause.min(MAX_DURATION);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.max(Some(again));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_gets_no_requests_for_as_long_as_it_asked_for() {
        let second = Duration::from_secs(1);
        let pace = Pace::default();
        assert_eq!(pace.left(), None);
        pace.pause(7 * second);
        pace.clone().pause(2 * second);
        assert_eq!(pace.left(), Some(7 * second));
        advance(6 * second).await;
        assert_eq!(pace.left(), Some(second));
        advance(second).await;
        assert_eq!(pace.left(), None);
        pace.pause(Duration::MAX);
        assert_eq!(pace.left(), Some(60 * second));
    }
}
