//! Nodes as child processes on this machine.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::DropGuard;
use watchkeeper::source::source_fn;
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_scenario::{
    DeployError, Deployer, DynError, NodeAction, NodeClients, NodeControl, NodeControlError, RunningCluster,
    async_trait,
};

use super::{Deployment, RaftKv};
use crate::api::{node_id, node_name};
use crate::cluster::NodeProcess;
use crate::{ClusterError, ClusterOptions, LocalCluster, NodeClient};

const NAME: &str = "local";
/// How often a node is asked whether it serves.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Starts nodes as child processes: kill is `SIGKILL`, pause is `SIGSTOP`, each node keeps a log.
///
/// It needs nothing installed: the nodes run the current program, unless another is given.
#[derive(Clone, Debug, Default)]
pub struct LocalDeployer {
    program: Option<PathBuf>,
}

impl LocalDeployer {
    /// Runs the current program.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs this `openraft_kv`.
    #[must_use]
    pub fn with_program(program: impl Into<PathBuf>) -> Self {
        Self { program: Some(program.into()) }
    }
}

#[async_trait]
impl Deployer<RaftKv> for LocalDeployer {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<Box<dyn RunningCluster<RaftKv>>, DeployError> {
        let options = ClusterOptions {
            nodes: deployment.nodes,
            node_flags: deployment.node_flags.clone(),
            program: self.program.clone(),
            ..ClusterOptions::default()
        };
        let cluster = LocalCluster::start(options).await.map_err(|error| match error {
            ClusterError::Impossible { .. } => DeployError::InvalidDeployment(error.to_string()),
            error => failed("start the nodes", error),
        })?;
        let clients = NodeClients::new();
        let mut nodes = Vec::new();
        for (id, node) in cluster.nodes() {
            clients.insert(&node_name(*id), node.client().map_err(|error| failed("reach the nodes", error))?);
            nodes.push((node_name(*id), Arc::downgrade(node)));
        }
        let control = LocalControl { nodes, clients: clients.clone() };
        let closing = cluster.closing().drop_guard();
        Ok(Box::new(LocalNodes {
            cluster: Mutex::new(Some(cluster)),
            clients,
            control: Arc::new(control),
            _closing: closing,
        }))
    }
}

/// The processes. Dropping it ends running actions and kills the processes.
struct LocalNodes {
    cluster: Mutex<Option<LocalCluster>>,
    clients: NodeClients<NodeClient>,
    control: Arc<LocalControl>,
    _closing: DropGuard,
}

#[async_trait]
impl RunningCluster<RaftKv> for LocalNodes {
    fn node_clients(&self) -> NodeClients<NodeClient> {
        self.clients.clone()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::clone(&self.control) as Arc<dyn NodeControl>
    }

    async fn log(&self, node: &str) -> Option<String> {
        self.cluster.lock().await.as_ref()?.log_tail(node_id(node)?)
    }

    /// Running actions on nodes end with [`ClusterError::ShutDown`].
    async fn shut_down(&self) -> Result<(), DeployError> {
        let mut cluster = self.cluster.lock().await;
        if let Some(up) = cluster.as_ref() {
            up.close().await;
        }
        let Some(gone) = cluster.take() else { return Ok(()) };
        // Removes the directory, which blocks for some milliseconds.
        let gone = tokio::task::spawn_blocking(move || drop(gone)).await;
        gone.map_err(|error| failed("remove the nodes' directory", error))
    }
}

/// Does not keep the processes alive.
struct LocalControl {
    nodes: Vec<(String, Weak<NodeProcess>)>,
    clients: NodeClients<NodeClient>,
}

impl LocalControl {
    fn known(&self, node: &str) -> Result<&Weak<NodeProcess>, NodeControlError> {
        let found = self.nodes.iter().find(|(name, _)| name == node);
        found.map(|(_, node)| node).ok_or_else(|| self.unknown(node))
    }

    /// An action on one node waits for no other node.
    async fn act(
        &self,
        action: NodeAction,
        node: &str,
        act: impl AsyncFnOnce(&NodeProcess) -> Result<(), ClusterError>,
    ) -> Result<(), NodeControlError> {
        let done = match self.known(node)?.upgrade() {
            Some(known) => act(&known).await,
            None => Err(ClusterError::ShutDown),
        };
        done.map_err(|error| NodeControlError::Failed { action, node: node.to_owned(), source: error.into() })
    }

    fn reached_at(&self, node: &str, known: &NodeProcess) -> Result<(), ClusterError> {
        self.clients.insert(node, known.client()?);
        Ok(())
    }

    /// Nodes on one machine share its network, which cannot be cut between them.
    fn no_network(&self, action: NodeAction, node: &str) -> NodeControlError {
        match self.known(node) {
            Ok(_) => self.unsupported(action, node),
            Err(unknown) => unknown,
        }
    }
}

#[async_trait]
impl NodeControl for LocalControl {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.iter().map(|(name, _)| name.clone()).collect()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        if self.known(node)?.upgrade().is_none() {
            let (node, last) = (node.to_owned(), ClusterError::ShutDown.to_string());
            return Err(NodeControlError::NotReady { node, within, last });
        }
        ready(&self.clients, node, within).await
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let start = async |known: &NodeProcess| match known.start().await {
            Err(ClusterError::StillRunning { .. }) if !known.is_paused() => Ok(()),
            started => started.and_then(|()| self.reached_at(node, known)),
        };
        self.act(NodeAction::Start, node, start).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        let stop = async |known: &NodeProcess| match known.terminate().await {
            Err(ClusterError::NotRunning { .. }) => Ok(()),
            stopped => stopped,
        };
        self.act(NodeAction::Stop, node, stop).await
    }

    async fn restart(&self, node: &str) -> Result<(), NodeControlError> {
        let restart = async |known: &NodeProcess| {
            known.restart().await?;
            self.reached_at(node, known)
        };
        self.act(NodeAction::Restart, node, restart).await
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Kill, node, async |known: &NodeProcess| known.kill().await).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Pause, node, async |known: &NodeProcess| known.pause().await).await
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Resume, node, async |known: &NodeProcess| known.resume().await).await
    }

    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.no_network(NodeAction::Isolate, node))
    }

    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.no_network(NodeAction::Rejoin, node))
    }
}

/// Waits until the node called `node` says that it is healthy.
async fn ready(
    clients: &NodeClients<NodeClient>,
    node: &str,
    within: Duration,
) -> Result<(), NodeControlError> {
    let not_ready = |last| NodeControlError::NotReady { node: node.to_owned(), within, last };
    let (clients, name) = (clients.clone(), node.to_owned());
    let address = source_fn(move || {
        // Looked up in each cycle: a node that restarts may have another address.
        let found = clients.get(&name).map(|client| ObservedSource::new(&name, client));
        async { Ok::<_, DynError>(found.into_iter().collect()) }
    });
    let probe = |node: ObservedSource<NodeClient>| async move {
        Ok::<_, DynError>(node.source.health().await.map(drop)?)
    };
    let config = ObservationConfig { interval: ASK_AGAIN, ..ObservationConfig::default() };
    let runtime = ObservationRuntime::start(address, PerSource::new(probe), config).await;
    let runtime = runtime.map_err(|error| not_ready(error.to_string()))?;
    let handle = runtime.handle();
    let served = handle.source_fresh(node).or_now().within(within).await;
    let served = served.map(drop).map_err(|unmet| match unmet.outcome() {
        UnmetOutcome::Invalid(_) => not_ready(unmet.outcome().to_string()),
        _ => not_ready(handle.why_stale(node)),
    });
    let _ = runtime.stop().await;
    served
}

fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}
