//! How old the last success is, and whether that is too old.

use std::time::Duration;

use tokio::time::Instant;

/// How old the last success was when this was read.
///
/// Exactly one of [`is_fresh`](Self::is_fresh), [`is_stale`](Self::is_stale) and
/// [`never_succeeded`](Self::never_succeeded) is true. An alarm asks for `!is_fresh()`.
///
/// The age counts from when the successful work *began*: that is the moment the data is known to be
/// no older than. It grows by itself while a poll hangs or the runtime is paused. Read the handle
/// again for a newer answer; one `Freshness` does not change.
///
/// The age is that of tokio's clock, which may stand still while the machine sleeps: sleep does not age data. What was
/// fresh before is fresh right after it, until the next cycle or until it is stale by tokio's clock. Where that
/// matters, compare the wall time of the snapshot, [`system_time`](crate::ObservationSnapshot::system_time), which is
/// read when it is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freshness {
    pub(crate) last_success: Option<Instant>,
    pub(crate) stale_after: Duration,
    pub(crate) read_at: Instant,
}

impl Freshness {
    /// When the last successful work began; `None` before the first success.
    #[must_use]
    pub fn last_success(&self) -> Option<Instant> {
        self.last_success
    }

    /// How long ago the last successful work began; `None` before the first success.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.last_success.map(|began| self.read_at.saturating_duration_since(began))
    }

    /// The age from which on data counts as stale.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// There was a success, and it is younger than [`stale_after`](Self::stale_after).
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < self.stale_after)
    }

    /// There was a success, and it is too old.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age().is_some_and(|age| age >= self.stale_after)
    }

    /// There has been no success yet.
    #[must_use]
    pub fn never_succeeded(&self) -> bool {
        self.last_success.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_of_three_is_true() {
        let began = Instant::now();
        let cases = [
            (None, 0, [false, false, true]),
            (Some(began), 0, [true, false, false]),
            (Some(began), 1_999, [true, false, false]),
            (Some(began), 2_000, [false, true, false]),
        ];
        for (last_success, millis, expected) in cases {
            let freshness = Freshness {
                last_success,
                stale_after: Duration::from_secs(2),
                read_at: began + Duration::from_millis(millis),
            };
            let said = [freshness.is_fresh(), freshness.is_stale(), freshness.never_succeeded()];
            assert_eq!(said, expected, "{freshness:?}");
        }
    }
}
