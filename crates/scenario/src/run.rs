//! One run: what it owns, and its phases up to the workloads and after them. See `load.rs` for the
//! workloads, `end.rs` for the end.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;

use crate::apart::ABORT_GRACE;
use crate::failure::{Failure, NodeLog, Problem, Subject, UNBLOCK};
use crate::jobs::{Ended, Jobs};
use crate::load::Checks;
use crate::panics::{Guarded, Panics, catch};
use crate::part::{Part, Step};
use crate::report::{ExpectationEnd, ExpectationReport, Phase, WorkloadReport};
use crate::scenario::Plan;
use crate::{Application, Deployer, ObserverTimeline, RunContext, RunningCluster};

/// A cluster is dropped where its last user lets go of it.
pub(crate) type Cluster<A> = Arc<Guarded<Box<dyn RunningCluster<A>>>>;

/// Owns everything that a run starts. Dropping it ends all that, in order, without waiting.
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
    /// Workloads that had not come past their first await when they were cancelled.
    pub(crate) idle: Vec<Subject>,
    /// Workloads at work.
    pub(crate) load: Jobs<A>,
    pub(crate) checks: Checks<A>,
    /// Steps of all others, which have begun in this phase.
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

    /// All phases up to `Evaluate`. What goes wrong is recorded; what is to be ended afterwards stays here,
    /// so this may be dropped at any time.
    pub(crate) async fn work(&mut self, deployer: &(impl Deployer<A> + ?Sized)) {
        let Some(context) = self.deploy(deployer).await else { return };
        if !self.prepare(&context).await || !self.start_capture(&context).await {
            return;
        }
        if self.workloads(&context).await {
            self.cooldown(&context).await;
        }
        if self.drain().await && self.failures.is_empty() {
            self.check_the_end(&context).await;
        }
        self.evaluate(&context).await;
    }

    pub(crate) fn enter(&mut self, phase: Phase) -> tracing::Span {
        self.leave();
        self.phase = phase;
        tracing::info_span!("phase", scenario = self.plan.name, %phase)
    }

    /// Notes how long the phase took up to now.
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

    /// Something that belongs to `phase` had not ended by its deadline.
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

    /// One that has failed stays so, whatever its step comes to later.
    fn expectation_ended(&mut self, name: &str, end: ExpectationEnd) {
        let known = self.expectations.iter_mut().filter(|known| known.name == name);
        known.filter(|known| known.end != ExpectationEnd::Failed).for_each(|known| known.end = end);
    }

    /// Records what destructors have panicked with since the last call. Whether none has.
    pub(crate) fn no_drop_panicked(&mut self) -> bool {
        let panics = self.panics.take();
        let none = panics.is_empty();
        for panic in panics {
            self.fail_at(self.phase, panic.at, panic.subject, Problem::Panicked(panic.message));
        }
        none
    }

    /// The deployer is borrowed, so that no other task can work on it. When it blocks this thread, its limit
    /// and what cancels the run are looked at as soon as it is back.
    async fn deploy(&mut self, deployer: &(impl Deployer<A> + ?Sized)) -> Option<RunContext<A>> {
        let span = self.enter(Phase::Deploy);
        let deployment = self.plan.deployment.clone()?;
        match catch(|| deployer.name().to_owned()) {
            Ok(name) => self.deployer = name,
            Err(panic) => {
                self.fail(self.deployer(), Problem::Panicked(panic));
                return None;
            }
        }
        let limit = self.plan.limits.deploy;
        let deadline = Instant::now() + limit;
        let _watch = watch(self.deployer(), limit, deadline);
        let deploying = async { deployer.deploy(&deployment).await };
        let deploying = self.panics.caught(self.deployer(), deploying).instrument(span);
        let outcome = timeout_at(deadline, deploying).await;
        let is_late = Instant::now() > deadline;
        let deployed = match outcome {
            Ok(Ok(Ok(cluster))) => {
                let cluster = self.cluster.insert(Arc::new(self.panics.guard(self.deployer(), cluster)));
                if is_late {
                    Err(None)
                } else {
                    context(deployment, cluster, &self.panics, self.began).map_err(Some)
                }
            }
            Ok(Ok(Err(error))) => Err(Some(Problem::Error(error.into()))),
            Ok(Err(panic)) => Err(Some(Problem::Panicked(panic))),
            Err(_) => Err(None),
        };
        let context = match deployed {
            Ok((context, nodes)) => {
                self.nodes = Some(nodes);
                Some(self.context.insert(context).clone())
            }
            Err(Some(problem)) => {
                self.fail(self.deployer(), problem);
                None
            }
            Err(None) => {
                self.timed_out(Phase::Deploy, self.deployer(), limit, deadline);
                None
            }
        };
        yield_now().await;
        if self.no_drop_panicked() { context } else { None }
    }

    pub(crate) fn deployer(&self) -> Subject {
        Subject::Deployer(self.deployer.clone())
    }

    async fn prepare(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Prepare);
        let well = async {
            let limit = self.plan.limits.prepare;
            for add in std::mem::take(&mut self.plan.extensions) {
                let problem = match catch(|| (add.into_inner())(context)) {
                    Ok(Ok(())) => continue,
                    Ok(Err(error)) => Problem::Error(error.into()),
                    Err(panic) => Problem::Panicked(panic),
                };
                self.fail(Subject::Run, problem);
                return false;
            }
            let deadline = Instant::now() + limit;
            // One after the other: a later one may need what an earlier one built.
            for factory in std::mem::take(&mut self.plan.factories) {
                self.begin(factory, Step::Init, context);
                if !self.finish_steps(deadline, limit).await {
                    return false;
                }
            }
            for workload in std::mem::take(&mut self.plan.workloads) {
                self.begin(workload, Step::Init, context);
            }
            self.expectations(Step::Init, limit, context).await
        }
        .instrument(span)
        .await;
        // Parts that were not asked any more have been dropped.
        self.no_drop_panicked() && well
    }

    async fn start_capture(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::StartCapture);
        self.expectations(Step::Start, self.plan.limits.start_capture, context).instrument(span).await
    }

    async fn evaluate(&mut self, context: &RunContext<A>) {
        let span = self.enter(Phase::Evaluate);
        async {
            self.finish_checks().await;
            self.expectations(Step::Evaluate, self.plan.limits.evaluate, context).await;
        }
        .instrument(span)
        .await;
    }

    fn begin(&mut self, part: Part<A>, step: Step, context: &RunContext<A>) {
        self.steps_phase = self.phase;
        self.steps.spawn(part, step, self.panics.clone(), context);
    }

    /// Lets every expectation that has not failed take a step, all at once. Whether all is well.
    async fn expectations(&mut self, step: Step, limit: Duration, context: &RunContext<A>) -> bool {
        self.plan.expectations.sort_by_key(|expectation| expectation.place);
        for expectation in std::mem::take(&mut self.plan.expectations) {
            self.begin(expectation, step, context);
        }
        self.finish_steps(Instant::now() + limit, limit).await
    }

    /// Waits for the steps that were begun, and puts back the parts that are well. Whether all are.
    async fn finish_steps(&mut self, deadline: Instant, limit: Duration) -> bool {
        let failed_before = self.failures.len();
        while let Ok(Some(ended)) = timeout_at(deadline, self.steps.next()).await {
            if ended.problem.is_none() && ended.at > deadline {
                // It blocked the thread that its limit is noticed on.
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

    /// Puts a part back that is well.
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

    /// Waits until the waits have ended whose expectations are gone: their tasks were aborted.
    pub(crate) async fn waits_end(&mut self) {
        let Some(context) = self.context.clone() else { return };
        let mut live = self.checks.jobs.working();
        live.extend(self.plan.expectations.iter().map(|expectation| expectation.subject.clone()));
        let is_gone = |name: &str| !live.contains(&Subject::Expectation(name.to_owned()));
        if timeout(ABORT_GRACE, context.waits().none(is_gone)).await.is_ok() {
            return;
        }
        for name in context.waits().names().into_iter().filter(|name| is_gone(name)) {
            context.waits().forget(&name);
            self.fail(Subject::Expectation(name), Problem::Blocked);
        }
    }
}

/// What the parts of a run share, and the names of the nodes.
fn context<A: Application>(
    deployment: Arc<Guarded<A::Deployment>>,
    cluster: &Cluster<A>,
    panics: &Panics,
    began: Instant,
) -> Result<(RunContext<A>, Vec<String>), Problem> {
    let of_the_cluster = || {
        let control = panics.guard(cluster.subject().clone(), cluster.node_control());
        let clients = panics.guard(cluster.subject().clone(), cluster.node_clients());
        let mut nodes = control.nodes();
        let more: Vec<_> = clients.names().into_iter().filter(|name| !nodes.contains(name)).collect();
        nodes.extend(more);
        clients.collect(panics, cluster.subject());
        (RunContext::new(deployment, clients, control, panics, began), nodes)
    };
    catch(of_the_cluster).map_err(Problem::Panicked)
}

/// Warns while a deployer blocks the thread on which its limit is noticed.
fn watch(deployer: Subject, limit: Duration, deadline: Instant) -> AbortOnDropHandle<()> {
    let watch = async move {
        sleep_until(deadline + ABORT_GRACE).await;
        tracing::warn!("{deployer} blocks its thread, and its limit of {limit:?} is over: {UNBLOCK}");
    };
    AbortOnDropHandle::new(tokio::spawn(watch.with_current_subscriber()))
}
