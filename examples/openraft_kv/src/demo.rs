//! The demo: observes a cluster, kills its leader, and prints what happens.
//!
//! Every wait is on the handle of the observation.

use std::future::pending;
use std::time::Duration;

use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;
use watchkeeper::{ObservationRuntime, ObservationRuntimeError, SourceProvider};
use watchkeeper_scenario::{BuildError, Deployer, Failure, Phase, Problem, ScenarioFailure};

use crate::NodeClient;
#[cfg(feature = "compose")]
use crate::deploy::compose::compose_deployer;
use crate::deploy::k8s::K8sFlags;
#[cfg(feature = "k8s")]
use crate::deploy::k8s::k8s_deployer;
use crate::deploy::{Deployment, RaftKv, local_deployer};
use crate::errors::Chain;
use crate::failover::{self, Failover, config};
use crate::observer::RaftObserver;
use crate::timeline::{Style, Timeline};

/// The flags of the demo.
#[derive(Clone, Debug, Args)]
pub struct DemoFlags {
    /// How many nodes, at least 3: fewer do not survive the loss of one
    #[arg(long, default_value_t = 3)]
    pub nodes: u64,
    /// How often the cluster is polled, such as 50ms or 1s
    #[arg(long, default_value = "100ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// Run the whole scenario, with a hung node and a leader that is cut off, on nodes of this deployer
    #[arg(long, value_enum)]
    pub deployer: Option<DeployerName>,
    /// For `--deployer k8s`.
    #[command(flatten)]
    pub k8s: K8sFlags,
    /// Keep running and watching until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object per line
    #[arg(long)]
    pub json: bool,
}

/// What starts the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DeployerName {
    /// Child processes on this machine
    Local,
    /// Containers on a Docker engine, by docker-compose (built with `--features compose`)
    Compose,
    /// Pods of the Kubernetes cluster of the kubeconfig (built with `--features k8s`)
    K8s,
}

impl DemoFlags {
    #[allow(clippy::unnecessary_wraps, reason = "only a build with every feature has them all")]
    fn deployer(&self) -> Result<Box<dyn Deployer<RaftKv>>, DemoError> {
        match self.deployer {
            None | Some(DeployerName::Local) => Ok(Box::new(local_deployer(None))),
            #[cfg(feature = "compose")]
            Some(DeployerName::Compose) => Ok(Box::new(compose_deployer())),
            #[cfg(not(feature = "compose"))]
            Some(DeployerName::Compose) => Err(DemoError::NotBuilt { deployer: "compose" }),
            #[cfg(feature = "k8s")]
            Some(DeployerName::K8s) => match k8s_deployer(self.k8s.clone().into()) {
                Ok(deployer) => Ok(Box::new(deployer)),
                Err(error) => Err(DemoError::NotStarted(Chain(&error).to_string())),
            },
            #[cfg(not(feature = "k8s"))]
            Some(DeployerName::K8s) => Err(DemoError::NotBuilt { deployer: "k8s" }),
        }
    }
}

/// Why the demo failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DemoError {
    /// The cluster cannot survive the loss of its leader.
    #[error("--nodes is {nodes}: the cluster must survive the loss of its leader, which takes 3 or more")]
    TooFewNodes {
        /// What was asked for.
        nodes: u64,
    },
    /// The program was built without this deployer.
    #[error("this program was built without the {deployer} deployer: build it with `--features {deployer}`")]
    NotBuilt {
        /// Which one; the feature has its name.
        deployer: &'static str,
    },
    /// The scenario cannot be built.
    #[error(transparent)]
    Scenario(#[from] BuildError),
    /// The nodes did not start, or were not observed: the reason, as one line.
    #[error("{0}")]
    NotStarted(String),
    /// The cluster did not do what was waited for.
    #[error(transparent)]
    Failed(ScenarioFailure),
    /// A signal ended the demo, and nothing else failed.
    #[error("interrupted{}", if *deploying {
        " while the nodes started; containers and pods made by then are still being removed"
    } else {
        "; the cluster is gone"
    })]
    Interrupted {
        /// Whether the nodes were still starting.
        deploying: bool,
    },
}

crate::errors::debug_is_the_text!(DemoError);

/// Runs the demo to its end; with `keep`, it then watches until `interrupted`.
///
/// No process and no directory is left when it ends, or when the future is dropped. Containers and pods whose
/// deployment is interrupted are removed in the background.
///
/// # Errors
///
/// [`DemoError`].
pub async fn run(flags: &DemoFlags, interrupted: impl Future<Output = ()>) -> Result<(), DemoError> {
    if flags.nodes < 3 {
        return Err(DemoError::TooFewNodes { nodes: flags.nodes });
    }
    let timeline = Timeline::new(Style::of_stdout(flags.json));
    let end = CancellationToken::new();
    let failover = Failover {
        interval: flags.interval,
        all: flags.deployer.is_some(),
        keep: flags.keep.then(|| end.clone()),
        timeline: timeline.clone(),
    };
    let deployer = flags.deployer()?;
    let deployment = Deployment { nodes: flags.nodes, ..Deployment::default() };
    let scenario = failover::failover(deployment, failover)?;
    timeline.step(format_args!("starting {} nodes", flags.nodes));
    let cancel = async {
        interrupted.await;
        end.cancel();
        // After the summary an interrupt ends only the watching, not the run.
        if timeline.is_summed_up() {
            pending::<()>().await;
        }
    };
    let result = scenario.run_until(&*deployer, cancel).await;
    timeline.to_the_end().await;
    result.map(drop).map_err(failed)
}

/// The error for a failure; one line where that is enough.
fn failed(failure: ScenarioFailure) -> DemoError {
    match failure.failures() {
        [Failure { phase, problem: Problem::Cancelled, .. }] => {
            DemoError::Interrupted { deploying: *phase == Phase::Deploy }
        }
        [Failure { phase: Phase::Deploy | Phase::Prepare, problem: Problem::Error(error), .. }] => {
            DemoError::NotStarted(Chain(&**error).to_string())
        }
        _ => DemoError::Failed(failure),
    }
}

/// Observes the nodes that `nodes` provides.
///
/// # Errors
///
/// [`ObservationRuntimeError`]: the interval is zero or out of range.
pub async fn observe_nodes(
    nodes: impl SourceProvider<NodeClient>,
    interval: Duration,
) -> Result<ObservationRuntime<RaftObserver>, ObservationRuntimeError> {
    ObservationRuntime::start(nodes, RaftObserver::new(), config(interval)).await
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::sync::Arc;

    use watchkeeper_scenario::{
        DeployError, NodeClients, NodeControl, NodeControlError, RunningCluster, Scenario, async_trait,
    };

    use super::*;

    /// A deployer without nodes: only its start and its end matter.
    #[derive(Clone, Copy)]
    struct NoNodes {
        come_up: bool,
        go_down: bool,
    }

    #[async_trait]
    impl Deployer<RaftKv> for NoNodes {
        fn name(&self) -> &'static str {
            "no nodes"
        }

        async fn deploy(&self, _: &Deployment) -> Result<Box<dyn RunningCluster<RaftKv>>, DeployError> {
            if self.come_up { Ok(Box::new(*self)) } else { pending().await }
        }
    }

    #[async_trait]
    impl RunningCluster<RaftKv> for NoNodes {
        fn node_clients(&self) -> NodeClients<NodeClient> {
            NodeClients::new()
        }

        fn node_control(&self) -> Arc<dyn NodeControl> {
            Arc::new(*self)
        }

        async fn shut_down(&self) -> Result<(), DeployError> {
            if self.go_down {
                return Ok(());
            }
            let (deployer, step) = ("no nodes".to_owned(), "take its nodes down".to_owned());
            Err(DeployError::Failed { deployer, step, source: "two are left".into() })
        }
    }

    #[async_trait]
    impl NodeControl for NoNodes {
        fn deployer(&self) -> &'static str {
            "no nodes"
        }

        fn nodes(&self) -> Vec<String> {
            Vec::new()
        }

        async fn wait_ready(&self, node: &str, _: Duration) -> Result<(), NodeControlError> {
            Err(self.unknown(node))
        }
    }

    /// A run that is interrupted while the nodes start, or during the workload.
    async fn interrupted(nodes: NoNodes) -> DemoError {
        let at_work = CancellationToken::new();
        let working = at_work.clone();
        let scenario = Scenario::builder("interrupted", Deployment::default()).workload(
            "works",
            move |context| async move {
                working.cancel();
                context.cancelled().await;
                Ok(())
            },
        );
        let interrupted = async { if nodes.come_up { at_work.cancelled().await } else { ready(()).await } };
        failed(scenario.build().unwrap().run_until(&nodes, interrupted).await.unwrap_err())
    }

    #[tokio::test]
    async fn an_interrupt_reports_the_state_of_the_nodes() {
        let coming_up = interrupted(NoNodes { come_up: false, go_down: true }).await;
        assert!(matches!(coming_up, DemoError::Interrupted { deploying: true }), "{coming_up}");
        assert!(coming_up.to_string().contains("still being removed"), "{coming_up}");

        let at_work = interrupted(NoNodes { come_up: true, go_down: true }).await;
        assert!(matches!(at_work, DemoError::Interrupted { deploying: false }), "{at_work}");
        assert_eq!(at_work.to_string(), "interrupted; the cluster is gone");

        let left = interrupted(NoNodes { come_up: true, go_down: false }).await;
        let DemoError::Failed(failure) = &left else { panic!("{left}") };
        assert_eq!(failure.failures().len(), 2);
        for part in ["the run was cancelled from outside", "two are left"] {
            assert!(left.to_string().contains(part), "{left}");
        }
    }
}
