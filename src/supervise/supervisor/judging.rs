//! One event after the other.

use std::sync::Arc;

use super::{COMMANDS, Envelope, Queued, Refusal, Reply, Supervisor, UnhandledEvents, answer, discard_each};
use crate::panics::{AppValue, catch, discard_logged};
use crate::supervise::failure::{Failure, FailureKind, Outcome};
use crate::supervise::machine::{Machine, Out, Reaction, WhileBusy};
use crate::supervise::name::VariantName;
use crate::supervise::transition::{TraceRow, Trigger};
use crate::time::later;

/// What became of an event.
pub(super) enum Judged<M: Machine> {
    Moved,
    Done,
    Deferred(Envelope<M>),
}

/// Why an event was not handled.
#[derive(Clone, Copy)]
enum Unused {
    Unhandled,
    NoRoomToDefer,
}

impl Unused {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unhandled => "is unhandled",
            Self::NoRoomToDefer => "was to be deferred, and too many are",
        }
    }
}

impl<M: Machine> Supervisor<M> {
    /// Judges an event that no handle has sent.
    pub(super) fn judge_inside(&mut self, trigger: Trigger, event: M::Event) {
        match self.judge(trigger, Envelope { event, reply: None }) {
            Judged::Moved => self.judge_deferred_again(),
            Judged::Done => {}
            Judged::Deferred(envelope) => self.defer(envelope, trigger),
        }
    }

    pub(super) fn judge_deferred_again(&mut self) {
        self.retry = (!self.deferred.is_empty()).then_some(0);
    }

    /// Judges deferred events in their order, again from the first after each transition.
    pub(super) fn judge_deferred(&mut self) {
        while let Some(at) = self.retry {
            if !self.can_judge_deferred() {
                return;
            }
            let Some((first, envelope)) = self.deferred.remove(at) else {
                self.retry = None;
                return;
            };
            self.retry = match self.judge_as(Trigger::Deferred, first, envelope) {
                Judged::Moved => Some(0),
                Judged::Done => Some(at),
                Judged::Deferred(envelope) => {
                    self.deferred.insert(at, (first, envelope));
                    Some(at + 1)
                }
            };
        }
    }

    fn can_judge_deferred(&self) -> bool {
        let is_free = !self.is_held_back() || self.while_busy == WhileBusy::Take;
        self.lives() && !self.cancels && is_free && self.has_room_for_commands()
    }

    pub(super) fn defer(&mut self, envelope: Envelope<M>, trigger: Trigger) {
        if self.deferred.len() < self.settings.capacity {
            self.deferred.push_back((trigger, envelope));
        } else {
            let Envelope { event, reply } = envelope;
            self.reject(VariantName::of(&event), event, reply, (trigger, Unused::NoRoomToDefer));
        }
    }

    pub(super) fn judge(&mut self, trigger: Trigger, envelope: Envelope<M>) -> Judged<M> {
        self.judge_as(trigger, trigger, envelope)
    }

    /// Judges one event, publishes, and executes what the machine asked for. `first` is the trigger of a deferred event
    /// when it was judged first.
    fn judge_as(&mut self, trigger: Trigger, first: Trigger, envelope: Envelope<M>) -> Judged<M> {
        let Envelope { event, reply } = envelope;
        let name = VariantName::of(&event);
        self.events += 1;
        let Some(machine) = &mut self.machine else { return Judged::Done };
        let mut out = Out::reusing(std::mem::take(&mut self.scratch), self.latest);
        let reaction = match catch(|| machine.handle(event, &mut out)) {
            Ok(reaction) => reaction,
            Err(panic) => {
                self.lost = reply;
                self.crash("Machine::handle", &panic);
                discard_each(out.commands);
                return Judged::Done;
            }
        };
        let judged = match reaction {
            Reaction::Moved | Reaction::Stayed => {
                let moved = matches!(reaction, Reaction::Moved);
                if !self.publish(moved, trigger, name) {
                    self.lost = reply;
                    discard_each(out.commands);
                    return Judged::Done;
                }
                if let Some(reply) = reply {
                    answer::<M>(reply, Ok(Arc::clone(&self.state)));
                }
                if moved { Judged::Moved } else { Judged::Done }
            }
            // What is not handled asks for nothing: a deferred event would ask again each time.
            Reaction::Deferred(event) => {
                discard_each(out.commands);
                return Judged::Deferred(Envelope { event, reply });
            }
            Reaction::Unhandled(event) => {
                discard_each(out.commands);
                self.reject(name, event, reply, (first, Unused::Unhandled));
                return Judged::Done;
            }
        };
        if first == Trigger::Sent && !out.commands.is_empty() {
            self.commanding = self.events;
        }
        self.execute(out);
        judged
    }

    /// Publishes the state after an event, if there is news. Returns `false` if the machine has panicked.
    fn publish(&mut self, moved: bool, trigger: Trigger, event: VariantName) -> bool {
        let Some(machine) = &self.machine else { return false };
        let known = &**self.state;
        let state = catch(|| {
            let state = AppValue::new(machine.state());
            (moved || *state != *known).then_some(state)
        });
        match state {
            Ok(Some(state)) => {
                self.state = Arc::new(state);
                if tracing::enabled!(tracing::Level::TRACE) {
                    tracing::trace!(state = self.shown_state(), %event, %trigger, "transition");
                }
                let at = self.latest;
                let row = |from| TraceRow { at, from, trigger, event };
                self.board.publish(&self.state, row);
                self.dirty = true;
            }
            Ok(None) => {}
            Err(panic) => {
                self.crash("Machine::state", &panic);
                return false;
            }
        }
        if moved {
            self.arm();
        }
        self.read_while_busy();
        self.ending.is_none()
    }

    pub(super) fn read_while_busy(&mut self) {
        let Some(machine) = &self.machine else { return };
        match catch(|| machine.while_busy()) {
            Ok(while_busy) => self.while_busy = while_busy,
            Err(panic) => self.crash("Machine::while_busy", &panic),
        }
    }

    /// Arms the time-out of the state, in place of the one before.
    pub(super) fn arm(&mut self) {
        let Some(machine) = &self.machine else { return };
        match catch(|| machine.timeout()) {
            Ok(timeout) => {
                self.at_once = timeout.as_ref().is_some_and(|(after, _)| after.is_zero());
                let timeout = timeout.map(|(after, event)| (later(self.latest, after), event));
                let old = std::mem::replace(&mut self.timeout, timeout);
                discard_logged(old, "the event of a time-out");
            }
            Err(panic) => self.crash("Machine::timeout", &panic),
        }
    }

    /// Does what the machine asked for.
    pub(super) fn execute(&mut self, mut out: Out<M::Command>) {
        if out.cancels {
            self.drop_commands();
            self.cancels = self.in_flight.is_some();
        }
        if !out.commands.is_empty() {
            // What is held now waits for these.
            self.is_between = false;
        }
        let event = self.events;
        self.commands.extend(out.commands.drain(..).map(|command| Queued { command, event }));
        self.scratch = out.commands;
        if out.finishes {
            self.end(Outcome::Finished);
        } else if self.commands.len() > self.settings.capacity.saturating_add(COMMANDS) {
            let failure = Failure::too_many_commands(&self.shown_state(), self.commands.len());
            self.end(Outcome::Failed(Arc::new(failure)));
        }
    }

    /// No state handles the event, or there is no room to defer it.
    fn reject(
        &mut self,
        name: VariantName,
        event: M::Event,
        reply: Option<Reply<M>>,
        (trigger, why): (Trigger, Unused),
    ) {
        let kind = match trigger {
            Trigger::Stop | Trigger::Abandoned => None,
            Trigger::Failure => Some(FailureKind::FailureUnhandled),
            _ => (self.settings.unhandled == UnhandledEvents::Fatal).then_some(FailureKind::Unhandled),
        };
        let fatal = kind.map(|kind| match (why, kind) {
            (Unused::NoRoomToDefer, _) => {
                Failure::no_room_to_defer(kind, name, &self.shown_state(), self.settings.capacity)
            }
            (_, FailureKind::FailureUnhandled) => Failure::failure_unhandled(name, &self.shown_state()),
            _ => Failure::unhandled(name, &self.shown_state()),
        });
        let is_asked = reply.is_some();
        if let Some(reply) = reply {
            let refusal = match why {
                Unused::Unhandled => Refusal::Unhandled(event),
                Unused::NoRoomToDefer => Refusal::NoRoomToDefer(event),
            };
            answer::<M>(reply, Err(refusal));
        } else {
            discard_logged(event, "an event that was not handled");
        }
        if let Some(failure) = fatal {
            let handling = self.handling.take();
            self.end(Outcome::Failed(Arc::new(failure.while_handling(handling))));
        } else if !is_asked {
            self.log_unused(name, why.as_str());
        }
        match trigger {
            Trigger::Stop => self.end(Outcome::Cancelled),
            Trigger::Abandoned => self.wind_down(),
            _ => {}
        }
    }

    /// Logs an event that nobody waits for: the 1st, 2nd, 4th, 8th .. as a warning.
    pub(super) fn log_unused(&mut self, event: VariantName, why: &'static str) {
        self.unused += 1;
        let (state, count) = (self.shown_state(), self.unused);
        if count.is_power_of_two() {
            tracing::warn!(%event, state, count, "event {why}");
        } else {
            tracing::debug!(%event, state, count, "event {why}");
        }
    }
}
