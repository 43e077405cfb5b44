//! Random runs of the machine, with crashes, against what must hold in each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tokio::time::Instant;
use watchkeeper::supervise::{Backoff, Delays, Machine as _};

use super::cluster;
use crate::loops::escalation::EscalationState;
use crate::loops::escalation::document::EscalatedCluster;
use crate::loops::escalation::ledger::Record;
use crate::loops::escalation::machine::{
    Effect, EscalationCommand, EscalationEvent, EscalationMachine, Judged, Rules,
};
use crate::loops::escalation::poster::{Next, PostFailure};

const COOLDOWN: Duration = Duration::from_secs(100);
const ROOM: usize = 3;
const POSTS: u32 = 20;
const HOUR: Duration = Duration::from_hours(1);

#[derive(Clone, Debug)]
enum Act {
    /// Clusters by id, with counts; each has a newer operation, or not.
    Sight(Vec<(u8, u64, bool)>),
    /// The work in flight ends so.
    End(Ending),
    Pass(u64),
    /// The process ends without a stop, and the next one reads what was written.
    Crash,
}

#[derive(Clone, Copy, Debug)]
enum Ending {
    Well,
    Soft(u64),
    GiveUp,
    Refused,
    Broke,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ending = prop_oneof![
        4 => Just(Ending::Well),
        2 => (0u64..300).prop_map(Ending::Soft),
        1 => Just(Ending::GiveUp),
        1 => Just(Ending::Refused),
        1 => Just(Ending::Broke),
    ];
    let act = prop_oneof![
        4 => prop::collection::vec((0u8..6, 5u64..15, any::<bool>()), 0..5).prop_map(Act::Sight),
        6 => ending.prop_map(Act::End),
        3 => (0u64..150).prop_map(Act::Pass),
        1 => Just(Act::Crash),
    ];
    prop::collection::vec(act, 0..80)
}

struct Run {
    machine: EscalationMachine,
    now: Instant,
    wall: Timestamp,
    work: Option<EscalationCommand>,
    waits_until: Option<Instant>,
    written: Arc<Record>,
    sequences: HashMap<u8, u64>,
    documents: HashMap<String, EscalatedCluster>,
    /// By id: the key, and when it ended.
    ended: HashMap<String, (String, Instant)>,
    /// When a document was posted first.
    began: Vec<Instant>,
    /// The last outcome was not written.
    is_unwritten: bool,
}

fn machine(record: Record, now: Instant, wall: Timestamp) -> EscalationMachine {
    let rules = Rules {
        threshold: 10,
        cooldown: COOLDOWN,
        attempts: 3,
        posts_per_hour: POSTS,
        longest_pause: Duration::from_secs(40),
        room: ROOM,
        suffix: String::new(),
    };
    let backoff =
        Backoff { first: Duration::from_secs(10), max: Duration::from_secs(40), jitter: 0.5, seed: 7 };
    EscalationMachine::new(rules, Delays::new(backoff), record, now, wall)
}

impl Run {
    fn new() -> Self {
        let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
        Self {
            machine: machine(Record::default(), now, wall),
            now,
            wall,
            work: None,
            waits_until: None,
            written: Arc::default(),
            sequences: HashMap::new(),
            documents: HashMap::new(),
            ended: HashMap::new(),
            began: Vec::new(),
            is_unwritten: false,
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Sight(sighted) => {
                let clusters = sighted.into_iter().map(|(id, count, is_newer)| {
                    let sequence = self.sequences.entry(id).or_insert(1);
                    *sequence += u64::from(is_newer);
                    cluster(&format!("c{id}"), count, *sequence)
                });
                let clusters = clusters.collect();
                self.judge(EscalationEvent::Sighted { clusters, at: self.wall });
            }
            Act::End(ending) => self.end(ending),
            Act::Pass(seconds) => {
                let to = self.now + Duration::from_secs(seconds);
                while let Some(until) = self.waits_until.filter(|until| *until <= to) {
                    self.pass(until);
                    self.judge(EscalationEvent::Retry);
                }
                self.pass(to);
            }
            Act::Crash => {
                self.machine = machine((*self.written).clone(), self.now, self.wall);
                (self.work, self.waits_until) = (None, None);
                let effects = self.machine.begin();
                self.take(effects);
            }
        }
    }

    fn pass(&mut self, to: Instant) {
        self.wall += to - self.now;
        self.now = to;
    }

    fn end(&mut self, ending: Ending) {
        let Some(work) = self.work.take() else { return };
        let failed = |next| EscalationEvent::Failed(PostFailure { next, message: "failed".to_owned() });
        if let EscalationCommand::Save(_) = work {
            self.is_unwritten = matches!(ending, Ending::Broke);
        }
        let event = match (&work, ending) {
            (_, Ending::Broke) => EscalationEvent::Broke("broke".to_owned()),
            (EscalationCommand::Save(record), _) => {
                self.written = Arc::clone(record);
                EscalationEvent::Saved
            }
            (EscalationCommand::Post { .. }, Ending::Well) => EscalationEvent::Posted,
            (EscalationCommand::Post { .. }, Ending::Soft(after)) => {
                failed(Next::Retry { after: Duration::from_secs(after) })
            }
            (EscalationCommand::Post { .. }, Ending::GiveUp) => failed(Next::GiveUp),
            (EscalationCommand::Post { .. }, Ending::Refused) => failed(Next::Refused),
        };
        self.judge(event);
        if let EscalationCommand::Post { letter, .. } = work
            && self.machine.state().state == EscalationState::Recording
        {
            let id = letter.document.cluster.id.clone();
            self.ended.insert(id, (letter.key.clone(), self.now));
        }
    }

    fn judge(&mut self, event: EscalationEvent) {
        let described = format!("{event:?}");
        match self.machine.judge(event, self.now) {
            Judged::Moved(effects) => {
                self.waits_until = self.machine.timeout().map(|(delay, _)| self.now + delay);
                self.take(effects);
            }
            Judged::Stayed(effects) => self.take(effects),
            Judged::Rejected => panic!("rejected in {:?}: {described}", self.machine.state()),
        }
        assert!(self.machine.state().waiting <= ROOM);
    }

    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let Effect::Work(work) = effect else { panic!("nobody has asked for a stop") };
            assert!(self.work.is_none(), "one command at a time");
            if let EscalationCommand::Post { letter, record } = &work {
                if let Some(record) = record {
                    self.written = Arc::clone(record);
                }
                self.posts(&letter.key, &letter.document);
            }
            self.work = Some(work);
        }
    }

    fn posts(&mut self, key: &str, document: &EscalatedCluster) {
        if !self.documents.contains_key(key) {
            self.began.push(self.now);
            let recent = self.began.iter().filter(|began| self.now - **began < HOUR).count();
            assert!(recent < 2 * POSTS as usize, "{recent} posts in an hour");
        }
        let same = self.documents.entry(key.to_owned()).or_insert_with(|| document.clone());
        assert_eq!(same, document, "one key, one document");
        assert!(document.cluster.count >= 10);
        if let Some((ended, at)) = self.ended.get(&document.cluster.id) {
            let is_written = self.written.escalated.iter().any(|entry| {
                let known = format!("{}-{}", entry.id, entry.sequence);
                // After giving up, the time of that is a part of the next key: this entry is then of the document before.
                let before = format!("-{}", entry.at.as_millisecond());
                entry.id == document.cluster.id
                    && ended
                        .strip_prefix(&known)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-') && rest != before)
            });
            // What ended and was not written is posted again after a crash, by the same key.
            assert!(!is_written || ended != key, "{key} is posted twice");
            assert!(ended == key || self.now - *at >= COOLDOWN, "{key} comes {:?} after", self.now - *at);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cluster_is_posted_once_in_each_cooldown(acts in acts()) {
        let mut run = Run::new();
        for act in acts {
            run.act(act);
        }
        // From then on the webhook answers: everything that waits is posted.
        for _ in 0..40 {
            run.end(Ending::Well);
            run.act(Act::Pass(200));
        }
        let status = run.machine.state();
        prop_assert_eq!((status.state, status.waiting), (EscalationState::Idle, 0));
        prop_assert!(run.work.is_none() && (run.is_unwritten || run.written.pending.is_none()));
    }
}
