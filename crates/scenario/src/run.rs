//! One run: its phases, and its end.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout, timeout_at};
use tracing::Instrument;

use crate::failure::{Failure, NodeLog, Problem, ScenarioFailure, Subject};
use crate::jobs::{Ended, Jobs, Part, Step};
use crate::panics::{catch, caught, discard};
use crate::report::{Phase, RunReport, WorkloadEnd, WorkloadReport};
use crate::scenario::Plan;
use crate::{Application, Deployer, ObserverTimeline, RunContext, RunningCluster};

/// How long the logs of all nodes may take.
const LOGS_WITHIN: Duration = Duration::from_secs(10);

/// Owns everything that a run starts. Dropping it ends all that, in order, without waiting.
pub(crate) struct Run<A: Application> {
    plan: Plan<A>,
    deployer: String,
    began: Instant,
    phase: Phase,
    phase_began: Instant,
    phases: Vec<(Phase, Duration)>,
    failures: Vec<Failure>,
    ended: Vec<WorkloadReport>,
    /// Workloads at work.
    load: Jobs<A>,
    /// Steps of all others.
    steps: Jobs<A>,
    context: Option<RunContext<A>>,
    cluster: Option<Box<dyn RunningCluster<A>>>,
}

impl<A: Application> Run<A> {
    pub(crate) fn new(plan: Plan<A>, deployer: &str) -> Self {
        let began = Instant::now();
        Self {
            plan,
            deployer: deployer.to_owned(),
            began,
            phase: Phase::Deploy,
            phase_began: began,
            phases: Vec::new(),
            failures: Vec::new(),
            ended: Vec::new(),
            load: Jobs::default(),
            steps: Jobs::default(),
            context: None,
            cluster: None,
        }
    }

    /// All phases up to `Evaluate`. What goes wrong is noted; what is to be ended afterwards stays here,
    /// so this may be dropped at any time.
    pub(crate) async fn work(&mut self, deployer: &(impl Deployer<A> + ?Sized)) {
        let Some(context) = self.deploy(deployer).await else { return };
        if !self.prepare(&context).await || !self.start_capture(&context).await {
            return;
        }
        if self.workloads(&context).await {
            self.cooldown(&context).await;
        }
        self.drain().await;
        self.evaluate(&context).await;
    }

    pub(crate) fn cancelled(&mut self) {
        self.fail(Subject::Run, Problem::Cancelled);
    }

    fn enter(&mut self, phase: Phase) -> tracing::Span {
        self.leave();
        self.phase = phase;
        tracing::info_span!("phase", scenario = self.plan.name, %phase)
    }

    /// Notes how long the phase took up to now.
    fn leave(&mut self) {
        let now = Instant::now();
        let took = now.saturating_duration_since(self.phase_began);
        self.phase_began = now;
        match self.phases.last_mut() {
            Some((phase, so_far)) if *phase == self.phase => *so_far += took,
            _ => self.phases.push((self.phase, took)),
        }
    }

    fn fail(&mut self, subject: Subject, problem: Problem) {
        let failure = Failure { phase: self.phase, at: self.began.elapsed(), subject, problem };
        tracing::warn!(scenario = self.plan.name, "{failure}");
        self.failures.push(failure);
    }

    async fn deploy(&mut self, deployer: &(impl Deployer<A> + ?Sized)) -> Option<RunContext<A>> {
        let span = self.enter(Phase::Deploy);
        let limit = self.plan.limits.deploy;
        let deploying = caught(deployer.deploy(&self.plan.deployment)).instrument(span);
        let problem = match timeout(limit, deploying).await {
            Ok(Ok(Ok(cluster))) => {
                let deployment = self.plan.deployment.clone();
                let context = catch(|| {
                    RunContext::new(deployment, cluster.node_clients(), cluster.node_control(), self.began)
                });
                self.cluster = Some(cluster);
                match context {
                    Ok(context) => {
                        self.context = Some(context.clone());
                        return Some(context);
                    }
                    Err(panic) => Problem::Panicked(panic),
                }
            }
            Ok(Ok(Err(error))) => Problem::Error(error.into()),
            Ok(Err(panic)) => Problem::Panicked(panic),
            Err(_) => Problem::TimedOut(limit),
        };
        self.fail(Subject::Deployer(self.deployer.clone()), problem);
        None
    }

    async fn prepare(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Prepare);
        async {
            let limit = self.plan.limits.prepare;
            for add in std::mem::take(&mut self.plan.extensions) {
                if let Err(error) = add(context) {
                    self.fail(Subject::Run, Problem::Error(error.into()));
                    return false;
                }
            }
            let deadline = Instant::now() + limit;
            // One after the other: a later one may need what an earlier one built.
            for (place, factory) in std::mem::take(&mut self.plan.factories).into_iter().enumerate() {
                self.steps.spawn(place, Part::Factory(factory), Step::Init, context.clone());
                if !self.finish_steps(deadline, limit).await {
                    return false;
                }
            }
            for (place, workload) in std::mem::take(&mut self.plan.workloads).into_iter().enumerate() {
                self.steps.spawn(place, Part::Workload(workload), Step::Init, context.clone());
            }
            self.expectations(Step::Init, limit, context).await
        }
        .instrument(span)
        .await
    }

    async fn start_capture(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::StartCapture);
        self.expectations(Step::Start, self.plan.limits.start_capture, context).instrument(span).await
    }

    /// Runs the workloads until those that end have ended, and for `run_for` if that is given. Whether
    /// all is well.
    async fn workloads(&mut self, context: &RunContext<A>) -> bool {
        let span = self.enter(Phase::Workloads);
        let began = Instant::now();
        async {
            for (place, workload) in std::mem::take(&mut self.plan.workloads).into_iter().enumerate() {
                self.load.spawn(place, Part::Workload(workload), Step::Start, context.clone());
            }
            let limit = self.plan.limits.workloads;
            let at_least = began + self.plan.run_for.unwrap_or_default();
            let mut checks = self.checks();
            loop {
                let ending = self.load.ending();
                let enough = Instant::now() >= at_least;
                if ending.is_empty() && enough {
                    return true;
                }
                tokio::select! {
                    biased;
                    Some(ended) = self.load.next() => {
                        if !self.workload_ended(ended, false) {
                            return false;
                        }
                    }
                    () = sleep_until(began + limit) => {
                        for subject in ending {
                            self.fail(subject, Problem::TimedOut(limit));
                        }
                        return false;
                    }
                    () = sleep_until(at_least), if !enough => {}
                    _ = checks.tick() => {
                        if !self.check(context).await {
                            return false;
                        }
                    }
                }
            }
        }
        .instrument(span)
        .await
    }

    async fn cooldown(&mut self, context: &RunContext<A>) {
        let Some(cooldown) = self.plan.cooldown else { return };
        let span = self.enter(Phase::Cooldown);
        let end = Instant::now() + cooldown;
        async {
            let mut checks = self.checks();
            loop {
                tokio::select! {
                    biased;
                    Some(ended) = self.load.next() => {
                        if !self.workload_ended(ended, false) {
                            return;
                        }
                    }
                    () = sleep_until(end) => return,
                    _ = checks.tick() => {
                        if !self.check(context).await {
                            return;
                        }
                    }
                }
            }
        }
        .instrument(span)
        .await;
    }

    /// Ends the workloads: they are told, then aborted. Does nothing when none works.
    pub(crate) async fn drain(&mut self) {
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

    async fn evaluate(&mut self, context: &RunContext<A>) {
        let span = self.enter(Phase::Evaluate);
        self.expectations(Step::Evaluate, self.plan.limits.evaluate, context).instrument(span).await;
    }

    fn checks(&self) -> tokio::time::Interval {
        let every = self.plan.limits.check_interval;
        let mut checks = interval_at(Instant::now() + every, every);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        checks
    }

    async fn check(&mut self, context: &RunContext<A>) -> bool {
        self.expectations(Step::Check, self.plan.limits.check, context).await
    }

    /// Lets every expectation that has not failed take a step, all at once. Whether all is well.
    async fn expectations(&mut self, step: Step, limit: Duration, context: &RunContext<A>) -> bool {
        for (place, expectation) in std::mem::take(&mut self.plan.expectations).into_iter().enumerate() {
            self.steps.spawn(place, Part::Expectation(expectation), step, context.clone());
        }
        self.finish_steps(Instant::now() + limit, limit).await
    }

    /// Waits for the steps that were begun, and puts back the parts that are well.
    async fn finish_steps(&mut self, deadline: Instant, limit: Duration) -> bool {
        let failed_before = self.failures.len();
        let mut well = Vec::new();
        while let Ok(Some(ended)) = timeout_at(deadline, self.steps.next()).await {
            self.step_ended(ended, &mut well);
        }
        if !self.steps.is_empty() {
            for subject in self.steps.working() {
                self.fail(subject, Problem::TimedOut(limit));
            }
            let (ended, blocked) = self.steps.abort().await;
            for ended in ended {
                self.step_ended(ended, &mut well);
            }
            for subject in blocked {
                self.fail(subject, Problem::Blocked);
            }
        }
        well.sort_by_key(|(place, _)| *place);
        for (_, part) in well {
            match part {
                Part::Factory(factory) => discard(factory),
                Part::Workload(workload) => self.plan.workloads.push(workload),
                Part::Expectation(expectation) => self.plan.expectations.push(expectation),
            }
        }
        self.failures.len() == failed_before
    }

    fn step_ended(&mut self, ended: Ended<A>, well: &mut Vec<(usize, Part<A>)>) {
        let Ended { subject, place, part, problem, .. } = ended;
        match problem {
            Some(problem) => {
                self.fail(subject, problem);
                discard(part);
            }
            None => well.extend(part.map(|part| (place, part))),
        }
    }

    /// Whether it is well.
    fn workload_ended(&mut self, ended: Ended<A>, cancelled: bool) -> bool {
        let Ended { subject, took, part, problem, aborted, .. } = ended;
        discard(part);
        let well = problem.is_none();
        let end = match (&problem, aborted, cancelled) {
            (Some(_), ..) => WorkloadEnd::Failed,
            (None, true, _) => WorkloadEnd::Aborted,
            (None, false, true) => WorkloadEnd::Cancelled,
            (None, false, false) => WorkloadEnd::Done,
        };
        if let Subject::Workload(name) = &subject {
            self.ended.push(WorkloadReport { name: name.clone(), took, end });
        }
        if let Some(problem) = problem {
            self.fail(subject, problem);
        }
        well
    }

    /// Ends everything, in order, and says how the run went.
    pub(crate) async fn clean_up(mut self) -> Result<RunReport, ScenarioFailure> {
        let span = self.enter(Phase::Cleanup);
        let (observers, logs) = self.end_in_order().instrument(span).await;
        self.leave();
        let report = RunReport {
            scenario: std::mem::take(&mut self.plan.name),
            deployer: std::mem::take(&mut self.deployer),
            elapsed: self.began.elapsed(),
            phases: std::mem::take(&mut self.phases),
            workloads: std::mem::take(&mut self.ended),
            observers,
        };
        match std::mem::take(&mut self.failures) {
            none if none.is_empty() => Ok(report),
            failures => Err(ScenarioFailure::new(report, failures, logs)),
        }
    }

    async fn end_in_order(&mut self) -> (Vec<ObserverTimeline>, Vec<NodeLog>) {
        let limit = self.plan.limits.cleanup;
        // Steps are still at work only if the run was cancelled.
        let (_, blocked) = self.steps.abort().await;
        for subject in blocked {
            self.fail(subject, Problem::Blocked);
        }
        std::mem::take(&mut self.plan.expectations).into_iter().for_each(discard);
        let mut timelines = Vec::new();
        if let Some(context) = self.context.clone() {
            timelines = context.timelines();
            for (name, outcome) in context.stop_observers(Instant::now() + limit).await {
                let problem = outcome.map_or(Problem::TimedOut(limit), |_| Problem::Blocked);
                self.fail(Subject::Observer(name), problem);
            }
            context.release();
        }
        let Some(cluster) = self.cluster.take() else { return (timelines, Vec::new()) };
        // While it is taken out, dropping this future drops it, behind the observers.
        let logs = if self.failures.is_empty() { Vec::new() } else { logs_of(&*cluster).await };
        let problem = match timeout(limit, caught(cluster.shut_down())).await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(Problem::Error(error.into())),
            Ok(Err(panic)) => Some(Problem::Panicked(panic)),
            Err(_) => Some(Problem::TimedOut(limit)),
        };
        if let Some(problem) = problem {
            self.fail(Subject::Deployer(self.deployer.clone()), problem);
        }
        discard(cluster);
        (timelines, logs)
    }
}

async fn logs_of<A: Application>(cluster: &dyn RunningCluster<A>) -> Vec<NodeLog> {
    let deadline = Instant::now() + LOGS_WITHIN;
    let mut logs = Vec::new();
    for node in catch(|| cluster.node_control().nodes()).unwrap_or_default() {
        match timeout_at(deadline, caught(cluster.log(&node))).await {
            Ok(Ok(Some(text))) => logs.push(NodeLog { node, text }),
            Ok(Ok(None) | Err(_)) => {}
            Err(_) => break,
        }
    }
    logs
}

impl<A: Application> Drop for Run<A> {
    fn drop(&mut self) {
        // Each under its own guard: a destructor that panics keeps nothing else from its end.
        if let Some(context) = &self.context {
            context.cancel();
        }
        discard(std::mem::take(&mut self.load));
        discard(std::mem::take(&mut self.steps));
        discard(std::mem::take(&mut self.plan.expectations));
        discard(std::mem::take(&mut self.plan.workloads));
        discard(std::mem::take(&mut self.plan.factories));
        discard(std::mem::take(&mut self.plan.extensions));
        if let Some(context) = self.context.take() {
            context.release();
        }
        discard(self.cluster.take());
    }
}
