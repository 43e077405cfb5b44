//! Leaving a node alone that asked for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What a node may ask for at most: an absurd wish must not silence it for good.
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

    /// It wants to be left alone for so long.
    pub(super) fn pause(&self, wish: Duration) {
        let again = Instant::now() + wish.min(MAX_DURATION);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = known.max(Some(again));
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_left_alone_for_as_long_as_it_asked_for() {
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
