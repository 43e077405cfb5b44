//! Wall-clock times, and additions that do not overflow.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// The wall clock in nanoseconds, which last until 2554.
#[derive(Debug)]
pub(crate) struct Wall {
    /// The wall time of the start, since 1970, corrected by later changes of the wall clock.
    pub(crate) start: AtomicU64,
    /// When the wall clock was last read, since the start.
    pub(crate) looked: AtomicU64,
}

impl Wall {
    pub(crate) fn now() -> Self {
        Self { start: AtomicU64::new(nanos(since_1970())), looked: AtomicU64::new(0) }
    }
}

/// The wall time, since 1970.
pub(crate) fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Adds without overflow: a far future is as good as never.
pub(crate) fn later(instant: Instant, by: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(365 * 24 * 3600);
    instant.checked_add(by).unwrap_or_else(|| instant + FAR)
}
