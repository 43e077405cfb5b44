//! How a runtime is configured.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::cursor::{First, Resume};
use crate::error::ObservationRuntimeError;
use crate::text::one_line;

/// The longest duration that a config, a window or a limit may have: 24 h.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 3600);

/// Bytes of the longest name.
pub(crate) const LONGEST_NAME: usize = 256;

/// A name of the app's, in a line of the log.
pub(crate) fn logged_name(name: &str) -> String {
    one_line(name, LONGEST_NAME)
}

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
    /// What the observation is called, in logs and in an [`ObservationGroup`](crate::group::ObservationGroup): 1 to 256
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
    /// [`Detached`](crate::runtime::StopOutcome::Detached). Default: 5 s.
    pub stop_timeout: Duration,
    /// The age from which on data is stale. Default: `None`, the larger of 2 s and three intervals
    /// plus the length of the last cycle.
    ///
    /// Age is counted by tokio's clock, which may stand still while the machine sleeps: sleep does not age data.
    /// The first cycle after it runs at the tick that was due.
    pub stale_after: Option<Duration>,
    /// When to try again after a failed cycle. Default: at the next tick.
    pub retry: Retry,
    /// Moves the grid of ticks, so that many runtimes do not all work at once. Default: zero.
    ///
    /// Cycle 0 runs at the start all the same.
    pub offset: Duration,
    /// Something else that knows when there is news: each notification starts a cycle soon.
    /// Default: `None`.
    ///
    /// While the runtime is paused, one is remembered until it is resumed. It neither shortens nor lengthens a
    /// [backoff](Retry::Backoff): while a failed cycle waits for its retry, a notification is remembered, and the
    /// retry takes it along.
    ///
    /// Several runtimes may share one `Notify`: each notification reaches all of them, also one by `notify_one`.
    /// App code that awaits the same `Notify` itself takes notifications of `notify_one` away from them.
    pub wake: Option<Arc<Notify>>,
    /// The least time between the begin of a cycle and the begin of the next one that a `wake`
    /// starts. Default: 10 ms.
    pub min_gap: Duration,
    /// The recorded point of an earlier process, to go on from there: see [`Resume`]. Default: `None`, a runtime of its
    /// own, whose first generation is 1 and whose first batch and cycle are 0.
    ///
    /// None of its numbers may be over half of `u64::MAX`.
    pub resume: Option<Resume>,
    /// Cancelling this token is a requested stop: as if somebody had called
    /// [`ObservationControl::stop`](crate::ObservationControl::stop), from whatever thread. Default: `None`.
    ///
    /// With one that is cancelled already neither the provider, `init` nor `poll` is asked: `start` returns
    /// [`Ended`](crate::ObservationRuntimeError::Ended), and a runtime that was started in the background has stopped.
    /// A stop of the runtime cancels nothing: give it a [`child_token`](CancellationToken::child_token) or not, as is
    /// convenient.
    pub parent: Option<CancellationToken>,
    /// What becomes of sources that share a name. Default: the first is observed, the others are left out.
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

/// This interval, and the defaults of all else.
impl From<Duration> for ObservationConfig {
    fn from(interval: Duration) -> Self {
        Self { interval, ..Self::default() }
    }
}

impl ObservationConfig {
    /// Says which field is wrong, if one is.
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

    /// Where the numbers begin.
    pub(crate) fn first(&self) -> First {
        self.resume.map_or_else(First::default, |resume| resume.next())
    }

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

/// Exponential backoff: it waits after the failure that begins it, and after each retry that fails; the `n`th
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
        if backoff.first.is_zero() || backoff.first > MAX_DURATION {
            return invalid("first", format!("{:?}", backoff.first));
        }
        if backoff.max < backoff.first || backoff.max > MAX_DURATION {
            return invalid("max", format!("{:?}", backoff.max));
        }
        if !(0.0..=1.0).contains(&backoff.jitter) {
            return invalid("jitter", backoff.jitter.to_string());
        }
        Ok(())
    }
}

/// What becomes of a source set in which two sources share a name, or one has none.
///
/// A set without a single named source is refused in any case, unless it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// The first source of a name is observed, in the provider's order. The others, and sources without a name,
    /// are left out; the observer never sees them.
    ///
    /// That is logged once as a warning, and again when other names are concerned. A name that is given to
    /// several sources shows as one whose last probe has failed, wherever the observer keeps what it knows by
    /// source ([`source_health`](crate::Observer::source_health)): in waits by source, in `why_stale` and in
    /// reports. The answers of the one that is observed stay: predicates and waits for all sources see them.
    #[default]
    KeepFirst,
    /// The whole set is refused: the cycle fails with a [`SourceSetError`](crate::source::SourceSetError), and
    /// nothing is polled.
    Refuse,
}
