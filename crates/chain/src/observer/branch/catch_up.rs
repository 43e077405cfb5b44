//! How far a catch-up is.

use std::time::Duration;

use tokio::time::Instant;

use crate::Height;
use crate::observer::Progress;

/// When and at which height a catch-up began; nothing while there is none.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct CatchUp {
    since: Option<(Instant, Height)>,
}

impl CatchUp {
    /// Records the heights of the tip and of the highest head.
    pub(super) fn measure(&mut self, tip: Height, goal: Height, lagging_after: Height, now: Instant) {
        if goal.saturating_sub(tip) <= lagging_after {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some((now, tip));
        }
    }

    pub(super) fn progress(&self, height: Height, goal: Height, now: Instant) -> Option<Progress> {
        let (since, from) = self.since?;
        let goal = goal.max(height);
        let elapsed = now.saturating_duration_since(since).as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let (done, rest) = (height.saturating_sub(from) as f64, (goal - height) as f64);
        let rate = if elapsed > 0.0 { done / elapsed } else { 0.0 };
        let left = (rate > 0.0).then(|| Duration::try_from_secs_f64(rest / rate).ok()).flatten();
        Some(Progress { from, height, goal, rate, left })
    }
}
