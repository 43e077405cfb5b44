//! The machine of a pipeline: pure, and compared with its table.

use std::fmt;
use std::sync::Arc;

use watchkeeper::supervise::{Failure, Machine, Out, Reaction};

use crate::stage::state::StageStatus;

/// The state of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PipelineState {
    /// Its tasks are spawned. Ends in `Starting` at once, or in `Drained`.
    Created,
    /// The stages open their stores and upstreams, then they start from sinks to sources. Ends in `Running` or
    /// `Draining`.
    Starting,
    /// All stages have started. Ends in `Draining`, also by itself once all stages have drained.
    Running,
    /// The stages drain from sources to sinks, for at most the drain's time, or are aborted. Ends in `Drained` or
    /// `Failed`.
    Draining,
    /// Everything that was read is handled and committed, except where [`PipelineStatus::cut_off`] names a stage, or a
    /// stage has given up. This is an end.
    Drained,
    /// A stage has not started, or has given up and [`OnStageFailure::Stop`] is set. This is an end.
    Failed,
}

impl PipelineState {
    /// Whether it has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Drained | Self::Failed)
    }
}

impl fmt::Display for PipelineState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Failed => "failed",
        })
    }
}

/// What a stage that gives up means for the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnStageFailure {
    /// The pipeline fails: all other stages drain, and it ends. The default.
    #[default]
    Stop,
    /// The others go on. Those before it wait once the room for its items is full, those after it have nothing to do,
    /// until it is restarted.
    Isolate,
}

/// The state of a pipeline, with what ended it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PipelineStatus {
    /// The state.
    pub state: PipelineState,
    /// Whether all stages have started once.
    pub has_started: bool,
    /// The stage that failed first, if the pipeline fails, and its status then.
    pub failed: Option<(Arc<str>, StageStatus)>,
    /// The stages that were aborted, or had not drained in time: what they had not committed, if anything, comes again.
    pub cut_off: Vec<Arc<str>>,
    /// The stages that had given up at the end.
    pub given_up: Vec<Arc<str>>,
}

impl PipelineStatus {
    /// Whether it has drained, and no stage was cut off or had given up: everything that was read is handled and
    /// committed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.state == PipelineState::Drained && self.cut_off.is_empty() && self.given_up.is_empty()
    }
}

#[derive(Clone, Debug)]
pub(crate) enum PipelineEvent {
    Start,
    Started,
    /// It did not start, or has given up.
    StageFailed(Arc<str>, StageStatus),
    AllDrained,
    /// All stages have ended.
    StagesEnded(StagesEnd),
    Drain,
    Abort,
}

/// How the stages have ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct StagesEnd {
    pub(crate) cut_off: Vec<Arc<str>>,
    pub(crate) given_up: Vec<Arc<str>>,
    /// The first that has given up, if that ends a pipeline.
    pub(crate) failed: Option<(Arc<str>, StageStatus)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipelineCommand {
    /// Open from sources to sinks, start from sinks to sources.
    Start,
    /// Ends when a stage gives up, or all have drained.
    Watch,
    /// From sources to sinks.
    Drain,
    /// All at once.
    Abort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipelineEffect {
    Work(PipelineCommand),
    /// The work in flight is dropped.
    Cancel,
    Finish,
}

#[derive(Clone, Debug)]
pub(crate) struct PipelineMachine {
    pub(crate) status: PipelineStatus,
}

impl PipelineMachine {
    pub(crate) fn new() -> Self {
        let state = PipelineState::Created;
        Self {
            status: PipelineStatus {
                state,
                has_started: false,
                failed: None,
                cut_off: Vec::new(),
                given_up: Vec::new(),
            },
        }
    }

    /// The effects of a transition; `None` for an event without a meaning here.
    pub(crate) fn judge(&mut self, event: PipelineEvent) -> Option<Vec<PipelineEffect>> {
        use PipelineEffect::{Cancel, Finish, Work};
        use PipelineState::{Created, Drained, Draining, Failed, Running, Starting};
        let (state, effects) = match (self.status.state, event) {
            (Created, PipelineEvent::Start) => (Starting, vec![Work(PipelineCommand::Start)]),
            (Created, PipelineEvent::Drain) => (Drained, vec![Finish]),
            (Starting, PipelineEvent::Started) => {
                self.status.has_started = true;
                (Running, vec![Work(PipelineCommand::Watch)])
            }
            (Starting | Running, PipelineEvent::StageFailed(stage, status)) => {
                self.status.failed = Some((stage, status));
                (Draining, vec![Work(PipelineCommand::Drain)])
            }
            (Starting | Running, PipelineEvent::Drain) => {
                (Draining, vec![Cancel, Work(PipelineCommand::Drain)])
            }
            // Their tasks end, and the metrics.
            (Running, PipelineEvent::AllDrained) => (Draining, vec![Work(PipelineCommand::Drain)]),
            (Draining, PipelineEvent::Drain) => (Draining, vec![]),
            (Starting | Running | Draining, PipelineEvent::Abort) => {
                (Draining, vec![Cancel, Work(PipelineCommand::Abort)])
            }
            (Draining, PipelineEvent::StagesEnded(StagesEnd { cut_off, given_up, failed })) => {
                (self.status.cut_off, self.status.given_up) = (cut_off, given_up);
                self.status.failed = self.status.failed.take().or(failed);
                (if self.status.failed.is_some() { Failed } else { Drained }, vec![Finish])
            }
            _ => return None,
        };
        self.status.state = state;
        Some(effects)
    }
}

impl Machine for PipelineMachine {
    type State = PipelineStatus;
    type Event = PipelineEvent;
    type Command = PipelineCommand;

    fn state(&self) -> PipelineStatus {
        self.status.clone()
    }

    fn handle(&mut self, event: PipelineEvent, out: &mut Out<PipelineCommand>) -> Reaction<PipelineEvent> {
        let Some(effects) = self.judge(event.clone()) else { return Reaction::Unhandled(event) };
        for effect in effects {
            match effect {
                PipelineEffect::Work(command) => out.run(command),
                PipelineEffect::Cancel => out.cancel(),
                PipelineEffect::Finish => out.finish(),
            }
        }
        Reaction::Moved
    }

    /// Its worker returns no error: a failure here is a fault of its own, and ends it.
    fn on_failure(&self, _: &Failure) -> Option<PipelineEvent> {
        None
    }

    fn on_stop(&self) -> Option<PipelineEvent> {
        Some(PipelineEvent::Drain)
    }

    fn on_abandoned(&self) -> Option<PipelineEvent> {
        Some(PipelineEvent::Drain)
    }
}
