//! The model of those who listen: waits, subscriptions, a watch.

use std::collections::VecDeque;
use std::rc::Rc;

use watchkeeper::{Inconclusive, InvalidWait, State, StateKind, StopReason, UnmetOutcome};

use crate::reference::{Batch, Model, Position, Snapshot};

/// Publications that a wait may lag behind.
const BOUND: usize = 1024;

/// Batches that a subscription may hold back for itself.
const AHEAD: usize = 32;

/// What one publication tells.
#[derive(Clone)]
pub(crate) struct Publication {
    pub(crate) at: u64,
    pub(crate) state: State,
    pub(crate) cycle: u64,
    pub(crate) paused: bool,
    pub(crate) snapshot: Option<Rc<Snapshot>>,
    /// Whether the snapshot is.
    pub(crate) fresh: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Want {
    /// A snapshot that shows a number of polls which, divided by the first, leaves the second.
    Polls(u64, u64),
    State(StateKind),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// With the cycle that met it.
    Met(u64),
    Unmet {
        outcome: UnmetOutcome,
        judged: u64,
    },
}

/// A wait.
pub(crate) struct Waiting {
    want: Want,
    /// Cycles from this one on count.
    counts_from: u64,
    deadline: u64,
    invalid: Option<InvalidWait>,
    /// What was known when the wait was made, until that was looked at.
    first: Option<Publication>,
    /// Each with how many were missed before it.
    queue: VecDeque<(u64, Publication)>,
    missed: u64,
    judged: u64,
    stale: u64,
    /// The cycle of the last snapshot that was looked at.
    seen: Option<u64>,
    paused: bool,
    verdict: Option<Verdict>,
}

impl Waiting {
    pub(crate) fn new(
        model: &Model,
        want: Want,
        counts_from: u64,
        window: u64,
        invalid: Option<InvalidWait>,
    ) -> Self {
        let now = model.publication();
        Self {
            want,
            counts_from,
            deadline: now.at + window,
            invalid,
            paused: now.paused,
            first: Some(now),
            queue: VecDeque::new(),
            missed: 0,
            judged: 0,
            stale: 0,
            seen: None,
            verdict: None,
        }
    }

    pub(crate) fn push(&mut self, publication: &Publication) {
        if self.verdict.is_some() {
            return;
        }
        let over = publication.state.kind() == StateKind::Stopped;
        if self.queue.len() < BOUND || over {
            self.queue.push_back((self.missed, publication.clone()));
        } else {
            self.missed += 1;
        }
    }

    /// The verdict, if there is one at `now`.
    pub(crate) fn look(&mut self, now: u64) -> Option<Verdict> {
        if self.verdict.is_none() {
            self.verdict = self.judge(now);
        }
        self.verdict
    }

    fn judge(&mut self, now: u64) -> Option<Verdict> {
        let unmet = |outcome, judged| Some(Verdict::Unmet { outcome, judged });
        if let Some(invalid) = self.invalid {
            return unmet(UnmetOutcome::Invalid(invalid), 0);
        }
        let first = self.first.take().map(|first| (0, first));
        let queued = std::mem::take(&mut self.queue);
        for (missed, publication) in first.into_iter().chain(queued) {
            if publication.at > self.deadline {
                return unmet(self.at_the_end(missed), self.judged);
            }
            self.paused = publication.paused;
            if let Some(cycle) = self.meets(&publication) {
                return Some(Verdict::Met(cycle));
            }
            if let State::Stopped { reason } = publication.state {
                let stopped = Inconclusive::Stopped { reason };
                return unmet(UnmetOutcome::Inconclusive(stopped), self.judged);
            }
        }
        if now >= self.deadline { unmet(self.at_the_end(self.missed), self.judged) } else { None }
    }

    fn meets(&mut self, publication: &Publication) -> Option<u64> {
        match self.want {
            Want::State(kind) => {
                let over = publication.state.kind() == StateKind::Stopped;
                if publication.cycle < self.counts_from && !over {
                    return None;
                }
                self.judged += 1;
                (publication.state.kind() == kind).then_some(publication.cycle)
            }
            Want::Polls(divisor, rest) => {
                let snapshot = publication.snapshot.as_ref()?;
                if snapshot.cycle < self.counts_from || self.seen == Some(snapshot.cycle) {
                    return None;
                }
                self.seen = Some(snapshot.cycle);
                if !publication.fresh {
                    self.stale += 1;
                    return None;
                }
                self.judged += 1;
                (snapshot.view.memory.done % divisor == rest).then_some(snapshot.cycle)
            }
        }
    }

    fn at_the_end(&self, missed: u64) -> UnmetOutcome {
        UnmetOutcome::Inconclusive(if missed > 0 {
            Inconclusive::FellBehind { missed }
        } else if self.judged > 0 {
            return UnmetOutcome::NotMet;
        } else if self.stale > 0 {
            Inconclusive::Stale
        } else if self.paused {
            Inconclusive::Paused
        } else {
            Inconclusive::NothingObserved
        })
    }
}

/// What a subscription tells.
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

    /// What it tells next, if there is anything new.
    pub(crate) fn next(&mut self, model: &Model) -> Option<Item> {
        let published = model.batches.len() as u64;
        if self.at.seq == self.holds_to {
            let oldest = model.oldest_kept();
            if self.at.seq < oldest {
                let missed = oldest - self.at.seq;
                self.at.seq = oldest;
                self.holds_to = oldest;
                return Some(Item::Lagged { missed, resume: self.at });
            }
            self.holds_to = published.min(self.at.seq + AHEAD as u64);
        }
        let batch = model.batches.get(usize::try_from(self.at.seq).unwrap());
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

/// A watch: which publication it has told, and which success as stale.
pub(crate) struct Following {
    told: u64,
    told_stale: Option<u64>,
}

impl Following {
    pub(crate) fn new(model: &Model) -> Self {
        let mut following = Self { told: 0, told_stale: None };
        following.tell(model);
        following
    }

    fn tell(&mut self, model: &Model) {
        self.told = model.publications;
        let success = model.status.last_success;
        if success.is_some() && !model.is_fresh() {
            self.told_stale = success;
        }
    }

    /// Whether there is something to tell, which is then told.
    pub(crate) fn changed(&mut self, model: &Model) -> bool {
        let success = model.status.last_success;
        let turned_stale = success.is_some() && !model.is_fresh() && self.told_stale != success;
        let news = self.told != model.publications || turned_stale;
        // Nothing is told behind the end.
        let over = self.told == model.publications && model.stopped().is_some();
        if news && !over {
            self.tell(model);
        }
        news && !over
    }
}
