//! The model of listeners: waits, subscriptions, a watch.

use std::collections::VecDeque;
use std::rc::Rc;

use watchkeeper::runtime::{State, StateKind, StopReason};
use watchkeeper::wait::{InvalidWait, UnmetOutcome};

use crate::judging::{self, Seen};
use crate::reference::{Batch, Model, Position, Snapshot};

/// Publications that a wait may lag behind.
const BOUND: usize = 1024;

/// Batches that a subscription may hold back for itself.
const AHEAD: usize = 32;

/// What one publication shows.
#[derive(Clone)]
pub(crate) struct Publication {
    pub(crate) at: u64,
    pub(crate) state: State,
    pub(crate) cycle: u64,
    pub(crate) paused: bool,
    pub(crate) names: Vec<String>,
    /// The cycle whose refresh gave the names.
    pub(crate) set_cycle: Option<u64>,
    /// Names of the snapshot's set that several sources had.
    pub(crate) shared: Vec<String>,
    pub(crate) snapshot: Option<Rc<Snapshot>>,
    pub(crate) batch: Option<Batch>,
    /// Whether the snapshot is, at this moment.
    pub(crate) fresh: bool,
    /// When it turns stale; `None` if there was no success yet.
    pub(crate) stale_at: Option<u64>,
}

/// What is waited for. Of the numbers of a pair, the first divides and the second is what is left.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// A snapshot that shows such a number of polls.
    Polls(u64, u64),
    /// No snapshot that shows such a number of polls; asked by `never`, or inverted by `always`.
    NoPolls(u64, u64, NoPollsBy),
    /// That the number of polls, divided by this, is the same for so long.
    Stable(u64, u64),
    /// Such an event.
    Event(u64, u64),
    State(StateKind),
    StaysFresh,
    BecomesStale,
    Source(&'static str, Wish),
    /// A snapshot that shows an answer.
    Answer,
    /// A set of so many sources.
    Set(usize),
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum NoPollsBy {
    Always,
    Never,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Fresh,
    Stale,
    Failing,
    Vanished,
}

impl Want {
    /// What a wait for stability compares; there are numbers of polls for which there is no such thing.
    pub(crate) fn part(divisor: u64, polls: u64) -> Option<u64> {
        (polls % 7 != 6).then_some(polls / divisor)
    }

    pub(crate) fn is_such_an_event(divisor: u64, rest: u64, event: u64) -> bool {
        (event / 100 + event) % divisor == rest
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// With the cycle that met it, and which event of its batch.
    Met { cycle: u64, event: Option<usize> },
    Unmet {
        outcome: UnmetOutcome,
        judged: u64,
        /// How long after the wait's begin, and by which cycle's snapshot if one did.
        violation: Option<(u64, Option<u64>)>,
    },
}

/// From where on things count for a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Since {
    /// Cycles from this one on.
    pub(crate) cycle: u64,
    /// Events from this batch on, of those before the wait.
    pub(crate) batch: Option<u64>,
    /// What was asked from this moment on; `None` for all.
    pub(crate) answer: Option<u64>,
}

/// A wait.
pub(crate) struct Waiting {
    pub(crate) want: Want,
    /// Cycles from this one on count.
    pub(crate) counts_from: u64,
    /// What was asked from this moment on counts; `None` for all.
    pub(crate) counts_since: Option<u64>,
    pub(crate) began: u64,
    pub(crate) deadline: u64,
    pub(crate) invalid: Option<InvalidWait>,
    /// Batches from before that count and are still known: the cycle of each, whether it was fresh when
    /// it came, and its events.
    pub(crate) remembered: Vec<(bool, Batch)>,
    /// How many batches from before are no longer known.
    pub(crate) forgotten: u64,
    /// The source that is waited for was in the set at some time.
    pub(crate) known: bool,
    /// It has left between the mark and now, in a cycle that counts.
    pub(crate) left: bool,
    /// What it has taken so far; first what was known when it was made.
    seen: Vec<Seen>,
    /// A task takes what comes at once: it does not fall behind.
    is_awaited: bool,
    queue: VecDeque<Seen>,
    missed: u64,
    verdict: Option<(u64, Verdict)>,
}

impl Waiting {
    pub(crate) fn new(model: &Model, want: Want, since: Since, (window, is_awaited): (u64, bool)) -> Self {
        let now = model.publication();
        let kept = model.oldest_kept();
        let first_batch = since.batch.unwrap_or(model.published());
        let batches = model.batches.iter().zip(&model.fresh_batches);
        let remembered = batches.filter(|(batch, _)| batch.seq >= first_batch.max(kept));
        Self {
            want,
            counts_from: since.cycle,
            counts_since: since.answer,
            began: now.at,
            deadline: now.at + window,
            invalid: None,
            remembered: remembered.map(|(batch, fresh)| (*fresh, batch.clone())).collect(),
            forgotten: kept.saturating_sub(first_batch),
            known: matches!(want, Want::Source(name, _) if model.names_ever.iter().any(|known| known == name)),
            left: since.batch.is_some()
                && matches!(want, Want::Source(name, _) if model
                    .leavings
                    .iter()
                    .any(|(cycle, left)| left == name && *cycle >= since.cycle)),
            seen: vec![Seen { missed: 0, publication: now }],
            is_awaited,
            queue: VecDeque::new(),
            missed: 0,
            verdict: None,
        }
    }

    /// Whether a value that it judges is there from the beginning.
    pub(crate) fn begins_with_a_value(&self) -> bool {
        let first = &self.seen[0].publication;
        let counts = first.snapshot.as_ref().is_some_and(|snapshot| snapshot.cycle >= self.counts_from);
        counts && first.fresh && judging::all_heard_at_once(self, &self.seen)
    }

    pub(crate) fn push(&mut self, publication: &Publication) {
        if self.verdict.is_some() {
            return;
        }
        let over = publication.state.kind() == StateKind::Stopped;
        if self.queue.len() < BOUND || over || self.is_awaited {
            self.queue.push_back(Seen { missed: self.missed, publication: publication.clone() });
        } else {
            self.missed += 1;
        }
    }

    /// The verdict, if there is one at `now`, and when there was one.
    pub(crate) fn look(&mut self, now: u64) -> Option<(u64, Verdict)> {
        if self.verdict.is_none() {
            self.seen.extend(std::mem::take(&mut self.queue));
            self.verdict = match self.invalid {
                Some(invalid) => {
                    let outcome = UnmetOutcome::Invalid(invalid);
                    Some((self.began, Verdict::Unmet { outcome, judged: 0, violation: None }))
                }
                None => judging::verdict(self, &self.seen, self.missed, now),
            };
        }
        self.verdict
    }
}

/// What a subscription returns.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    Batch(Batch),
    Lagged { missed: u64, resume: Position },
    Rebuilt(u64),
    Closed(StopReason),
}

/// A subscription.
pub(crate) struct Reading {
    /// Where it stands.
    pub(crate) at: Position,
    /// It holds the batches below this one.
    holds_to: u64,
}

impl Reading {
    pub(crate) fn new(at: Position) -> Self {
        Self { at, holds_to: at.seq }
    }

    /// What it returns next, if there is anything new.
    pub(crate) fn next(&mut self, model: &Model) -> Option<Item> {
        let published = model.published();
        if self.at.seq == self.holds_to {
            let mut oldest = model.oldest_kept();
            if let Some(past) = model.settings.resume.map(|past| past.at)
                && self.at.generation <= past.generation
                && oldest > past.seq
            {
                // What only the earlier process had, then its end, and then what is missed of this one.
                if self.at.seq == past.seq {
                    self.at.generation = past.generation + 1;
                    return Some(Item::Rebuilt(self.at.generation));
                }
                oldest = past.seq;
            }
            if self.at.seq < oldest {
                let missed = oldest - self.at.seq;
                self.at.seq = oldest;
                self.holds_to = oldest;
                return Some(Item::Lagged { missed, resume: self.at });
            }
            self.holds_to = published.min(self.at.seq + AHEAD as u64);
        }
        let batch = model.batch(self.at.seq);
        let generation = batch.map_or(model.generation(), |batch| batch.generation);
        if generation > self.at.generation {
            self.at.generation = generation;
            return Some(Item::Rebuilt(generation));
        }
        if let Some(batch) = batch {
            self.at.seq += 1;
            return Some(Item::Batch(batch.clone()));
        }
        model.stopped().map(Item::Closed)
    }
}

/// A watch: the publication that it reported last, and the success that it reported as stale.
pub(crate) struct Following {
    reported: u64,
    reported_stale: Option<u64>,
}

impl Following {
    pub(crate) fn new(model: &Model) -> Self {
        let mut following = Self { reported: 0, reported_stale: None };
        following.report(model);
        following
    }

    fn report(&mut self, model: &Model) {
        self.reported = model.publications;
        let success = model.status.last_success;
        if success.is_some() && !model.is_fresh() {
            self.reported_stale = success;
        }
    }

    /// Whether there is something new, which then counts as reported.
    pub(crate) fn changed(&mut self, model: &Model) -> bool {
        let success = model.status.last_success;
        let turned_stale = success.is_some() && !model.is_fresh() && self.reported_stale != success;
        let news = self.reported != model.publications || turned_stale;
        // Nothing is reported after the end.
        let over = self.reported == model.publications && model.stopped().is_some();
        if news && !over {
            self.report(model);
        }
        news && !over
    }
}
