//! How long a poll collects, if the runtime cuts it off early.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;

/// The collecting time learned from cut-off polls; kept when a state is lost.
///
/// The polls of one observer run one after the other, so that nothing here is contended.
pub(super) struct Patience {
    /// The longest collecting time, in nanoseconds.
    most: AtomicU64,
    /// How long the last cut-off poll ran, until `collect_for` has read it.
    cut_off_after: AtomicU64,
}

const NONE: u64 = u64::MAX;

/// The least collecting time: probes that answer at once are still collected.
const LEAST: Duration = Duration::from_millis(1);

impl Patience {
    pub(super) const fn new() -> Self {
        Self { most: AtomicU64::new(NONE), cut_off_after: AtomicU64::new(NONE) }
    }

    pub(super) fn was_cut_off_after(&self, elapsed: Duration) {
        self.cut_off_after.store(nanos(elapsed), Ordering::Relaxed);
    }

    /// How long the next poll collects.
    ///
    /// A poll that was cut off while it collected would be cut off again. From then on half of its time is used, but
    /// at least a millisecond.
    pub(super) fn collect_for(&self, settings: &Settings) -> Duration {
        let most = self.most.load(Ordering::Relaxed).min(nanos(settings.collect_for()));
        let had = self.cut_off_after.swap(NONE, Ordering::Relaxed);
        // A poll that is cut off again at `LEAST` only collects the answers that are there.
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
