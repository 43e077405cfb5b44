//! The supervisor between two awaits: it feeds the machine and keeps what belongs to it.
//!
//! The order at each check is fixed: the stop, then at most 32 events, then the outcome of the work in flight, then
//! time-outs.

mod judging;
mod lives;
mod looks;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::board::{Published, StateBoard};
use super::failure::{Failure, Outcome};
use super::machine::{Machine, Out, WhileBusy};
use super::name::VariantName;
use super::restart::Restart;
use super::transition::Trigger;
use crate::error::DynError;
use crate::panics::{AppValue, catch, discard_logged, log_panic};
use crate::task::inbox::Ended;
use crate::text::render::debug_line;

/// Commands that may wait beside the capacity: time-outs and outcomes command without being held back.
const COMMANDS: usize = 1_024;
/// Bytes of a state in an error.
const STATE: usize = 120;

/// An event in the channel.
pub(super) struct Envelope<M: Machine> {
    pub(super) event: M::Event,
    pub(super) reply: Option<Reply<M>>,
}

/// The answer to an `ask`.
pub(super) type Answer<M> = Result<Published<<M as Machine>::State>, Refusal<<M as Machine>::Event>>;

/// The way back to an `ask`.
pub(super) type Reply<M> = oneshot::Sender<Answer<M>>;

/// Wakes the caller, which may have stopped waiting. Its waker is foreign code.
fn answer<M: Machine>(reply: Reply<M>, answer: Answer<M>) {
    match catch(|| reply.send(answer)) {
        Ok(unsent) => discard_logged(unsent.err(), "an answer that nobody waits for"),
        Err(panic) => log_panic("waking a caller", &panic),
    }
}

/// Why an asked event was not handled.
pub(super) enum Refusal<E> {
    Unhandled(E),
    NoRoomToDefer(E),
    Busy(E),
    /// The life ended while the event was judged.
    Lost(Arc<Failure>),
}

/// What happens with an event that no state handles, or that there is no room to defer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnhandledEvents {
    /// An `ask` gets it back; another one is logged: the 1st, 2nd, 4th, 8th .. as a warning.
    #[default]
    Reject,
    /// It ends the life with a failure.
    Fatal,
}

/// What the builder has set.
pub(super) struct Settings {
    pub(super) capacity: usize,
    pub(super) work_timeout: Option<Duration>,
    pub(super) drain: Duration,
    pub(super) unhandled: UnhandledEvents,
    pub(super) restart: Restart,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// A stop was requested: the machine drains until then.
    Draining(Instant),
    /// All handles were dropped: what is commanded runs to its end, until then.
    Winding(Instant),
    /// Between two lives, until then. `None`: poisoned.
    Resting(Option<Instant>),
}

/// A command and the event from which it came.
struct Queued<C> {
    command: C,
    event: u64,
}

struct InFlight {
    command: VariantName,
    event: u64,
}

#[expect(clippy::struct_excessive_bools, reason = "each is one fact of its own, and most combinations occur")]
pub(super) struct Supervisor<M: Machine> {
    /// `None` between two lives.
    machine: Option<AppValue<M>>,
    /// The state as published.
    state: Published<M::State>,
    board: Arc<StateBoard<M::State>>,
    settings: Settings,
    phase: Phase,
    /// How this life ends, once that is known.
    ending: Option<Outcome>,
    commands: VecDeque<Queued<M::Command>>,
    in_flight: Option<InFlight>,
    /// The work in flight is to be dropped.
    cancels: bool,
    /// The commands of one event are done and those of the next have not begun, which no handle has sent.
    is_between: bool,
    /// The newest event of a handle that has commanded.
    commanding: u64,
    while_busy: WhileBusy,
    /// With the trigger of their first judgement.
    deferred: VecDeque<(Trigger, Envelope<M>)>,
    /// From where deferred events are to be judged again.
    retry: Option<usize>,
    timeout: Option<(Instant, M::Event)>,
    /// The armed time-out is of zero.
    at_once: bool,
    /// Consecutive time-outs of zero.
    spins: u32,
    latest: Instant,
    /// `latest` is the time of this check.
    is_now: bool,
    /// Counts judged events.
    events: u64,
    unused: u64,
    /// Permits of taken events, not yet released.
    taken: usize,
    /// Something was published and nobody woken.
    dirty: bool,
    scratch: Vec<M::Command>,
    /// All handles have been dropped.
    abandoned: bool,
    /// The machine knows that.
    abandoned_passed: bool,
    /// When it learns of that even if it takes no event meanwhile.
    abandoned_at: Option<Instant>,
    stopping: bool,
    restart_asked: bool,
    /// The failure that is being handled.
    handling: Option<Arc<Failure>>,
    /// The ask whose event was judged when the life ended.
    lost: Option<Reply<M>>,
    /// How the last life ended, between two lives.
    rested: Option<Outcome>,
}

impl<M: Machine> Supervisor<M> {
    pub(super) fn new(
        machine: AppValue<M>,
        state: Published<M::State>,
        board: Arc<StateBoard<M::State>>,
        settings: Settings,
    ) -> Self {
        let latest = board.clock.now();
        Self {
            machine: Some(machine),
            state,
            board,
            settings,
            phase: Phase::Running,
            ending: None,
            commands: VecDeque::new(),
            in_flight: None,
            cancels: false,
            is_between: false,
            commanding: 0,
            while_busy: WhileBusy::Take,
            deferred: VecDeque::new(),
            retry: None,
            timeout: None,
            at_once: false,
            spins: 0,
            latest,
            is_now: false,
            events: 0,
            unused: 0,
            taken: 0,
            dirty: false,
            scratch: Vec::new(),
            abandoned: false,
            abandoned_passed: false,
            abandoned_at: None,
            stopping: false,
            restart_asked: false,
            handling: None,
            lost: None,
            rested: None,
        }
    }

    pub(super) fn work_timeout(&self) -> Option<Duration> {
        self.settings.work_timeout
    }

    /// Whether this life is over.
    pub(super) fn is_over(&self) -> bool {
        self.ending.is_some()
    }

    /// The first call of a life.
    pub(super) fn start(&mut self) {
        self.now();
        let Some(machine) = &mut self.machine else { return };
        let mut out = Out::reusing(std::mem::take(&mut self.scratch), self.latest);
        if let Err(panic) = catch(|| machine.start(&mut out)) {
            self.crash("Machine::start", &panic);
            discard_each(out.commands);
            return;
        }
        self.arm();
        self.read_while_busy();
        self.execute(out);
        self.judge_deferred_again();
        self.judge_deferred();
    }

    /// The next command to run.
    pub(super) fn next_command(&mut self) -> Option<M::Command> {
        let Queued { command, event } = self.commands.pop_front()?;
        self.in_flight = Some(InFlight { command: VariantName::of(&command), event });
        self.is_between = false;
        self.spins = 0;
        Some(command)
    }

    /// The command in flight has ended, and its future is dropped.
    pub(super) fn work_ended(&mut self, ended: Ended<Result<Option<M::Event>, DynError>>) {
        self.cancels = false;
        let Some(InFlight { command, event }) = self.in_flight.take() else { return };
        if self.ending.is_some() {
            discard_logged(ended, "the outcome of a machine that has ended");
            return;
        }
        self.now();
        let failure = match ended {
            Ended::Done(Ok(Some(event))) => {
                self.judge_inside(Trigger::Work, event);
                None
            }
            Ended::Done(Ok(None)) | Ended::Dropped => None,
            Ended::Done(Err(error)) => Some(Failure::of_error(command, error)),
            Ended::TimedOut => {
                Some(Failure::of_time(command, self.settings.work_timeout.unwrap_or_default()))
            }
            Ended::Panicked(panic) => Some(Failure::of_panic(command, &panic)),
        };
        if let Some(failure) = failure {
            self.work_failed(failure, event);
        }
        let is_of_another = |next: u64| next != event && next > self.commanding;
        self.is_between = self.commands.front().is_none_or(|queued| is_of_another(queued.event));
        self.judge_deferred();
        self.wind_up();
    }

    fn work_failed(&mut self, failure: Failure, event: u64) {
        let of_event = self.commands.iter().take_while(|queued| queued.event == event).count();
        let mut dropped = Vec::new();
        for queued in self.commands.drain(..of_event) {
            dropped.push(VariantName::of(&queued.command));
            discard_logged(queued.command, "a command");
        }
        let failure = Arc::new(failure.dropping(dropped));
        let Some(machine) = &self.machine else { return };
        self.handling = Some(Arc::clone(&failure));
        match catch(|| machine.on_failure(&failure)) {
            Ok(Some(event)) => self.judge_inside(Trigger::Failure, event),
            Ok(None) => self.end(Outcome::Failed(failure)),
            Err(panic) => self.crash("Machine::on_failure", &panic),
        }
        self.handling = None;
    }

    /// A method of the machine or worker has panicked.
    pub(super) fn crash(&mut self, method: &'static str, panic: &str) {
        let handling = self.handling.take();
        let failure = Failure::of_method(method, panic).while_handling(handling);
        self.end(Outcome::Panicked(Arc::new(failure)));
    }

    /// Ends this life; the first outcome counts.
    fn end(&mut self, outcome: Outcome) {
        self.ending.get_or_insert(outcome);
    }

    fn lives(&self) -> bool {
        self.machine.is_some() && self.ending.is_none()
    }

    fn is_busy(&self) -> bool {
        self.in_flight.is_some() || !self.commands.is_empty()
    }

    /// Whether the state may hold or refuse an event. Between the commands of two events it does not: a machine that
    /// commands again from each outcome is never idle.
    fn is_held_back(&self) -> bool {
        self.is_busy() && !self.is_between
    }

    /// Commands wait in a bounded number too: further events stay in the channel.
    fn has_room_for_commands(&self) -> bool {
        self.commands.len() < self.settings.capacity
    }

    /// The time of this check.
    fn now(&mut self) -> Instant {
        if !self.is_now {
            self.latest = Instant::now();
            self.is_now = true;
        }
        self.latest
    }

    fn shown_state(&self) -> String {
        debug_line(&**self.state, STATE)
    }

    fn drop_commands(&mut self) {
        for queued in self.commands.drain(..) {
            discard_logged(queued.command, "a command");
        }
    }
}

/// What is left is dropped value by value: two destructors that panic at once would abort the process.
impl<M: Machine> Drop for Supervisor<M> {
    fn drop(&mut self) {
        discard_logged(self.timeout.take(), "the event of a time-out");
        self.drop_commands();
        for envelope in self.deferred.drain(..) {
            discard_logged(envelope, "a deferred event");
        }
    }
}

fn discard_each<C>(commands: Vec<C>) {
    for command in commands {
        discard_logged(command, "a command");
    }
}
