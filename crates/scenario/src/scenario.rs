//! A scenario, ready to run.

use std::fmt;
use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use crate::run::Run;
use crate::{
    Application, Deployer, Expectation, ExtensionError, Limits, ObservationExtensionFactory, RunContext,
    RunReport, ScenarioBuilder, ScenarioFailure, Workload,
};

/// A deployment, what observes it, what is done to it and what has to hold: made by a
/// [`ScenarioBuilder`], run once.
///
/// | phase | what happens | ends when | if something fails |
/// |---|---|---|---|
/// | deploy | the deployer brings the nodes up | they can be talked to | cleanup |
/// | prepare | factories build, one after the other; then all `init` | all are done | cleanup |
/// | `start_capture` | expectations begin to look | all have begun | cleanup |
/// | workloads | workloads run; each second expectations are checked | those that end have ended, and `run_for` is over | drain |
/// | cooldown | the nodes settle; checks and endless workloads go on | it is over | drain |
/// | drain | workloads are cancelled; at the deadline they are aborted | none works | evaluate |
/// | evaluate | expectations judge, side by side | all have judged | cleanup |
/// | cleanup | observers stop; then extensions are dropped; then the nodes go down | nothing is left | the failure says what is left |
///
/// Each phase has a time-out of its own ([`Limits`]) and a `tracing` span. A panic in app code is a
/// failure with its message. App code that blocks its thread cannot be cancelled: it is left behind,
/// and the failure says so.
pub struct Scenario<A: Application> {
    plan: Plan<A>,
}

/// Adds an extension to a run.
pub(crate) type AddExtension<A> = Box<dyn FnOnce(&RunContext<A>) -> Result<(), ExtensionError> + Send>;

/// What a run is to do; emptied while it is done.
pub(crate) struct Plan<A: Application> {
    pub(crate) name: String,
    pub(crate) deployment: A::Deployment,
    pub(crate) limits: Limits,
    pub(crate) run_for: Option<Duration>,
    pub(crate) cooldown: Option<Duration>,
    pub(crate) extensions: Vec<AddExtension<A>>,
    pub(crate) factories: Vec<Box<dyn ObservationExtensionFactory<A>>>,
    pub(crate) workloads: Vec<Box<dyn Workload<A>>>,
    pub(crate) expectations: Vec<Box<dyn Expectation<A>>>,
}

impl<A: Application> Scenario<A> {
    /// Begins a scenario: see [`ScenarioBuilder::new`].
    pub fn builder(name: &str, deployment: A::Deployment) -> ScenarioBuilder<A> {
        ScenarioBuilder::new(name, deployment)
    }

    pub(crate) fn new(plan: Plan<A>) -> Self {
        Self { plan }
    }

    /// Runs the scenario on what `deployer` brings up, and takes everything down again.
    ///
    /// A broken check, a failed workload or a time-out ends the workloads at once; the other
    /// expectations are still judged, so that the report joins all failures. In the end, whatever
    /// happened, the observers are stopped and awaited, and then the nodes go down.
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`] holds everything that went wrong.
    ///
    /// # Panics
    ///
    /// If the tokio runtime has no timer (`enable_time`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the run without waiting: tasks are aborted, observers are asked for
    /// their stop, and then the cluster is dropped, which takes the nodes down. That needs no tokio
    /// context. To wait for the end, use [`run_until`](Self::run_until).
    pub async fn run(self, deployer: &(impl Deployer<A> + ?Sized)) -> Result<RunReport, ScenarioFailure> {
        self.run_until(deployer, pending::<()>()).await
    }

    /// As [`run`](Self::run), until `cancel` resolves: then the workloads are drained, nothing is
    /// judged, and everything is taken down as usual.
    ///
    /// See [`ctrl_c`](crate::ctrl_c) for SIGINT and SIGTERM.
    ///
    /// # Errors
    ///
    /// [`ScenarioFailure`], also when it was cancelled.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    ///
    /// # Cancel safety
    ///
    /// As [`run`](Self::run).
    pub async fn run_until<T>(
        self,
        deployer: &(impl Deployer<A> + ?Sized),
        cancel: impl Future<Output = T>,
    ) -> Result<RunReport, ScenarioFailure> {
        let mut run = Run::new(self.plan, deployer.name());
        let mut cancel = pin!(cancel);
        let cancelled = tokio::select! {
            biased;
            _ = &mut cancel => true,
            () = run.work(deployer) => false,
        };
        if cancelled {
            run.cancelled();
        }
        run.drain().await;
        run.clean_up().await
    }
}

impl<A: Application> fmt::Debug for Scenario<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { name, deployment, workloads, expectations, .. } = &self.plan;
        f.debug_struct("Scenario")
            .field("name", name)
            .field("deployment", deployment)
            .field("workloads", &workloads.iter().map(|workload| workload.name()).collect::<Vec<_>>())
            .field("expectations", &expectations.iter().map(|one| one.name()).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
