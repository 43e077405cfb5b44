//! How a wait judges what was published.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;
use watchkeeper_fsm::State;

use super::{MetAt, Publication_, Wait};
use crate::observer::Observer;
use crate::publish::history::ObservationBatch;
use crate::publish::queue::Publication;
use crate::status::Published;
use crate::status::is_over;
use crate::wait::Snapshot;
use crate::wait::evidence::{Evidence, Violation};
use crate::wait::judge::{Finding, Judge};
use crate::wait::outcome::{Inconclusive, InvalidWait, UnmetOutcome};

/// How a wait ends.
pub(super) enum WaitEnd<O: Observer> {
    Met(MetAt<O>),
    /// The outcome, and when it was reached.
    Unmet(UnmetOutcome, Instant),
}

/// How many publications are judged before the task yields: a predicate is app code and may be slower than the
/// publisher.
const AT_ONCE: usize = 32;

impl<O: Observer, T> Wait<'_, O, T> {
    /// Judges a bounded number of publications. Continues with `true` if there may be more; the task must yield
    /// before it judges them.
    pub(super) fn judge_some(&mut self, waker: &Waker) -> ControlFlow<WaitEnd<O>, bool> {
        for _ in 0..AT_ONCE {
            if self.taken.is_empty() {
                let missed = self.shared.take(&mut self.registered, &mut self.taken, waker);
                if self.taken.is_empty() {
                    self.evidence.lost(missed);
                    return ControlFlow::Continue(false);
                }
            }
            let Some(publication) = self.taken.pop_front() else { return ControlFlow::Continue(false) };
            if let Some(outcome) = self.judge_one(&publication) {
                return ControlFlow::Break(outcome);
            }
        }
        ControlFlow::Continue(true)
    }

    fn judge_one(&mut self, publication: &Publication_<O>) -> Option<WaitEnd<O>> {
        if let Some(deadline) = self.deadline()
            && publication.at > deadline
        {
            // Publications missed after the window do not count.
            self.evidence.lost(publication.missed);
            return Some(self.conclude(deadline));
        }
        if publication.missed == self.evidence.missed
            && let Some(outcome) = self.aged(publication.at)
        {
            return Some(outcome);
        }
        if self.evidence.advance(self.began, publication)
            && let Judge::Stable { run, .. } = &mut self.judge
        {
            run.interrupt();
        }
        let status = &publication.status;
        let unmet = match self.find(publication) {
            Finding::Met => {
                let snapshot = self.evidence.last.clone();
                return Some(met(publication, snapshot, None));
            }
            Finding::MetBy(index) => {
                let event = publication.batch.clone().map(|batch| (batch, index));
                return Some(met(publication, None, event));
            }
            Finding::Violated(reason) => {
                let snapshot = self.evidence.last.clone();
                self.evidence.violation = Some(Violation { at: publication.at, snapshot });
                self.evidence.reason = reason;
                Some(UnmetOutcome::Violated)
            }
            Finding::GaveUp(reason) => {
                self.evidence.reason = Some(reason);
                Some(UnmetOutcome::GaveUp)
            }
            Finding::NoSourceHealth => Some(UnmetOutcome::Invalid(InvalidWait::NoSourceHealth)),
            Finding::Open(_) => None,
        };
        if let Some(unmet) = unmet {
            return Some(WaitEnd::Unmet(unmet, publication.at));
        }
        match status.state {
            // Batches from before the wait carry a status that is newer than they are.
            _ if !self.taken.is_empty() => None,
            // A wait that only its owner ends has held until the runtime stopped.
            State::Stopped { .. } if self.window.is_none() => Some(self.conclude(publication.at)),
            State::Stopped { reason } => {
                let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason });
                Some(WaitEnd::Unmet(stopped, publication.at))
            }
            _ => None,
        }
    }

    fn find(&mut self, publication: &Publication_<O>) -> Finding {
        let Publication { at, status, batch, .. } = publication;
        if let Judge::State(state) = self.judge {
            let counts = status.cycle >= self.start.cycle || is_over(status.state);
            self.evidence.judged += u64::from(counts);
            return if counts && status.state.kind() == state { Finding::Met } else { Finding::Open(None) };
        }
        let counts = status.set_cycle >= Some(self.start.cycle.max(self.unjudged_sets_from));
        if counts {
            self.unjudged_sets_from = status.set_cycle.map_or(0, |cycle| cycle + 1);
        }
        let finding = self.judge.set(status, counts);
        if self.judge.is_about_the_set() {
            self.evidence.judged += u64::from(counts);
            return self.remember(finding);
        }
        let fresh = status.freshness(*at).is_fresh();
        if let Some(batch) = batch
            && batch.cycle >= self.start.cycle
            && fresh
        {
            let since = self.start.since(batch.began);
            let asked = |event: &_| since.is_none_or(|since| O::asked_at(event).is_none_or(|at| at >= since));
            self.evidence.saw_events(batch, asked);
            let finding = self.judge.batch(batch, asked);
            let finding = self.remember(finding);
            if !matches!(finding, Finding::Open(_)) {
                return finding;
            }
        }
        match &status.snapshot {
            Some(snapshot) if snapshot.cycle >= self.start.cycle.max(self.unjudged_from) => {
                self.unjudged_from = snapshot.cycle + 1;
                self.judge_snapshot(*at, fresh, status, snapshot)
            }
            _ => Finding::Open(None),
        }
    }

    /// Judges a snapshot of a cycle that counts.
    fn judge_snapshot(
        &mut self,
        at: Instant,
        fresh: bool,
        status: &Published<O::Snapshot>,
        snapshot: &Snapshot<O>,
    ) -> Finding {
        if !fresh {
            self.evidence.saw_stale();
            return Finding::Open(None);
        }
        if self.judge.is_about_freshness() {
            self.evidence.saw(snapshot, snapshot);
            return Finding::Open(None);
        }
        let view = self.start.view::<O>(snapshot);
        if self.judge.needs_all_sources() && !self.start.has_heard_all::<O>(status, at) {
            self.evidence.saw_a_part();
            return Finding::Open(None);
        }
        self.evidence.saw(&view, snapshot);
        let finding = self.judge.snapshot(at, status, &view);
        self.remember(finding)
    }

    /// Keeps the last reason.
    fn remember(&mut self, finding: Finding) -> Finding {
        match finding {
            Finding::Open(Some(reason)) => {
                self.evidence.reason = Some(reason);
                Finding::Open(None)
            }
            finding => finding,
        }
    }

    /// The outcome, if the data turned stale by `until` and that decides the wait.
    pub(super) fn aged(&mut self, until: Instant) -> Option<WaitEnd<O>> {
        let stale_at = self.evidence.turned_stale(until)?.max(self.began);
        match &mut self.judge {
            Judge::StaysFresh => {
                self.evidence.note_staleness(self.began, until);
                self.evidence.violation = Some(Violation { at: stale_at, snapshot: None });
                Some(WaitEnd::Unmet(UnmetOutcome::Violated, stale_at))
            }
            Judge::BecomesStale => Some(self.met_by_time(stale_at)),
            Judge::Stable { run, .. } => {
                run.interrupt();
                None
            }
            _ => None,
        }
    }

    /// Met without a new publication.
    fn met_by_time(&self, at: Instant) -> WaitEnd<O> {
        let Evidence { status, last, .. } = &self.evidence;
        WaitEnd::Met(MetAt { at, status: Arc::clone(status), snapshot: last.clone(), event: None })
    }

    /// The outcome at the end of the window, after everything before it was judged.
    pub(super) fn conclude(&mut self, end: Instant) -> WaitEnd<O> {
        if let Some(outcome) = self.aged(end) {
            return outcome;
        }
        self.evidence.note_staleness(self.began, end);
        if let Judge::Stable { hold, run } = &self.judge
            && run.length(end) >= *hold
            && self.evidence.is_fresh_at(end)
        {
            return self.met_by_time(end);
        }
        let doubt = match (&self.judge, self.window) {
            (Judge::StaysFresh, _) => self.evidence.doubt_of_freshness(&self.evidence.first),
            (Judge::BecomesStale, _) => self.evidence.doubt_of_freshness(&self.evidence.status),
            (judge, _) if !judge.holds_at_the_end() => self.evidence.doubt(),
            (_, Some(_)) => self.evidence.doubt_at(end),
            // An invariant may outlive the observation.
            (_, None) => self.evidence.doubt(),
        };
        match doubt {
            Some(doubt) => WaitEnd::Unmet(UnmetOutcome::Inconclusive(doubt), end),
            None if !self.judge.holds_at_the_end() => WaitEnd::Unmet(UnmetOutcome::NotMet, end),
            None => self.met_by_time(end),
        }
    }
}

/// Met by this publication.
fn met<O: Observer>(
    publication: &Publication_<O>,
    snapshot: Option<Snapshot<O>>,
    event: Option<(Arc<ObservationBatch<O::Event>>, usize)>,
) -> WaitEnd<O> {
    let Publication { at, status, .. } = publication;
    WaitEnd::Met(MetAt { at: *at, status: Arc::clone(status), snapshot, event })
}
