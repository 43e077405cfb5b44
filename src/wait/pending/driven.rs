//! Waits on an executor that gives no turn, or on a paused clock.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use super::Wait;
use super::judging::WaitEnd;
use crate::error::Cause;
use crate::observer::Observer;
use crate::pulse::BothClocks;
use crate::source::health::{ProbeFailure, SourceHealth};
use crate::wait::judge::Judge;
use crate::wait::outcome::{Inconclusive, UnmetOutcome};

impl<O: Observer, T> Wait<'_, O, T> {
    /// Judges new publications under the vigil, because a predicate may block its thread.
    pub(super) fn judge_on_watch(&mut self, waker: &Waker) -> ControlFlow<WaitEnd<O>, bool> {
        let vigil = self.vigil.take().unwrap_or_else(|| self.shared.clock.pulse().measure(&self.label));
        let judged = vigil.judging(|| self.judge_some(waker));
        self.vigil = Some(vigil);
        judged
    }

    /// The outcome at the end of the window. If nothing came, the executor may have given no turn: its own timer
    /// shows that, or the vigil if that timer stands still while the clock runs.
    pub(super) fn conclude_if_driven(&mut self, end: Instant, context: &mut Context<'_>) -> Poll<WaitEnd<O>> {
        let outcome = self.conclude(end);
        let paused = UnmetOutcome::Inconclusive(Inconclusive::Paused);
        let nothing_came =
            matches!(outcome, WaitEnd::Unmet(unmet, _) if nothing_came(unmet) || unmet == paused);
        let runs = self.made.ran_along(BothClocks::at(self.shared.clock.executor()));
        let is_fed = self.shared.clock.is_fed();
        if !nothing_came
            || self.window.is_none()
            || !runs
            || is_fed
            || self.wakes_by_time(Some(end), context).is_some()
        {
            return Poll::Ready(outcome);
        }
        let Some(vigil) = &mut self.vigil else { return Poll::Ready(outcome) };
        vigil.poll(context).map(|no_turn_for| {
            let not_driven = Inconclusive::NotDriven { no_turn_for };
            WaitEnd::Unmet(UnmetOutcome::Inconclusive(not_driven), end)
        })
    }

    /// A note that a paused clock does not wait for real I/O. It is given only if nothing came and something was
    /// awaited, since scripted answers on a paused clock come in time.
    pub(super) fn note_of_the_clock(&self, outcome: UnmetOutcome, ended: Instant) -> Option<String> {
        let (tokio, real) = self.made.until(BothClocks::at(self.shared.clock.executor()));
        if self.shared.clock.is_fed() {
            return None;
        }
        let ran_ahead = tokio >= 2 * real && tokio.abs_diff(real) >= Duration::from_millis(100);
        (nothing_came(outcome) && ran_ahead && self.something_is_awaited(ended)).then(|| {
            let (tokio, real) = (tokio.as_secs_f64(), real.as_secs_f64());
            format!(
                "tokio's clock ran {tokio:.1} s in {real:.2} s: it is paused, and does not wait for real I/O"
            )
        })
    }

    /// Whether a source without an answer is awaited, or a cycle is while none was judged.
    fn something_is_awaited(&self, ended: Instant) -> bool {
        let status = &self.evidence.status;
        let timed_out = status.last_error.as_ref().is_some_and(|error| error.cause == Cause::TimedOut);
        let works = matches!(status.state, State::Starting | State::Refreshing | State::Polling);
        if self.evidence.judged == 0 && (timed_out || works) {
            return true;
        }
        let Some(snapshot) = &status.snapshot else { return false };
        let timed_out = |failure: &Arc<ProbeFailure>| failure.cause == Cause::TimedOut;
        let is_awaited = |health: SourceHealth| {
            let fails = health.is_failing();
            (fails || !health.freshness(ended).is_fresh())
                && (health.facts.in_flight_since.is_some()
                    || (fails && health.facts.last_failure.as_ref().is_some_and(timed_out)))
        };
        let awaited = |name: &str| O::source_health(&snapshot.value, name).is_some_and(is_awaited);
        match &self.judge {
            Judge::Source { name, .. } => awaited(name),
            _ => status.source_names.iter().any(|name| awaited(name)),
        }
    }

    pub(super) fn note_of_stalls(&self, outcome: UnmetOutcome) -> Option<String> {
        let said = matches!(
            outcome,
            UnmetOutcome::Invalid(_) | UnmetOutcome::Inconclusive(Inconclusive::NotDriven { .. })
        );
        if said { None } else { self.stalls() }
    }

    /// The longest time for which the executor gave no turn while this was polled, and why.
    pub(crate) fn stalls(&self) -> Option<String> {
        self.vigil.as_ref()?.longest_stall().map(|stall| stall.to_string())
    }
}

/// Whether more observed data could have changed the outcome.
fn nothing_came(outcome: UnmetOutcome) -> bool {
    matches!(
        outcome,
        UnmetOutcome::NotMet
            | UnmetOutcome::Inconclusive(
                Inconclusive::NothingObserved | Inconclusive::SourcesNotAsked | Inconclusive::Stale
            )
    )
}
