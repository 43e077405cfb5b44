//! A driver reduced to its bookkeeping. It knows only what a real one knows, the events that it sent
//! and the commands that it got, and reports every command that breaks a promise.

use crate::table::{Do, Place};
use crate::{Cause, Command, Event, Options, Stage, State, StopReason, WorkId};

#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub(super) struct Driver {
    first_generation: u64,
    begun: bool,
    finished: Option<StopReason>,
    paused: bool,
    armed: bool,
    has_state: bool,
    /// What failed, if the last cycle did.
    failed: Option<Stage>,
    in_flight: Option<(WorkId, Stage)>,
    last_work: WorkId,
    work_before: WorkId,
    /// The number of the next cycle.
    cycles: u64,
    generation: Option<u64>,
    consecutive: u64,
    /// The cycle that was returned for a remembered `PollNow`.
    promised: Option<u64>,
}

/// What the driver knows, without the counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, each read by its name")]
pub(super) struct Knowledge {
    place: Place,
    paused: bool,
    armed: bool,
    promised: bool,
    published: bool,
}

pub(super) type Checked = Result<(), &'static str>;

fn ensure(holds: bool, broken: &'static str) -> Checked {
    if holds { Ok(()) } else { Err(broken) }
}

impl Driver {
    pub(super) fn new(options: Options) -> Self {
        Self {
            first_generation: options.first_generation,
            begun: false,
            finished: None,
            paused: false,
            armed: false,
            has_state: false,
            failed: None,
            in_flight: None,
            last_work: WorkId::BEFORE_ANY,
            work_before: WorkId::BEFORE_ANY,
            cycles: options.first_cycle,
            generation: None,
            consecutive: 0,
            promised: None,
        }
    }

    pub(super) fn knowledge(&self) -> Knowledge {
        Knowledge {
            place: self.place(),
            paused: self.paused,
            armed: self.armed,
            promised: self.promised.is_some(),
            published: self.generation.is_some(),
        }
    }

    pub(super) fn place(&self) -> Place {
        match self.in_flight {
            _ if self.finished.is_some() => Place::Stopped,
            _ if !self.begun => Place::NotBegun,
            Some((_, Stage::SourceRefresh)) if self.has_state => Place::Refreshing,
            Some((_, Stage::SourceRefresh)) => Place::StartingRefresh,
            Some((_, Stage::Init)) => Place::StartingInit,
            Some((_, Stage::Poll)) => Place::Polling,
            None if self.failed.is_none() => Place::Idle,
            None if self.has_state => Place::FailedKeep,
            None => Place::FailedRebuild,
        }
    }

    /// The state that readers ought to see.
    pub(super) fn state(&self) -> State {
        match (self.place(), self.failed, self.finished) {
            (Place::Stopped, _, Some(reason)) => State::Stopped { reason },
            (Place::FailedKeep | Place::FailedRebuild, Some(stage), _) => {
                State::Failed { stage, consecutive: self.consecutive, rebuild: !self.has_state }
            }
            (Place::Idle, ..) => State::Idle,
            (Place::Refreshing, ..) => State::Refreshing,
            (Place::Polling, ..) => State::Polling,
            _ => State::Starting,
        }
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(super) fn cycle(&self) -> u64 {
        self.cycles.saturating_sub(u64::from(self.begun))
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.unwrap_or(self.first_generation)
    }

    pub(super) fn in_flight(&self) -> Option<(WorkId, Stage)> {
        self.in_flight
    }

    /// The ids that an outcome may have: of the work in flight, of the work before it, of work that
    /// never began.
    pub(super) fn ids(&self) -> Vec<WorkId> {
        let next = self.last_work.next();
        match self.in_flight {
            Some((current, _)) => vec![current, self.work_before, next],
            None => vec![self.last_work, next],
        }
    }

    /// The command for `event`, with all its data.
    pub(super) fn fill(&self, what: Do, event: Event) -> Option<Command> {
        let work = self.last_work.next();
        let cycle = self.cycle();
        Some(match (what, event) {
            (Do::Refresh, _) => Command::Refresh { work, cycle: self.cycles },
            (Do::Init, _) => Command::Init { work, cycle },
            (Do::Poll, _) => Command::Poll { work, cycle },
            (Do::Publish, _) => Command::Publish { cycle, generation: self.generation_of(event) },
            (Do::Record, Event::WorkFailed { stage, cause, .. }) => {
                Command::Record { cycle, stage, cause, consecutive: self.consecutive + 1 }
            }
            (Do::Forget, _) => Command::Forget,
            (Do::Arm, _) => Command::Arm,
            (Do::Disarm, _) => Command::Disarm,
            (Do::Cancel, _) => Command::Cancel { work: self.in_flight?.0 },
            (Do::Finish, Event::Stop(reason)) => Command::Finish { reason },
            _ => return None,
        })
    }

    fn generation_of(&self, success: Event) -> u64 {
        match (self.generation, success) {
            (Some(last), Event::Initialized { .. }) => last + 1,
            _ => self.generation(),
        }
    }

    /// Executes the commands for `event`.
    pub(super) fn observe(&mut self, event: Event, commands: &[Command]) -> Checked {
        if matches!(commands, [Command::Rejected { event: e, .. }] if *e == event) {
            return Ok(());
        }
        ensure(self.finished.is_none() || commands.is_empty(), "after the end, no command but Rejected")?;
        let before = self.clone();
        self.take(event)?;
        for &command in commands {
            self.carry_out(command, event, &before)?;
        }
        let active = self.armed || self.in_flight.is_some();
        ensure(
            active || self.paused || !self.begun || self.finished.is_some(),
            "a tick is armed, or work is in flight, or it is paused, not begun or stopped",
        )?;
        ensure(!(self.armed && self.in_flight.is_some()), "no tick is armed while work is in flight")
    }

    fn take(&mut self, event: Event) -> Checked {
        match event {
            Event::Start => {
                ensure(!self.begun, "it begins once")?;
                self.begun = true;
            }
            Event::Tick => {
                ensure(self.armed, "only an armed tick is accepted")?;
                self.armed = false;
            }
            Event::PollNow | Event::Stop(_) => {}
            Event::Pause => self.paused = true,
            Event::Resume => self.paused = false,
            Event::Refreshed { work } => self.land(work, Stage::SourceRefresh)?,
            Event::Initialized { work } => {
                self.land(work, Stage::Init)?;
                self.has_state = true;
            }
            Event::Polled { work } => self.land(work, Stage::Poll)?,
            Event::WorkFailed { work, stage, .. } => self.land(work, stage)?,
        }
        Ok(())
    }

    fn land(&mut self, work: WorkId, stage: Stage) -> Checked {
        ensure(
            self.in_flight.take() == Some((work, stage)),
            "only the outcome of the work in flight is accepted",
        )
    }

    fn carry_out(&mut self, command: Command, event: Event, before: &Self) -> Checked {
        ensure(self.finished.is_none(), "nothing follows Finish")?;
        match command {
            Command::Refresh { work, cycle } => self.begin(work, cycle),
            Command::Init { work, cycle } => {
                ensure(!self.has_state, "init builds a state that is missing")?;
                self.go_on(work, Stage::Init, cycle, event)
            }
            Command::Poll { work, cycle } => {
                ensure(self.has_state, "a poll has a state to work on")?;
                self.go_on(work, Stage::Poll, cycle, event)
            }
            Command::Publish { cycle, generation } => self.publish(cycle, generation, event, before),
            Command::Record { cycle, stage, cause, consecutive } => {
                self.record(cycle, (stage, cause), consecutive, event)
            }
            Command::Forget => {
                ensure(self.has_state, "there is a state to forget")?;
                ensure(is_failure(event, Stage::Poll), "only a poll can leave a state half changed")?;
                self.has_state = false;
                Ok(())
            }
            Command::Arm => {
                ensure(!self.armed, "a tick is armed once")?;
                ensure(!self.paused, "no tick is armed while paused")?;
                self.armed = true;
                Ok(())
            }
            Command::Disarm => {
                ensure(self.armed || before.paused, "there is a tick to disarm")?;
                self.armed = false;
                Ok(())
            }
            Command::Cancel { work } => {
                let cancelled = self.in_flight.take().map(|(id, _)| id);
                ensure(cancelled == Some(work), "what is cancelled is in flight")
            }
            Command::Finish { reason } => self.finish(reason, event),
            Command::Rejected { .. } => Err("a rejection stands alone, for the event just sent"),
        }
    }

    fn begin(&mut self, work: WorkId, cycle: u64) -> Checked {
        ensure(cycle == self.cycles, "cycles count up without a gap")?;
        let promised = self.promised.take();
        ensure(
            promised.is_none_or(|promised| promised == cycle),
            "PollNow starts the cycle that was returned",
        )?;
        self.cycles += 1;
        self.launch(work, Stage::SourceRefresh)
    }

    fn go_on(&mut self, work: WorkId, stage: Stage, cycle: u64, event: Event) -> Checked {
        ensure(matches!(event, Event::Refreshed { .. }), "init and poll have fresh sources")?;
        ensure(cycle == self.cycle(), "work belongs to the current cycle")?;
        self.launch(work, stage)
    }

    fn launch(&mut self, work: WorkId, stage: Stage) -> Checked {
        ensure(self.in_flight.is_none(), "at most one unit of work is in flight")?;
        ensure(work > self.last_work, "work ids rise")?;
        self.work_before = self.last_work;
        self.last_work = work;
        self.in_flight = Some((work, stage));
        Ok(())
    }

    fn publish(&mut self, cycle: u64, generation: u64, event: Event, before: &Self) -> Checked {
        ensure(
            matches!(event, Event::Initialized { .. } | Event::Polled { .. }),
            "only an init or a poll that succeeded is published",
        )?;
        ensure(cycle == self.cycle(), "the current cycle is published")?;
        ensure(
            generation == before.generation_of(event),
            "a rebuild, and nothing else, is a new generation",
        )?;
        self.generation = Some(generation);
        self.consecutive = 0;
        self.failed = None;
        Ok(())
    }

    fn record(&mut self, cycle: u64, failure: (Stage, Cause), consecutive: u64, event: Event) -> Checked {
        ensure(
            matches!(event, Event::WorkFailed { stage, cause, .. } if (stage, cause) == failure),
            "the failure that happened is recorded",
        )?;
        ensure(cycle == self.cycle(), "the current cycle is recorded")?;
        self.consecutive += 1;
        ensure(consecutive == self.consecutive, "consecutive failures count up")?;
        self.failed = Some(failure.0);
        Ok(())
    }

    fn finish(&mut self, reason: StopReason, event: Event) -> Checked {
        ensure(self.in_flight.is_none(), "work is cancelled before the end")?;
        ensure(event == Event::Stop(reason), "it ends for the reason given")?;
        self.finished = Some(reason);
        self.paused = false;
        self.armed = false;
        self.promised = None;
        Ok(())
    }

    /// Records the cycle that was returned for a `PollNow`.
    pub(super) fn promise(&mut self, commands: &[Command], cycle: u64) -> Checked {
        if let Some(Command::Refresh { cycle: begun, .. }) = commands.last() {
            return ensure(*begun == cycle, "for a PollNow that begins a cycle, that cycle is returned");
        }
        self.promised = Some(cycle);
        ensure(cycle == self.cycles, "for a remembered PollNow, the next cycle is returned")
    }
}

fn is_failure(event: Event, of: Stage) -> bool {
    matches!(event, Event::WorkFailed { stage, .. } if stage == of)
}
