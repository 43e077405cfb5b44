//! What the inbox brings: items, stops and deadlines.

use std::sync::Arc;

use tokio::time::Instant;

use super::judging::Judged;
use super::{Envelope, Phase, Refusal, Supervisor, answer};
use crate::panics::{catch, discard_logged};
use crate::supervise::board::{Condition, End, Signals};
use crate::supervise::failure::{Failure, Outcome};
use crate::supervise::machine::{Machine, WhileBusy};
use crate::supervise::name::VariantName;
use crate::supervise::transition::Trigger;
use crate::task::inbox;
use crate::time::later;

/// Consecutive time-outs of zero that are no fault.
const SPINS: u32 = 1_000;

impl<M: Machine> Supervisor<M> {
    /// When the phase ends by itself.
    fn end_of_phase(&self) -> Option<Instant> {
        match self.phase {
            Phase::Draining(at) | Phase::Winding(at) => Some(at),
            Phase::Resting(at) => at,
            Phase::Running => None,
        }
    }

    /// When a machine that takes no event learns that nobody is left to send more.
    fn end_of_patience(&self) -> Option<Instant> {
        self.abandoned_at.filter(|_| !self.abandoned_passed && self.lives())
    }

    fn wait_for_the_rest(&mut self) {
        self.abandoned_at = Some(later(self.now(), self.settings.drain));
    }

    fn timed_out(&mut self, event: M::Event) {
        if std::mem::take(&mut self.at_once) {
            self.spins += 1;
        } else {
            self.spins = 0;
        }
        if self.spins > SPINS {
            let failure = Failure::spins(&self.shown_state(), self.spins);
            self.end(Outcome::Failed(Arc::new(failure)));
            discard_logged(event, "the event of a time-out");
            return;
        }
        self.judge_inside(Trigger::Timeout, event);
        self.judge_deferred();
    }

    fn refuse(&mut self, Envelope { event, reply }: Envelope<M>) {
        if let Some(reply) = reply {
            answer::<M>(reply, Err(Refusal::Busy(event)));
        } else {
            self.log_unused(VariantName::of(&event), "was refused while work is in flight");
            discard_logged(event, "a refused event");
        }
    }
}

impl<M: Machine> inbox::Machine for Supervisor<M> {
    type Item = Envelope<M>;
    type Reason = End;

    fn accepts(&self) -> bool {
        if !self.lives() || self.cancels {
            return false;
        }
        match (self.is_held_back(), self.while_busy) {
            (true, WhileBusy::Refuse) => true,
            (true, WhileBusy::Hold) => false,
            _ => self.retry.is_none() && self.has_room_for_commands(),
        }
    }

    fn take(&mut self, envelope: Envelope<M>) {
        self.taken += 1;
        self.spins = 0;
        self.now();
        if self.abandoned {
            // Each event that is taken gives those after it the time again.
            self.wait_for_the_rest();
        }
        if self.is_held_back() && self.while_busy == WhileBusy::Refuse {
            self.refuse(envelope);
            return;
        }
        match self.judge(Trigger::Sent, envelope) {
            Judged::Moved => {
                self.judge_deferred_again();
                self.judge_deferred();
            }
            Judged::Done => {}
            Judged::Deferred(envelope) => self.defer(envelope, Trigger::Sent),
        }
    }

    fn check(&mut self) -> bool {
        self.is_now = false;
        let Some(signals) = self.board.signals() else { return false };
        if signals.has(Signals::ABORT) {
            self.stopping = true;
            if self.machine.is_some() {
                self.end(Outcome::Cancelled);
            } else {
                self.end_of_rest();
            }
        }
        let unpoisons = signals.has(Signals::UNPOISON) && self.phase == Phase::Resting(None);
        if unpoisons {
            self.settings.restart.window.clear();
            self.settings.restart.delays.reset();
        }
        if (unpoisons || signals.has(Signals::RESTART)) && !self.stopping {
            self.now();
            if matches!(self.phase, Phase::Resting(_)) {
                self.phase = Phase::Resting(Some(self.latest));
            } else {
                self.restart_asked = true;
                self.end(Outcome::Cancelled);
            }
        }
        if signals.has(Signals::ABANDONED) {
            self.abandoned = true;
            self.wait_for_the_rest();
            if self.phase == Phase::Resting(None) {
                self.end_of_rest();
            }
        }
        true
    }

    fn drained(&mut self) -> bool {
        // Cancelled work is dropped before any further event.
        if !self.abandoned || !self.lives() || self.cancels {
            return false;
        }
        if !self.abandoned_passed {
            self.all_handles_dropped();
            return true;
        }
        self.wind_up();
        self.ending.is_some()
    }

    fn stop(&mut self, end: End) {
        // The work may have blocked the thread since the last check.
        self.is_now = false;
        self.now();
        self.stopping = true;
        self.board.room.close();
        let Some(machine) = &self.machine else {
            self.end_of_rest();
            return;
        };
        if self.ending.is_some() {
            return;
        }
        if matches!(end, End::Abort) {
            self.end(Outcome::Cancelled);
            return;
        }
        match catch(|| machine.on_stop()) {
            Ok(Some(event)) => {
                self.phase = Phase::Draining(later(self.latest, self.settings.drain));
                self.board.set_condition(Condition::Stopping);
                self.dirty = true;
                self.judge_inside(Trigger::Stop, event);
                self.judge_deferred();
            }
            Ok(None) => self.end(Outcome::Cancelled),
            Err(panic) => self.crash("Machine::on_stop", &panic),
        }
    }

    fn drops_work(&self) -> bool {
        self.cancels || self.ending.is_some()
    }

    fn latest(&self) -> Instant {
        self.latest
    }

    fn is_waiting(&self) -> bool {
        self.commands.is_empty() && self.ending.is_none() && !self.is_due_to_live()
    }

    fn deadline(&self) -> Option<Instant> {
        let timeout = self.timeout.as_ref().map(|(at, _)| *at);
        [timeout, self.end_of_phase(), self.end_of_patience()].into_iter().flatten().min()
    }

    fn busy_deadline(&self) -> Option<Instant> {
        self.deadline()
    }

    fn due(&mut self, now: Instant) {
        self.latest = now;
        self.is_now = true;
        if self.ending.is_some() {
            return;
        }
        if self.end_of_patience().is_some_and(|end| end <= now) {
            self.all_handles_dropped();
        } else if self.end_of_phase().is_some_and(|end| end <= now) {
            match self.phase {
                Phase::Draining(_) => self.end(Outcome::Cancelled),
                Phase::Winding(_) => self.end(Outcome::Finished),
                Phase::Running | Phase::Resting(_) => {}
            }
        } else if let Some((_, event)) = self.timeout.take_if(|(at, _)| *at <= now) {
            self.timed_out(event);
        }
    }

    fn flush(&mut self) {
        if self.taken > 0 {
            self.board.room.add_permits(std::mem::take(&mut self.taken));
        }
        if std::mem::take(&mut self.dirty) {
            self.board.wake();
        }
    }
}
