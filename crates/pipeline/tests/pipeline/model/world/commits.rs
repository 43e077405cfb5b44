//! What a commit must be.

use watchkeeper_pipeline::StagePosition;
use watchkeeper_pipeline::store::{DeadLetterChange, NewOutputs};

use super::{Letter, World, at};
use crate::model::plan::CommitAct;

type Change = DeadLetterChange<u64>;

impl World {
    pub(in crate::model) fn commit_begins(
        &mut self,
        stage: usize,
        life: u64,
        position: &StagePosition,
        outputs: NewOutputs<'_, u64>,
        changes: &[Change],
    ) -> CommitAct {
        let places: Vec<_> = position.iter().map(|(name, position)| (name, at(name, position))).collect();
        self.note((stage, "commit", &places, outputs.cursor.seq(), outputs.batch, outputs.consumed, changes));
        if life != self.life {
            self.fault(stage, "a commit of an ended pipeline");
        }
        self.stages[stage].is_behind = true;
        self.judge_letters(stage, changes);
        self.judge_position(stage, position);
        self.judge_outputs(stage, outputs);
        let known = &mut self.stages[stage];
        let act = known.commits.pop_front().filter(|_| !self.is_calm);
        act.unwrap_or(CommitAct { before_ms: 0, after_ms: 0, fail: None })
    }

    fn judge_position(&mut self, stage: usize, position: &StagePosition) {
        let known = &self.stages[stage];
        let mut wrong = Vec::new();
        for (name, expected) in &known.expected {
            let committed = position.get(name).map(|position| at(name, position));
            let before = known.position.get(name);
            // An upstream of which nothing was read has no position.
            let is_new = committed.is_none() && before.is_none() && !known.was_passed(name, *expected);
            if committed != Some(*expected) && !is_new {
                wrong.push(format!("{name} is committed at {committed:?} and was handled to {expected:?}"));
            }
            if before.copied() > committed {
                wrong.push(format!("{name} goes back from {before:?} to {committed:?}"));
            }
        }
        for wrong in wrong {
            self.fault(stage, wrong);
        }
    }

    fn judge_outputs(&mut self, stage: usize, outputs: NewOutputs<'_, u64>) {
        let known = &self.stages[stage];
        let mut wrong = Vec::new();
        if outputs.batch != known.outputs {
            wrong.push(format!("{:?} are committed and {:?} were emitted", outputs.batch, known.outputs));
        }
        let number = outputs.cursor.seq();
        if number != known.acked_batches as u64 {
            wrong.push(format!("the outputs are batch {number} and not {}", known.acked_batches));
        }
        let next = number + u64::from(!outputs.batch.is_empty());
        if stage == 0 {
            let read = self.stages[1].position.get(super::FIRST).map_or(0, |place| place.1);
            if outputs.consumed > read {
                wrong.push(format!("consumed is {} and the stage after it is at {read}", outputs.consumed));
            }
            // A stage that has ended makes no room.
            let waits = !outputs.batch.is_empty() && !self.stages[1].has_ended;
            if waits && next - outputs.consumed.min(next) > known.plan.capacity as u64 {
                wrong.push(format!("{next} batches, of which only {} are consumed", outputs.consumed));
            }
        } else if outputs.consumed != next {
            wrong.push(format!("consumed is {} of {next}, and no stage reads them", outputs.consumed));
        }
        for wrong in wrong {
            self.fault(stage, wrong);
        }
    }

    fn judge_letters(&mut self, stage: usize, changes: &[Change]) {
        let mut next = self.stages[stage].acked_next_letter;
        let mut new = 0;
        for change in changes {
            let known = &self.stages[stage];
            match change {
                DeadLetterChange::Put(letter) if known.acked_letters.contains_key(&letter.id) => {
                    let attempts = known.acked_letters[&letter.id].attempts;
                    let failed = known.replay_failed.as_ref();
                    let is_failed = failed.is_some_and(|failed| failed.replays == Some(letter.id));
                    // That the handler was not made counts as an attempt.
                    if !(is_failed || known.make_has_panicked) || letter.attempts != attempts + 1 {
                        self.fault(
                            stage,
                            format!("the attempts are not {attempts} and one more: {letter:?}"),
                        );
                    }
                }
                DeadLetterChange::Put(letter) => {
                    if letter.id != next {
                        self.fault(stage, format!("the next letter is {next}: {letter:?}"));
                    }
                    next = letter.id + 1;
                    if self.stages[stage].buried.len() == new {
                        match self.stages[stage].last.clone() {
                            Some(last) if self.may_bury(stage, &last) => self.bury(stage, last),
                            _ => {
                                return self.fault(stage, format!("no item has failed for good: {letter:?}"));
                            }
                        }
                    }
                    let call = &self.stages[stage].buried[new];
                    new += 1;
                    let is_right = call.upstream == *letter.upstream
                        && call.position == letter.position
                        && call.item == letter.item
                        && call.attempt == letter.attempts;
                    if !is_right {
                        let fault = format!("{letter:?} is not what failed: {call:?}");
                        self.fault(stage, fault);
                    }
                }
                DeadLetterChange::Removed(id) => {
                    let replayed = known.replayed.as_ref().and_then(|call| call.replays);
                    if replayed != Some(*id) && !known.discards.contains(id) {
                        self.fault(stage, format!("letter {id} was neither replayed nor discarded"));
                    }
                }
            }
        }
        if self.stages[stage].buried.len() != new {
            let fault = format!("no letters of {:?}", &self.stages[stage].buried[new..]);
            self.fault(stage, fault);
        }
    }

    /// A commit has its effect.
    pub(in crate::model) fn committed(
        &mut self,
        stage: usize,
        life: u64,
        position: &StagePosition,
        outputs: NewOutputs<'_, u64>,
        changes: &[Change],
    ) {
        if life != self.life {
            self.fault(stage, "the effect of a commit of an ended pipeline");
        }
        let known = &mut self.stages[stage];
        known.position =
            position.iter().map(|(name, position)| (name.to_owned(), at(name, position))).collect();
        known.accepted.truncate(outputs.cursor.seq() as usize);
        if !outputs.batch.is_empty() {
            known.accepted.push(outputs.batch.to_vec());
        }
        let replayed = known.replayed.as_ref().and_then(|call| call.replays);
        for change in changes {
            match change {
                DeadLetterChange::Put(letter) => {
                    known.next_letter = known.next_letter.max(letter.id + 1);
                    known.discarded.remove(&letter.id);
                    known.was_letter.extend(letter.item.event());
                    let (upstream, position) = (letter.upstream.to_string(), letter.position);
                    let letter_of =
                        Letter { upstream, position, item: letter.item, attempts: letter.attempts };
                    known.letters.insert(letter.id, letter_of);
                }
                DeadLetterChange::Removed(id) => {
                    let removed = known.letters.remove(id);
                    if let Some(removed) = removed.filter(|_| replayed != Some(*id)) {
                        known.discarded.insert(*id, removed);
                    }
                }
            }
        }
    }

    /// The stage learns whether it was committed.
    pub(in crate::model) fn commit_ends(&mut self, stage: usize, is_accepted: bool) {
        self.note((stage, if is_accepted { "accepted" } else { "refused" }));
        let known = &mut self.stages[stage];
        if is_accepted {
            known.acked_batches = known.accepted.len();
            known.acked_letters = known.letters.clone();
            known.acked_next_letter = known.next_letter;
            known.buried.clear();
            known.outputs.clear();
            (known.replayed, known.replay_failed, known.make_has_panicked) = (None, None, false);
            known.is_behind = false;
        } else {
            known.had_refusal = true;
        }
    }
}

impl super::StageWorld {
    fn was_passed(&self, name: &str, expected: super::At) -> bool {
        self.begun.get(name) != Some(&expected)
    }
}
