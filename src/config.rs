//! The configuration of a runtime.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cursor::{First, Resume};
use crate::error::ObservationRuntimeError;
use crate::text::one_line;

/// The longest duration that a config, a window or a limit may have: 24 h.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// The longest name, in bytes.
pub(crate) const LONGEST_NAME: usize = 256;

/// The app's `name` as one line of the log.
pub(crate) fn logged_name(name: &str) -> String {
    one_line(name, LONGEST_NAME)
}

/// Intervals, time-outs and limits of a runtime.
///
/// Every duration except `offset` must be more than zero. No duration may exceed 24 h. Otherwise `start` returns an
/// error that names the field.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::ObservationConfig;
///
/// let config = ObservationConfig {
///     interval: Duration::from_millis(250),
///     history_limit: 256,
///     ..Default::default()
/// };
/// assert_eq!(config.poll_timeout, Duration::from_secs(10));
/// ```
#[derive(Clone, Debug)]
pub struct ObservationConfig {
    /// The observation's name in logs and in an [`ObservationGroup`](crate::group::ObservationGroup): 1 to 256 bytes.
    /// Default: `None`.
    pub name: Option<String>,
    /// The time between two ticks. Default: 1 s.
    ///
    /// Ticks lie on a grid that begins at the start. A cycle that outlasts its interval skips the ticks that it
    /// passes, and they are counted as missed. Cycles never overlap.
    pub interval: Duration,
    /// The number of batches that are kept for `history()` and for slow subscribers. Default: 64.
    ///
    /// With 0 `history()` is empty, and the last batch is still kept for subscribers.
    pub history_limit: usize,
    /// The time-out of the provider. Default: 10 s.
    pub refresh_timeout: Duration,
    /// The time-out of `init`. Default: 30 s.
    pub init_timeout: Duration,
    /// The time-out of `poll`. Default: 10 s.
    pub poll_timeout: Duration,
    /// The longest time for which a stop waits for app code before it returns
    /// [`Detached`](crate::runtime::StopOutcome::Detached). Default: 5 s.
    pub stop_timeout: Duration,
    /// The age at which data becomes stale. Default: `None`, the larger of 2 s and three intervals plus the length of
    /// the last cycle.
    ///
    /// Age is measured on tokio's clock. If that clock stands still while the machine sleeps, sleep does not age
    /// data, and the first cycle after the sleep runs at the tick that was due.
    pub stale_after: Option<Duration>,
    /// The time of the next attempt after a failed cycle. Default: the next tick.
    pub retry: Retry,
    /// Shifts the grid of ticks, so that many runtimes do not all work at the same time. Default: zero.
    ///
    /// Cycle 0 still runs at the start.
    pub offset: Duration,
    /// A source of wakes: each notification starts a cycle, at the earliest `min_gap` after the last
    /// cycle began.
    /// Default: `None`.
    ///
    /// One notification is remembered while the runtime is paused, or while a failed cycle waits for the retry of a
    /// [backoff](Retry::Backoff). The retry serves it, and its delay does not change.
    ///
    /// Several runtimes may share one `Notify`: each notification reaches all of them, also one by `notify_one`. App
    /// code that awaits it too may take a `notify_one` notification away from them.
    pub wake: Option<Arc<Notify>>,
    /// The least time from the begin of one cycle to the begin of the next one that a `wake` starts. Default: 10 ms.
    pub min_gap: Duration,
    /// The recorded point of an earlier process to resume from: see [`Resume`]. Default: `None`; then generations
    /// begin at 1, batches and cycles at 0.
    ///
    /// No number in it may exceed half of `u64::MAX`.
    pub resume: Option<Resume>,
    /// A token that stops the runtime when it is cancelled, like
    /// [`ObservationControl::stop`](crate::ObservationControl::stop), from any thread. Default: `None`.
    ///
    /// If the token is already cancelled, the provider, `init` and `poll` are not called: `start` returns
    /// [`Ended`](crate::ObservationRuntimeError::Ended), and a runtime started in the background stops. A stop of the
    /// runtime does not cancel the token; a [`child_token`](CancellationToken::child_token) is optional.
    pub parent: Option<CancellationToken>,
    /// The treatment of sources that share a name. Default: the first is observed, the others are left out.
    pub duplicates: Duplicates,
}

impl Default for ObservationConfig {
    fn default() -> Self {
        Self {
            name: None,
            interval: Duration::from_secs(1),
            history_limit: 64,
            refresh_timeout: Duration::from_secs(10),
            init_timeout: Duration::from_secs(30),
            poll_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
            stale_after: None,
            retry: Retry::NextTick,
            offset: Duration::ZERO,
            wake: None,
            min_gap: Duration::from_millis(10),
            resume: None,
            parent: None,
            duplicates: Duplicates::KeepFirst,
        }
    }
}

/// A config with this interval, and defaults for all other fields.
impl From<Duration> for ObservationConfig {
    fn from(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }
}

impl ObservationConfig {
    /// Returns an error that names the first invalid field.
    pub(crate) fn validate(&self) -> Result<(), ObservationRuntimeError> {
        if let Some(name) = self.name.as_ref().filter(|name| name.is_empty() || name.len() > LONGEST_NAME) {
            return Err(ObservationRuntimeError::InvalidName { length: name.len() });
        }
        if let Some((field, value)) = self.resume.and_then(|resume| resume.exhausted()) {
            return Err(ObservationRuntimeError::InvalidResume { field, value });
        }
        let is_valid = |value: Duration| !value.is_zero() && value <= MAX_DURATION;
        if !is_valid(self.interval) {
            return Err(ObservationRuntimeError::InvalidInterval { value: self.interval });
        }
        let timeouts = [
            ("refresh_timeout", self.refresh_timeout),
            ("init_timeout", self.init_timeout),
            ("poll_timeout", self.poll_timeout),
            ("stop_timeout", self.stop_timeout),
        ];
        if let Some((field, value)) = timeouts.into_iter().find(|(_, value)| !is_valid(*value)) {
            return Err(ObservationRuntimeError::InvalidTimeout { field, value });
        }
        if let Some(value) = self.stale_after.filter(|value| !is_valid(*value)) {
            return Err(ObservationRuntimeError::InvalidStaleAfter { value });
        }
        if self.offset > MAX_DURATION {
            return Err(ObservationRuntimeError::InvalidOffset { value: self.offset });
        }
        if !is_valid(self.min_gap) {
            return Err(ObservationRuntimeError::InvalidMinGap { value: self.min_gap });
        }
        self.retry.validate()
    }

    /// The first numbers of the runtime.
    pub(crate) fn first(&self) -> First {
        self.resume.map_or_else(First::default, |resume| resume.next())
    }

    pub(crate) fn pace(&self) -> Pace {
        let Self { interval, refresh_timeout, init_timeout, poll_timeout, min_gap, .. } = *self;
        let Self { stale_after, duplicates, .. } = *self;
        Pace { interval, refresh_timeout, init_timeout, poll_timeout, min_gap, stale_after, duplicates }
    }
}

/// The part of the config that a running observation keeps: there may be many observations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) interval: Duration,
    pub(crate) refresh_timeout: Duration,
    pub(crate) init_timeout: Duration,
    pub(crate) poll_timeout: Duration,
    pub(crate) min_gap: Duration,
    stale_after: Option<Duration>,
    pub(crate) duplicates: Duplicates,
}

impl Pace {
    /// The age at which data becomes stale if the last cycle took `last_cycle`.
    pub(crate) fn stale_after(&self, last_cycle: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(2);
        self.stale_after.unwrap_or_else(|| LEAST.max(self.interval * 3 + last_cycle))
    }
}

/// The time of the next attempt after a failed cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Retry {
    /// At the next tick of the grid, as after a success.
    NextTick,
    /// After a delay that grows with each failed retry: `examples/retry.rs`. A success resets the delay. The grid of ticks does not move.
    ///
    /// A [`wake`](ObservationConfig::wake) waits for the retry. [`poll_now`](crate::ObservationControl::poll_now)
    /// starts a cycle at once. If that cycle fails, the retry keeps its time, and the next delay does not grow.
    Backoff(Backoff),
}

/// Exponential backoff: the `n`th consecutive delay is `first * 2^(n-1)`, at most `max`, minus a random part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first: Duration,
    /// The longest delay.
    pub max: Duration,
    /// The random share of the delay, from 0.0 (none) to 1.0 (full jitter): the delay is uniformly distributed
    /// between `(1 - jitter) * delay` and `delay`.
    pub jitter: f64,
    /// The seed of the jitter: the same seed gives the same delays.
    pub seed: u64,
}

impl Backoff {
    /// The `n`th consecutive delay; `random` is between 0 and 1.
    pub(crate) fn delay(&self, n: u64, random: f64) -> Duration {
        let doublings = u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX).min(31);
        let delay = self.first.saturating_mul(1 << doublings).min(self.max);
        // A jitter that is out of range leaves no delay.
        let share = 1.0 - self.jitter * random;
        delay.mul_f64(if (0.0..=1.0).contains(&share) { share } else { 0.0 })
    }

    /// The first field that is out of range, and its value: `first` must be more than zero, `max` at least `first`, both
    /// at most 24 h, and `jitter` between 0 and 1. What takes a backoff refuses an invalid one.
    #[must_use]
    pub fn invalid(&self) -> Option<(&'static str, String)> {
        if self.first.is_zero() || self.first > MAX_DURATION {
            return Some(("first", format!("{:?}", self.first)));
        }
        if self.max < self.first || self.max > MAX_DURATION {
            return Some(("max", format!("{:?}", self.max)));
        }
        (!(0.0..=1.0).contains(&self.jitter)).then(|| ("jitter", self.jitter.to_string()))
    }
}

impl Retry {
    fn validate(&self) -> Result<(), ObservationRuntimeError> {
        match self {
            Self::Backoff(backoff) => match backoff.invalid() {
                Some((field, value)) => Err(ObservationRuntimeError::InvalidRetry { field, value }),
                None => Ok(()),
            },
            Self::NextTick => Ok(()),
        }
    }
}

/// The treatment of a source set in which two sources share a name, or a source has no name.
///
/// A set in which no source has a name is always refused, unless the set is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// The first source with a name is observed, in the provider's order. Later sources with that name, and sources
    /// without a name, are left out; the observer never sees them.
    ///
    /// A warning is logged once, and again when the affected names change. With health by source
    /// ([`source_health`](crate::Observer::source_health)) a shared name appears in waits by source, `why_stale` and
    /// reports as a source with a failed last probe. Predicates and waits for all sources still see its answers.
    #[default]
    KeepFirst,
    /// The whole set is refused: the cycle fails with a [`SourceSetError`](crate::source::SourceSetError), and no
    /// source is polled.
    Refuse,
}
