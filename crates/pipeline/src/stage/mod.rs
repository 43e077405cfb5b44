//! One stage: its builder, its machine and its worker.

pub(crate) mod caught;
pub(crate) mod handle;
pub(crate) mod machine;
pub(crate) mod shared;
pub(crate) mod state;
#[cfg(test)]
mod table;
pub(crate) mod worker;

use std::any::{Any, TypeId, type_name};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::mpsc;
use watchkeeper::runtime::MAX_DURATION;
use watchkeeper::supervise::{Backoff, Delays, SuperviseError, Supervised, supervise};

use crate::error::SettingProblem;
use crate::handler::Handler;
use crate::link::Link;
use crate::store::{CommitStore, MemoryStore, StageName};
use crate::upstream::{Head, Upstream, Wanted};

use caught::Discarded;
use machine::StageMachine;
use shared::{LetterRequest, StageShared};
use state::OnError;
use worker::{Factory, Parts, Source, StageWorker};

pub use handle::{DeadLetterError, RestartStageError, StageHandle};

/// How many requests about dead letters wait for a stage.
const REQUESTS: usize = 16;

/// Describes a stage: `factory` makes its [`Handler`].
///
/// It is called in the stage's task when the stage starts, and again after a panic of the handler and after a restart.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::DynError;
/// use watchkeeper_pipeline::{Item, OnError, Upstream, handler_fn, stage};
///
/// async fn parse(line: Item<String>) -> Result<Vec<u64>, DynError> {
///     let line = line.event().ok_or("lines are missing")?;
///     Ok(vec![line.parse()?])
/// }
///
/// let parse = stage("parse", || handler_fn(parse))
///     .from(Upstream::stage("lines"))
///     .retries(2)
///     .on_error(OnError::DeadLetter)
///     .item_timeout(Duration::from_secs(5));
/// # let _ = parse;
/// ```
pub fn stage<T, H, F>(name: impl Into<Arc<str>>, factory: F) -> StageBuilder<T, H, MemoryStore<T, H::Output>>
where
    T: Clone + fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    F: FnMut() -> H + Send + 'static,
{
    StageBuilder {
        name: name.into(),
        factory: Box::new(factory),
        store: MemoryStore::new(),
        upstreams: Vec::new(),
        forgotten: Vec::new(),
        retries: 3,
        on_error: OnError::Stop,
        backoff: Backoff {
            first: Duration::from_millis(100),
            max: Duration::from_secs(30),
            jitter: 0.5,
            seed: 0,
        },
        item_timeout: None,
        capacity: 64,
        max_dead_letters: 10_000,
    }
}

/// A stage that does not run yet: see [`stage`].
#[must_use = "a stage runs in a pipeline: give it to `PipelineBuilder::stage`"]
pub struct StageBuilder<T, H: Handler<T>, S> {
    name: Arc<str>,
    factory: Factory<H>,
    store: S,
    upstreams: Vec<Upstream<T>>,
    forgotten: Vec<Arc<str>>,
    retries: u64,
    on_error: OnError,
    backoff: Backoff,
    item_timeout: Option<Duration>,
    capacity: usize,
    max_dead_letters: usize,
}

impl<T, H, S> StageBuilder<T, H, S>
where
    T: Clone + fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
{
    /// Reads this upstream, beside those that were given before. A stage has at least one. What several have is merged
    /// in no fixed order; each keeps its own.
    pub fn from(mut self, upstream: Upstream<T>) -> Self {
        self.upstreams.push(upstream);
        self
    }

    /// Where the stage commits. Default: a [`MemoryStore`] of its own.
    pub fn store<N: CommitStore<T, H::Output>>(self, store: N) -> StageBuilder<T, H, N> {
        StageBuilder {
            name: self.name,
            factory: self.factory,
            store,
            upstreams: self.upstreams,
            forgotten: self.forgotten,
            retries: self.retries,
            on_error: self.on_error,
            backoff: self.backoff,
            item_timeout: self.item_timeout,
            capacity: self.capacity,
            max_dead_letters: self.max_dead_letters,
        }
    }

    /// How often an item or a commit that has failed is tried again. Default: 3.
    pub fn retries(mut self, retries: u64) -> Self {
        self.retries = retries;
        self
    }

    /// What follows when an item's retries have failed. Default: [`OnError::Stop`]. After those of a commit, the stage
    /// fails.
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// The delays before each retry. Default: 100 ms, doubled up to 30 s, half of it random.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// How long the handler may take for one item, at most 24 h; it has then failed. Default: as long as it takes.
    pub fn item_timeout(mut self, limit: Duration) -> Self {
        self.item_timeout = Some(limit);
        self
    }

    /// How many batches of outputs may wait for the stages that read them, at least 1; the stage waits while there are
    /// so many. As many are kept as the history of its outputs. Default: 64.
    pub fn capacity(mut self, batches: usize) -> Self {
        self.capacity = batches;
        self
    }

    /// How many dead letters there may be. With one more to come the stage fails, at that item: something is wrong that
    /// retries do not mend. Default: 10,000.
    pub fn max_dead_letters(mut self, letters: usize) -> Self {
        self.max_dead_letters = letters;
        self
    }

    /// Drops the committed position of an upstream that the stage has no more.
    pub fn forget(mut self, upstream: impl Into<Arc<str>>) -> Self {
        self.forgotten.push(upstream.into());
        self
    }
}

impl<T, H: Handler<T>, S> fmt::Debug for StageBuilder<T, H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageBuilder")
            .field("name", &self.name)
            .field("upstreams", &self.upstreams)
            .finish_non_exhaustive()
    }
}

/// A stage of any types, as the pipeline joins it to others.
pub(crate) trait AnyStage: Send {
    fn name(&self) -> &Arc<str>;

    /// The names of the upstreams, and what those must be that are stages.
    fn upstreams(&self) -> Vec<(Arc<str>, Option<Wanted>)>;

    fn output(&self) -> (TypeId, &'static str);

    /// The first setting that is out of range.
    fn problem(&self) -> Option<SettingProblem>;

    /// The output, for the stages that read it.
    fn link(&self) -> OutputLink;

    /// Spawns it. The sources are those of the upstreams, in their order, for those that are stages.
    fn spawn(
        self: Box<Self>,
        pipeline: &Arc<str>,
        link: &OutputLink,
        sources: Vec<Option<Source>>,
    ) -> Result<StageCore, SuperviseError>;
}

/// A link with what can be done to it without its type.
pub(crate) struct OutputLink {
    pub(crate) link: Arc<dyn Any + Send + Sync>,
    pub(crate) add_consumer: Box<dyn Fn() -> usize + Send>,
}

/// A spawned stage.
pub(crate) struct StageCore {
    pub(crate) name: Arc<str>,
    pub(crate) machine: Supervised<StageMachine>,
    pub(crate) shared: Arc<StageShared>,
    pub(crate) requests: mpsc::Sender<LetterRequest>,
    /// An `ObservationHandle<StageOutput<O>>`.
    pub(crate) handle: Arc<OnceLock<Box<dyn Any + Send + Sync>>>,
    pub(crate) output_name: &'static str,
}

impl<T, H, S> AnyStage for StageBuilder<T, H, S>
where
    T: Clone + fmt::Debug + Send + Sync + 'static,
    H: Handler<T>,
    S: CommitStore<T, H::Output>,
{
    fn name(&self) -> &Arc<str> {
        &self.name
    }

    fn upstreams(&self) -> Vec<(Arc<str>, Option<Wanted>)> {
        self.upstreams.iter().map(|upstream| (Arc::clone(upstream.name()), upstream.wanted())).collect()
    }

    fn output(&self) -> (TypeId, &'static str) {
        (TypeId::of::<H::Output>(), type_name::<H::Output>())
    }

    fn problem(&self) -> Option<SettingProblem> {
        if let Some((field, value)) = self.backoff.invalid() {
            return Some(SettingProblem::Backoff { field, value });
        }
        if self.capacity == 0 {
            return Some(SettingProblem::Capacity);
        }
        if let OnError::Poison(window) = &self.on_error
            && !window.is_valid()
        {
            return Some(SettingProblem::FailureWindow);
        }
        let is_valid = |time: &Duration| !time.is_zero() && *time <= MAX_DURATION;
        let invalid = self.item_timeout.filter(|time| !is_valid(time));
        invalid.map(|duration| SettingProblem::Duration { setting: "item_timeout", duration })
    }

    fn link(&self) -> OutputLink {
        let link = Arc::new(Link::<H::Output>::new(self.capacity));
        let adds = Arc::clone(&link);
        OutputLink { link, add_consumer: Box::new(move || adds.add_consumer()) }
    }

    fn spawn(
        mut self: Box<Self>,
        pipeline: &Arc<str>,
        link: &OutputLink,
        sources: Vec<Option<Source>>,
    ) -> Result<StageCore, SuperviseError> {
        let Ok(link) = Arc::clone(&link.link).downcast::<Link<H::Output>>() else {
            unreachable!("the link was made by this stage");
        };
        let head = |(upstream, source): (&mut Upstream<T>, &Option<Source>)| -> Option<Head> {
            match (upstream.wanted(), source) {
                (Some(wanted), Some((link, _))) => (wanted.head)(Arc::clone(link)),
                _ => upstream.take_head(),
            }
        };
        let heads = self.upstreams.iter_mut().zip(&sources).map(head).collect();
        let shared = Arc::new(StageShared::new(heads));
        let (requests, received) = mpsc::channel(REQUESTS);
        let handle = Arc::new(OnceLock::new());
        let name = StageName { pipeline: Arc::clone(pipeline), stage: Arc::clone(&self.name) };
        let delays = Delays::new(self.backoff).reset_after(MAX_DURATION);
        let machine = StageMachine::new(self.retries, self.on_error, delays);
        let worker = StageWorker::new(Parts {
            name,
            factory: Discarded::new(self.factory),
            store: Discarded::new(self.store),
            upstreams: self.upstreams.into_iter().zip(sources).collect(),
            forgotten: self.forgotten,
            item_timeout: self.item_timeout,
            capacity: self.capacity,
            max_dead_letters: self.max_dead_letters,
            link,
            shared: Arc::clone(&shared),
            requests: received,
            handle: Arc::clone(&handle),
        });
        // The pipeline ends a drain that takes too long.
        let machine =
            supervise(machine).worker(worker).drain(MAX_DURATION).name(&*self.name).trace(64).spawn()?;
        let output_name = type_name::<H::Output>();
        Ok(StageCore { name: self.name, machine, shared, requests, handle, output_name })
    }
}
