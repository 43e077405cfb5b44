//! How often an address returned to what it had left.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// So many returns within [`STEADY`] make an address one that flaps.
const RETURNS: usize = 3;

/// An address without a return for so long is steady again.
const STEADY: Duration = Duration::from_secs(60);

/// The last returns of an address.
#[derive(Debug, Default)]
pub(super) struct Flaps {
    /// Each with the number of answers that it took; oldest first.
    returns: VecDeque<(Instant, u32)>,
    /// When it last returned, and how many answers it took at most, while it flaps.
    on: Option<(Instant, u32)>,
}

impl Flaps {
    /// Whether the address flaps.
    pub(super) fn is_on(&self, now: Instant) -> bool {
        self.longest(now).is_some()
    }

    /// After how many answers it returned at most, while it flaps.
    pub(super) fn longest(&self, now: Instant) -> Option<u32> {
        let (last, longest) = self.on?;
        (now.saturating_duration_since(last) < STEADY).then_some(longest)
    }

    /// Records a return after so many answers. Whether the address flaps from now on.
    pub(super) fn returned(&mut self, after: u32, now: Instant) -> bool {
        let before = self.longest(now);
        self.returns.retain(|(returned, _)| now.saturating_duration_since(*returned) < STEADY);
        self.returns.push_back((now, after));
        let flaps = before.is_some() || self.returns.len() >= RETURNS;
        let longest = self.returns.iter().map(|(_, after)| *after).max();
        if self.returns.len() > RETURNS {
            self.returns.pop_front();
        }
        self.on = flaps.then(|| (now, before.max(longest).unwrap_or(0)));
        flaps && before.is_none()
    }
}
