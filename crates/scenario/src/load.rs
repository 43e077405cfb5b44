//! The workloads of a run, and the checks that run with them.

use std::future::pending;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;

use crate::apart::ABORT_GRACE;
use crate::checks::Check;
use crate::failure::Problem;
use crate::guarded::Guarded;
use crate::jobs::Ended;
use crate::part::{Part, Step};
use crate::report::{WorkloadEnd, WorkloadReport};
use crate::run::Run;
use crate::subject::Subject;
use crate::{Application, Phase, RunContext};

/// How a wait for the next event of a run ended.
enum Turn {
    Well,
    /// Something has failed.
    Failed,
    /// The time to wait is over.
    Due,
}

impl Turn {
    fn well(well: bool) -> Self {
        if well { Self::Well } else { Self::Failed }
    }
}

impl<A: Application> Run<A> {
    /// Runs the workloads until those that are not endless have ended, and at least for `run_for`. Returns whether
    /// nothing has failed.
    pub(crate) async fn workloads(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Workloads);
        let began = Instant::now();
        let limit = self.plan.limits.workloads;
        let (at_least, at_most) = (began + self.plan.run_for.unwrap_or_default(), began + limit);
        self.checks.first = Some(began + self.plan.limits.check_interval);
        async {
            for workload in std::mem::take(&mut self.plan.workloads) {
                self.load.spawn(workload, Step::Start, self.panics.clone(), context);
            }
            loop {
                let ending = self.load.ending();
                let due = if ending.is_empty() { at_least } else { at_most };
                match self.turn(context, Some(due)).await {
                    Turn::Well => {}
                    Turn::Failed => return false,
                    Turn::Due if ending.is_empty() => return self.last_check(context).await,
                    Turn::Due => {
                        for subject in ending {
                            self.timed_out(Phase::Workloads, subject, limit, at_most);
                        }
                        return false;
                    }
                }
            }
        }
        .instrument(span)
        .await
    }

    pub(crate) async fn cooldown(&mut self, context: &RunContext<A>) {
        let Some(cooldown) = self.plan.cooldown else { return };
        let span = self.enter(Phase::Cooldown);
        let end = Instant::now() + cooldown;
        async {
            loop {
                match self.turn(context, Some(end)).await {
                    Turn::Well => {}
                    Turn::Failed => return,
                    Turn::Due => break,
                }
            }
            self.last_check(context).await;
        }
        .instrument(span)
        .await;
    }

    /// Checks the expectations after the drain.
    pub(crate) async fn check_the_end(&mut self, context: &RunContext<A>) {
        let span = self.enter(Phase::Drain);
        self.last_check(context).instrument(span).await;
    }

    /// Waits until a workload ends, a check ends or is due, or `due` is reached.
    async fn turn(&mut self, context: &RunContext<A>, due: Option<Instant>) -> Turn {
        let next = self.checks.next(&self.plan.expectations);
        tokio::select! {
            biased;
            Some(ended) = self.load.next() => Turn::well(self.workload_ended(ended, false)),
            Some(ended) = self.checks.jobs.next() => Turn::well(self.check_ended(ended)),
            () = until(due) => Turn::Due,
            () = until(next) => {
                let now = Instant::now();
                if self.checks_are_late(now).await {
                    return Turn::Failed;
                }
                let places = self.plan.expectations.iter().map(|part| part.place);
                let is_due = |place: &usize| self.checks.due(*place).is_some_and(|due| due <= now);
                let due: Vec<usize> = places.filter(is_due).collect();
                self.begin_checks(context, &due);
                Turn::Well
            }
        }
    }

    /// Checks each expectation once more, since checks in flight have not seen the end. Returns whether nothing has
    /// failed.
    async fn last_check(&mut self, context: &RunContext<A>) -> bool {
        let in_flight = self.checks.begun.iter().map(|check| check.place);
        let waiting = self.plan.expectations.iter().filter(|part| part.checks).map(|part| part.place);
        let mut wanted: Vec<usize> = in_flight.chain(waiting).collect();
        let mut last = Vec::new();
        loop {
            let begun = self.begin_checks(context, &wanted);
            wanted.retain(|place| !begun.iter().any(|check| check.place == *place));
            last.extend(begun.into_iter().map(|check| check.number));
            last.retain(|number| self.checks.begun.iter().any(|check| check.number == *number));
            if wanted.is_empty() && last.is_empty() {
                return true;
            }
            if let Turn::Failed = self.turn(context, None).await {
                return false;
            }
        }
    }

    /// Begins a check of each expectation at `places` that has none in flight, and returns the new checks.
    fn begin_checks(&mut self, context: &RunContext<A>, places: &[usize]) -> Vec<Check> {
        let now = Instant::now();
        let expectations = std::mem::take(&mut self.plan.expectations).into_iter();
        let (checked, others): (Vec<Part<A>>, _) =
            expectations.partition(|part| part.checks && places.contains(&part.place));
        self.plan.expectations = others;
        let mut begun = Vec::with_capacity(checked.len());
        for part in checked {
            let (number, place) = (self.checks.count, part.place);
            let deadline = now + self.plan.limits.check;
            self.checks.count += 1;
            begun.push(Check { number, place, phase: self.phase, deadline, is_late: false });
            self.checks.due.retain(|(of, _)| *of != place);
            self.checks.due.push((place, now + self.plan.limits.check_interval));
            self.checks.jobs.spawn(part, Step::Check, self.panics.clone(), context);
        }
        self.checks.begun.extend(&begun);
        begun
    }

    /// Records a check that has ended. Returns whether nothing has failed.
    fn check_ended(&mut self, ended: Ended<A>) -> bool {
        let Ended { subject, place, at, part, problem, aborted, notes, .. } = ended;
        let Some(known) = self.checks.begun.iter().position(|check| check.place == place) else {
            return true;
        };
        let Check { phase, deadline, is_late, .. } = self.checks.begun.swap_remove(known);
        if aborted {
            return !is_late;
        }
        if let Some(expectation) = self.expectations.get_mut(place) {
            expectation.judged = notes.judged().or(expectation.judged);
            if !notes.checks_nothing() {
                expectation.checks = Some(expectation.checks.unwrap_or_default() + 1);
            }
        }
        match problem {
            Some(problem) => self.fail_at(phase, at, subject, problem.into_inner()),
            // It ended while it was being aborted.
            None if is_late => {}
            None if at > deadline => self.timed_out(phase, subject, self.plan.limits.check, deadline),
            None => {
                self.plan.expectations.extend(part);
                return self.no_drop_panicked();
            }
        }
        drop(part);
        self.no_drop_panicked();
        false
    }

    /// Aborts the checks that are over their limit. Returns whether there were any.
    async fn checks_are_late(&mut self, now: Instant) -> bool {
        let mut late = Vec::new();
        for check in self.checks.begun.iter_mut().filter(|check| !check.is_late && check.deadline <= now) {
            check.is_late = true;
            late.push(*check);
        }
        if late.is_empty() {
            return false;
        }
        late.sort_by_key(|check| check.place);
        let is_late = |place| late.iter().any(|check| check.place == place);
        for Check { place, phase, deadline, .. } in &late {
            if let Some(expectation) = self.expectations.get(*place) {
                let subject = Subject::Expectation(expectation.name.clone());
                self.timed_out(*phase, subject, self.plan.limits.check, *deadline);
            }
        }
        self.abort_checks(is_late).await;
        self.waits_end().await;
        true
    }

    /// Waits for the checks in flight, each until its deadline at most.
    pub(crate) async fn finish_checks(&mut self) {
        while !self.checks.jobs.is_empty() {
            let next = self.checks.next(&[]);
            tokio::select! {
                biased;
                Some(ended) = self.checks.jobs.next() => {
                    self.check_ended(ended);
                }
                () = until(next) => {
                    self.checks_are_late(Instant::now()).await;
                }
            }
        }
        self.waits_end().await;
    }

    pub(crate) async fn abort_checks(&mut self, places: impl Fn(usize) -> bool) {
        self.checks.jobs.abort(&places);
        let grace = Instant::now() + ABORT_GRACE;
        while self.checks.jobs.works(&places) {
            let Ok(Some(ended)) = timeout_at(grace, self.checks.jobs.next()).await else { break };
            self.check_ended(ended);
        }
        for (place, subject) in self.checks.jobs.leave(&places) {
            let check = self.checks.begun.iter().find(|check| check.place == place);
            let phase = check.map_or(self.phase, |check| check.phase);
            self.fail_at(phase, Instant::now(), subject, Problem::Blocked);
        }
        self.checks.begun.retain(|check| !places(check.place));
    }

    /// Ends the workloads: cancels, then aborts them. Returns whether any was at work.
    pub(crate) async fn drain(&mut self) -> bool {
        self.idle.extend(self.load.idle());
        if let Some(context) = &self.context {
            context.cancel();
        }
        if self.load.is_empty() {
            return false;
        }
        let span = self.enter(Phase::Drain);
        let deadline = Instant::now() + self.plan.limits.drain;
        async {
            while let Ok(Some(ended)) = timeout_at(deadline, self.load.next()).await {
                self.workload_ended(ended, true);
            }
            self.load.abort(|_| true);
            let grace = Instant::now() + ABORT_GRACE;
            while let Ok(Some(ended)) = timeout_at(grace, self.load.next()).await {
                self.workload_ended(ended, true);
            }
            for (_, subject) in self.load.leave(|_| true) {
                self.fail(subject, Problem::Blocked);
            }
        }
        .instrument(span)
        .await;
        true
    }

    /// Records a workload that has ended. Returns whether nothing has failed.
    fn workload_ended(&mut self, ended: Ended<A>, cancelled: bool) -> bool {
        let Ended { subject, at, took, part, problem, aborted, endless, .. } = ended;
        drop(part);
        let limit = self.plan.limits.workloads;
        let problem = match problem.map(Guarded::into_inner) {
            None if endless && !cancelled => Some(Problem::EndedEarly),
            // It blocked the thread on which its limit is noticed.
            None if took > limit && !endless && !cancelled => Some(Problem::TimedOut(limit)),
            problem => problem,
        };
        let end = match (&problem, aborted, cancelled) {
            (Some(_), ..) => WorkloadEnd::Failed,
            (None, true, _) => WorkloadEnd::Aborted,
            (None, false, true) => WorkloadEnd::Cancelled,
            (None, false, false) => WorkloadEnd::Done,
        };
        if let Subject::Workload(name) = &subject {
            let got_to_work = !self.idle.contains(&subject);
            self.ended.push(WorkloadReport { name: name.clone(), took, end, got_to_work });
        }
        let well = problem.is_none();
        match problem {
            None => {}
            Some(Problem::TimedOut(limit)) => self.timed_out(self.phase, subject, limit, at + limit - took),
            Some(problem) => self.fail_at(self.phase, at, subject, problem),
        }
        self.no_drop_panicked() && well
    }
}

/// Waits until `due`, or for ever if there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
