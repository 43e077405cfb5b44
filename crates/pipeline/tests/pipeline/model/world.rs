//! The model: what was published, handled and committed, and what each call and each commit must be.

mod calls;
mod commits;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fmt::Debug;

use watchkeeper_pipeline::{Item, UpstreamPosition};

use super::acting::OTHERS;
use super::plan::{CommitAct, Fail, Plan, StagePlan};

/// A position in an order: the generation if it is the observation's, the batch or the item, the item of the batch.
pub(super) type At = (u64, u64, u64);

pub(super) const SOURCE: &str = "numbers";
pub(super) const FIRST: &str = "first";
pub(super) const STREAM: &str = "others";

pub(super) fn at(upstream: &str, position: UpstreamPosition) -> At {
    match position {
        UpstreamPosition::Batch { cursor, done } if upstream == SOURCE => {
            (cursor.generation(), cursor.seq(), done)
        }
        UpstreamPosition::Batch { cursor, done } => (0, cursor.seq(), done),
        UpstreamPosition::Count(count) => (0, count, 0),
    }
}

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) life: u64,
    pub(super) upstream: String,
    pub(super) position: UpstreamPosition,
    pub(super) item: Item<u64>,
    pub(super) attempt: u64,
    /// The dead letter.
    pub(super) replays: Option<u64>,
}

impl Call {
    fn at(&self) -> At {
        at(&self.upstream, self.position)
    }

    pub(super) fn outputs(&self) -> Vec<u64> {
        outputs_of(self.item)
    }
}

/// 0 to 3 of them, each unique.
pub(super) fn outputs_of(item: Item<u64>) -> Vec<u64> {
    item.event().map_or_else(Vec::new, |number| (0..number % 4).map(|nth| 4 * number + nth).collect())
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Succeeds,
    Error,
    Panic,
}

pub(super) struct Act {
    pub(super) delay_ms: u64,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Letter {
    pub(super) upstream: String,
    pub(super) position: UpstreamPosition,
    pub(super) item: Item<u64>,
    pub(super) attempts: u64,
}

/// What one stage has done.
pub(super) struct StageWorld {
    plan: StagePlan,
    commits: VecDeque<CommitAct>,
    makes: VecDeque<bool>,
    failing_loads: u8,
    failures: HashMap<String, u64>,
    /// What the store has.
    pub(super) position: BTreeMap<String, At>,
    pub(super) accepted: Vec<Vec<u64>>,
    pub(super) letters: BTreeMap<u64, Letter>,
    pub(super) discarded: BTreeMap<u64, Letter>,
    pub(super) was_letter: BTreeSet<u64>,
    /// The same, as far as the stage knows.
    acked_batches: usize,
    acked_letters: BTreeMap<u64, Letter>,
    next_letter: u64,
    acked_next_letter: u64,
    is_behind: bool,
    /// Its store was dropped.
    pub(super) has_ended: bool,
    /// Where each upstream is read from in this life.
    begun: BTreeMap<String, At>,
    /// The next item of each upstream.
    pub(super) expected: BTreeMap<String, At>,
    /// The call that failed last: its item is next.
    last: Option<Call>,
    has_restarted: bool,
    had_refusal: bool,
    /// Items that must become dead letters with the next commit.
    buried: Vec<Call>,
    outputs: Vec<u64>,
    replayed: Option<Call>,
    replay_failed: Option<Call>,
    /// Since the last commit.
    make_has_panicked: bool,
    pub(super) discards: BTreeSet<u64>,
}

pub(super) struct World {
    pub(super) faults: Vec<String>,
    /// Nothing fails any more.
    pub(super) is_calm: bool,
    pub(super) life: u64,
    pub(super) history: u64,
    pub(super) generation: u64,
    /// Each batch with its generation.
    pub(super) published: Vec<(u64, Vec<u64>)>,
    pub(super) others: u64,
    pub(super) lost: BTreeSet<u64>,
    pub(super) stages: [StageWorld; 2],
    /// What happened, newest last.
    pub(super) trace: VecDeque<String>,
}

impl StageWorld {
    fn new(plan: &StagePlan) -> Self {
        Self {
            commits: plan.commits.iter().copied().collect(),
            makes: plan.panicking_makes.iter().copied().collect(),
            failing_loads: plan.failing_loads,
            plan: plan.clone(),
            failures: HashMap::new(),
            position: BTreeMap::new(),
            accepted: Vec::new(),
            letters: BTreeMap::new(),
            discarded: BTreeMap::new(),
            was_letter: BTreeSet::new(),
            acked_batches: 0,
            acked_letters: BTreeMap::new(),
            next_letter: 0,
            acked_next_letter: 0,
            begun: BTreeMap::new(),
            is_behind: false,
            has_ended: false,
            expected: BTreeMap::new(),
            last: None,
            has_restarted: false,
            had_refusal: false,
            buried: Vec::new(),
            outputs: Vec::new(),
            replayed: None,
            replay_failed: None,
            make_has_panicked: false,
            discards: BTreeSet::new(),
        }
    }

    /// What was not committed is gone, what was committed is known.
    fn begin_life(&mut self) {
        self.acked_batches = self.accepted.len();
        self.acked_letters = self.letters.clone();
        self.acked_next_letter = self.next_letter;
        self.expected = self.position.clone();
        (self.last, self.replayed, self.replay_failed) = (None, None, None);
        (self.has_restarted, self.had_refusal, self.is_behind, self.has_ended) = (false, false, false, false);
        self.make_has_panicked = false;
        self.buried.clear();
        self.outputs.clear();
        self.discards.clear();
    }

    pub(super) fn restarts(&mut self) {
        self.has_restarted = true;
    }

    /// Everything that was handled is committed, and the stage knows it.
    pub(super) fn is_committed(&self) -> bool {
        !self.is_behind
            && self.expected.iter().all(|(name, at)| self.position.get(name).is_none_or(|have| have == at))
    }

    fn act(&mut self, upstream: &str, item: Item<u64>) -> Act {
        let number = match item {
            Item::Event(number) => number,
            Item::Lagged { missed } => missed,
            Item::Rebuilt { generation } => generation,
        };
        let plan = self.plan.items[(number % self.plan.items.len() as u64) as usize];
        let failures = self.failures.entry(format!("{upstream} {item:?}")).or_default();
        if *failures >= plan.fails {
            return Act { delay_ms: plan.delay_ms, outcome: Outcome::Succeeds };
        }
        *failures += 1;
        match plan.how {
            Fail::Error => Act { delay_ms: plan.delay_ms, outcome: Outcome::Error },
            Fail::Panic => Act { delay_ms: plan.delay_ms, outcome: Outcome::Panic },
            Fail::Slow => Act { delay_ms: 300, outcome: Outcome::Succeeds },
        }
    }
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            faults: Vec::new(),
            is_calm: false,
            life: 0,
            history: plan.history as u64,
            generation: 1,
            published: Vec::new(),
            others: 0,
            lost: BTreeSet::new(),
            stages: [StageWorld::new(&plan.stages[0]), StageWorld::new(&plan.stages[1])],
            trace: VecDeque::new(),
        }
    }

    pub(super) fn note(&mut self, what: impl Debug) {
        if self.trace.len() == 60 {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{what:?}"));
    }

    pub(super) fn fault(&mut self, stage: usize, what: impl Into<String>) {
        let fault = format!("life {}, stage {stage}: {}", self.life, what.into());
        self.note(format!("FAULT {fault}"));
        self.faults.push(fault);
    }

    pub(super) fn next_make_panics(&mut self, stage: usize) -> bool {
        let panics = self.stages[stage].makes.pop_front().unwrap_or(false) && !self.is_calm;
        self.stages[stage].make_has_panicked |= panics;
        panics
    }

    pub(super) fn next_load_fails(&mut self, stage: usize) -> bool {
        let left = &mut self.stages[stage].failing_loads;
        let fails = *left > 0 && !self.is_calm;
        *left = left.saturating_sub(1);
        fails
    }

    /// A pipeline is built on what the stores have.
    pub(super) fn begin_life(&mut self) {
        self.life += 1;
        self.stages.iter_mut().for_each(StageWorld::begin_life);
        let [first, second] = &mut self.stages;
        if !first.expected.contains_key(SOURCE) {
            // Without a position it begins with what is published from now on.
            self.lost.extend(self.published.iter().flat_map(|(_, batch)| batch));
            first.expected.insert(SOURCE.to_owned(), (self.generation, self.published.len() as u64, 0));
        }
        for name in [FIRST, STREAM] {
            second.expected.entry(name.to_owned()).or_insert((0, 0, 0));
        }
        for known in &mut self.stages {
            known.begun = known.expected.clone();
        }
        self.note(format!("life {}", self.life));
    }

    /// What the upstreams have after all that is published.
    pub(super) fn heads(&self) -> [BTreeMap<String, At>; 2] {
        let source = (self.generation, self.published.len() as u64, 0);
        let outputs = (0, self.stages[0].accepted.len() as u64, 0);
        [
            BTreeMap::from([(SOURCE.to_owned(), source)]),
            BTreeMap::from([(FIRST.to_owned(), outputs), (STREAM.to_owned(), (0, self.others, 0))]),
        ]
    }

    /// The position after an item.
    fn after(&self, upstream: &str, item: Item<u64>, (generation, number, done): At) -> At {
        let batch = |items: Option<usize>| match items {
            Some(items) if done + 1 < items as u64 => (generation, number, done + 1),
            _ => (generation, number + 1, 0),
        };
        let place = number as usize;
        match item {
            Item::Lagged { missed } => (generation, number + missed, 0),
            Item::Rebuilt { generation } => (generation, number, 0),
            Item::Event(_) if upstream == SOURCE => {
                batch(self.published.get(place).map(|(_, batch)| batch.len()))
            }
            Item::Event(_) if upstream == FIRST => batch(self.stages[0].accepted.get(place).map(Vec::len)),
            Item::Event(_) => (generation, number + 1, 0),
        }
    }

    /// Whether there is such an item at a position.
    fn exists(&self, call: &Call) -> bool {
        let (generation, number, done) = call.at();
        let in_batch = |batch: &Vec<u64>, event| batch.get(done as usize) == Some(&event);
        match (call.upstream.as_str(), call.item) {
            (SOURCE, Item::Event(event)) => {
                let batch = self.published.get(number as usize);
                batch.is_some_and(|(of, batch)| *of == generation && in_batch(batch, event))
            }
            (SOURCE, Item::Lagged { missed }) => {
                // Only what the history does not hold any more.
                missed > 0 && number + missed + self.history <= self.published.len() as u64
            }
            (SOURCE, Item::Rebuilt { generation: to }) => {
                let most = self.published.get(number as usize).map_or(self.generation, |(of, _)| *of);
                generation < to && to <= most
            }
            (FIRST, Item::Event(event)) => {
                let first = &self.stages[0];
                let batch = first.accepted[..first.acked_batches].get(number as usize);
                batch.is_some_and(|batch| in_batch(batch, event))
            }
            (STREAM, Item::Event(event)) => number < self.others && event == OTHERS + number,
            _ => false,
        }
    }
}
