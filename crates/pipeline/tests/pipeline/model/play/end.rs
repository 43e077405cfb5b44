//! The end: nothing fails any more, and everything must be where it belongs.

use std::collections::BTreeSet;

use tokio::time::{Instant, sleep_until};
use watchkeeper_pipeline::store::DeadLetter;
use watchkeeper_pipeline::{DeadLetterView, Item, PipelineState, StageState};

use super::{Play, STAGES, in_time};
use crate::common::LONG;
use crate::model::acting::OTHERS;
use crate::model::world::{FIRST, Letter, StageWorld, World, outputs_of};

/// More restarts than what has begun to fail can need.
const RESTARTS: usize = 40;

impl Play<'_> {
    pub(super) async fn finish(&mut self) -> Result<(), String> {
        self.shared.with(|world| {
            world.is_calm = true;
            world.note("calm");
        });
        self.settle().await?;
        if self.plan.replays_all {
            for stage in 0..STAGES.len() {
                self.replay_all(stage).await?;
                self.settle().await?;
            }
        }
        let Some(pipeline) = self.pipeline.clone() else { return Ok(()) };
        let status = in_time("the last stop", pipeline.stop()).await?;
        if status.state != PipelineState::Drained || !status.cut_off.is_empty() {
            self.fault(format!("the last stop ended as {status:?}"));
        }
        for (nth, name) in STAGES.into_iter().enumerate() {
            let stage = pipeline.stage(name).unwrap();
            if stage.state() != StageState::Drained {
                self.fault(format!("after the last stop stage {name} is {}", stage.state()));
            }
            let stored = self.stores[nth].stored().dead_letters;
            self.judge_letters(nth, &stage.dead_letters(), &stored);
        }
        self.shared.with(judge_outputs);
        Ok(())
    }

    /// Restarts what has given up, until everything is committed.
    async fn settle(&mut self) -> Result<(), String> {
        for _ in 0..RESTARTS {
            self.living().await?;
            let Some(pipeline) = self.pipeline.clone() else { continue };
            let [first, second] = STAGES.map(|name| pipeline.stage(name).unwrap());
            let (mut first_state, mut second_state, mut state) =
                (first.watch(), second.watch(), pipeline.watch());
            let deadline = Instant::now() + LONG;
            loop {
                if self.shared.read(|world| !world.faults.is_empty()) {
                    return Ok(());
                }
                if state.state().state.is_over() {
                    break;
                }
                for (nth, stage) in [&first, &second].into_iter().enumerate() {
                    if stage.state().has_given_up() && self.plan.isolates {
                        self.restart(nth).await?;
                    }
                }
                // A call about a dead letter may have committed what a stage gave up at: its pipeline ends all the same.
                let fails = state.state().state != PipelineState::Running
                    || [&first, &second].iter().any(|stage| stage.state().has_given_up());
                if !fails && self.shared.read(World::is_settled) {
                    return Ok(());
                }
                tokio::select! {
                    () = self.shared.changed.notified() => {}
                    Ok(_) = first_state.changed() => {}
                    Ok(_) = second_state.changed() => {}
                    Ok(_) = state.changed() => {}
                    () = sleep_until(deadline) => {
                        let unsettled = self.shared.read(World::places);
                        return Err(format!("hangs: not everything is committed: {unsettled}"));
                    }
                }
            }
        }
        Err("stages fail after nothing fails any more".to_owned())
    }

    async fn replay_all(&self, nth: usize) -> Result<(), String> {
        let Some(stage) = self.stage(nth) else { return Ok(()) };
        for letter in stage.dead_letters() {
            if let Err(error) = in_time("a replay", stage.replay(letter.id)).await? {
                self.fault(format!("the last replay: {error}"));
            }
        }
        if !stage.dead_letters().is_empty() {
            self.fault(format!("letters are left: {:?}", stage.dead_letters()));
        }
        Ok(())
    }

    fn judge_letters(&self, nth: usize, listed: &[DeadLetterView], stored: &[DeadLetter<u64>]) {
        let of_view = |letter: &DeadLetterView| {
            (letter.id, letter.upstream.to_string(), letter.position, letter.item.clone(), letter.attempts)
        };
        let of_stored = |letter: &DeadLetter<u64>| {
            let item = format!("{:?}", letter.item);
            (letter.id, letter.upstream.to_string(), letter.position, item, letter.attempts)
        };
        let of_model = |(id, letter): (&u64, &Letter)| {
            (*id, letter.upstream.clone(), letter.position, format!("{:?}", letter.item), letter.attempts)
        };
        // A view shows an event by itself.
        let bare = |text: &str| text.trim_start_matches("Event(").trim_end_matches(')').to_owned();
        let model: Vec<_> =
            self.shared.read(|world| world.stages[nth].letters.iter().map(of_model).collect());
        let stored: Vec<_> = stored.iter().map(of_stored).collect();
        let views: Vec<_> =
            listed.iter().map(of_view).map(|view| (view.0, view.1, view.2, bare(&view.3), view.4)).collect();
        let shown: Vec<_> = model
            .iter()
            .cloned()
            .map(|letter| (letter.0, letter.1, letter.2, bare(&letter.3), letter.4))
            .collect();
        if stored != model {
            self.fault(format!("the letters stored are {stored:?} and not {model:?}"));
        }
        if views != shown {
            self.fault(format!("the letters listed are {views:?} and not {shown:?}"));
        }
    }
}

impl World {
    fn is_settled(&self) -> bool {
        let heads = self.heads();
        self.stages.iter().zip(&heads).all(|(stage, heads)| stage.is_committed() && stage.expected == *heads)
    }

    /// What was handled is committed, and the second stage has all that the first has emitted.
    pub(super) fn went_through(&self) -> bool {
        let second = &self.stages[1];
        self.stages.iter().all(StageWorld::is_committed)
            && second.expected.get(FIRST) == self.heads()[1].get(FIRST)
    }

    fn places(&self) -> String {
        let stages: Vec<_> = self.stages.iter().map(|stage| (&stage.position, &stage.expected)).collect();
        format!("{stages:?}, and there are {:?}", self.heads())
    }
}

/// What was published went through both stages once; but what is lost, is a dead letter, or was discarded.
fn judge_outputs(world: &mut World) {
    let source: Vec<u64> = world.published.iter().flat_map(|(_, batch)| batch).copied().collect();
    let source: Vec<u64> = source.into_iter().filter(|number| !world.lost.contains(number)).collect();
    let emitted: Vec<u64> = world.stages[0].accepted.iter().flatten().copied().collect();
    let merged: Vec<u64> = emitted.into_iter().chain((0..world.others).map(|nth| OTHERS + nth)).collect();
    judge_stage(world, 0, &source);
    judge_stage(world, 1, &merged);
}

fn judge_stage(world: &mut World, stage: usize, items: &[u64]) {
    let known = &world.stages[stage];
    let gone: BTreeSet<u64> = known
        .letters
        .values()
        .chain(known.discarded.values())
        .filter_map(|letter| letter.item.event())
        .collect();
    let handled = items.iter().filter(|item| !gone.contains(item));
    let mut expected: Vec<u64> = handled.flat_map(|item| outputs_of(Item::Event(*item))).collect();
    let accepted: Vec<u64> = known.accepted.iter().flatten().copied().collect();
    // What was never a dead letter comes in the order of its upstream; outputs are four times their item and more.
    let kept = accepted.iter().filter(|output| !known.was_letter.contains(&(**output / 4)));
    let (streamed, read): (Vec<u64>, Vec<u64>) = kept.partition(|output| **output / 4 >= OTHERS);
    let place = |output: &u64| items.iter().position(|item| *item == output / 4);
    let mut sorted = accepted.clone();
    sorted.sort_unstable();
    expected.sort_unstable();
    let is_in_order = streamed.is_sorted() && read.is_sorted_by_key(place);
    if sorted != expected {
        world.fault(stage, format!("the outputs {sorted:?} are not {expected:?}"));
    }
    if !is_in_order {
        world.fault(stage, format!("the outputs are out of order: {accepted:?}"));
    }
}
