//! The table of the machine, which is compared with it.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use watchkeeper::supervise::{Backoff, Delays, Machine as _};
use watchkeeper_fsm::spec::{Go, Row, Stay, Step, Subject, row, walk};

use super::cluster;
use crate::loops::escalation::EscalationState::{
    self, BackingOff, Draining, Idle, Limited, Posting, Recording, Refused, Stopped,
};
use crate::loops::escalation::document::{EscalatedCluster, Letter};
use crate::loops::escalation::ledger::Record;
use crate::loops::escalation::machine::{
    Effect, EscalationCommand, EscalationEvent, EscalationMachine, Judged, Rules,
};
use crate::loops::escalation::poster::{Next, PostFailure};
use Does::{Finish, Post, PostAgain, Save};
use On::{
    Broke, Drain, FailedFinal, FailedRefused, FailedSoft, Posted, Retry, Saved, SightedNew, SightedNothing,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum On {
    /// A cluster over the threshold that was never there.
    SightedNew,
    /// Clusters that are not escalated: under the threshold, in hand, or cooling down.
    SightedNothing,
    Posted,
    /// Another attempt may follow.
    FailedSoft,
    /// None may.
    FailedFinal,
    FailedRefused,
    Saved,
    Broke,
    Retry,
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Does {
    /// With the record before it.
    Post,
    /// What is in the record already.
    PostAgain,
    Save,
    Finish,
}

#[derive(Clone)]
struct Subjected {
    machine: EscalationMachine,
    now: Instant,
    /// Makes new ids.
    sighted: u64,
}

fn machine(pending: Option<Letter>) -> Subjected {
    let hour = Duration::from_hours(1);
    let rules = Rules {
        threshold: 10,
        cooldown: hour,
        attempts: 2,
        posts_per_hour: 2,
        longest_pause: hour,
        room: 1,
        suffix: String::new(),
    };
    let delays = Delays::new(Backoff { first: hour, max: hour, jitter: 0.0, seed: 0 });
    let now = Instant::now();
    let record = Record { pending, ..Record::default() };
    let mut machine = EscalationMachine::new(rules, delays, record, now, Timestamp::UNIX_EPOCH);
    let _ = machine.begin();
    Subjected { machine, now, sighted: 0 }
}

impl Subject for Subjected {
    type Key = (EscalationState, bool, u32, usize, bool, u128);
    type Place = EscalationState;
    type Event = On;
    type Command = Does;

    fn key(&self) -> Self::Key {
        self.machine.key(self.now)
    }

    fn place(&self) -> EscalationState {
        self.machine.key(self.now).0
    }

    fn events(&self) -> Vec<On> {
        vec![
            SightedNew,
            SightedNothing,
            Posted,
            FailedSoft,
            FailedFinal,
            FailedRefused,
            Saved,
            Broke,
            Retry,
            Drain,
        ]
    }

    fn step(&mut self, on: On) -> Step<Does> {
        let failed = |next| EscalationEvent::Failed(PostFailure { next, message: String::new() });
        let sighted = |clusters| EscalationEvent::Sighted { clusters, at: Timestamp::UNIX_EPOCH };
        let event = match on {
            SightedNew => {
                self.sighted += 1;
                sighted(vec![cluster(&format!("new{}", self.sighted), 10, 7)])
            }
            SightedNothing => sighted(vec![cluster("few", 9, 7), cluster("pending", 9, 8)]),
            Posted => EscalationEvent::Posted,
            FailedSoft => failed(Next::Retry { after: Duration::ZERO }),
            FailedFinal => failed(Next::GiveUp),
            FailedRefused => failed(Next::Refused),
            Saved => EscalationEvent::Saved,
            Broke => EscalationEvent::Broke(String::new()),
            Retry => {
                self.now += self.machine.timeout().map(|(delay, _)| delay).unwrap_or_default();
                EscalationEvent::Retry
            }
            Drain => EscalationEvent::Drain,
        };
        let judged = self.machine.judge(event, self.now);
        let waits = self.machine.timeout().is_some();
        assert_eq!(waits, matches!(self.place(), BackingOff | Refused | Limited), "what waits has an end");
        let does = |effects: Vec<Effect>| effects.into_iter().map(does).collect();
        match judged {
            Judged::Moved(effects) => Step::Moved(does(effects)),
            Judged::Stayed(effects) => Step::Stayed(does(effects)),
            Judged::Rejected => Step::Rejected,
        }
    }
}

fn does(effect: Effect) -> Does {
    match effect {
        Effect::Work(EscalationCommand::Post { record: Some(record), letter }) => {
            assert_eq!(record.pending.as_ref(), Some(&*letter), "it is written before it is posted");
            Post
        }
        Effect::Work(EscalationCommand::Post { record: None, .. }) => PostAgain,
        Effect::Work(EscalationCommand::Save(record)) => {
            assert_eq!(record.pending, None);
            Save
        }
        Effect::Finish => Finish,
    }
}

fn has_letter(subject: &Subjected) -> bool {
    subject.machine.key(subject.now).1
}

fn has_none(subject: &Subjected) -> bool {
    !has_letter(subject)
}

fn may_try(subject: &Subjected) -> bool {
    subject.machine.key(subject.now).2 < 2
}

fn may_not(subject: &Subjected) -> bool {
    !may_try(subject)
}

fn pauses(subject: &Subjected) -> bool {
    subject.machine.key(subject.now).4
}

fn may_post(subject: &Subjected) -> bool {
    subject.machine.key(subject.now).5 > 0
}

fn is_limited(subject: &Subjected) -> bool {
    !may_post(subject)
}

fn goes_on(subject: &Subjected) -> bool {
    !pauses(subject) && subject.machine.key(subject.now).3 > 0 && may_post(subject)
}

fn goes_on_later(subject: &Subjected) -> bool {
    !pauses(subject) && subject.machine.key(subject.now).3 > 0 && is_limited(subject)
}

fn is_done(subject: &Subjected) -> bool {
    !pauses(subject) && subject.machine.key(subject.now).3 == 0
}

fn has_next(subject: &Subjected) -> bool {
    has_none(subject) && subject.machine.key(subject.now).3 > 0
}

fn has_nothing(subject: &Subjected) -> bool {
    has_none(subject) && subject.machine.key(subject.now).3 == 0
}

#[rustfmt::skip]
fn table() -> Vec<Row<Subjected>> {
    vec![
        row(&[Idle], &[SightedNew], Go(Posting), &[Post]).when("may post", may_post),
        row(&[Idle], &[SightedNew], Go(Limited), &[]).when("posts are used", is_limited),
        row(&[Posting, Recording, BackingOff, Refused, Limited, Draining], &[SightedNew], Stay, &[]),
        row(&[Idle, Posting, Recording, BackingOff, Refused, Limited, Draining], &[SightedNothing], Stay, &[]),
        row(&[Posting], &[Posted], Go(Recording), &[Save]),
        row(&[Posting], &[FailedSoft, Broke], Go(BackingOff), &[]).when("may try again", may_try),
        row(&[Posting], &[FailedSoft, Broke], Go(Recording), &[Save]).when("last attempt", may_not),
        row(&[Posting], &[FailedFinal], Go(Recording), &[Save]),
        row(&[Posting], &[FailedRefused], Go(Refused), &[]),
        row(&[Recording], &[Saved, Broke], Go(BackingOff), &[]).when("gave up", pauses),
        row(&[Recording], &[Saved, Broke], Go(Posting), &[Post]).when("one waits", goes_on),
        row(&[Recording], &[Saved, Broke], Go(Limited), &[]).when("one waits, posts are used", goes_on_later),
        row(&[Recording], &[Saved, Broke], Go(Idle), &[]).when("none waits", is_done),
        row(&[BackingOff, Refused], &[Retry], Go(Posting), &[PostAgain]).when("has a letter", has_letter),
        row(&[BackingOff], &[Retry], Go(Posting), &[Post]).when("one waits", has_next),
        row(&[Limited], &[Retry], Go(Posting), &[Post]),
        row(&[BackingOff], &[Retry], Go(Idle), &[]).when("none waits", has_nothing),
        row(&[Posting, Recording], &[Drain], Go(Draining), &[]),
        row(&[Draining], &[Drain], Stay, &[]),
        row(&[Draining], &[Posted], Stay, &[Save]).when("posts", has_letter),
        row(&[Draining], &[FailedSoft, FailedFinal, FailedRefused], Go(Stopped), &[Finish]).when("posts", has_letter),
        row(&[Draining], &[Saved], Go(Stopped), &[Finish]).when("writes", has_none),
        row(&[Draining], &[Broke], Go(Stopped), &[Finish]),
        row(&[Idle, BackingOff, Refused, Limited], &[Drain], Go(Stopped), &[Finish]),
    ]
}

#[test]
fn the_escalation_is_what_its_table_says() {
    let letter = Letter {
        key: "pending-8".to_owned(),
        document: EscalatedCluster {
            cluster: cluster("pending", 11, 8),
            threshold: 10,
            posted_at: "2026-11-28T10:05:01Z".to_owned(),
            service: "observerd".to_owned(),
        },
    };
    let found = walk([machine(None), machine(Some(letter))], 200).unwrap();
    found.compare(&table()).unwrap();
    assert_eq!(found.flips(&table()).unwrap().missed, [""; 0]);
}
