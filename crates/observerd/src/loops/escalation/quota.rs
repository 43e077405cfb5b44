//! How many clusters are posted.

use std::time::Duration;

use tokio::time::Instant;

const HOUR: Duration = Duration::from_hours(1);

/// A bucket of so many posts, which are there again after an hour, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Quota {
    most: u32,
    /// When the bucket is full again.
    full_at: Instant,
}

impl Quota {
    /// A bucket from which `used` posts are taken.
    pub(super) fn new(per_hour: u32, used: u32, now: Instant) -> Self {
        let most = per_hour.max(1);
        let mut quota = Self { most, full_at: now };
        quota.full_at += quota.each() * used.min(most);
        quota
    }

    /// Takes a post, or returns after which time there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.each();
        let most = self.each() * self.most;
        match full_at.duration_since(now).checked_sub(most) {
            None | Some(Duration::ZERO) => {
                self.full_at = full_at;
                Ok(())
            }
            Some(wait) => Err(wait),
        }
    }

    /// In which time one post is there again.
    fn each(&self) -> Duration {
        HOUR / self.most
    }

    #[cfg(test)]
    pub(super) fn left(&self, now: Instant) -> u128 {
        let used = self.full_at.saturating_duration_since(now).as_nanos().div_ceil(self.each().as_nanos());
        u128::from(self.most) - used
    }
}
