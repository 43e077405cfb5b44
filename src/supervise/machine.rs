//! The machine that an app writes.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::failure::Failure;
use crate::panics::discard_logged;

/// An explicit state machine: pure and synchronous. It decides; its [`Worker`](super::Worker) does.
///
/// A plain `match` does, and so does `statig` in blocking mode: see [the adapter](super#statig). A machine has no clock:
/// [`Out::now`] is the time of the event.
///
/// The supervisor calls each method in the machine's task, one at a time; [`state`](Self::state) first in
/// [`spawn`](super::MachineBuilder::spawn). Methods must not block. A panic ends the life with
/// [`Outcome::Panicked`](super::Outcome::Panicked).
pub trait Machine: Send + 'static {
    /// What handles and waits see. Keep it small: it is cloned for each reader.
    type State: Clone + PartialEq + fmt::Debug + Send + Sync + 'static;
    /// What happens. The first word of its `Debug` names it in traces and errors: derive it.
    type Event: fmt::Debug + Send + 'static;
    /// What the worker is to do. [`Infallible`](std::convert::Infallible) for a machine without a worker.
    type Command: fmt::Debug + Send + 'static;

    /// The present state. Asked after each event that is [`Reaction::Moved`] or [`Reaction::Stayed`].
    fn state(&self) -> Self::State;

    /// Judges one event. Commands go to `out` and run in their order, after those of earlier events. With
    /// [`Reaction::Deferred`] and [`Reaction::Unhandled`] nothing that was asked of `out` is done.
    fn handle(&mut self, event: Self::Event, out: &mut Out<Self::Command>) -> Reaction<Self::Event>;

    /// Called once in each life, before any event. The state may not change here: make the machine in its first state.
    ///
    /// By default, nothing is commanded.
    fn start(&mut self, out: &mut Out<Self::Command>) {
        let _ = out;
    }

    /// How long the machine may stay in the present state, and the event that comes then.
    ///
    /// Asked after the start and after each [`Reaction::Moved`]; the answer replaces the time-out before it. It comes
    /// also while work is in flight. By default, there is none.
    ///
    /// With a duration of zero the event comes after those that wait already, at most 32. More than 1,000 of these in
    /// succession, with no other event and no command between them, end the life:
    /// [`FailureKind::Spins`](super::FailureKind::Spins).
    fn timeout(&self) -> Option<(Duration, Self::Event)> {
        None
    }

    /// What happens to an event from outside while work is in flight, in the present state. Asked after the start and
    /// after each [`Reaction::Moved`] and [`Reaction::Stayed`]. By default, the event is judged at once.
    fn while_busy(&self) -> WhileBusy {
        WhileBusy::Take
    }

    /// The event for work that has failed. By default, there is none, and the life ends with
    /// [`Outcome::Failed`](super::Outcome::Failed).
    ///
    /// The commands after the failed one, of the same event, have been dropped. If the machine answers the event with
    /// [`Reaction::Unhandled`], the life ends as failed too.
    fn on_failure(&self, failure: &Failure) -> Option<Self::Event> {
        let _ = failure;
        None
    }

    /// The event for a requested stop, with which the machine drains and then calls [`Out::finish`]. By default, there
    /// is none, and the machine is cancelled at once.
    ///
    /// Events that were accepted before arrive after this one; further ones are refused. The machine is cancelled at
    /// the end of the builder's `drain`, or at once if this event is [`Reaction::Unhandled`].
    fn on_stop(&self) -> Option<Self::Event> {
        None
    }

    /// The event for when all handles have been dropped and all events were taken. With one, the machine lives on until
    /// it calls [`Out::finish`].
    ///
    /// By default, there is none: commands in flight and waiting run to their end, at most for the builder's `drain`,
    /// and the machine has finished.
    fn on_abandoned(&self) -> Option<Self::Event> {
        None
    }
}

/// How a machine has judged an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the supervisor acts on the reaction: return it"]
pub enum Reaction<E> {
    /// The machine has made a transition, also one to the same state. Its time-out is armed again, and deferred events
    /// are judged again.
    Moved,
    /// No transition: data inside the state may have changed, and is published then. The time-out keeps running.
    Stayed,
    /// Judge this event again after the next transition. An [`ask`](super::Supervised::ask) waits for that. As many
    /// as the builder's `capacity` may be deferred; a further one is given back to its `ask`, or logged.
    Deferred(E),
    /// The machine has no use for this event in this state.
    Unhandled(E),
}

/// What happens to an event from outside while work is in flight. Deferred events are judged again with `Take` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhileBusy {
    /// It is judged at once, unless as many commands wait as the builder's `capacity`: then it waits in the channel.
    #[default]
    Take,
    /// It waits in the channel until the commands of the earlier event are done.
    Hold,
    /// It is refused: an `ask` gets it back, for a `send` it is logged.
    Refuse,
}

/// What a machine asks of its supervisor while it judges an event.
#[derive(Debug)]
pub struct Out<C> {
    now: Instant,
    pub(super) commands: Vec<C>,
    pub(super) cancels: bool,
    pub(super) finishes: bool,
}

impl<C> Out<C> {
    /// An empty one, for tests of a machine without a supervisor. `now` is the time of the event.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::reusing(Vec::new(), now)
    }

    pub(super) fn reusing(commands: Vec<C>, now: Instant) -> Self {
        Self { now, commands, cancels: false, finishes: false }
    }

    /// The time of the event.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Runs `command`, after those before it. More than the builder's `capacity` and 1,024 waiting ones end the life with
    /// [`FailureKind::TooManyCommands`](super::FailureKind::TooManyCommands).
    pub fn run(&mut self, command: C) {
        self.commands.push(command);
    }

    /// Drops the work in flight and all waiting commands, those before this call included. No outcome of theirs comes
    /// after this event.
    pub fn cancel(&mut self) {
        for command in self.commands.drain(..) {
            discard_logged(command, "a command");
        }
        self.cancels = true;
    }

    /// Ends the life with [`Outcome::Finished`](super::Outcome::Finished) once this event is judged. Work in flight and
    /// waiting commands are dropped.
    pub fn finish(&mut self) {
        self.finishes = true;
    }

    /// The commands of this event so far, for tests of a machine.
    #[must_use]
    pub fn commands(&self) -> &[C] {
        &self.commands
    }
}
