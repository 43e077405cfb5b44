//! The statig machine. It decides, and pushes commands into its context; it has no other effect.
//!
//! ```text
//! root                      an event that no state handles is rejected
//! ├── not_begun
//! ├── working               a unit of work is in flight: failures, controls, stop
//! │   ├── starting          source refresh, then init
//! │   ├── refreshing
//! │   └── polling
//! ├── waiting               for a tick, or for a control
//! │   ├── idle
//! │   └── failed
//! └── stopped
//! ```
//!
//! A handler that stays in its state changes fields in place and returns `Handled`; a move returns
//! `Transition`; `Super` passes an event to the superstate.

use statig::Outcome::{self, Handled, Super, Transition};
use statig::state_machine;

use crate::{Cause, Command, Commands, Event, Options, Stage, StopReason, WorkId};

/// The leaf states, with the data that lives as long as they do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Leaf {
    NotBegun,
    Starting { work: Work },
    Refreshing { work: Work },
    Polling { work: Work },
    Idle,
    Failed { stage: Stage },
    Stopped { reason: StopReason },
}

/// The unit of work in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Work {
    pub(crate) id: WorkId,
    pub(crate) stage: Stage,
}

/// The result of one event.
pub(crate) struct Output {
    pub(crate) commands: Commands,
    /// No state handled the event. The root cannot see its leaf, so it cannot name the state.
    pub(crate) is_rejected: bool,
}

impl Output {
    pub(crate) const fn new() -> Self {
        Self { commands: Commands::new(), is_rejected: false }
    }
}

/// The data that outlives the leaf states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) options: Options,
    /// The driver holds an observer state.
    pub(crate) has_state: bool,
    pub(crate) paused: bool,
    /// A `PollNow` came while work was in flight.
    pub(crate) poll_now: bool,
    /// Cycles begun so far.
    pub(crate) cycles: u64,
    /// Observer states published so far.
    pub(crate) builds: u64,
    /// Failed cycles since the last success.
    pub(crate) consecutive: u64,
    pub(crate) last_work: WorkId,
}

#[state_machine(
    initial = "Leaf::NotBegun",
    state(name = "Leaf", custom),
    superstate(name = "Group"),
    visibility = "pub(crate)"
)]
impl Machine {
    #[state(superstate = "root")]
    fn not_begun(&mut self, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match *event {
            Event::Start => Transition(self.begin_cycle(context)),
            Event::Stop(reason) => Transition(self.finish(reason, context)),
            _ => Super,
        }
    }

    #[state(superstate = "working")]
    fn starting(&mut self, work: &mut Work, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match (*event, work.stage) {
            (Event::Refreshed { work: id }, Stage::SourceRefresh) if id == work.id => {
                *work = self.begin_work(Stage::Init, context);
                Handled
            }
            (Event::Initialized { work: id }, Stage::Init) if id == work.id => {
                self.has_state = true;
                self.builds += 1;
                Transition(self.succeed(context))
            }
            _ => Super,
        }
    }

    #[state(superstate = "working")]
    fn refreshing(&mut self, work: &Work, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match *event {
            Event::Refreshed { work: id } if id == work.id => {
                Transition(Leaf::Polling { work: self.begin_work(Stage::Poll, context) })
            }
            _ => Super,
        }
    }

    #[state(superstate = "working")]
    fn polling(&mut self, work: &Work, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match *event {
            Event::Polled { work: id } if id == work.id => Transition(self.succeed(context)),
            _ => Super,
        }
    }

    #[state(superstate = "waiting")]
    fn idle() -> Outcome<Leaf> {
        Super
    }

    #[state(superstate = "waiting", local_storage("stage: Stage"))]
    fn failed() -> Outcome<Leaf> {
        Super
    }

    #[state(superstate = "root", local_storage("reason: StopReason"))]
    fn stopped(event: &Event) -> Outcome<Leaf> {
        match event {
            Event::Stop(_) => Handled,
            _ => Super,
        }
    }

    #[superstate(superstate = "root")]
    fn working(&mut self, work: &Work, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match *event {
            Event::WorkFailed { work: id, stage, cause } if (Work { id, stage }) == *work => {
                Transition(self.fail(stage, cause, context))
            }
            Event::PollNow => {
                self.poll_now = true;
                Handled
            }
            Event::Pause => {
                self.paused = true;
                Handled
            }
            Event::Resume => {
                self.paused = false;
                Handled
            }
            Event::Stop(reason) => {
                context.commands.push(Command::Cancel { work: work.id });
                Transition(self.finish(reason, context))
            }
            _ => Super,
        }
    }

    #[superstate(superstate = "root")]
    fn waiting(&mut self, event: &Event, context: &mut Output) -> Outcome<Leaf> {
        match *event {
            Event::Tick if !self.paused => Transition(self.begin_cycle(context)),
            Event::PollNow => {
                context.commands.push(Command::Disarm);
                Transition(self.begin_cycle(context))
            }
            Event::Pause => {
                self.paused = true;
                context.commands.push(Command::Disarm);
                Handled
            }
            Event::Resume => {
                if self.paused {
                    self.paused = false;
                    context.commands.push(Command::Arm);
                }
                Handled
            }
            Event::Stop(reason) => Transition(self.finish(reason, context)),
            _ => Super,
        }
    }

    /// Without it, statig silently drops an event that no state handles.
    #[superstate]
    fn root(context: &mut Output) -> Outcome<Leaf> {
        context.is_rejected = true;
        Handled
    }
}

impl Machine {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            has_state: false,
            paused: false,
            poll_now: false,
            cycles: 0,
            builds: 0,
            consecutive: 0,
            last_work: WorkId::BEFORE_ANY,
        }
    }

    pub(crate) fn cycle(&self) -> u64 {
        self.options.first_cycle.saturating_add(self.cycles.saturating_sub(1))
    }

    pub(crate) fn generation(&self) -> u64 {
        let rebuilds = self.builds.saturating_sub(1);
        self.options.first_generation.saturating_add(rebuilds)
    }

    fn begin_cycle(&mut self, output: &mut Output) -> Leaf {
        self.poll_now = false;
        self.cycles += 1;
        let work = self.begin_work(Stage::SourceRefresh, output);
        if self.has_state { Leaf::Refreshing { work } } else { Leaf::Starting { work } }
    }

    fn begin_work(&mut self, stage: Stage, output: &mut Output) -> Work {
        let work = self.last_work.next();
        let cycle = self.cycle();
        self.last_work = work;
        output.commands.push(match stage {
            Stage::SourceRefresh => Command::Refresh { work, cycle },
            Stage::Init => Command::Init { work, cycle },
            Stage::Poll => Command::Poll { work, cycle },
        });
        Work { id: work, stage }
    }

    fn succeed(&mut self, output: &mut Output) -> Leaf {
        self.consecutive = 0;
        output.commands.push(Command::Publish { cycle: self.cycle(), generation: self.generation() });
        self.rest(Leaf::Idle, output)
    }

    fn fail(&mut self, stage: Stage, cause: Cause, output: &mut Output) -> Leaf {
        if stage == Stage::Poll && self.may_be_half_changed(cause) {
            self.has_state = false;
            output.commands.push(Command::Forget);
        }
        self.consecutive += 1;
        output.commands.push(Command::Record {
            cycle: self.cycle(),
            stage,
            cause,
            consecutive: self.consecutive,
        });
        self.rest(Leaf::Failed { stage }, output)
    }

    fn may_be_half_changed(&self, cause: Cause) -> bool {
        match cause {
            Cause::Error => false,
            Cause::TimedOut => !self.options.keeps_state_on_timeout,
            Cause::Panicked => true,
        }
    }

    /// Ends a cycle: waits in `leaf`, or begins the next cycle if a `PollNow` is remembered.
    fn rest(&mut self, leaf: Leaf, output: &mut Output) -> Leaf {
        if self.poll_now {
            return self.begin_cycle(output);
        }
        if !self.paused {
            output.commands.push(Command::Arm);
        }
        leaf
    }

    fn finish(&mut self, reason: StopReason, output: &mut Output) -> Leaf {
        self.paused = false;
        self.poll_now = false;
        output.commands.push(Command::Finish { reason });
        Leaf::Stopped { reason }
    }
}
