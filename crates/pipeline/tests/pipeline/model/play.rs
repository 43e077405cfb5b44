//! Plays a plan, and judges what is left at the end.

mod end;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use watchkeeper::supervise::{Backoff, FailureWindow};
use watchkeeper_pipeline::{
    DeadLetterError, MemoryStore, OnError, OnStageFailure, Pipeline, PipelineError, PipelineState,
    StageHandle, StageState, Upstream, stage,
};

use super::acting::{ScriptedStore, Shared, acting, others};
use super::plan::{Plan, Policy, Step};
use super::world::{FIRST, SOURCE, STREAM, World};
use crate::common::{LONG, Published};

const STAGES: [&str; 2] = [FIRST, "second"];
/// A stage that waits for room answers no request.
const REQUEST: Duration = Duration::from_secs(2);

struct Play<'a> {
    plan: &'a Plan,
    shared: Shared,
    source: Published,
    next: u64,
    others: watch::Sender<u64>,
    stores: [MemoryStore<u64, u64>; 2],
    pipeline: Option<Pipeline>,
}

/// The error lists the faults, with what came before.
pub(super) async fn play(plan: &Plan) -> Result<(), String> {
    let world = Arc::new(Mutex::new(World::new(plan)));
    let shared = Shared { world, changed: Arc::new(Notify::new()) };
    let mut play = Play {
        plan,
        shared,
        source: Published::new(plan.history),
        next: 0,
        others: watch::channel(0).0,
        stores: [MemoryStore::new(), MemoryStore::new()],
        pipeline: None,
    };
    let played = play.run().await;
    let states = play.states();
    play.shared.with(|world| {
        let mut faults = std::mem::take(&mut world.faults);
        faults.truncate(5);
        let hung = played.err();
        if hung.is_none() && faults.is_empty() {
            return Ok(());
        }
        let trace = Vec::from(std::mem::take(&mut world.trace)).join("\n");
        Err(format!("{}\n{}\n{states}\n{trace}", hung.unwrap_or_default(), faults.join("\n")))
    })
}

/// What a call returns in time; its hang is the error.
async fn in_time<R>(what: &str, call: impl Future<Output = R>) -> Result<R, String> {
    timeout(LONG, call).await.map_err(|_| format!("hangs: {what}"))
}

impl Play<'_> {
    async fn run(&mut self) -> Result<(), String> {
        for step in &self.plan.steps {
            self.living().await?;
            self.shared.with(|world| world.note(step));
            self.step(*step).await?;
            if self.shared.with(|world| !world.faults.is_empty()) {
                return Ok(());
            }
        }
        self.finish().await
    }

    fn fault(&self, what: impl Into<String>) {
        self.shared.with(|world| world.fault(9, what));
    }

    fn states(&self) -> String {
        let Some(pipeline) = &self.pipeline else { return "no pipeline".to_owned() };
        let stages: Vec<_> = pipeline.stages().iter().map(|stage| format!("{stage:?}")).collect();
        format!("{:?}\n{}", pipeline.status(), stages.join("\n"))
    }

    fn stage(&self, stage: usize) -> Option<StageHandle> {
        self.pipeline.as_ref().map(|pipeline| pipeline.stage(STAGES[stage]).unwrap())
    }

    /// A pipeline that has ended is judged, and another one is started.
    async fn living(&mut self) -> Result<(), String> {
        if self.pipeline.as_ref().is_some_and(|pipeline| pipeline.status().state.is_over()) {
            self.ended().await?;
        }
        if self.pipeline.is_none() {
            self.start().await?;
        }
        Ok(())
    }

    async fn start(&mut self) -> Result<(), String> {
        let life = self.shared.with(|world| {
            world.begin_life();
            world.life
        });
        let builder = |nth: usize| {
            let plan = &self.plan.stages[nth];
            let store = ScriptedStore {
                stage: nth,
                life,
                shared: self.shared.clone(),
                inner: self.stores[nth].clone(),
            };
            let backoff = Backoff {
                first: Duration::from_millis(5),
                max: Duration::from_millis(40),
                jitter: 0.0,
                seed: 0,
            };
            let builder = stage(STAGES[nth], acting(&self.shared, nth, life))
                .store(store)
                .retries(plan.retries)
                .capacity(plan.capacity)
                .backoff(backoff)
                .on_error(match plan.policy {
                    Policy::Stop => OnError::Stop,
                    Policy::DeadLetter => OnError::DeadLetter,
                    Policy::Poison(most) => OnError::Poison(FailureWindow::new(most, Duration::from_secs(1))),
                });
            if plan.has_timeout { builder.item_timeout(Duration::from_millis(200)) } else { builder }
        };
        let count = self.others.subscribe();
        let stream = Upstream::seekable(STREAM, move |committed| others(count.clone(), committed));
        let started = Pipeline::builder("model")
            .stage(builder(0).from(Upstream::observation(SOURCE, &self.source.handle())))
            .stage(builder(1).from(Upstream::stage(FIRST)).from(stream))
            .on_stage_failure(if self.plan.isolates { OnStageFailure::Isolate } else { OnStageFailure::Stop })
            .drain(Duration::from_millis(self.plan.drain_ms))
            .metrics(Duration::from_secs(3_600))
            .start();
        match in_time("the start", started).await? {
            Ok(pipeline) => self.pipeline = Some(pipeline),
            Err(PipelineError::NotStarted {
                state: StageState::Failed | StageState::Poisoned,
                failure,
                ..
            }) => {
                if self.plan.isolates && !failure.as_ref().is_some_and(|failure| is_open_failure(failure)) {
                    self.fault(format!("an isolated stage did not let the others start: {failure:?}"));
                }
            }
            Err(error) => self.fault(format!("the start: {error}")),
        }
        Ok(())
    }

    async fn step(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Publish { batches, items } => (0..batches).for_each(|_| self.publish(items)),
            Step::Rebuild => {
                self.source.rebuild();
                self.shared.with(|world| world.generation += 1);
            }
            Step::Others(more) => {
                self.shared.with(|world| world.others += more);
                self.others.send_modify(|count| *count += more);
            }
            Step::Advance(time_ms) => sleep(Duration::from_millis(time_ms)).await,
            Step::Yield(times) => {
                for _ in 0..times {
                    yield_now().await;
                }
            }
            Step::Abort => self.abort().await?,
            Step::Stop => {
                let Some(pipeline) = &self.pipeline else { return Ok(()) };
                in_time("the stop", pipeline.stop()).await?;
                self.ended().await?;
            }
            Step::StopFor(time_ms) => {
                let Some(pipeline) = &self.pipeline else { return Ok(()) };
                if timeout(Duration::from_millis(time_ms), pipeline.stop()).await.is_ok() {
                    self.ended().await?;
                } else {
                    self.abort().await?;
                }
            }
            Step::Restart(stage) => self.restart(stage).await?,
            Step::Replay(stage, nth) => self.answer(stage, nth, true).await,
            Step::Discard(stage, nth) => self.answer(stage, nth, false).await,
        }
        Ok(())
    }

    fn publish(&mut self, items: u8) {
        let batch: Vec<u64> = (self.next..).take(items.into()).collect();
        self.next += u64::from(items);
        self.shared.with(|world| world.published.push((world.generation, batch.clone())));
        self.source.batch(batch);
    }

    async fn abort(&mut self) -> Result<(), String> {
        let Some(pipeline) = self.pipeline.take() else { return Ok(()) };
        let status = in_time("the abort", pipeline.abort()).await?;
        if !status.state.is_over() {
            self.fault(format!("the abort has ended as {status:?}"));
        }
        // From now on nothing may be handled or committed.
        self.shared.with(|world| world.life += 1);
        for _ in 0..20 {
            yield_now().await;
        }
        Ok(())
    }

    /// A pipeline has ended by itself or by a stop: judges how.
    async fn ended(&mut self) -> Result<(), String> {
        let Some(pipeline) = self.pipeline.take() else { return Ok(()) };
        let status = in_time("the end", pipeline.ended()).await?;
        let stages: Vec<_> =
            pipeline.stages().iter().map(|stage| (stage.name().to_owned(), stage.state())).collect();
        let is_judged = match (&status.state, &status.failed) {
            (PipelineState::Drained, None) => true,
            (PipelineState::Failed, Some((_, stage))) => !self.plan.isolates && stage.state.has_given_up(),
            _ => false,
        };
        if !is_judged {
            self.fault(format!("the pipeline has ended as {status:?}"));
        }
        let are_drained = stages.iter().all(|(_, state)| *state == StageState::Drained);
        if are_drained && status.cut_off.is_empty() && !self.shared.read(World::went_through) {
            self.fault("all stages have drained, and not all outputs of the first went through the second");
        }
        for (name, state) in stages {
            let is_cut_off = status.cut_off.iter().any(|cut_off| **cut_off == *name);
            if !(is_cut_off || state == StageState::Drained || state.has_given_up()) {
                self.fault(format!("stage {name} has ended as {state}"));
            }
        }
        self.shared.with(|world| world.life += 1);
        Ok(())
    }

    async fn restart(&self, stage: usize) -> Result<(), String> {
        let Some(handle) = self.stage(stage) else { return Ok(()) };
        let has_given_up = handle.state().has_given_up();
        if has_given_up {
            self.shared.with(|world| world.stages[stage].restarts());
        }
        let restarted = in_time("the restart", handle.restart()).await?;
        if restarted.is_ok() && !has_given_up {
            self.fault("a stage that has not given up was restarted");
        }
        Ok(())
    }

    /// Replays or discards a dead letter.
    async fn answer(&self, stage: usize, nth: u8, replays: bool) {
        let Some(handle) = self.stage(stage) else { return };
        let letters = handle.dead_letters();
        if letters.is_empty() {
            return;
        }
        let id = letters[usize::from(nth) % letters.len()].id;
        let answer = if replays {
            timeout(REQUEST, handle.replay(id)).await
        } else {
            self.shared.with(|world| world.stages[stage].discards.insert(id));
            timeout(REQUEST, handle.discard(id)).await
        };
        let is_stored = self.shared.with(|world| world.stages[stage].letters.contains_key(&id));
        self.shared.with(|world| world.note(&answer));
        let is_right = match answer {
            // It may still be done.
            Err(_) | Ok(Err(DeadLetterError::NotCommitted { .. } | DeadLetterError::Ended { .. })) => true,
            Ok(Err(DeadLetterError::Failed { .. })) => is_stored,
            // One that was aborted keeps its state.
            Ok(Err(DeadLetterError::NotWorking { state, .. })) => {
                !state.is_working() || state == StageState::Draining || handle.state() != state
            }
            Ok(Ok(()) | Err(_)) => !is_stored,
        };
        if !is_right {
            self.fault(format!("letter {id} of stage {stage}: {answer:?}, and stored is {is_stored}"));
        }
    }
}

fn is_open_failure(failure: &watchkeeper_pipeline::StageFailure) -> bool {
    failure.kind == watchkeeper_pipeline::StageFailureKind::Open
}
