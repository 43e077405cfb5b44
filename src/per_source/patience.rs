//! How long a look collects, where the runtime gives it less time than it was to have.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;

/// What was learned from looks that were cut off; kept when a state is lost.
///
/// Looks of one observer come one after the other, so that nothing here is contended.
pub(super) struct Patience {
    /// The most, in nanoseconds.
    most: AtomicU64,
    /// How long a look ran that was cut off, and that nobody has heard of yet.
    cut_off_after: AtomicU64,
}

const NONE: u64 = u64::MAX;

/// However soon a look was cut off: probes that answer at once are to be collected.
const LEAST: Duration = Duration::from_millis(1);

impl Patience {
    pub(super) const fn new() -> Self {
        Self { most: AtomicU64::new(NONE), cut_off_after: AtomicU64::new(NONE) }
    }

    /// A look did not end by itself.
    pub(super) fn was_cut_off_after(&self, elapsed: Duration) {
        self.cut_off_after.store(nanos(elapsed), Ordering::Relaxed);
    }

    /// How long the look that begins now collects.
    ///
    /// One that was cut off while it collected would be cut off again: from then on half of what it had is
    /// enough, but a millisecond at least.
    pub(super) fn collect_for(&self, settings: &Settings) -> Duration {
        let most = self.most.load(Ordering::Relaxed).min(nanos(settings.collect_for()));
        let had = self.cut_off_after.swap(NONE, Ordering::Relaxed);
        // Cut off again at the least, it collects what is there.
        if had == NONE || (had >= most && most > nanos(LEAST)) {
            return Duration::from_nanos(most);
        }
        let half = Duration::from_nanos(had / 2);
        let now = if most > nanos(LEAST) { half.max(LEAST) } else { Duration::ZERO };
        self.most.store(nanos(now), Ordering::Relaxed);
        tracing::warn!(
            "a poll was cut off after {:?}, while PerSource collected answers: it collects for {now:?} from now \
             on; set PerSource::collect_for ({:?}) below poll_timeout and init_timeout",
            Duration::from_nanos(had),
            settings.collect_for(),
        );
        now
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NONE - 1)
}
