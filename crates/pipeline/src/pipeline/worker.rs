//! Starts, watches and drains the stages.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::supervise::Worker;
use watchkeeper::{DynError, ObservationRuntime};

use super::machine::{OnStageFailure, PipelineCommand, PipelineEvent, PipelineMachine, StagesEnd};
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
}

type Failed = (Arc<str>, StageStatus);

impl Worker<PipelineMachine> for PipelineWorker {
    async fn run(&mut self, command: PipelineCommand) -> Result<Option<PipelineEvent>, DynError> {
        Ok(Some(match command {
            PipelineCommand::Start => match self.start().await {
                Ok(()) => PipelineEvent::Started,
                Err((stage, status)) => PipelineEvent::StageFailed(stage, status),
            },
            PipelineCommand::Watch => self.watch().await,
            PipelineCommand::Drain => self.drain().await,
            PipelineCommand::Abort => self.abort().await,
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
        let watch = |stage: &Arc<StageCore>| Box::pin(drained(Arc::clone(stage), ends));
        let mut watched: Vec<_> = self.stages.iter().map(watch).collect();
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

    /// Asks all stages to drain, from sources to sinks, and waits for all, at most for the drain's time.
    async fn drain(&mut self) -> PipelineEvent {
        let deadline = Instant::now() + self.drain;
        let ends = self.stages.iter().map(|stage| {
            let stage = Arc::clone(stage);
            async move {
                let outcome = match tokio::time::timeout_at(deadline, stage.machine.stop()).await {
                    Ok(outcome) => outcome,
                    Err(_) => stage.machine.abort().await,
                };
                (!outcome.is_finished()).then(|| Arc::clone(&stage.name))
            }
        });
        let cut_off = all(ends).await;
        self.ended(cut_off).await
    }

    async fn abort(&mut self) -> PipelineEvent {
        let ends = self.stages.iter().map(|stage| {
            let stage = Arc::clone(stage);
            async move {
                let outcome = stage.machine.abort().await;
                (!outcome.is_finished()).then(|| Arc::clone(&stage.name))
            }
        });
        let cut_off = all(ends).await;
        self.ended(cut_off).await
    }

    async fn ended(&mut self, cut_off: Vec<Option<Arc<str>>>) -> PipelineEvent {
        self.end_metrics().await;
        let given_up: Vec<_> =
            self.stages.iter().filter(|stage| stage.machine.state().state.has_given_up()).collect();
        let ends = self.on_failure == OnStageFailure::Stop;
        let failed = given_up.first().filter(|_| ends);
        PipelineEvent::StagesEnded(StagesEnd {
            cut_off: cut_off.into_iter().flatten().collect(),
            given_up: given_up.iter().map(|stage| Arc::clone(&stage.name)).collect(),
            failed: failed.map(|stage| (Arc::clone(&stage.name), stage.machine.state())),
        })
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

/// All outputs, in the order of the futures. In each poll they are polled in that order.
pub(crate) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => is_over = false,
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, output)| output).collect()
}

/// Ends when a stage has drained; or, if that ends the pipeline, when it has given up.
async fn drained(stage: Arc<StageCore>, ends: bool) -> Result<(), Failed> {
    let mut watch = stage.machine.watch();
    let mut is_logged = false;
    loop {
        let status = watch.state();
        let has_given_up = status.state.has_given_up();
        if status.state == StageState::Drained {
            return Ok(());
        }
        if has_given_up && !is_logged {
            let failure = status.failure.as_ref().map(tracing::field::display);
            tracing::error!(stage = &*stage.name, state = %status.state, failure, "a stage has given up");
        }
        is_logged = has_given_up;
        if has_given_up && ends {
            return Err((Arc::clone(&stage.name), status));
        }
        if watch.changed().await.is_err() {
            let status = watch.state();
            let has_drained = status.state == StageState::Drained;
            return if has_drained { Ok(()) } else { Err((Arc::clone(&stage.name), status)) };
        }
    }
}
