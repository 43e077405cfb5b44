//! The workloads of a run, and the checks beside them.

use std::future::pending;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::Instrument;

use crate::failure::{Problem, Subject};
use crate::jobs::{Ended, Jobs};
use crate::part::{Part, Step};
use crate::report::{ExpectationReport, WorkloadEnd, WorkloadReport};
use crate::run::Run;
use crate::{Application, Phase, RunContext};

/// The checks of expectations, one round at a time. They run beside the workloads: a slow one holds up
/// neither a failure nor a limit.
pub(crate) struct Checks<A: Application> {
    pub(crate) jobs: Jobs<A>,
    /// The round in flight.
    round: Option<Round>,
    /// When the next round is due.
    next: Instant,
}

#[derive(Clone, Copy)]
struct Round {
    /// The phase it began in.
    phase: Phase,
    deadline: Instant,
}

/// What has come of waiting for the next thing to happen.
enum Turn {
    Well,
    /// Something has failed.
    Failed,
    /// What was waited for at most has come.
    Due,
}

impl Turn {
    fn well(well: bool) -> Self {
        if well { Self::Well } else { Self::Failed }
    }
}

impl<A: Application> Checks<A> {
    pub(crate) fn new(now: Instant) -> Self {
        Self { jobs: Jobs::default(), round: None, next: now }
    }
}

impl<A: Application> Run<A> {
    /// Runs the workloads until those that end have ended, and for `run_for` if that is given. Whether
    /// all is well.
    pub(crate) async fn workloads(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Workloads);
        let began = Instant::now();
        let limit = self.plan.limits.workloads;
        let (at_least, at_most) = (began + self.plan.run_for.unwrap_or_default(), began + limit);
        self.checks.next = began + self.plan.limits.check_interval;
        async {
            for workload in std::mem::take(&mut self.plan.workloads) {
                self.load.spawn(workload, Step::Start, self.panics.clone(), context.clone());
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

    /// Waits for the next thing to happen: a workload ends, a check ends or is due, or `due` has come.
    async fn turn(&mut self, context: &RunContext<A>, due: Option<Instant>) -> Turn {
        let round = self.checks.round;
        tokio::select! {
            biased;
            Some(ended) = self.load.next() => Turn::well(self.workload_ended(ended, false)),
            Some(ended) = self.checks.jobs.next() => Turn::well(self.check_ended(ended)),
            () = until(due) => Turn::Due,
            () = sleep_until(round.map_or(self.checks.next, |round| round.deadline)) => {
                if round.is_some() {
                    self.finish_checks().await;
                    return Turn::Failed;
                }
                self.begin_checks(context);
                Turn::Well
            }
        }
    }

    /// Checks once more: what was begun before has not seen the end. Whether all is well.
    async fn last_check(&mut self, context: &RunContext<A>) -> bool {
        let mut begun = false;
        loop {
            match self.checks.round {
                None if begun => return true,
                None => {
                    self.begin_checks(context);
                    begun = true;
                }
                Some(_) => {
                    if let Turn::Failed = self.turn(context, None).await {
                        return false;
                    }
                }
            }
        }
    }

    fn begin_checks(&mut self, context: &RunContext<A>) {
        let now = Instant::now();
        self.checks.next = now + self.plan.limits.check_interval;
        let expectations = std::mem::take(&mut self.plan.expectations).into_iter();
        let (checked, others): (Vec<Part<A>>, _) = expectations.partition(|expectation| expectation.checks);
        self.plan.expectations = others;
        if !checked.is_empty() {
            self.checks.round = Some(Round { phase: self.phase, deadline: now + self.plan.limits.check });
        }
        for expectation in checked {
            self.checks.jobs.spawn(expectation, Step::Check, self.panics.clone(), context.clone());
        }
    }

    /// Whether it can still hold.
    fn check_ended(&mut self, ended: Ended<A>) -> bool {
        let Ended { subject, place, at, part, problem, .. } = ended;
        let Some(Round { phase, deadline }) = self.checks.round else { return true };
        if self.checks.jobs.is_empty() {
            self.checks.round = None;
        }
        if let Some(ExpectationReport { checks: Some(checks), .. }) = self.expectations.get_mut(place) {
            *checks += 1;
        }
        match problem {
            Some(problem) => self.fail_at(phase, at, subject, problem),
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

    /// Waits for the checks in flight, at most until their deadline.
    pub(crate) async fn finish_checks(&mut self) {
        let Some(Round { phase, deadline }) = self.checks.round else { return };
        while let Ok(Some(ended)) = timeout_at(deadline, self.checks.jobs.next()).await {
            self.check_ended(ended);
        }
        for subject in self.checks.jobs.working() {
            self.timed_out(phase, subject, self.plan.limits.check, deadline);
        }
        self.abort_checks().await;
        self.waits_end().await;
    }

    pub(crate) async fn abort_checks(&mut self) {
        let (ended, blocked) = self.checks.jobs.abort().await;
        for ended in ended.into_iter().filter(|ended| !ended.aborted) {
            self.check_ended(ended);
        }
        self.checks.round = None;
        for subject in blocked {
            self.fail(subject, Problem::Blocked);
        }
    }

    /// Ends the workloads: they are cancelled, then aborted. Does nothing when none works.
    pub(crate) async fn drain(&mut self) {
        self.idle.extend(self.load.idle());
        if let Some(context) = &self.context {
            context.cancel();
        }
        if self.load.is_empty() {
            return;
        }
        let span = self.enter(Phase::Drain);
        let deadline = Instant::now() + self.plan.limits.drain;
        async {
            while let Ok(Some(ended)) = timeout_at(deadline, self.load.next()).await {
                self.workload_ended(ended, true);
            }
            let (ended, blocked) = self.load.abort().await;
            for ended in ended {
                self.workload_ended(ended, true);
            }
            for subject in blocked {
                self.fail(subject, Problem::Blocked);
            }
        }
        .instrument(span)
        .await;
    }

    /// Whether it is well.
    fn workload_ended(&mut self, ended: Ended<A>, cancelled: bool) -> bool {
        let Ended { subject, at, took, part, problem, aborted, endless, .. } = ended;
        drop(part);
        let limit = self.plan.limits.workloads;
        let problem = match problem {
            None if endless && !cancelled => Some(Problem::EndedEarly),
            // It blocked the thread that its limit is noticed on.
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

/// Waits for ever if no time is given.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => pending().await,
    }
}
