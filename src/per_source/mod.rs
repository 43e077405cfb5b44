//! One probe per source: the observer that most need.

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

/// An observer made of one async function that probes one source.
///
/// In each cycle it begins a probe of every source that has none in flight, and collects answers
/// until all probes begun in this cycle have ended, or for [`collect_for`](Self::collect_for). A
/// probe that is slower stays in flight, at most one for each source; later cycles collect it and
/// do not wait for it. So a source that hangs costs the others nothing, not even a delay. Probes
/// are tasks of their own; they are aborted when the observer's state is dropped.
///
/// A failed probe is not a failed cycle: it is a fact about its source, and an event. A fresh
/// runtime means that the loop ran; which *sources* answer is what
/// [`PerSourceSnapshot::answering`] says.
///
/// The first answers are in cycle 0's snapshot; their events come with the first poll.
///
/// A stop aborts the probes and does not wait for them. They end at their next await; one that
/// blocks its thread may outlive the answer `Stopped`, and what it finds is thrown away.
///
/// # Time
///
/// Cloning a source, its [`identity`](Self::identity), calling the probe and comparing two answers run in the
/// cycle itself. Between them the cycle yields at least once a millisecond, so that a stop is answered, and it
/// keeps its collecting time: the sources that had no turn are the first ones of the next cycle.
///
/// Keep [`collect_for`](Self::collect_for) below the runtime's `poll_timeout` and `init_timeout`. A poll that is
/// cut off while it collects is a warning in the log, and the observer collects for half the time that poll had
/// from then on. Its events come with the next poll that ends; those of several such polls are folded by source:
/// of each value that came and went, only the last is emitted.
///
/// # Panics
///
/// None of the observer's own. A panic of the probe, of `identity`, of a source's `Clone`, of an answer's
/// `PartialEq`, or of the destructor of an answer that says nothing new is a failed probe of that source. The
/// destructor of any other answer that panics is an error in the log.
///
/// # Logs
///
/// The first of consecutive failed probes warns, the first answer after it informs; in one cycle eight lines of each
/// kind, and one that counts the others. Each probe runs in a span named `probe`, whose field `source` is the
/// source's name.
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
    /// Both are the app's, and dropped together.
    probe: AppValue<Box<Probe<S, V>>>,
    identity: Option<AppValue<Box<Identity<S>>>>,
    weighs: Option<Weighs<V>>,
    settings: Settings,
    patience: Patience,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// The runtime's own, once it is known.
    interval: Option<Duration>,
    probe_timeout: Duration,
    collect_for: Option<Duration>,
    stale_after: Option<Duration>,
    concurrency: usize,
}

/// A setting of [`PerSource`] that makes no sense; its `init` fails with it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PerSourceError {
    /// A duration is zero or over 24 h.
    #[error("PerSource::{setting} is {value:?}: it must be more than zero and at most 24 h")]
    InvalidDuration {
        /// Which one.
        setting: &'static str,
        /// What was given.
        value: Duration,
    },
    /// It does not know its runtime's config: a wrapper has kept it back.
    #[error(
        "PerSource does not know the interval of its runtime: the observer that wraps it must forward \
         `Observer::configured`"
    )]
    NotConfigured,
    /// No probe may run.
    #[error("PerSource::concurrency is 0: at least one probe must be allowed at once")]
    NoConcurrency,
}

debug_as_text!(PerSourceError);

/// What happened to one source.
///
/// `Appeared`, `Changed`, `Replaced` and `Vanished` fold to the values of the snapshot.
#[derive(PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceEvent<V> {
    /// The first answer, ever or since it was replaced.
    Appeared {
        /// The source's name.
        source: Arc<str>,
        /// What it answered.
        value: Arc<V>,
        /// When it was asked.
        asked_at: Instant,
    },
    /// An answer that differs from the one before.
    Changed {
        /// The source's name.
        source: Arc<str>,
        /// The answer before.
        old: Arc<V>,
        /// The new answer.
        new: Arc<V>,
        /// When it was asked for the new answer.
        asked_at: Instant,
    },
    /// The first of consecutive failed probes.
    Failed {
        /// The source's name.
        source: Arc<str>,
        /// Why.
        failure: Arc<ProbeFailure>,
    },
    /// The first answer after failed probes; emitted before what it changed.
    Recovered {
        /// The source's name.
        source: Arc<str>,
        /// How many consecutive probes had failed.
        failures: u64,
        /// When it was asked.
        asked_at: Instant,
    },
    /// Another thing has the name now: see [`PerSource::identity`].
    Replaced {
        /// The source's name.
        source: Arc<str>,
        /// The last answer of what had the name before.
        last: Option<Arc<V>>,
        /// When the look at the sources began that found it.
        asked_at: Instant,
    },
    /// The source has left the set.
    Vanished {
        /// The source's name.
        source: Arc<str>,
        /// Its last answer.
        last: Option<Arc<V>>,
        /// When the look at the sources began that found it.
        asked_at: Instant,
    },
}

impl<V> SourceEvent<V> {
    /// The source it is about.
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

    /// When the probe began that found it; of a change of the source set, when the look at the sources began that
    /// found it: that may be an earlier one than that of its batch, if that was cut off.
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
    /// Probes each source by `probe`, whose error may be of any type that turns into a [`DynError`].
    ///
    /// The interval is that of the runtime: see [`Observer::configured`].
    ///
    /// # Examples
    ///
    /// Functions need no annotation, nor do closures that end with what they call. A closure that ends with `Ok(..)`
    /// says of which type its error is:
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

    /// How long one probe may take; it is then aborted and counts as failed. Default: 5 s.
    #[must_use]
    pub fn probe_timeout(mut self, timeout: Duration) -> Self {
        self.settings.probe_timeout = timeout;
        self
    }

    /// How long a cycle waits for the probes it has begun. Default: half the runtime's interval, at most 5 s.
    #[must_use]
    pub fn collect_for(mut self, collect_for: Duration) -> Self {
        self.settings.collect_for = Some(collect_for);
        self
    }

    /// The age from which on a source is stale, beside the time its last answer took. Default: the
    /// larger of 2 s and three of the runtime's intervals.
    #[must_use]
    pub fn stale_after(mut self, stale_after: Duration) -> Self {
        self.settings.stale_after = Some(stale_after);
        self
    }

    /// How many probes run at once; those that do not fit wait, who waited longest goes first.
    /// Default: 256.
    #[must_use]
    pub fn concurrency(mut self, concurrency: usize) -> Self {
        self.settings.concurrency = concurrency;
        self
    }

    /// How many bytes an answer owns beside itself, such as the text of a `String`: for
    /// [`TapLimits::bytes`](crate::subscription::TapLimits), asked of each answer only while there is a tap. Default:
    /// none.
    #[must_use]
    pub fn weighing(mut self, bytes: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        self.weighs = Some(Arc::new(bytes));
        self
    }

    /// What makes a source the same one: when it changes under one name, the source was replaced,
    /// its value is forgotten and its probe aborted. Default: the name alone.
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
        // Without one there is no state, and nothing asks.
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

    /// True: an answer and its events go into the state together, between two awaits.
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
        // The value that is new is the snapshot's.
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
