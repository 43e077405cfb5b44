//! The table of the pipeline's machine, which is compared with it.

use watchkeeper_fsm::spec::{Go, Row, Step, Subject, mermaid, row, walk};

use super::machine::PipelineEffect::{self, Cancel, Finish, Work};
use super::machine::PipelineState::{self, Created, Drained, Draining, Failed, Running, Starting};
use super::machine::{PipelineCommand, PipelineEvent, PipelineMachine, StagesEnd};
use crate::stage::state::{StageState, StageStatus};
use On::{Abort, AllDrained, Drain, StageFailed, StagesEnded, StagesEndedFailed, Start, Started};

const START: PipelineEffect = Work(PipelineCommand::Start);
const WATCH: PipelineEffect = Work(PipelineCommand::Watch);
const DRAIN: PipelineEffect = Work(PipelineCommand::Drain);
const ABORT: PipelineEffect = Work(PipelineCommand::Abort);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum On {
    Start,
    Started,
    StageFailed,
    AllDrained,
    StagesEnded,
    /// One of them has given up while it drained.
    StagesEndedFailed,
    Drain,
    Abort,
}

fn gave_up() -> StageStatus {
    StageStatus { state: StageState::Failed, is_open: true, failure: None }
}

fn event(on: On) -> PipelineEvent {
    match on {
        Start => PipelineEvent::Start,
        Started => PipelineEvent::Started,
        StageFailed => PipelineEvent::StageFailed("sum".into(), gave_up()),
        AllDrained => PipelineEvent::AllDrained,
        StagesEnded => PipelineEvent::StagesEnded(StagesEnd::default()),
        StagesEndedFailed => PipelineEvent::StagesEnded(StagesEnd {
            failed: Some(("sum".into(), gave_up())),
            ..StagesEnd::default()
        }),
        Drain => PipelineEvent::Drain,
        Abort => PipelineEvent::Abort,
    }
}

impl Subject for PipelineMachine {
    type Key = (PipelineState, bool);
    type Place = PipelineState;
    type Event = On;
    type Command = PipelineEffect;

    fn key(&self) -> Self::Key {
        (self.status.state, self.status.failed.is_some())
    }

    fn place(&self) -> PipelineState {
        self.status.state
    }

    fn events(&self) -> Vec<On> {
        vec![Start, Started, StageFailed, AllDrained, StagesEnded, StagesEndedFailed, Drain, Abort]
    }

    fn step(&mut self, on: On) -> Step<PipelineEffect> {
        self.judge(event(on)).map_or(Step::Rejected, Step::Moved)
    }
}

fn has_failed(machine: &PipelineMachine) -> bool {
    machine.status.failed.is_some()
}

fn has_not_failed(machine: &PipelineMachine) -> bool {
    !has_failed(machine)
}

#[rustfmt::skip]
fn table() -> Vec<Row<PipelineMachine>> {
    vec![
        row(&[Created], &[Start], Go(Starting), &[START]),
        row(&[Created], &[Drain], Go(Drained), &[Finish]),
        row(&[Starting], &[Started], Go(Running), &[WATCH]),
        row(&[Starting, Running], &[StageFailed], Go(Draining), &[DRAIN]),
        row(&[Starting, Running], &[Drain], Go(Draining), &[Cancel, DRAIN]),
        row(&[Running], &[AllDrained], Go(Draining), &[DRAIN]),
        row(&[Draining], &[Drain], Go(Draining), &[]),
        row(&[Starting, Running, Draining], &[Abort], Go(Draining), &[Cancel, ABORT]),
        row(&[Draining], &[StagesEnded], Go(Drained), &[Finish]).when("no stage failed", has_not_failed),
        row(&[Draining], &[StagesEnded], Go(Failed), &[Finish]).when("a stage failed", has_failed),
        row(&[Draining], &[StagesEndedFailed], Go(Failed), &[Finish]),
    ]
}

#[test]
fn the_pipeline_is_what_its_table_says() {
    let found = walk([PipelineMachine::new()], 50).unwrap();
    found.compare(&table()).unwrap();
    assert_eq!(found.flips(&table()).unwrap().missed, [""; 0]);
}

#[test]
fn the_readme_shows_the_table() {
    let drawn = mermaid(&table(), Created);
    let readme = include_str!("../../README.md");
    assert!(readme.contains(&drawn), "README.md needs this diagram of a pipeline:\n{drawn}");
}
