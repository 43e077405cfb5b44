//! Building a scenario.

use std::any::{TypeId, type_name};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use watchkeeper::runtime::CancellationToken;
use watchkeeper::wait::Verdict;
use watchkeeper::{DynError, ObservationConfig, Observer};

use crate::closures::{AtTheEnd, Begun, Closure, Throughout};
use crate::factory::{Nodes, OneObserver};
use crate::guarded::Panics;
use crate::invariant::{Holding, Watched};
use crate::limits::is_valid;
use crate::part::Part;
use crate::plan::{AddExtension, Plan};
use crate::subject::Subject;
use crate::text::{bounded, quoted};
use crate::{
    Application, Expectation, Limits, ObservationExtensionFactory, RunContext, Scenario,
    SourceProviderFactory, Workload,
};
use watchkeeper::report::debug_as_text;

/// Collects the parts of a [`Scenario`].
///
/// [`build`](Self::build) reports mistakes, so that calls can be chained.
#[must_use = "a builder does nothing until `build` is called"]
pub struct ScenarioBuilder<A: Application> {
    plan: Plan<A>,
    observers: Vec<String>,
    extension_types: Vec<(TypeId, &'static str)>,
    /// The first part whose `name` panicked.
    unnamed: Option<BuildError>,
}

/// Why a scenario was not built.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Something has no name.
    #[error("each {what} needs a name: it may not be empty")]
    EmptyName {
        /// What: "scenario", "observer", "workload" or "expectation".
        what: &'static str,
    },
    /// The `name` or `is_endless` of a part panicked.
    #[error(
        "a {what} panicked when it was asked for its name: return a constant there; {}",
        bounded(message)
    )]
    Panicked {
        /// What: "factory", "workload" or "expectation".
        what: &'static str,
        /// The message of the panic.
        message: String,
    },
    /// Two parts of one kind have the same name.
    #[error("there are two {what}s called {}: give each its own name", quoted(name))]
    DuplicateName {
        /// What: "observer", "workload" or "expectation".
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Two extensions have the same type.
    #[error("there are two extensions of type {type_name}: wrap one of them in its own type")]
    DuplicateExtension {
        /// The type.
        type_name: &'static str,
    },
    /// A duration is zero, or longer than 24 h.
    #[error("{field} is {value:?}: it must be more than zero and at most 24 h")]
    InvalidDuration {
        /// Which one, such as `Limits::drain` or `cooldown`.
        field: &'static str,
        /// What was given.
        value: Duration,
    },
    /// The workloads would time out before they have run long enough.
    #[error("run_for is {run_for:?}, and Limits::workloads only {limit:?}: raise the limit above it")]
    RunForOverLimit {
        /// What was given.
        run_for: Duration,
        /// The time-out of the workloads.
        limit: Duration,
    },
    /// All workloads are endless, and `run_for` is not set.
    #[error("all workloads are endless: set with `run_for` how long they run")]
    EndlessWithoutDuration,
    /// There is neither a workload nor an expectation.
    #[error("the scenario has no workload and no expectation: add one of them")]
    NothingToDo,
}

debug_as_text!(BuildError);

impl<A: Application> Scenario<A> {
    /// Begins a scenario: see [`ScenarioBuilder::new`].
    pub fn builder(name: &str, deployment: A::Deployment) -> ScenarioBuilder<A> {
        ScenarioBuilder::new(name, deployment)
    }
}

impl<A: Application> ScenarioBuilder<A> {
    /// A scenario on `deployment` that does nothing yet.
    pub fn new(name: &str, deployment: A::Deployment) -> Self {
        let panics = Panics::default();
        let plan = Plan {
            name: name.to_owned(),
            deployment: Some(Arc::new(panics.guard(Subject::Deployment, deployment))),
            limits: Limits::default(),
            run_for: None,
            cooldown: None,
            parent: None,
            extensions: Vec::new(),
            factories: Vec::new(),
            workloads: Vec::new(),
            expectations: Vec::new(),
            panics,
        };
        Self { plan, observers: Vec::new(), extension_types: Vec::new(), unnamed: None }
    }

    /// Sets the time-outs of the phases. Default: see [`Limits`].
    pub fn limits(mut self, limits: Limits) -> Self {
        self.plan.limits = limits;
        self
    }

    /// Sets how long the phase of the workloads lasts at least. Default: until all workloads that are not endless have
    /// ended.
    pub fn run_for(mut self, at_least: Duration) -> Self {
        self.plan.run_for = Some(at_least);
        self
    }

    /// Sets how long the nodes settle after the workloads; endless workloads continue meanwhile. Default: no cooldown.
    pub fn cooldown(mut self, cooldown: Duration) -> Self {
        self.plan.cooldown = Some(cooldown);
        self
    }

    /// Cancels the run when `parent` is cancelled, in any phase: the workloads are drained, nothing is judged, and
    /// everything is taken down as usual. The run ends with [`Problem::Cancelled`](crate::Problem::Cancelled). If
    /// `parent` is already cancelled, nothing is deployed. Default: no parent.
    ///
    /// The future passed to [`Scenario::run_until`] cancels the run as well: the first of the two counts. The run stops
    /// the observers before the nodes go down, so their configs need no parent.
    ///
    /// # Examples
    ///
    /// One token ends everything that a program has started, including this run.
    ///
    /// ```
    /// # use std::sync::Arc;
    /// # use std::time::Duration;
    /// use watchkeeper_scenario::{Application, CancellationToken, Problem, Scenario, WorkloadEnd};
    /// # use watchkeeper_scenario::{DeployError, Deployer, NodeClients, NodeControl, NodeControlError, RunningCluster, async_trait};
    /// # struct App;
    /// # impl Application for App { type Deployment = (); type NodeClient = (); }
    /// # struct Memory;
    /// # #[async_trait]
    /// # impl Deployer<App> for Memory {
    /// #     fn name(&self) -> &'static str { "memory" }
    /// #     async fn deploy(&self, _: &()) -> Result<Box<dyn RunningCluster<App>>, DeployError> { Ok(Box::new(NoNodes)) }
    /// # }
    /// # struct NoNodes;
    /// # #[async_trait]
    /// # impl RunningCluster<App> for NoNodes {
    /// #     fn node_clients(&self) -> NodeClients<()> { NodeClients::new() }
    /// #     fn node_control(&self) -> Arc<dyn NodeControl> { Arc::new(NoNodes) }
    /// #     async fn shut_down(&self) -> Result<(), DeployError> { Ok(()) }
    /// # }
    /// # #[async_trait]
    /// # impl NodeControl for NoNodes {
    /// #     fn deployer(&self) -> &'static str { "memory" }
    /// #     fn nodes(&self) -> Vec<String> { Vec::new() }
    /// #     async fn wait_ready(&self, _: &str, _: Duration) -> Result<(), NodeControlError> { Ok(()) }
    /// # }
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let deployer = Memory;
    /// let token = CancellationToken::new();
    /// let of_the_workload = token.clone();
    /// let scenario = Scenario::<App>::builder("until the token", ())
    ///     .with_parent(token)
    ///     .workload("work", |context| async move {
    ///         of_the_workload.cancel();
    ///         context.cancelled().await;
    ///         Ok(())
    ///     })
    ///     .build()?;
    /// let failure = scenario.run(&deployer).await.unwrap_err();
    /// assert!(matches!(failure.failures()[0].problem, Problem::Cancelled));
    /// assert_eq!(failure.report().workloads[0].end, WorkloadEnd::Cancelled);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_parent(mut self, parent: CancellationToken) -> Self {
        self.plan.parent = Some(parent);
        self
    }

    /// Starts an observer over the node clients; it follows restarts. [`RunContext::observer`] returns its handle by
    /// this name.
    pub fn with_observer<O, M>(self, name: &str, make: M, config: ObservationConfig) -> Self
    where
        O: Observer<Source = A::NodeClient, Snapshot: fmt::Debug, Event: fmt::Debug>,
        M: FnOnce(&RunContext<A>) -> O + Send + 'static,
    {
        self.with_observer_over(name, Nodes, make, config)
    }

    /// Starts an observer over its own sources: `sources` builds their provider once the nodes run.
    pub fn with_observer_over<O, F, M>(
        mut self,
        name: &str,
        sources: F,
        make: M,
        config: ObservationConfig,
    ) -> Self
    where
        O: Observer<Snapshot: fmt::Debug, Event: fmt::Debug>,
        F: SourceProviderFactory<A, O::Source>,
        M: FnOnce(&RunContext<A>) -> O + Send + 'static,
    {
        self.observers.push(name.to_owned());
        let guard = self.plan.panics.clone();
        let subject = || Subject::Factory(name.to_owned());
        let (sources, make) = (guard.guard(subject(), sources), Some(guard.guard(subject(), make)));
        self.with_factory(OneObserver { name: name.to_owned(), sources, make, config })
    }

    /// Adds a factory, which is called once the nodes run.
    pub fn with_factory(mut self, factory: impl ObservationExtensionFactory<A>) -> Self {
        match Part::factory(&self.plan.panics, self.plan.factories.len(), factory) {
            Ok(factory) => self.plan.factories.push(factory),
            Err(message) => self.unnamed("factory", message),
        }
        self
    }

    /// Adds a value that the parts of the run find by its type.
    pub fn with_extension<T: Send + Sync + 'static>(mut self, value: T) -> Self {
        self.extension_types.push((TypeId::of::<T>(), type_name::<T>()));
        let add: AddExtension<A> = Box::new(move |context| context.add_extension(value).map(drop));
        let subject = Subject::Extension(type_name::<T>().to_owned());
        self.plan.extensions.push(self.plan.panics.guard(subject, add));
        self
    }

    /// Adds a workload.
    pub fn with_workload(mut self, workload: impl Workload<A>) -> Self {
        match Part::workload(&self.plan.panics, self.plan.workloads.len(), workload) {
            Ok(workload) => self.plan.workloads.push(workload),
            Err(message) => self.unnamed("workload", message),
        }
        self
    }

    /// Adds a workload that is not endless.
    ///
    /// `?` inside the closure turns any error into a [`DynError`], so the closure can end with `Ok(())`. To return an
    /// error, it ends with `Err(error.into())`.
    pub fn workload<F, W>(self, name: &str, work: F) -> Self
    where
        F: FnOnce(RunContext<A>) -> W + Send + 'static,
        W: Future<Output = Result<(), DynError>> + Send + 'static,
    {
        self.with_workload(Closure { name: name.to_owned(), endless: false, work: Some(work) })
    }

    /// Adds a workload that runs until it is cancelled: see [`RunContext::cancelled`]. If it ends before that, the run
    /// fails.
    pub fn endless_workload<F, W>(self, name: &str, work: F) -> Self
    where
        F: FnOnce(RunContext<A>) -> W + Send + 'static,
        W: Future<Output = Result<(), DynError>> + Send + 'static,
    {
        self.with_workload(Closure { name: name.to_owned(), endless: true, work: Some(work) })
    }

    /// Adds an expectation.
    pub fn with_expectation(mut self, expectation: impl Expectation<A>) -> Self {
        match Part::expectation(&self.plan.panics, self.plan.expectations.len(), expectation) {
            Ok(expectation) => self.plan.expectations.push(expectation),
            Err(message) => self.unnamed("expectation", message),
        }
        self
    }

    /// Expects a wait that begins after the workloads to be met.
    ///
    /// The closure ends with `Ok(wait.await?)`. The value of the wait is dropped, except that the run's report keeps the
    /// snapshot count of an [`InvariantReport`](watchkeeper::wait::InvariantReport). The window must be shorter than
    /// [`Limits::evaluate`]: a wait that this limit cuts off has no report.
    pub fn expect_wait<F, W, T>(self, name: &str, wait: F) -> Self
    where
        F: FnOnce(RunContext<A>) -> W + Send + 'static,
        W: Future<Output = Result<T, DynError>> + Send + 'static,
        T: 'static,
    {
        let before = self.plan.expectations.len();
        let mut builder = self.with_expectation(AtTheEnd { name: name.to_owned(), wait: Some(wait) });
        builder.plan.expectations[before..].iter_mut().for_each(|expectation| expectation.checks = false);
        builder
    }

    /// Expects a wait that begins right before the workloads to be met, so that its window covers them.
    ///
    /// The wait runs as a task, which ends before the nodes go down. A wait that fails early ends the workloads. A wait
    /// that is still pending after the workloads is awaited for [`Limits::evaluate`] at most: if this limit cuts it off,
    /// it has no report.
    pub fn expect_wait_throughout<F, W, T>(self, name: &str, wait: F) -> Self
    where
        F: FnOnce(RunContext<A>) -> W + Send + 'static,
        W: Future<Output = Result<T, DynError>> + Send + 'static,
        T: 'static,
    {
        self.with_expectation(Throughout { name: name.to_owned(), wait: Begun::NotYet(wait) })
    }

    /// Expects every fresh snapshot of the observer called `observer` to satisfy `predicate`, from right before the
    /// workloads start until they have ended: an [invariant](watchkeeper::ObservationHandle::invariant) whose label is
    /// `name`. `S` is the type of the snapshots: name it in the closure's argument.
    ///
    /// A violation ends the workloads at the next check, at most a second later. The report of a run that passed counts
    /// the snapshots that were judged; if none was judged, the run fails. The run fails before a workload starts if
    /// there is no such observer, or if its snapshots have another type.
    ///
    /// # Examples
    ///
    /// ```
    /// # use watchkeeper::per_source::PerSourceSnapshot;
    /// # use watchkeeper_scenario::{Application, ScenarioBuilder};
    /// # fn example<A: Application>(builder: ScenarioBuilder<A>) -> ScenarioBuilder<A> {
    /// builder.expect_invariant("n1 never exceeds 9", "counts", |seen: &PerSourceSnapshot<u64>| {
    ///     seen.answer("n1").is_none_or(|count| *count <= 9)
    /// })
    /// # }
    /// ```
    pub fn expect_invariant<S, F, R>(self, name: &str, observer: &str, predicate: F) -> Self
    where
        S: 'static,
        F: FnMut(&S) -> R + Send + 'static,
        R: Into<Verdict> + 'static,
    {
        self.with_expectation(Holding {
            name: name.to_owned(),
            observer: observer.to_owned(),
            watched: Watched::NotYet(predicate),
            of: PhantomData,
        })
    }

    fn unnamed(&mut self, what: &'static str, message: String) {
        self.unnamed.get_or_insert(BuildError::Panicked { what, message });
    }

    /// Checks the parts and returns the scenario.
    ///
    /// # Errors
    ///
    /// [`BuildError`] names the first mistake.
    pub fn build(self) -> Result<Scenario<A>, BuildError> {
        let Self { plan, observers, extension_types, unnamed } = self;
        if plan.name.is_empty() {
            return Err(BuildError::EmptyName { what: "scenario" });
        }
        if let Some(unnamed) = unnamed {
            return Err(unnamed);
        }
        check_names("observer", observers.iter().map(String::as_str))?;
        check_names("workload", plan.workloads.iter().map(Part::name))?;
        check_names("expectation", plan.expectations.iter().map(Part::name))?;
        let mut types = HashSet::new();
        if let Some(&(_, type_name)) = extension_types.iter().find(|(id, _)| !types.insert(*id)) {
            return Err(BuildError::DuplicateExtension { type_name });
        }
        check_durations(&plan)?;
        if plan.workloads.is_empty() && plan.expectations.is_empty() {
            return Err(BuildError::NothingToDo);
        }
        let all_endless = plan.workloads.iter().all(|workload| workload.endless);
        if !plan.workloads.is_empty() && all_endless && plan.run_for.is_none() {
            return Err(BuildError::EndlessWithoutDuration);
        }
        Ok(Scenario::new(plan))
    }
}

fn check_names<'a>(what: &'static str, names: impl Iterator<Item = &'a str>) -> Result<(), BuildError> {
    let mut seen = HashSet::new();
    for name in names {
        if name.is_empty() {
            return Err(BuildError::EmptyName { what });
        }
        if !seen.insert(name) {
            return Err(BuildError::DuplicateName { what, name: name.to_owned() });
        }
    }
    Ok(())
}

fn check_durations<A: Application>(plan: &Plan<A>) -> Result<(), BuildError> {
    let lengths = [("run_for", plan.run_for), ("cooldown", plan.cooldown)];
    let wrong = lengths
        .into_iter()
        .find_map(|(field, value)| Some((field, value.filter(|value| !is_valid(*value))?)));
    if let Some((field, value)) = plan.limits.wrong().or(wrong) {
        return Err(BuildError::InvalidDuration { field, value });
    }
    let limit = plan.limits.workloads;
    match plan.run_for {
        Some(run_for) if run_for >= limit => Err(BuildError::RunForOverLimit { run_for, limit }),
        _ => Ok(()),
    }
}

impl<A: Application> fmt::Debug for ScenarioBuilder<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScenarioBuilder")
            .field("name", &self.plan.name)
            .field("observers", &self.observers)
            .finish_non_exhaustive()
    }
}
