//! The age of the last success, and whether it is stale.

use std::time::Duration;

use tokio::time::Instant;

/// The age of the last success at the moment of reading.
///
/// Exactly one of [`is_fresh`](Self::is_fresh), [`is_stale`](Self::is_stale) and
/// [`never_succeeded`](Self::never_succeeded) is true. An alarm should check `!is_fresh()`.
///
/// The age counts from when the successful work *began*: the data is no older than that. It grows while a poll hangs
/// or the runtime is paused. One `Freshness` does not change; read the handle again for a newer one.
///
/// The age is measured on tokio's clock, which may stop while the machine sleeps. Data that was fresh before the
/// sleep is then still fresh after it, until the next cycle or until it is stale on tokio's clock. If this matters,
/// compare the snapshot's [`system_time`](crate::ObservationSnapshot::system_time), the wall time of its publication.
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

    /// The age from which data counts as stale.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        self.stale_after
    }

    /// Whether there was a success, and it is younger than [`stale_after`](Self::stale_after).
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < self.stale_after)
    }

    /// Whether there was a success, and it is too old.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.age().is_some_and(|age| age >= self.stale_after)
    }

    /// Whether there has been no success yet.
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
