//! When a machine lives again: plain values without clock or task.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use crate::config::{Backoff, MAX_DURATION};

/// The delays of consecutive failures: a [`Backoff`] with the count and the random numbers that it needs.
///
/// The time is an argument, so that a machine can own one: [`Out::now`](super::Out::now).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use watchkeeper::runtime::Backoff;
/// use watchkeeper::supervise::Delays;
///
/// let second = Duration::from_secs(1);
/// let backoff = Backoff { first: second, max: 60 * second, jitter: 0.0, seed: 1 };
/// let mut delays = Delays::new(backoff).reset_after(30 * second);
/// let now = Instant::now();
/// assert_eq!([delays.next(now), delays.next(now), delays.next(now)], [second, 2 * second, 4 * second]);
/// assert_eq!(delays.next(now + 31 * second), second);
/// ```
#[derive(Clone, Debug)]
pub struct Delays {
    backoff: Backoff,
    stable: Duration,
    failures: u64,
    last: Option<Instant>,
    random: Rng,
}

impl Delays {
    /// No failure yet. By default, it starts again with the first delay when the last failure is longer ago than twice
    /// `max`.
    #[must_use]
    pub fn new(backoff: Backoff) -> Self {
        let random = Rng::with_seed(backoff.seed);
        Self { backoff, stable: backoff.max.saturating_mul(2), failures: 0, last: None, random }
    }

    /// Starts again with the first delay when the last failure is longer ago than this.
    #[must_use]
    pub fn reset_after(self, stable: Duration) -> Self {
        Self { stable, ..self }
    }

    /// A failure now: the delay before the next attempt. With a `jitter` that is out of range it may be zero.
    pub fn next(&mut self, now: Instant) -> Duration {
        let is_stable = self.last.is_some_and(|last| now.saturating_duration_since(last) > self.stable);
        if is_stable {
            self.reset();
        }
        self.last = Some(now);
        self.failures = self.failures.saturating_add(1);
        self.backoff.delay(self.failures, self.random.f64())
    }

    /// Starts again with the first delay, as after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.last = None;
    }

    /// How many failures there were since the last reset.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures
    }
}

/// How many failures are too many: more than `most` within `within`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use watchkeeper::supervise::FailureWindow;
///
/// let minute = Duration::from_secs(60);
/// let mut window = FailureWindow::new(2, minute);
/// let now = Instant::now();
/// assert_eq!([window.failed(now), window.failed(now)], [false, false]);
/// assert!(window.failed(now + minute / 2), "three within a minute");
/// assert!(!window.failed(now + 3 * minute), "the earlier ones are too long ago");
/// ```
#[derive(Clone, Debug)]
pub struct FailureWindow {
    most: u32,
    within: Duration,
    times: VecDeque<Instant>,
}

impl FailureWindow {
    /// Tolerates `most` failures within `within`. With 0 the first failure is too many.
    #[must_use]
    pub fn new(most: u32, within: Duration) -> Self {
        Self { most, within, times: VecDeque::new() }
    }

    /// A failure now. Returns whether there were too many.
    pub fn failed(&mut self, now: Instant) -> bool {
        let within = self.within;
        self.times.retain(|time| now.saturating_duration_since(*time) <= within);
        self.times.push_back(now);
        // One more than are tolerated is all that must be known.
        while self.times.len() > self.most as usize + 1 {
            self.times.pop_front();
        }
        self.times.len() > self.most as usize
    }

    /// Forgets all failures.
    pub fn clear(&mut self) {
        self.times.clear();
    }

    /// Whether its time is more than zero and at most 24 h. What takes a window refuses an invalid one.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.within.is_zero() && self.within <= MAX_DURATION
    }
}

/// Whether another life follows when one ends. That needs a factory: [`supervise_with`](super::supervise_with).
///
/// The old machine and worker are dropped, a delay passes, and the factory makes new ones. Events stay in the channel
/// meanwhile, and deferred ones stay deferred. After too many failures the supervisor is
/// [poisoned](super::Condition::Poisoned) until [`unpoison`](super::Supervised::unpoison) or
/// [`restart`](super::Supervised::restart). A stop, an abort and a drain never lead to a new life.
///
/// A machine with states of its own for waiting and giving up owns [`Delays`] and a [`FailureWindow`], and restarts
/// never: each thing has one owner of its retries.
#[derive(Clone, Debug)]
pub struct Restart {
    pub(super) when: When,
    pub(super) delays: Delays,
    pub(super) window: FailureWindow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    Never,
    OnFailure,
    Always,
}

impl Restart {
    /// The first end is the last. The default.
    #[must_use]
    pub fn never() -> Self {
        let backoff = Backoff { first: MAX_DURATION, max: MAX_DURATION, jitter: 0.0, seed: 0 };
        Self { when: When::Never, delays: Delays::new(backoff), window: FailureWindow::new(0, MAX_DURATION) }
    }

    /// Lives again after a failure or a panic.
    #[must_use]
    pub fn on_failure(delays: Delays, window: FailureWindow) -> Self {
        Self { when: When::OnFailure, delays, window }
    }

    /// Lives again also after [`Out::finish`](super::Out::finish). The window does not count that; its delay is the next
    /// one of `delays`, as after a failure.
    #[must_use]
    pub fn always(delays: Delays, window: FailureWindow) -> Self {
        Self { when: When::Always, delays, window }
    }

    pub(super) fn backoff(&self) -> &Backoff {
        &self.delays.backoff
    }
}
