//! `PerSource`: an observer with one probe per source.

mod kept;
mod lines;
mod look;
pub(crate) mod observe;
mod patience;
mod pending;
mod recorded;
mod said;
mod snapshot;
mod state;
mod waits;

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::config::MAX_DURATION;
use crate::panics::AppValue;
use crate::report::debug_as_text;
use crate::source::health::{ProbeFailure, SourceHealth};
use crate::{DynError, ObservationConfig, ObservedSource, Observer};

use look::SourcePoll;
use patience::Patience;

use snapshot::Weighs;

pub use recorded::PerSourceSnapshotError;
pub use snapshot::{PerSourceSnapshot, SourceView};
pub use state::PerSourceState;

type Probe<S, V> =
    dyn Fn(ObservedSource<S>) -> Pin<Box<dyn Future<Output = Result<V, DynError>> + Send>> + Send + Sync;

type Identity<S> = dyn Fn(&S) -> u64 + Send + Sync;

/// An observer that probes each source with one async function.
///
/// Each cycle begins a probe of every source that has none in flight. It collects answers until all probes of this
/// cycle have ended, or for [`collect_for`](Self::collect_for). A slower probe stays in flight, at most one for each
/// source; later cycles collect its answer and do not wait for it. A source that hangs therefore delays no other
/// source.
///
/// A failed probe does not fail the cycle: it is recorded for its source, and emitted as an event. A fresh runtime
/// means that the loop ran; [`PerSourceSnapshot::answering`] returns the *sources* that answer. The first answers are
/// in cycle 0's snapshot; their events come with the first poll.
///
/// Each probe is a task, which is aborted when the observer's state is dropped, also by a stop: it ends at its next
/// await. A probe that blocks
/// its thread may outlive the state `Stopped`; its result is dropped.
///
/// `examples/per_source.rs` is a whole program.
///
/// # Time
///
/// Cloning a source, its [`identity`](Self::identity), calling the probe and comparing answers run in the cycle
/// itself. Between these calls the cycle yields at least once a millisecond, and it keeps to its collecting time.
/// Sources without a turn go first in the next cycle.
///
/// Keep [`collect_for`](Self::collect_for) below the runtime's `poll_timeout` and `init_timeout`. If a poll is cut
/// off while it collects, the observer logs a warning and from then on collects for half the time that the poll had.
/// The next poll that ends returns the events; those of several cut-off polls are folded by source, so that only the
/// last value is emitted.
///
/// # Panics
///
/// The observer itself does not panic. A panic of the probe, of `identity`, of a source's `Clone`, of an answer's
/// `PartialEq`, or of the destructor of an unchanged answer is a failed probe of that source. A panic of any other
/// answer's destructor is logged as an error.
///
/// # Logs
///
/// The first of consecutive failed probes is logged as a warning, and the next answer as info. Each cycle logs at
/// most eight lines of each kind and the count of the others. Each probe runs in a span `probe`, whose field `source`
/// is the source's name.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
///
/// async fn square(node: ObservedSource<i32>) -> Result<i32, DynError> {
///     Ok(node.source * node.source)
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ObservationConfig { interval: Duration::from_millis(250), ..Default::default() };
/// let runtime = ObservationRuntime::start([("n1", 3), ("n2", 4)], PerSource::new(square), config).await?;
///
/// let snapshot = runtime.handle().latest_snapshot().unwrap();
/// assert_eq!(snapshot.value.answer("n2"), Some(&16));
/// # let _ = runtime.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct PerSource<S, V> {
    /// `probe` and `identity` are the app's, and are dropped together.
    probe: AppValue<Box<Probe<S, V>>>,
    identity: Option<AppValue<Box<Identity<S>>>>,
    weighs: Option<Weighs<V>>,
    settings: Settings,
    patience: Patience,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The runtime's interval, once it is known.
    interval: Option<Duration>,
    probe_timeout: Duration,
    collect_for: Option<Duration>,
    stale_after: Option<Duration>,
    concurrency: usize,
}

/// An invalid setting of [`PerSource`], returned by its `init`.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerSourceError {
    /// A duration is zero or over 24 h.
    #[error("PerSource::{setting} is {value:?}: it must be more than zero and at most 24 h")]
    InvalidDuration {
        /// The name of the setting.
        setting: &'static str,
        /// The given value.
        value: Duration,
    },
    /// The runtime's config is unknown, because a wrapper did not forward it.
    #[error(
        "PerSource does not know the interval of its runtime: the observer that wraps it must forward \
         `Observer::configured`"
    )]
    NotConfigured,
    /// The concurrency is zero.
    #[error("PerSource::concurrency is 0: at least one probe must be allowed at once")]
    NoConcurrency,
}

debug_as_text!(PerSourceError);

/// One change of a source.
///
/// `Appeared`, `Changed`, `Replaced` and `Vanished` fold to the values of the snapshot.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceEvent<V> {
    /// The first answer of a source, or the first since it was replaced.
    Appeared {
        /// The source's name.
        source: Arc<str>,
        /// The answer.
        value: Arc<V>,
        /// When the probe began.
        asked_at: Instant,
    },
    /// An answer that differs from the one before.
    Changed {
        /// The source's name.
        source: Arc<str>,
        /// The previous answer.
        old: Arc<V>,
        /// The new answer.
        new: Arc<V>,
        /// When the probe of the new answer began.
        asked_at: Instant,
    },
    /// The first of consecutive failed probes.
    Failed {
        /// The source's name.
        source: Arc<str>,
        /// The failure.
        failure: Arc<ProbeFailure>,
    },
    /// The first answer after failed probes; emitted before `Appeared` or `Changed`.
    Recovered {
        /// The source's name.
        source: Arc<str>,
        /// How many consecutive probes had failed.
        failures: u64,
        /// When the probe of the answer began.
        asked_at: Instant,
    },
    /// Another source has the name now: see [`PerSource::identity`].
    Replaced {
        /// The source's name.
        source: Arc<str>,
        /// The last answer of the previous source.
        last: Option<Arc<V>>,
        /// When the poll that found this began.
        asked_at: Instant,
    },
    /// The source has left the set.
    Vanished {
        /// The source's name.
        source: Arc<str>,
        /// Its last answer.
        last: Option<Arc<V>>,
        /// When the poll that found this began.
        asked_at: Instant,
    },
}

impl<V> SourceEvent<V> {
    /// The source's name.
    #[must_use]
    pub fn source(&self) -> &Arc<str> {
        match self {
            Self::Appeared { source, .. }
            | Self::Changed { source, .. }
            | Self::Failed { source, .. }
            | Self::Recovered { source, .. }
            | Self::Replaced { source, .. }
            | Self::Vanished { source, .. } => source,
        }
    }

    /// When the probe of this event began.
    ///
    /// For `Replaced` and `Vanished`: when the poll that found the change began. If that poll was cut off, the event
    /// is in the batch of a later one.
    #[must_use]
    pub fn asked_at(&self) -> Instant {
        match self {
            Self::Appeared { asked_at, .. }
            | Self::Changed { asked_at, .. }
            | Self::Recovered { asked_at, .. }
            | Self::Replaced { asked_at, .. }
            | Self::Vanished { asked_at, .. } => *asked_at,
            Self::Failed { failure, .. } => failure.began(),
        }
    }
}

impl<S, V> PerSource<S, V>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    /// Probes each source with `probe`. Its error may be of any type that converts into [`DynError`].
    ///
    /// The interval is that of the runtime: see [`Observer::configured`].
    ///
    /// # Examples
    ///
    /// A function needs no annotation, nor does a closure that ends with the call. A closure that ends with `Ok(..)`
    /// must name its error type:
    ///
    /// ```
    /// # use watchkeeper::{DynError, ObservedSource, PerSource};
    /// # #[derive(Clone)]
    /// # struct Client;
    /// # impl Client { async fn height(&self) -> std::io::Result<u64> { Ok(7) } }
    /// async fn height(node: ObservedSource<Client>) -> std::io::Result<u64> {
    ///     node.source.height().await
    /// }
    ///
    /// let by_function = PerSource::new(height);
    /// let by_closure = PerSource::new(|node: ObservedSource<Client>| async move { node.source.height().await });
    /// let doubled = PerSource::new(|node: ObservedSource<Client>| async move {
    ///     let height = node.source.height().await?;
    ///     Ok::<_, DynError>(2 * height)
    /// });
    /// # let _ = (by_function, by_closure, doubled);
    /// ```
    #[must_use]
    pub fn new<F, Fut, E>(probe: F) -> Self
    where
        F: Fn(ObservedSource<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
        E: Into<DynError>,
    {
        Self {
            probe: AppValue::new(Box::new(move |source| {
                let probe = probe(source);
                Box::pin(async move { probe.await.map_err(Into::into) })
            })),
            identity: None,
            weighs: None,
            settings: Settings {
                interval: None,
                probe_timeout: Duration::from_secs(5),
                collect_for: None,
                stale_after: None,
                concurrency: 256,
            },
            patience: Patience::new(),
        }
    }

    /// The time-out of one probe; the probe is then aborted and counts as failed. Default: 5 s.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.settings.probe_timeout = timeout;
        self
    }

    /// How long a cycle waits for its probes. Default: half the runtime's interval, at most 5 s.
    #[must_use]
    pub fn collect_for(mut self, collect_for: Duration) -> Self {
        self.settings.collect_for = Some(collect_for);
        self
    }

    /// The age at which an answer is stale, in addition to the time the answer took. Default: the larger of 2 s and
    /// three intervals of the runtime.
    #[must_use]
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.settings.stale_after = Some(stale_after);
        self
    }

    /// How many probes run at once. Of the sources that wait, the one that has waited longest goes first. Default:
    /// 256.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// The bytes that an answer owns beside itself, such as the text of a `String`. Default: 0.
    ///
    /// [`TapLimits::bytes`](crate::subscription::TapLimits) counts them; `bytes` is called only while there is a tap.
    #[must_use]
    pub fn weighing(mut self, bytes: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.weighs = Some(Arc::new(bytes));
        self
    }

    /// The identity of a source. Default: the name alone.
    ///
    /// If the identity changes under one name, the source was replaced: its value is forgotten and its probe aborted.
    #[must_use]
    pub fn identity<I: Hash>(mut self, identity: impl Fn(&S) -> I + Send + Sync + 'static) -> Self {
        self.identity = Some(AppValue::new(Box::new(move |source| {
            let mut hasher = DefaultHasher::new();
            identity(source).hash(&mut hasher);
            hasher.finish()
        })));
        self
    }
}

impl Settings {
    fn validate(&self) -> Result<(), PerSourceError> {
        let durations = [
            ("probe_timeout", Some(self.probe_timeout)),
            ("collect_for", self.collect_for),
            ("stale_after", self.stale_after),
        ];
        for (setting, value) in durations.into_iter().filter_map(|(setting, value)| Some((setting, value?))) {
            if value.is_zero() || value > MAX_DURATION {
                return Err(PerSourceError::InvalidDuration { setting, value });
            }
        }
        if self.concurrency == 0 {
            return Err(PerSourceError::NoConcurrency);
        }
        if self.interval.is_none() { Err(PerSourceError::NotConfigured) } else { Ok(()) }
    }

    fn interval(&self) -> Duration {
        // Without an interval `init` fails, so that this default is never used.
        self.interval.unwrap_or_else(|| ObservationConfig::default().interval)
    }

    fn collect_for(&self) -> Duration {
        const MOST: Duration = Duration::from_secs(5);
        self.collect_for.unwrap_or_else(|| MOST.min(self.interval() / 2))
    }

    fn stale_after(&self) -> Duration {
        const LEAST: Duration = Duration::from_secs(2);
        self.stale_after.unwrap_or_else(|| LEAST.max(self.interval() * 3))
    }
}

#[async_trait]
impl<S, V> Observer for PerSource<S, V>
where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Send + Sync + 'static,
{
    type Source = S;
    type State = PerSourceState<V>;
    type Snapshot = PerSourceSnapshot<V>;
    type Event = SourceEvent<V>;

    fn configured(&mut self, config: &ObservationConfig) {
        self.settings.interval = Some(config.interval);
    }

    async fn init(&self, sources: &[ObservedSource<S>]) -> Result<PerSourceState<V>, DynError> {
        self.settings.validate()?;
        let mut state = PerSourceState::new();
        SourcePoll::new(self, sources, &mut state).run().await;
        Ok(state)
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<S>],
        state: &mut PerSourceState<V>,
    ) -> Result<Vec<SourceEvent<V>>, DynError> {
        SourcePoll::new(self, sources, state).run().await;
        Ok(state.take_events())
    }

    fn snapshot(&self, state: &PerSourceState<V>) -> PerSourceSnapshot<V> {
        state.snapshot(self.settings.stale_after(), self.settings.collect_for(), self.weighs.as_ref())
    }

    /// True: an answer and its events enter the state together, between two awaits.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn source_health(snapshot: &PerSourceSnapshot<V>, name: &str) -> Option<SourceHealth> {
        snapshot.get(name).map(|source| source.health())
    }

    fn asked_since(snapshot: &PerSourceSnapshot<V>, since: Instant) -> Option<PerSourceSnapshot<V>> {
        snapshot.asked_since(since)
    }

    fn asked_at(event: &SourceEvent<V>) -> Option<Instant> {
        Some(event.asked_at())
    }

    fn weight(snapshot: &PerSourceSnapshot<V>, events: &[SourceEvent<V>]) -> usize {
        let owned = |value: &Arc<V>| {
            let owned = snapshot.weighs.as_ref().map_or(0, |weighs| weighs(value));
            size_of::<V>().saturating_add(owned)
        };
        // The snapshot already counts the new value.
        let old = events.iter().map(|event| match event {
            SourceEvent::Changed { old: last, .. }
            | SourceEvent::Replaced { last: Some(last), .. }
            | SourceEvent::Vanished { last: Some(last), .. } => owned(last),
            _ => 0,
        });
        old.fold(snapshot.weight().saturating_add(size_of_val(events)), usize::saturating_add)
    }
}

impl<V> Clone for SourceEvent<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Appeared { source, value, asked_at } => {
                Self::Appeared { source: source.clone(), value: value.clone(), asked_at: *asked_at }
            }
            Self::Changed { source, old, new, asked_at } => Self::Changed {
                source: source.clone(),
                old: old.clone(),
                new: new.clone(),
                asked_at: *asked_at,
            },
            Self::Failed { source, failure } => {
                Self::Failed { source: source.clone(), failure: failure.clone() }
            }
            Self::Recovered { source, failures, asked_at } => {
                Self::Recovered { source: source.clone(), failures: *failures, asked_at: *asked_at }
            }
            Self::Replaced { source, last, asked_at } => {
                Self::Replaced { source: source.clone(), last: last.clone(), asked_at: *asked_at }
            }
            Self::Vanished { source, last, asked_at } => {
                Self::Vanished { source: source.clone(), last: last.clone(), asked_at: *asked_at }
            }
        }
    }
}

impl<S, V> fmt::Debug for PerSource<S, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerSource").field("settings", &self.settings).finish_non_exhaustive()
    }
}
