//! One life after the other, and the end.

use std::sync::Arc;

use super::{Phase, Refusal, Supervisor, answer};
use crate::panics::{AppValue, catch, discard_logged};
use crate::supervise::board::{Condition, Published};
use crate::supervise::failure::{Failure, Outcome};
use crate::supervise::machine::Machine;
use crate::supervise::name::VariantName;
use crate::supervise::restart::{Restart, When};
use crate::supervise::transition::{TraceRow, Trigger};
use crate::time::later;

impl<M: Machine> Supervisor<M> {
    /// The delay between two lives is over.
    pub(in crate::supervise) fn is_due_to_live(&self) -> bool {
        matches!(self.phase, Phase::Resting(Some(at)) if at <= self.latest)
    }

    /// Drops the machine and what it wanted, and returns whether there is another life.
    pub(in crate::supervise) fn after_life(&mut self) -> bool {
        drop(self.machine.take());
        discard_logged(self.timeout.take(), "the event of a time-out");
        self.drop_commands();
        self.keep_what_was_sent();
        self.retry = None;
        self.cancels = false;
        self.is_between = false;
        let Some(outcome) = self.ending.take() else { return false };
        let restarts = match (&outcome, self.settings.restart.when) {
            _ if self.restart_asked => true,
            (Outcome::Cancelled, _) | (_, When::Never) => false,
            (outcome, When::OnFailure) => outcome.failure().is_some(),
            (_, When::Always) => true,
        };
        let is_last = self.stopping
            || matches!(self.phase, Phase::Winding(_) | Phase::Draining(_))
            // Without handles it would finish again and again.
            || (self.abandoned && outcome.is_finished());
        if !restarts || is_last {
            self.ending = Some(outcome);
            return false;
        }
        self.now();
        self.rest(outcome);
        true
    }

    /// Deferred outcomes, failures and time-outs were of the life that has ended.
    fn keep_what_was_sent(&mut self) {
        for (first, envelope) in std::mem::take(&mut self.deferred) {
            if first == Trigger::Sent {
                self.deferred.push_back((first, envelope));
            } else {
                discard_logged(envelope, "a deferred event");
            }
        }
    }

    /// Waits for the next life: after the delay, or poisoned.
    fn rest(&mut self, outcome: Outcome) {
        let failure = match &outcome {
            Outcome::Failed(failure) | Outcome::Panicked(failure) => Some(Arc::clone(failure)),
            _ => None,
        };
        self.rested = failure.is_some().then_some(outcome);
        if let (Some(reply), Some(failure)) = (self.lost.take(), &failure) {
            answer::<M>(reply, Err(Refusal::Lost(Arc::clone(failure))));
        }
        let Restart { delays, window, .. } = &mut self.settings.restart;
        let is_too_many = failure.is_some() && window.failed(self.latest);
        if std::mem::take(&mut self.restart_asked) {
            self.phase = Phase::Resting(Some(self.latest));
            return;
        }
        let delay = delays.next(self.latest);
        self.phase = Phase::Resting((!is_too_many).then(|| later(self.latest, delay)));
        if let Some(failure) = failure {
            if is_too_many {
                tracing::error!(%failure, "poisoned: too many lives have failed");
                self.board.set_condition(Condition::Poisoned(failure));
            } else {
                tracing::warn!(%failure, ?delay, "a new life begins after a failure");
                self.board.set_condition(Condition::Restarting(failure));
            }
        }
        self.dirty = true;
        if self.abandoned && is_too_many {
            // Nobody is left who could restart it.
            self.end_of_rest();
        }
    }

    /// A new life begins.
    pub(in crate::supervise) fn live_again(&mut self, machine: AppValue<M>, state: Published<M::State>) {
        // The factory may have taken its time.
        self.is_now = false;
        let (at, event) = (self.now(), VariantName::default());
        self.machine = Some(machine);
        self.rested = None;
        self.phase = Phase::Running;
        self.abandoned_passed = false;
        self.abandoned_at = self.abandoned.then(|| later(at, self.settings.drain));
        self.spins = 0;
        self.board.set_condition(Condition::Running);
        self.state = state;
        self.board.publish(&self.state, |from| TraceRow { at, from, trigger: Trigger::Restart, event });
        self.dirty = true;
    }

    /// The factory has panicked.
    pub(in crate::supervise) fn not_made(&mut self, panic: &str) {
        self.end(Outcome::Panicked(Arc::new(Failure::of_factory(panic))));
        self.phase = Phase::Running;
        self.is_now = false;
    }

    /// The outcome of the machine, once there is no further life.
    pub(in crate::supervise) fn outcome(&mut self) -> Outcome {
        self.ending.take().unwrap_or(Outcome::Cancelled)
    }

    pub(super) fn all_handles_dropped(&mut self) {
        self.abandoned_passed = true;
        let Some(machine) = self.machine.as_ref().filter(|_| self.ending.is_none()) else { return };
        match catch(|| machine.on_abandoned()) {
            Ok(Some(event)) => {
                self.now();
                self.judge_inside(Trigger::Abandoned, event);
                self.judge_deferred();
            }
            Ok(None) => self.wind_down(),
            Err(panic) => self.crash("Machine::on_abandoned", &panic),
        }
    }

    /// What has been sent and commanded runs to its end, then the machine has finished.
    pub(super) fn wind_down(&mut self) {
        if self.phase == Phase::Running {
            self.phase = Phase::Winding(later(self.now(), self.settings.drain));
        }
        self.wind_up();
    }

    /// After all handles were dropped, the last event was taken and the last command was done, the machine has finished.
    pub(super) fn wind_up(&mut self) {
        let waiting =
            self.settings.capacity - self.board.room.available_permits().min(self.settings.capacity);
        let is_empty = waiting <= self.taken;
        if matches!(self.phase, Phase::Winding(_)) && is_empty && !self.is_busy() {
            self.end(Outcome::Finished);
        }
    }

    /// Ends between two lives, as the last one did.
    pub(super) fn end_of_rest(&mut self) {
        let outcome = self.rested.take();
        self.end(outcome.unwrap_or(Outcome::Cancelled));
    }
}
