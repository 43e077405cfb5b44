//! The pauses between attempts.

use std::time::Duration;

/// The first pause is never longer, even if nodes are asked once in some hours.
const LONGEST_FIRST: Duration = Duration::from_secs(1);
/// How often the pause doubles.
const DOUBLINGS: u32 = 4;
/// What a node asks for is cut to this.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// A pause that doubles with each failure, from the interval, at most a second, up to 16 times that.
#[derive(Debug)]
pub(super) struct Retry {
    first: Duration,
    failures: u32,
}

impl Retry {
    pub(super) fn every(interval: Duration) -> Self {
        Self { first: interval.min(LONGEST_FIRST), failures: 0 }
    }

    /// The time to wait after one more failure: longer if the node asks for it, at most a minute.
    pub(super) fn pause(&mut self, asked_for: Option<Duration>) -> Duration {
        let pause = self.first * 2_u32.pow(self.failures.min(DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        pause.max(asked_for.unwrap_or_default().min(LONGEST_WAIT))
    }

    /// The next failure is the first one again.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound_and_a_node_may_ask_for_longer_ones() {
        let seconds = Duration::from_secs;
        let mut retry = Retry::every(seconds(12));
        let pauses: Vec<_> = (0..7).map(|_| retry.pause(None).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(retry.pause(Some(seconds(30))), seconds(30));
        assert_eq!(retry.pause(Some(seconds(2))), seconds(16));
        assert_eq!(retry.pause(Some(Duration::MAX)), seconds(60));
        retry.succeeded();
        assert_eq!(retry.pause(None), seconds(1));
        assert_eq!(Retry::every(Duration::from_millis(50)).pause(None), Duration::from_millis(50));
    }
}
