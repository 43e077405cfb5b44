//! Stages joined to a graph, behind one handle.

mod graph;
pub(crate) mod machine;
#[cfg(test)]
mod table;
pub(crate) mod worker;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchkeeper::runtime::MAX_DURATION;
use watchkeeper::supervise::{Outcome, StateWaitBuilder, StateWatch, Supervised, supervise};
use watchkeeper::wait::Verdict;
use watchkeeper::{ObservationConfig, ObservationHandle, ObservationRuntime, Observer};

use crate::error::{NoSuchStage, OutputError, PipelineError, SettingProblem};
use crate::handler::Handler;
use crate::metrics::{StageProbes, figures, sources};
use crate::output::StageOutput;
use crate::stage::handle::StageHandle;
use crate::stage::worker::Source;
use crate::stage::{AnyStage, StageBuilder, StageCore};
use crate::store::CommitStore;

use graph::{Graph, graph};
use machine::{OnStageFailure, PipelineEvent, PipelineMachine, PipelineState, PipelineStatus};
use worker::{PipelineWorker, all};

/// A pipeline that does not run yet: see [`Pipeline::builder`].
#[must_use = "nothing runs before `.start()`"]
pub struct PipelineBuilder {
    name: Arc<str>,
    stages: Vec<Box<dyn AnyStage>>,
    on_failure: OnStageFailure,
    drain: Duration,
    metrics: ObservationConfig,
    parent: Option<CancellationToken>,
}

impl PipelineBuilder {
    /// Adds a stage. The order is of no meaning: stages read each other by name.
    pub fn stage<T, H, S>(mut self, stage: StageBuilder<T, H, S>) -> Self
    where
        T: Clone + fmt::Debug + Send + Sync + 'static,
        H: Handler<T>,
        S: CommitStore<T, H::Output>,
    {
        self.stages.push(Box::new(stage));
        self
    }

    /// What a stage that gives up means for the others. Default: [`OnStageFailure::Stop`].
    pub fn on_stage_failure(mut self, on_failure: OnStageFailure) -> Self {
        self.on_failure = on_failure;
        self
    }

    /// How long all stages together may take to drain, at most 24 h. Default: 10 s.
    pub fn drain(mut self, limit: Duration) -> Self {
        self.drain = limit;
        self
    }

    /// How the metrics are observed: an interval, or a config. Default: each second.
    pub fn metrics(mut self, config: impl Into<ObservationConfig>) -> Self {
        self.metrics = config.into();
        self
    }

    /// Cancelling `parent` is a requested stop.
    pub fn parent(mut self, parent: CancellationToken) -> Self {
        self.parent = Some(parent);
        self
    }

    /// Checks the graph, spawns the stages, opens them from sources to sinks, and starts them from sinks to sources.
    ///
    /// # Errors
    ///
    /// [`PipelineError`]: the graph is not one, a setting is out of range, or a stage does not start. Stages that have
    /// started before are drained first.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it drains what has started.
    pub async fn start(self) -> Result<Pipeline, PipelineError> {
        let Self { name, stages, on_failure, drain, metrics, parent } = self;
        let Graph { sources: reads, order } = graph(&name, &stages)?;
        if drain.is_zero() || drain > MAX_DURATION {
            let problem = SettingProblem::Duration { setting: "drain", duration: drain };
            return Err(PipelineError::Setting { stage: None, problem });
        }
        let stages = spawn(&name, stages, &reads, &order)?;
        let metrics = ObservationConfig { name: metrics.name.or_else(|| Some(name.to_string())), ..metrics };
        let observed = ObservationRuntime::start(sources(&stages), StageProbes::new(figures), metrics).await;
        let observed = observed.map_err(PipelineError::Metrics)?;
        let metrics = observed.handle().clone();
        let worker = PipelineWorker { stages: stages.clone(), on_failure, drain, metrics: Some(observed) };
        // The worker keeps the drain's time, and then aborts the stages and ends the metrics.
        let mut machine = supervise(PipelineMachine::new()).worker(worker).drain(MAX_DURATION).name(&*name);
        if let Some(parent) = parent {
            machine = machine.parent(parent);
        }
        let machine = machine.spawn().map_err(PipelineError::Spawn)?;
        let pipeline = Pipeline { shared: Arc::new(Shared { name, machine, stages, metrics }) };
        pipeline.started().await?;
        Ok(pipeline)
    }
}

fn spawn(
    name: &Arc<str>,
    stages: Vec<Box<dyn AnyStage>>,
    reads: &[Vec<Option<usize>>],
    order: &[usize],
) -> Result<Vec<Arc<StageCore>>, PipelineError> {
    let links: Vec<_> = stages.iter().map(|stage| stage.link()).collect();
    // Every consumer is known before any stage runs.
    let sources = |stage: &Vec<Option<usize>>| -> Vec<Option<Source>> {
        let source = |place: &Option<usize>| {
            place.map(|place| (Arc::clone(&links[place].link), (links[place].add_consumer)()))
        };
        stage.iter().map(source).collect()
    };
    let mut sources: Vec<_> = reads.iter().map(sources).collect();
    let mut spawned: Vec<Option<Arc<StageCore>>> = stages.iter().map(|_| None).collect();
    for (place, stage) in stages.into_iter().enumerate() {
        let sources = std::mem::take(&mut sources[place]);
        let core = stage.spawn(name, &links[place], sources).map_err(PipelineError::Spawn)?;
        spawned[place] = Some(Arc::new(core));
    }
    Ok(order.iter().filter_map(|place| spawned[*place].take()).collect())
}

/// A running pipeline; cloneable. The last one that is dropped drains it, which at the end of `main` has no time: call
/// [`stop`](Self::stop) there.
#[derive(Clone)]
pub struct Pipeline {
    shared: Arc<Shared>,
}

struct Shared {
    name: Arc<str>,
    machine: Supervised<PipelineMachine>,
    stages: Vec<Arc<StageCore>>,
    metrics: ObservationHandle<StageProbes>,
}

impl Pipeline {
    /// Describes a pipeline called `name`: 1 to 256 bytes. Stores know their stage by this name and the stage's.
    pub fn builder(name: impl Into<Arc<str>>) -> PipelineBuilder {
        PipelineBuilder {
            name: name.into(),
            stages: Vec::new(),
            on_failure: OnStageFailure::Stop,
            drain: Duration::from_secs(10),
            metrics: Duration::from_secs(1).into(),
            parent: None,
        }
    }

    async fn started(&self) -> Result<(), PipelineError> {
        let machine = &self.shared.machine;
        let mut watch = machine.watch();
        // A parent that is cancelled already stops it before.
        let _ = machine.send(PipelineEvent::Start).await;
        loop {
            let PipelineStatus { state, has_started, failed, .. } = watch.state();
            match (state, failed) {
                // It may have ended before this look.
                _ if has_started => return Ok(()),
                (PipelineState::Failed, Some((stage, status))) => {
                    let (state, failure) = (status.state, status.failure);
                    return Err(PipelineError::NotStarted { stage, state, failure });
                }
                (PipelineState::Drained | PipelineState::Failed, _) => return Err(PipelineError::Stopped),
                _ => {}
            }
            if watch.changed().await.is_err() && !watch.state().state.is_over() {
                return Err(PipelineError::Stopped);
            }
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The state, with what ended it.
    #[must_use]
    pub fn status(&self) -> PipelineStatus {
        self.shared.machine.state()
    }

    /// Follows the status.
    #[must_use]
    pub fn watch(&self) -> StateWatch<PipelineStatus> {
        self.shared.machine.watch()
    }

    /// Waits for a status that satisfies `predicate`: see [`Supervised::wait_for`].
    pub fn wait_for<'a, F, R>(
        &self,
        label: impl Into<String>,
        predicate: F,
    ) -> StateWaitBuilder<'a, PipelineStatus>
    where
        F: FnMut(&PipelineStatus) -> R + Send + 'a,
        R: Into<Verdict>,
    {
        self.shared.machine.wait_for(label, predicate)
    }

    /// The handles of all stages, each after those that it reads.
    #[must_use]
    pub fn stages(&self) -> Vec<StageHandle> {
        self.shared.stages.iter().map(|core| StageHandle::new(Arc::clone(core))).collect()
    }

    /// The handle of a stage.
    ///
    /// # Errors
    ///
    /// [`NoSuchStage`], which lists the stages.
    pub fn stage(&self, name: &str) -> Result<StageHandle, NoSuchStage> {
        let stages = &self.shared.stages;
        let found = stages.iter().find(|core| *core.name == *name);
        let found = found.ok_or_else(|| NoSuchStage {
            stage: name.into(),
            stages: stages.iter().map(|core| Arc::clone(&core.name)).collect(),
        });
        found.map(|core| StageHandle::new(Arc::clone(core)))
    }

    /// The outputs of a stage: see [`StageHandle::output`].
    ///
    /// # Errors
    ///
    /// [`StageOutputError`]: there is no such stage, or `O` is not the type of its outputs.
    pub fn output<O: Send + Sync + 'static>(
        &self,
        stage: &str,
    ) -> Result<ObservationHandle<StageOutput<O>>, StageOutputError>
    where
        StageOutput<O>: Observer,
    {
        Ok(self.stage(stage)?.output()?)
    }

    /// The metrics of the stages, as an observation with a source for each stage.
    #[must_use]
    pub fn metrics(&self) -> ObservationHandle<StageProbes> {
        self.shared.metrics.clone()
    }

    /// Drains all stages from sources to sinks, and returns the last status. Observations and streams are not read any
    /// more; what they have returned goes through all stages. A stage that has not drained within the builder's `drain`
    /// is aborted and named in [`PipelineStatus::cut_off`].
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it drains all the same.
    pub async fn stop(&self) -> PipelineStatus {
        self.end(self.shared.machine.stop().await).await
    }

    /// Ends all stages at once, without a drain, also while they drain. What they have not committed comes again; those
    /// that had not drained are named in [`PipelineStatus::cut_off`].
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, it ends all the same.
    pub async fn abort(&self) -> PipelineStatus {
        // Refused while it stops: then its stages are aborted here, and its drain ends.
        if self.shared.machine.try_send(PipelineEvent::Abort).is_err() {
            self.abort_stages().await;
        }
        self.ended().await
    }

    /// Waits for the end, and returns the last status.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the end is kept.
    pub async fn ended(&self) -> PipelineStatus {
        self.end(self.shared.machine.ended().await).await
    }

    /// After an end without a drain, no stage may go on by itself.
    async fn end(&self, outcome: Outcome) -> PipelineStatus {
        let mut status = self.status();
        if !outcome.is_finished() {
            status.cut_off = self.abort_stages().await;
        }
        status
    }

    /// All at once. Returns those that had not drained.
    async fn abort_stages(&self) -> Vec<Arc<str>> {
        let ends = self.shared.stages.iter().map(|core| async {
            let outcome = core.machine.abort().await;
            (!outcome.is_finished()).then(|| Arc::clone(&core.name))
        });
        all(ends).await.into_iter().flatten().collect()
    }

    /// How its task has ended; `None` while it runs. [`Outcome::Finished`] after every end but that of its executor.
    #[must_use]
    pub fn outcome(&self) -> Option<Outcome> {
        self.shared.machine.outcome()
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline")
            .field("name", &self.shared.name)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PipelineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stages: Vec<_> = self.stages.iter().map(|stage| stage.name()).collect();
        f.debug_struct("PipelineBuilder")
            .field("name", &self.name)
            .field("stages", &stages)
            .finish_non_exhaustive()
    }
}

/// Why the outputs of a stage are not returned.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StageOutputError {
    /// There is no such stage.
    #[error(transparent)]
    Stage(#[from] NoSuchStage),
    /// The type is another one.
    #[error(transparent)]
    Type(#[from] OutputError),
}

watchkeeper::report::debug_as_text!(StageOutputError);
