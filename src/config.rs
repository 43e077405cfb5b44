//! How a runtime is configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cursor::{First, Resume};
use crate::duplicates::Duplicates;
use crate::error::ObservationRuntimeError;

/// The longest duration that is taken for meant.
pub(crate) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the longest name.
pub(crate) const LONGEST_NAME: usize = 256;

/// How often to look, how long to wait, how much to keep.
///
/// Every duration but `offset` must be more than zero, and none may exceed 24 h: `start` answers
/// others with a typed error that names the field.
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
    /// What the observation is called, in logs and in an [`ObservationGroup`](crate::ObservationGroup): 1 to 256
    /// bytes. Default: `None`.
    pub name: Option<String>,
    /// The distance of two ticks. Default: 1 s.
    ///
    /// Ticks lie on a grid from the start; a cycle that outlasts its interval skips the points it
    /// passed over (they are counted as missed), so that cycles neither overlap nor bunch.
    pub interval: Duration,
    /// How many batches `history()` keeps for looking and for slow subscribers. Default: 64.
    ///
    /// With 0, `history()` is empty, and the last batch is still kept for those who listen.
    pub history_limit: usize,
    /// How long the provider may take. Default: 10 s.
    pub refresh_timeout: Duration,
    /// How long `init` may take. Default: 30 s.
    pub init_timeout: Duration,
    /// How long `poll` may take. Default: 10 s.
    pub poll_timeout: Duration,
    /// How long a stop waits for app code before it answers
    /// [`Detached`](crate::StopOutcome::Detached). Default: 5 s.
    pub stop_timeout: Duration,
    pub(crate) fn pace(&self) -> Pace {
        let Self { interval, refresh_timeout, init_timeout, poll_timeout, min_gap, .. } = *self;
        let Self { stale_after, duplicates, .. } = *self;
        Pace { interval, refresh_timeout, init_timeout, poll_timeout, min_gap, stale_after, duplicates }
    }
}

/// What a running observation still needs of its config: there may be many of them.
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
    /// The age from which on data is stale when the last cycle took `last_cycle`.
    pub(crate) fn stale_after(&self, last_cycle: Duration) -> Duration {
        const LEAST: Duration = Duration::from_secs(2);
        self.stale_after.unwrap_or_else(|| LEAST.max(self.interval * 3 + last_cycle))
    }
}

/// When to try again after a failed cycle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Retry {
    /// At the next tick of the grid, as after a success.
    NextTick,
    /// After a delay of its own that grows with each retry that fails; a success resets it, and
    /// the grid of ticks goes on where it lies.
    ///
    /// A [`wake`](ObservationConfig::wake) waits for the retry. [`poll_now`](crate::ObservationControl::poll_now)
    /// does not: it tries at once. When that fails, the retry comes when it would have come without it, and the
    /// delay after it is no longer.
    Backoff(Backoff),
}

/// Exponential backoff: behind the failure that begins it, and behind each retry that fails, it waits; the `n`th
/// time for `first * 2^(n-1)`, at most `max`, less a random part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// The delay after the first failure.
    pub first: Duration,
    /// The cap.
    pub max: Duration,
    /// Which share of the delay is random, from 0.0 (none) to 1.0 (full jitter): the delay is
    /// drawn evenly between `(1 - jitter) * delay` and `delay`.
    pub jitter: f64,
    /// Seeds the jitter: the same seed gives the same delays.
    pub seed: u64,
}

impl Retry {
    fn validate(&self) -> Result<(), ObservationRuntimeError> {
        let Self::Backoff(backoff) = self else { return Ok(()) };
        let invalid = |field, value: String| Err(ObservationRuntimeError::InvalidRetry { field, value });
        if backoff.first.is_zero() || backoff.first > LONGEST {
            return invalid("first", format!("{:?}", backoff.first));
        }
        if backoff.max < backoff.first || backoff.max > LONGEST {
            return invalid("max", format!("{:?}", backoff.max));
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return invalid("jitter", backoff.jitter.to_string());
        }
        Ok(())
    }
}
