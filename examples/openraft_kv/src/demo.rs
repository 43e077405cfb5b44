//! The main job: a cluster is observed, its leader is killed, and a person sees what happened.
//!
//! Whatever is waited for here is waited for on the observation's handle.

use std::future::pending;
use std::io::IsTerminal;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use watchkeeper::{ObservationRuntime, ObservationRuntimeError, ObservedSource, SourceProvider, source_fn};
use watchkeeper_scenario::{BuildError, Deployer, Failure, Phase, Problem, ScenarioFailure};

use crate::deploy::compose::ComposeDeployer;
use crate::deploy::k8s::{K8sDeployer, K8sFlags};
use crate::deploy::{Deployment, LocalDeployer, RaftKv};
use crate::failover::{self, Failover, config};
use crate::observer::RaftObserver;
use crate::timeline::{Style, Timeline};
use crate::{LocalCluster, NodeClient};

/// What the demo can be told.
#[derive(Clone, Debug, Args)]
pub struct DemoFlags {
    /// How many nodes, at least 3: fewer do not survive the loss of one
    #[arg(long, default_value_t = 3)]
    pub nodes: u64,
    /// How often the cluster is looked at, such as 50ms or 1s
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// What brings the nodes up
    #[arg(long, value_enum, default_value_t = DeployerName::Local)]
    pub deployer: DeployerName,
    /// For `--deployer k8s`.
    #[command(flatten)]
    pub k8s: K8sFlags,
    /// Keep running and watching until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// What brings the nodes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeployerName {
    /// Child processes on this machine
    Local,
    /// Containers on a Docker engine, by docker-compose
    Compose,
    /// Pods of the Kubernetes cluster of the kubeconfig
    K8s,
}

impl DemoFlags {
    fn deployer(&self) -> Box<dyn Deployer<RaftKv>> {
        match self.deployer {
            DeployerName::Local => Box::new(LocalDeployer::new()),
            DeployerName::Compose => Box::new(ComposeDeployer::new()),
            DeployerName::K8s => Box::new(K8sDeployer::new(self.k8s.clone().into())),
        }
    }
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The cluster cannot survive what is about to happen to it.
    #[error("--nodes is {nodes}: the cluster must survive the loss of its leader, which takes 3 or more")]
    TooFewNodes {
        /// What was asked for.
        nodes: u64,
    },
    /// The scenario makes no sense.
    #[error(transparent)]
    Scenario(#[from] BuildError),
    /// The nodes did not come up, or were not observed; says why in one line.
    #[error("{0}")]
    NotStarted(String),
    /// The cluster did not do what was waited for.
    #[error(transparent)]
    Failed(ScenarioFailure),
    /// A signal came first.
    #[error("interrupted; the cluster is gone")]
    Interrupted,
}

/// Runs the demo to its end; with `keep`, it then watches until `interrupted`.
///
/// However it ends, no process and no directory is left behind; also when the future is dropped.
///
/// # Errors
///
/// [`DemoError`].
pub async fn run(flags: &DemoFlags, interrupted: impl Future<Output = ()>) -> Result<(), DemoError> {
    if flags.nodes < 3 {
        return Err(DemoError::TooFewNodes { nodes: flags.nodes });
    }
    let style = match (flags.json, std::io::stdout().is_terminal()) {
        (true, _) => Style::Json,
        (false, true) => Style::Terminal,
        (false, false) => Style::Plain,
    };
    let timeline = Timeline::new(style);
    let end = CancellationToken::new();
    let failover = Failover {
        interval: flags.interval,
        keep: flags.keep.then(|| end.clone()),
        timeline: timeline.clone(),
    };
    let deployment = Deployment { nodes: flags.nodes, ..Deployment::default() };
    let scenario = failover::failover(deployment, failover)?;
    timeline.step(format_args!("starting {} nodes", flags.nodes));
    let cancel = async {
        interrupted.await;
        end.cancel();
        // Behind the summary an interrupt ends the watching, and not the run.
        if timeline.is_summed_up() {
            pending::<()>().await;
        }
    };
    let result = scenario.run_until(&*flags.deployer(), cancel).await;
    timeline.to_the_end().await;
    result.map(drop).map_err(failed)
}

/// What a failure comes down to, where it is one line.
fn failed(failure: ScenarioFailure) -> DemoError {
    let cancelled = |failure: &Failure| matches!(failure.problem, Problem::Cancelled);
    if failure.failures().iter().any(cancelled) {
        return DemoError::Interrupted;
    }
    match failure.failures() {
        [Failure { phase: Phase::Deploy | Phase::Prepare, problem: Problem::Error(error), .. }] => {
            let mut line = error.to_string();
            let mut reason = error.source();
            while let Some(cause) = reason {
                line = format!("{line}: {cause}");
                reason = cause.source();
            }
            DemoError::NotStarted(line)
        }
        _ => DemoError::Failed(failure),
    }
}

/// Watches every node that the cluster ever started, dead ones too: that they are lost is what
/// there is to see.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or absurd.
pub async fn observe(
    cluster: &LocalCluster,
    interval: Duration,
) -> Result<ObservationRuntime<RaftObserver>, ObservationRuntimeError> {
    let roster = cluster.roster();
    let nodes = source_fn(move || {
        let nodes = sources(&roster.all());
        async { Ok(nodes) }
    });
    observe_nodes(nodes, interval).await
}

/// Watches the nodes that `nodes` provides.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or absurd.
pub async fn observe_nodes(
    nodes: impl SourceProvider<NodeClient>,
    interval: Duration,
) -> Result<ObservationRuntime<RaftObserver>, ObservationRuntimeError> {
    ObservationRuntime::start(nodes, RaftObserver::at(interval), config(interval)).await
}

/// Nodes as sources, called `n1`, `n2` and so on.
#[must_use]
pub fn sources(clients: &[NodeClient]) -> Vec<ObservedSource<NodeClient>> {
    let source = |client: &NodeClient| {
        let name = client.id().map_or_else(|| client.addr().to_owned(), |id| format!("n{id}"));
        ObservedSource::new(&name, client.clone())
    };
    clients.iter().map(source).collect()
}
