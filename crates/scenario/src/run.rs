//! One run: what it owns, what it records, and the steps of its parts.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

use crate::apart::ABORT_GRACE;
use crate::checks::Checks;
use crate::failure::{Failure, NodeLog, Problem};
use crate::guarded::{Guarded, Panics};
use crate::jobs::{Ended, Jobs};
use crate::part::{Part, Step};
use crate::plan::Plan;
use crate::report::{ExpectationEnd, ExpectationReport, Phase, WorkloadReport};
use crate::subject::Subject;
use crate::{Application, ObserverTimeline, RunContext, RunningCluster};

/// The last user of the cluster drops it.
pub(crate) type Cluster<A> = Arc<Guarded<Box<dyn RunningCluster<A>>>>;

/// Owns everything that a run starts. Dropping it ends everything in order, without waiting.
pub(crate) struct Run<A: Application> {
    pub(crate) plan: Plan<A>,
    pub(crate) panics: Panics,
    pub(crate) deployer: String,
    pub(crate) began: Instant,
    pub(crate) phase: Phase,
    phase_began: Instant,
    pub(crate) phases: Vec<(Phase, Duration)>,
    /// Errors are the app's, and so are their destructors.
    pub(crate) failures: Vec<Guarded<Failure>>,
    pub(crate) nodes: Option<Vec<String>>,
    pub(crate) ended: Vec<WorkloadReport>,
    pub(crate) expectations: Vec<ExpectationReport>,
    /// Workloads that had not passed their first await when they were cancelled.
    pub(crate) idle: Vec<Subject>,
    /// Workloads at work.
    pub(crate) load: Jobs<A>,
    pub(crate) checks: Checks<A>,
    /// All other steps, which have begun in this phase.
    pub(crate) steps: Jobs<A>,
    steps_phase: Phase,
    pub(crate) context: Option<RunContext<A>>,
    pub(crate) cluster: Option<Cluster<A>>,
    pub(crate) timelines: Vec<ObserverTimeline>,
    pub(crate) cut_off: Vec<String>,
    pub(crate) logs: Vec<NodeLog>,
}

impl<A: Application> Run<A> {
    pub(crate) fn new(plan: Plan<A>) -> Self {
        let began = Instant::now();
        let report = |part: &Part<A>| ExpectationReport {
            name: part.name().to_owned(),
            checks: None,
            judged: None,
            end: ExpectationEnd::NotJudged,
        };
        Self {
            panics: plan.panics.clone(),
            expectations: plan.expectations.iter().map(report).collect(),
            plan,
            deployer: "unnamed".to_owned(),
            began,
            phase: Phase::Deploy,
            phase_began: began,
            phases: Vec::new(),
            failures: Vec::new(),
            nodes: None,
            ended: Vec::new(),
            idle: Vec::new(),
            load: Jobs::default(),
            checks: Checks::default(),
            steps: Jobs::default(),
            steps_phase: Phase::Deploy,
            context: None,
            cluster: None,
            timelines: Vec::new(),
            cut_off: Vec::new(),
            logs: Vec::new(),
        }
    }

    pub(crate) fn enter(&mut self, phase: Phase) -> tracing::Span {
        self.leave();
        self.phase = phase;
        tracing::info_span!("phase", scenario = self.plan.name, %phase)
    }

    /// Records how long the phase took until now.
    pub(crate) fn leave(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.phase_began);
        self.phase_began = now;
        match self.phases.last_mut() {
            Some((phase, so_far)) if *phase == self.phase => *so_far += took,
            _ => self.phases.push((self.phase, took)),
        }
    }

    pub(crate) fn fail(&mut self, subject: Subject, problem: Problem) {
        self.fail_at(self.phase, Instant::now(), subject, problem);
    }

    pub(crate) fn fail_at(&mut self, phase: Phase, at: Instant, subject: Subject, problem: Problem) {
        self.record(phase, at, subject, problem, Duration::ZERO);
    }

    /// Records that a subject of `phase` had not ended at its deadline.
    pub(crate) fn timed_out(&mut self, phase: Phase, subject: Subject, limit: Duration, deadline: Instant) {
        let now = Instant::now();
        let late = now.saturating_duration_since(deadline);
        self.record(phase, now, subject, Problem::TimedOut(limit), late);
    }

    fn record(&mut self, phase: Phase, at: Instant, subject: Subject, problem: Problem, late: Duration) {
        if let Subject::Expectation(name) = &subject {
            self.expectation_ended(name, ExpectationEnd::Failed);
        }
        let starting = match (&self.context, &problem) {
            (Some(context), Problem::Cancelled) => context.observers().starting(None),
            (Some(context), Problem::TimedOut(_)) => context.observers().starting(Some(&subject)),
            _ => Vec::new(),
        };
        let at = at.saturating_duration_since(self.began);
        let failure = Failure { phase, at, subject, problem, starting, late };
        tracing::warn!(scenario = self.plan.name, "{failure}");
        self.failures.push(self.panics.guard(failure.subject.clone(), failure));
    }

    /// An expectation that has failed stays failed, also if a step ends well later.
    fn expectation_ended(&mut self, name: &str, end: ExpectationEnd) {
        let known = self.expectations.iter_mut().filter(|known| known.name == name);
        known.filter(|known| known.end != ExpectationEnd::Failed).for_each(|known| known.end = end);
    }

    /// Records the panics of destructors since the last call. Returns whether there were none.
    pub(crate) fn no_drop_panicked(&mut self) -> bool {
        let panics = self.panics.take();
        let none = panics.is_empty();
        for panic in panics {
            self.fail_at(self.phase, panic.at, panic.subject, Problem::Panicked(panic.message));
        }
        none
    }

    pub(crate) fn deployer(&self) -> Subject {
        Subject::Deployer(self.deployer.clone())
    }

    pub(crate) fn begin(&mut self, part: Part<A>, step: Step, context: &RunContext<A>) {
        self.steps_phase = self.phase;
        self.steps.spawn(part, step, self.panics.clone(), context);
    }

    /// Runs a step of every expectation that has not failed, all at once. Returns whether nothing has failed.
    pub(crate) async fn expectations(
        &mut self,
        step: Step,
        limit: Duration,
        context: &RunContext<A>,
    ) -> bool {
        self.plan.expectations.sort_by_key(|expectation| expectation.place);
        for expectation in std::mem::take(&mut self.plan.expectations) {
            self.begin(expectation, step, context);
        }
        self.finish_steps(Instant::now() + limit, limit).await
    }

    /// Waits for the steps in flight, and puts back the parts that have not failed. Returns whether nothing has failed.
    pub(crate) async fn finish_steps(&mut self, deadline: Instant, limit: Duration) -> bool {
        let failed_before = self.failures.len();
        while let Ok(Some(ended)) = timeout_at(deadline, self.steps.next()).await {
            if ended.problem.is_none() && ended.at > deadline {
                // It blocked the thread on which its limit is noticed.
                self.timed_out(self.phase, ended.subject, limit, deadline);
            } else {
                self.step_ended(ended);
            }
        }
        for subject in self.steps.working() {
            self.timed_out(self.phase, subject, limit, deadline);
        }
        if !self.steps.is_empty() {
            self.abort_steps().await;
            self.waits_end().await;
        }
        self.no_drop_panicked();
        self.failures.len() == failed_before
    }

    pub(crate) async fn abort_steps(&mut self) {
        self.steps.abort(|_| true);
        let grace = Instant::now() + ABORT_GRACE;
        while let Ok(Some(ended)) = timeout_at(grace, self.steps.next()).await {
            self.step_ended(ended);
        }
        for (_, subject) in self.steps.leave(|_| true) {
            self.fail_at(self.steps_phase, Instant::now(), subject, Problem::Blocked);
        }
    }

    /// Records a step that has ended, and puts its part back if it has not failed.
    fn step_ended(&mut self, ended: Ended<A>) {
        let Ended { subject, at, part, problem, place, notes, .. } = ended;
        if let (Subject::Expectation(_), Some(known)) = (&subject, self.expectations.get_mut(place)) {
            known.judged = notes.judged().or(known.judged);
        }
        match (problem, subject, part) {
            (Some(problem), subject, _) => self.fail_at(self.steps_phase, at, subject, problem.into_inner()),
            (None, Subject::Workload(_), Some(workload)) => self.plan.workloads.push(workload),
            (None, Subject::Expectation(name), Some(expectation)) => {
                if self.steps_phase == Phase::Evaluate {
                    self.expectation_ended(&name, ExpectationEnd::Held);
                }
                self.plan.expectations.push(expectation);
            }
            (None, ..) => {}
        }
    }

    /// Waits for the end of waits whose expectations were dropped: their tasks were aborted.
    pub(crate) async fn waits_end(&mut self) {
        let Some(context) = self.context.clone() else { return };
        let mut live = self.checks.jobs.working();
        live.extend(self.plan.expectations.iter().map(|expectation| expectation.subject.clone()));
        let is_dropped = |name: &str| !live.contains(&Subject::Expectation(name.to_owned()));
        if timeout(ABORT_GRACE, context.waits().none(is_dropped)).await.is_ok() {
            return;
        }
        for name in context.waits().names().into_iter().filter(|name| is_dropped(name)) {
            context.waits().forget(&name);
            self.fail(Subject::Expectation(name), Problem::Blocked);
        }
    }
}
