//! The public interface of the machine.

use std::fmt;

use statig::blocking::{InitializedStateMachine, IntoStateMachineExt as _};

use crate::machine::{Leaf, Machine, Output};
use crate::{Command, Commands, Event, Options, Stage, State, WorkId};

/// The lifecycle of one observation runtime: events in, commands out.
///
/// It waits for nothing, reads no clock and does no I/O: its driver executes the commands and passes in their
/// outcomes. It is `Send`.
///
/// # Examples
///
/// ```
/// use watchkeeper_fsm::{Command, Event, Lifecycle, Options, State, StopReason};
///
/// let mut lifecycle = Lifecycle::new(Options::default());
/// lifecycle.handle(Event::Start);
///
/// // No tick is armed.
/// let commands = lifecycle.handle(Event::Tick);
/// assert_eq!(*commands, [Command::Rejected { event: Event::Tick, state: State::Starting }]);
///
/// let commands = lifecycle.handle(Event::Stop(StopReason::Requested));
/// assert!(matches!(*commands, [Command::Cancel { .. }, Command::Finish { .. }]));
/// assert_eq!(lifecycle.state(), State::Stopped { reason: StopReason::Requested });
/// ```
#[cfg_attr(test, derive(Clone, PartialEq, Eq))]
pub struct Lifecycle {
    pub(crate) machine: InitializedStateMachine<Machine>,
}

impl Lifecycle {
    /// Returns a lifecycle that has not begun: it waits for [`Event::Start`].
    #[must_use]
    pub fn new(options: Options) -> Self {
        let machine = Machine::new(options).uninitialized_state_machine();
        Self { machine: machine.init_with_context(&mut Output::new()) }
    }

    /// Handles one event and returns its commands, in order.
    ///
    /// An event without meaning in the current state changes nothing and returns one [`Command::Rejected`].
    /// No commands means that the event was accepted and there is nothing to do. Takes about ten nanoseconds
    /// and allocates nothing.
    #[must_use = "the driver has to execute the commands"]
    #[inline]
    pub fn handle(&mut self, event: Event) -> Commands {
        let mut output = Output::new();
        self.take(&event, &mut output);
        output.commands
    }

    /// By reference: copying events and commands is half of the cost of the machine.
    fn take(&mut self, event: &Event, output: &mut Output) {
        self.machine.handle_with_context(event, output);
        if output.is_rejected {
            output.commands.push(Command::Rejected { event: *event, state: self.state() });
        }
    }

    /// Returns the state that readers see.
    #[must_use]
    pub fn state(&self) -> State {
        match *self.machine.state() {
            Leaf::NotBegun | Leaf::Starting { .. } => State::Starting,
            Leaf::Refreshing { .. } => State::Refreshing,
            Leaf::Polling { .. } => State::Polling,
            Leaf::Idle => State::Idle,
            Leaf::Failed { stage } => State::Failed {
                stage,
                consecutive: self.machine.consecutive,
                rebuild: !self.machine.has_state,
            },
            Leaf::Stopped { reason } => State::Stopped { reason },
        }
    }

    /// Returns the unit of work in flight: what it is, and its id. None before `Start`, while it waits, and after the
    /// end.
    #[must_use]
    pub fn in_flight(&self) -> Option<(Stage, WorkId)> {
        match *self.machine.state() {
            Leaf::Starting { work } | Leaf::Refreshing { work } | Leaf::Polling { work } => {
                Some((work.stage, work.id))
            }
            Leaf::NotBegun | Leaf::Idle | Leaf::Failed { .. } | Leaf::Stopped { .. } => None,
        }
    }

    /// Returns whether ticks are suspended. A stopped lifecycle is not paused.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.machine.paused
    }

    /// Returns the number of the cycle in flight, or of the last one; before the first,
    /// [`Options::first_cycle`].
    #[must_use]
    pub fn cycle(&self) -> u64 {
        self.machine.cycle()
    }

    /// Returns the generation of the last published state; before the first, [`Options::first_generation`].
    ///
    /// It grows by one when a state that replaces a lost one is published.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.machine.generation()
    }

    /// Returns the cycle that an [`Event::PollNow`] starts; call it right after that event.
    ///
    /// It is the next cycle if the event is remembered, else the one that has just begun.
    #[must_use]
    pub fn poll_now_cycle(&self) -> u64 {
        self.cycle() + u64::from(self.machine.poll_now)
    }
}

impl fmt::Debug for Lifecycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lifecycle")
            .field("state", &self.state())
            .field("paused", &self.is_paused())
            .field("cycle", &self.cycle())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}
