//! The table of the stage's machine, which is compared with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::supervise::{Backoff, Delays, FailureWindow, Machine};
use watchkeeper_fsm::spec::{Go, Row, Stay, Step, Subject, mermaid, row, walk};

use super::machine::{Effect, Judged, Opening, StageCommand, StageEvent, StageMachine};
use super::state::StageState::{self, BackingOff, Created, Drained, Draining, Failed, Poisoned, Running};
use super::state::{OnError, StageFailure, StageFailureKind};
use crate::position::UpstreamPosition;
use On::{
    CommitFailed, CommitFailedForGood, Drain, Ended, ItemFailed, ItemFailedForGood, Letters, Open,
    OpenFailed, Opened, ReadFailed, Restart, Retry, Start,
};
use Policy::{DeadLetter, PoisonAtOnce, PoisonLater, Stop};

const FINISH: Effect = Effect::Finish;
const OPEN: Effect = Effect::Work(StageCommand::Open);
const RUN: Effect = Effect::Work(StageCommand::Run);
const ANSWER: Effect = Effect::Work(StageCommand::Letters);
const BURY: Effect = Effect::Work(StageCommand::DeadLetter);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum On {
    Open,
    Opened,
    Start,
    Restart,
    OpenFailed,
    ReadFailed,
    /// There are retries left.
    ItemFailed,
    /// There are none.
    ItemFailedForGood,
    CommitFailed,
    CommitFailedForGood,
    Retry,
    Ended,
    Letters,
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Policy {
    Stop,
    DeadLetter,
    /// The next failure is one too many.
    PoisonAtOnce,
    PoisonLater,
}

#[derive(Clone)]
struct Stage {
    machine: StageMachine,
    policy: Policy,
    /// It has asked for its end.
    is_over: bool,
}

fn machine(policy: Policy) -> Stage {
    let hour = Duration::from_secs(3_600);
    let on_error = match policy {
        Stop => OnError::Stop,
        DeadLetter => OnError::DeadLetter,
        PoisonAtOnce => OnError::Poison(FailureWindow::new(0, hour)),
        PoisonLater => OnError::Poison(FailureWindow::new(u32::MAX, hour)),
    };
    let delays = Delays::new(Backoff { first: hour, max: hour, jitter: 0.0, seed: 0 });
    Stage { machine: StageMachine::new(1, on_error, delays), policy, is_over: false }
}

fn event(on: On) -> StageEvent {
    let failed =
        |kind, attempt| StageEvent::Failed(Arc::new(StageFailure::new(kind, attempt, String::new())));
    let item = StageFailureKind::Item { upstream: "numbers".into(), position: UpstreamPosition::Count(0) };
    match on {
        Open => StageEvent::Open,
        Opened => StageEvent::Opened,
        Start => StageEvent::Start,
        Restart => StageEvent::Restart,
        OpenFailed => failed(StageFailureKind::Open, 1),
        ReadFailed => failed(StageFailureKind::Read, 1),
        ItemFailed => failed(item, 1),
        ItemFailedForGood => failed(item, 2),
        CommitFailed => failed(StageFailureKind::Commit, 1),
        CommitFailedForGood => failed(StageFailureKind::Commit, 2),
        Retry => StageEvent::Retry,
        Ended => StageEvent::Ended,
        Letters => StageEvent::Letters,
        Drain => StageEvent::Drain,
    }
}

impl Subject for Stage {
    type Key = (StageState, Opening, [bool; 2], Policy, bool);
    type Place = StageState;
    type Event = On;
    type Command = Effect;

    fn key(&self) -> Self::Key {
        let (state, opening, flags) = self.machine.key();
        (state, opening, flags, self.policy, self.is_over)
    }

    fn place(&self) -> StageState {
        self.machine.state
    }

    fn events(&self) -> Vec<On> {
        if self.is_over {
            return Vec::new();
        }
        vec![
            Open,
            Opened,
            Start,
            Restart,
            OpenFailed,
            ReadFailed,
            ItemFailed,
            ItemFailedForGood,
            CommitFailed,
            CommitFailedForGood,
            Retry,
            Ended,
            Letters,
            Drain,
        ]
    }

    fn step(&mut self, on: On) -> Step<Effect> {
        let judged = self.machine.judge(event(on), Instant::now());
        let waits = self.machine.timeout().is_some();
        assert!(
            !waits || matches!(self.machine.state, BackingOff | Draining),
            "it waits in {:?}",
            self.machine.state
        );
        assert!(waits || self.machine.state != BackingOff, "nothing ends its delay");
        if let Judged::Moved(effects) | Judged::Stayed(effects) = &judged {
            self.is_over |= effects.contains(&FINISH);
        }
        match judged {
            Judged::Moved(effects) => Step::Moved(effects),
            Judged::Stayed(effects) => Step::Stayed(effects),
            Judged::Rejected => Step::Rejected,
        }
    }
}

fn is_new(stage: &Stage) -> bool {
    stage.machine.key().1 == Opening::Closed
}

fn opens(stage: &Stage) -> bool {
    stage.machine.key().1 == Opening::InProgress { starts: false }
}

fn opens_to_start(stage: &Stage) -> bool {
    stage.machine.key().1 == Opening::InProgress { starts: true }
}

fn does_not_start(stage: &Stage) -> bool {
    !opens_to_start(stage)
}

fn is_open(stage: &Stage) -> bool {
    stage.machine.key().1 == Opening::Open
}

fn waits(stage: &Stage) -> bool {
    stage.machine.key().2[0]
}

fn has_opened(stage: &Stage) -> bool {
    stage.machine.key().2[1]
}

fn has_not_opened(stage: &Stage) -> bool {
    !has_opened(stage)
}

fn retries(stage: &Stage) -> bool {
    matches!(stage.policy, Stop | DeadLetter | PoisonLater)
}

fn retries_for_ever(stage: &Stage) -> bool {
    stage.policy == PoisonLater
}

fn is_poisoned(stage: &Stage) -> bool {
    stage.policy == PoisonAtOnce
}

fn stops(stage: &Stage) -> bool {
    stage.policy == Stop
}

fn buries(stage: &Stage) -> bool {
    stage.policy == DeadLetter
}

const FAILURES: [On; 6] =
    [OpenFailed, ReadFailed, ItemFailed, ItemFailedForGood, CommitFailed, CommitFailedForGood];

#[rustfmt::skip]
fn table() -> Vec<Row<Stage>> {
    let good: &[On] = &[ItemFailedForGood];
    let any_item: &[On] = &[ItemFailed, ItemFailedForGood];
    vec![
        row(&[Created], &[Open], Go(Created), &[OPEN]).when("new", is_new),
        row(&[Created], &[Start], Stay, &[]).when("opens", opens),
        row(&[Created], &[Opened], Stay, &[]).when("opens", opens),
        row(&[Created], &[Opened], Go(Running), &[RUN]).when("opens to start", opens_to_start),
        row(&[Created], &[Start], Go(Running), &[RUN]).when("is open", is_open),
        row(&[Created], &FAILURES, Go(Failed), &[]).when("has not opened", has_not_opened),
        row(&[Created], &FAILURES, Go(Failed), &[ANSWER]).when("has opened", has_opened),
        row(&[Running], &[OpenFailed, ReadFailed], Go(Failed), &[ANSWER]),
        row(&[Failed, Poisoned], &FAILURES, Stay, &[]),
        row(&[Running, BackingOff, Draining], &[Letters], Stay, &[]),
        row(&[Draining], &[OpenFailed, ReadFailed], Go(Failed), &[FINISH]),
        row(&[Created], &[Drain], Go(Drained), &[FINISH]).when("does not start", does_not_start),
        row(&[Created], &[Drain], Go(Draining), &[]).when("opens to start", opens_to_start),
        row(&[Draining], &[Opened], Stay, &[RUN]).when("opens to start", opens_to_start),
        row(&[Running], &[CommitFailed], Go(BackingOff), &[]),
        row(&[Running], &[CommitFailedForGood], Go(Failed), &[ANSWER]),
        row(&[Running], &[ItemFailed], Go(BackingOff), &[]).when("retries", retries),
        row(&[Running], good, Go(BackingOff), &[]).when("window has room", retries_for_ever),
        row(&[Running], good, Go(Failed), &[ANSWER]).when("stops", stops),
        row(&[Running], good, Stay, &[BURY]).when("dead letters", buries),
        row(&[Running], any_item, Go(Poisoned), &[ANSWER]).when("window is full", is_poisoned),
        row(&[Running, Draining], &[Ended], Go(Drained), &[FINISH]),
        row(&[Running], &[Drain], Go(Draining), &[]),
        row(&[Draining], &[Drain], Stay, &[]),
        row(&[BackingOff], &[Retry], Go(Running), &[RUN]),
        row(&[BackingOff], &[Drain], Go(Draining), &[RUN]),
        row(&[Draining], &[CommitFailed], Go(Draining), &[]),
        row(&[Draining], &[CommitFailedForGood], Go(Failed), &[FINISH]),
        row(&[Draining], &[ItemFailed], Go(Draining), &[]).when("retries", retries),
        row(&[Draining], good, Go(Draining), &[]).when("window has room", retries_for_ever),
        row(&[Draining], good, Go(Failed), &[FINISH]).when("stops", stops),
        row(&[Draining], good, Stay, &[BURY]).when("dead letters", buries),
        row(&[Draining], any_item, Go(Poisoned), &[FINISH]).when("window is full", is_poisoned),
        row(&[Draining], &[Retry], Go(Draining), &[RUN]).when("waits", waits),
        row(&[Failed, Poisoned], &[Restart], Go(Created), &[Effect::Cancel, OPEN]),
        row(&[Failed, Poisoned], &[Letters], Stay, &[ANSWER]).when("has opened", has_opened),
        row(&[Failed, Poisoned], &[Drain], Stay, &[FINISH]),
    ]
}

#[test]
fn the_stage_is_what_its_table_says() {
    let found = walk([Stop, DeadLetter, PoisonAtOnce, PoisonLater].map(machine), 200).unwrap();
    found.compare(&table()).unwrap();
    assert_eq!(found.flips(&table()).unwrap().missed, [""; 0]);
}

#[test]
fn the_readme_shows_the_table() {
    let drawn = mermaid(&table(), Created);
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&drawn), "README.md needs this diagram of a stage:\n{drawn}");
}
