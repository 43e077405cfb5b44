//! What a call of a handler must be.

use watchkeeper_pipeline::Item;

use super::{Act, Call, Letter, Outcome, SOURCE, World};
use crate::model::plan::Policy;

impl World {
    pub(in crate::model) fn called(&mut self, stage: usize, mut call: Call) -> (Call, Act) {
        self.note((
            stage,
            "call",
            &call.upstream,
            call.position.number(),
            call.at(),
            call.item,
            call.attempt,
        ));
        self.judge_call(stage, &mut call);
        let act = if !self.faults.is_empty() {
            // What is wrong may go on and on.
            Act { delay_ms: 10_000_000, outcome: Outcome::Error }
        } else if self.is_calm {
            Act { delay_ms: 0, outcome: Outcome::Succeeds }
        } else {
            self.stages[stage].act(&call.upstream, call.item)
        };
        (call, act)
    }

    fn judge_call(&mut self, stage: usize, call: &mut Call) {
        if call.life != self.life {
            self.fault(stage, format!("a call of an ended pipeline: {call:?}"));
        }
        let known = &self.stages[stage];
        let expected = known.expected.get(&call.upstream).copied();
        let place = call.at();
        let is_letter = |letter: &Letter| {
            letter.upstream == call.upstream
                && letter.position == call.position
                && letter.item == call.item
                && letter.attempts + 1 == call.attempt
        };
        // A gap may be at the position of a letter: they differ in their items.
        let letter = known.acked_letters.iter().find(|(_, letter)| is_letter(letter));
        if let Some((id, _)) = letter {
            call.replays = Some(*id);
            if known.is_behind || !known.buried.is_empty() || !known.outputs.is_empty() {
                self.fault(stage, format!("a replay between an item and its commit: {call:?}"));
            }
            return;
        }
        if !self.exists(call) {
            self.fault(stage, format!("there is no such item: {call:?}"));
        }
        let known = &self.stages[stage];
        let last = known.last.clone();
        let again =
            last.as_ref().filter(|last| last.position == call.position && last.upstream == call.upstream);
        let attempts = again.map_or(0, |last| last.attempt);
        let limit = if let Policy::Poison(_) = known.plan.policy { u64::MAX } else { known.plan.retries + 1 };
        if call.attempt != attempts + 1 && !(known.has_restarted && call.attempt == 1) {
            self.fault(stage, format!("attempt {} follows {attempts}: {call:?}", call.attempt));
        } else if call.attempt > limit && !known.had_refusal {
            self.fault(stage, format!("there are only {limit} attempts: {call:?}"));
        }
        if expected == Some(place) {
            return;
        }
        // The rest of a batch that was lost.
        let rest = expected.is_some_and(|(generation, number, _)| place == (generation, number, 0));
        if rest && matches!(call.item, Item::Lagged { .. }) {
            return;
        }
        match last {
            Some(last) if self.may_bury(stage, &last) => {
                let after = self.after(&last.upstream, last.item, last.at());
                self.bury(stage, last);
                if after != place {
                    self.fault(stage, format!("an item was left out at {after:?}: {call:?}"));
                }
            }
            _ => self.fault(stage, format!("an item was left out at {expected:?}: {call:?}")),
        }
    }

    /// Whether a failed item may become a dead letter.
    pub(super) fn may_bury(&self, stage: usize, call: &Call) -> bool {
        let plan = &self.stages[stage].plan;
        plan.policy == Policy::DeadLetter && call.attempt > plan.retries
    }

    pub(super) fn bury(&mut self, stage: usize, call: Call) {
        self.pass(stage, &call);
        let known = &mut self.stages[stage];
        known.last = None;
        known.buried.push(call);
    }

    /// The stage goes on after an item.
    fn pass(&mut self, stage: usize, call: &Call) {
        if let Item::Lagged { missed } = call.item {
            let from = self.stages[stage].expected.get(SOURCE).copied().unwrap_or_default();
            let missed = self.published.iter().skip(from.1 as usize).take(missed as usize);
            for (nth, (_, batch)) in missed.enumerate() {
                let done = if nth == 0 { from.2 as usize } else { 0 };
                self.lost.extend(&batch[done..]);
            }
        }
        let after = self.after(&call.upstream, call.item, call.at());
        self.stages[stage].expected.insert(call.upstream.clone(), after);
    }

    pub(in crate::model) fn succeeded(&mut self, stage: usize, call: &Call) {
        if call.replays.is_some() {
            self.stages[stage].replayed = Some(call.clone());
        } else {
            self.pass(stage, call);
            self.stages[stage].last = None;
        }
        self.stages[stage].outputs.extend(call.outputs());
        self.stages[stage].is_behind = true;
    }

    pub(in crate::model) fn failed(&mut self, stage: usize, call: Call) {
        if call.life != self.life {
            return;
        }
        self.note((stage, "failed", &call.upstream, call.item, call.attempt));
        let known = &mut self.stages[stage];
        if call.replays.is_some() {
            known.replay_failed = Some(call);
        } else {
            (known.last, known.has_restarted) = (Some(call), false);
        }
    }
}
