//! Starts, watches and drains the stages.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use watchkeeper::supervise::Worker;
use watchkeeper::{DynError, ObservationRuntime};

use super::machine::{OnStageFailure, PipelineCommand, PipelineEvent, PipelineMachine};
use crate::metrics::StageProbes;
use crate::stage::StageCore;
use crate::stage::handle::{opened, started};
use crate::stage::machine::StageEvent;
use crate::stage::state::{StageState, StageStatus};

pub(crate) struct PipelineWorker {
    /// Each stage after those that it reads.
    pub(crate) stages: Vec<Arc<StageCore>>,
    pub(crate) on_failure: OnStageFailure,
    pub(crate) drain: Duration,
    pub(crate) metrics: Option<ObservationRuntime<StageProbes>>,
    /// Dropped if not all stages have started.
    pub(crate) started: Option<oneshot::Sender<()>>,
}

type Failed = (Arc<str>, StageStatus);

impl Worker<PipelineMachine> for PipelineWorker {
    async fn run(&mut self, command: PipelineCommand) -> Result<Option<PipelineEvent>, DynError> {
        Ok(Some(match command {
            PipelineCommand::StartStages => match self.start().await {
                Ok(()) => {
                    // Nobody may wait for it any more.
                    let _ = self.started.take().map(|started| started.send(()));
                    PipelineEvent::Started
                }
                Err((stage, status)) => PipelineEvent::StageFailed(stage, status),
            },
            PipelineCommand::WatchStages => self.watch().await,
            PipelineCommand::DrainStages => PipelineEvent::StagesEnded(self.drain().await),
        }))
    }
}

impl PipelineWorker {
    /// A position is compared with what the stage before it has: so they open from sources to sinks. No source is read
    /// before all is ready for it: so they start from sinks to sources.
    async fn start(&mut self) -> Result<(), Failed> {
        for stage in &self.stages {
            // A stage that is aborted meanwhile accepts nothing, and is not open.
            let _ = stage.machine.send(StageEvent::Open).await;
            opened(stage).await.map_err(|status| (Arc::clone(&stage.name), status))?;
        }
        for stage in self.stages.iter().rev() {
            let _ = stage.machine.send(StageEvent::Start).await;
            started(stage).await.map_err(|status| (Arc::clone(&stage.name), status))?;
        }
        Ok(())
    }

    /// Ends when a stage has given up that is not isolated, or all have drained.
    async fn watch(&mut self) -> PipelineEvent {
        let ends = self.on_failure == OnStageFailure::Stop;
        let mut watched: Vec<Pin<Box<dyn Future<Output = Result<(), Failed>> + Send>>> = Vec::new();
        for stage in &self.stages {
            watched.push(Box::pin(drained(Arc::clone(stage), ends)));
        }
        poll_fn(move |context| {
            let mut nth = 0;
            while nth < watched.len() {
                match watched[nth].as_mut().poll(context) {
                    Poll::Ready(Ok(())) => drop(watched.swap_remove(nth)),
                    Poll::Ready(Err((stage, status))) => {
                        return Poll::Ready(PipelineEvent::StageFailed(stage, status));
                    }
                    Poll::Pending => nth += 1,
                }
            }
            if watched.is_empty() { Poll::Ready(PipelineEvent::AllDrained) } else { Poll::Pending }
        })
        .await
    }

    /// Returns the stages that had not drained in time. A stage ends after those that it reads; all are asked at once, so
    /// that one that hangs takes no time from the others.
    async fn drain(&mut self) -> Vec<Arc<str>> {
        let deadline = Instant::now() + self.drain;
        let hang = stop(&self.stages, deadline).await;
        let mut cut_off = Vec::new();
        for (stage, _) in self.stages.iter().zip(&hang).filter(|(_, hangs)| **hangs) {
            cut_off.push(Arc::clone(&stage.name));
            stage.machine.abort().await;
        }
        self.end_metrics().await;
        cut_off
    }

    /// The last figures are observed before the end.
    async fn end_metrics(&mut self) {
        if let Some(runtime) = self.metrics.take() {
            // It may be stopping with its executor.
            let _ = runtime.poll_now_and_wait().await;
            let _ = runtime.stop().await;
        }
    }
}

/// Ends when a stage has drained; or, if that ends the pipeline, when it has given up.
async fn drained(stage: Arc<StageCore>, ends: bool) -> Result<(), Failed> {
    let mut watch = stage.machine.watch();
    loop {
        let status = watch.state();
        let is_over = status.state == StageState::Drained;
        if is_over {
            return Ok(());
        }
        if ends && status.state.has_given_up() {
            return Err((Arc::clone(&stage.name), status));
        }
        if watch.changed().await.is_err() {
            return if status.state == StageState::Drained { Ok(()) } else { Err((Arc::clone(&stage.name), status)) };
        }
    }
}

/// Stops all stages; returns for each whether it had not drained at the deadline.
async fn stop(stages: &[Arc<StageCore>], deadline: Instant) -> Vec<bool> {
    let mut draining = Vec::new();
    for stage in stages {
        draining.push(Some(Box::pin(tokio::time::timeout_at(deadline, stage.machine.stop()))));
    }
    let mut hang = vec![false; draining.len()];
    poll_fn(|context| {
        for (draining, hangs) in draining.iter_mut().zip(&mut hang) {
            let Some(drains) = draining else { continue };
            if let Poll::Ready(stopped) = drains.as_mut().poll(context) {
                // Its machine has the same deadline.
                *hangs = !stopped.is_ok_and(|outcome| outcome.is_finished());
                *draining = None;
            }
        }
        if draining.iter().all(Option::is_none) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    hang
}
