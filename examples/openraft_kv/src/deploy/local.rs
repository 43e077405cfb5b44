//! Nodes as child processes on this machine.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::Mutex;
use watchkeeper::{
    ObservationConfig, ObservationRuntime, ObservedSource, PerSource, UnmetOutcome, source_fn,
};
use watchkeeper_scenario::{
    DeployError, Deployer, DynError, NodeAction, NodeClients, NodeControl, NodeControlError, RunningCluster,
    async_trait,
};

use super::{Deployment, RaftKv};
use crate::api::NodeId;
use crate::{ClusterError, ClusterOptions, LocalCluster, NodeClient};

const NAME: &str = "local";
/// How often a node is asked whether it serves.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Brings nodes up as child processes: kill is `SIGKILL`, pause is `SIGSTOP`, each node keeps a log.
///
/// Nothing can be installed or missing: the program is the one that is running, unless another is given.
#[derive(Clone, Debug, Default)]
pub struct LocalDeployer {
    program: Option<PathBuf>,
}

impl LocalDeployer {
    /// Runs the program that is running now.
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
        let mut names = Vec::new();
        for client in cluster.clients() {
            if let Some(id) = client.id() {
                clients.insert(&name(id), client);
                names.push(name(id));
            }
        }
        let nodes = Arc::new(Mutex::new(Some(cluster)));
        let control = LocalControl { nodes: Arc::downgrade(&nodes), clients: clients.clone(), names };
        Ok(Box::new(LocalNodes { nodes, clients, control: Arc::new(control) }))
    }
}

/// The processes. Dropping it kills them, unless an action on a node is under way: then its end does.
struct LocalNodes {
    nodes: Arc<Mutex<Option<LocalCluster>>>,
    clients: NodeClients<NodeClient>,
    control: Arc<LocalControl>,
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
        let id = id(node)?;
        let nodes = self.nodes.lock().await;
        nodes.as_ref()?.log_tail(id)
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        let Some(cluster) = self.nodes.lock().await.take() else { return Ok(()) };
        // Kills and reaps, which blocks for some milliseconds.
        let gone = tokio::task::spawn_blocking(move || drop(cluster)).await;
        gone.map_err(|error| failed("kill the nodes", error))
    }
}

/// Does not keep the processes alive.
struct LocalControl {
    nodes: Weak<Mutex<Option<LocalCluster>>>,
    clients: NodeClients<NodeClient>,
    names: Vec<String>,
}

impl LocalControl {
    fn id(&self, node: &str) -> Result<NodeId, NodeControlError> {
        id(node).filter(|_| self.names.iter().any(|name| name == node)).ok_or_else(|| self.unknown(node))
    }

    async fn act(
        &self,
        action: NodeAction,
        node: &str,
        act: impl AsyncFnOnce(&mut LocalCluster, NodeId) -> Result<(), ClusterError>,
    ) -> Result<(), NodeControlError> {
        let id = self.id(node)?;
        let failed = |source: DynError| NodeControlError::Failed { action, node: node.to_owned(), source };
        let nodes = self.nodes.upgrade().ok_or_else(|| failed("the cluster was shut down".into()))?;
        let mut nodes = nodes.lock().await;
        let cluster = nodes.as_mut().ok_or_else(|| failed("the cluster was shut down".into()))?;
        act(cluster, id).await.map_err(|error| failed(error.into()))
    }
}

#[async_trait]
impl NodeControl for LocalControl {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        self.names.clone()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        self.id(node)?;
        ready(&self.clients, node, within).await
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let restarted = async |cluster: &mut LocalCluster, id| {
            cluster.restart(id).await?;
            self.clients.insert(node, cluster.client(id)?);
            Ok(())
        };
        self.act(NodeAction::Start, node, restarted).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Stop, node, async |cluster: &mut LocalCluster, id| cluster.terminate(id).await)
            .await
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Kill, node, async |cluster: &mut LocalCluster, id| cluster.kill(id).await).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Pause, node, async |cluster: &mut LocalCluster, id| cluster.pause(id)).await
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Resume, node, async |cluster: &mut LocalCluster, id| cluster.resume(id)).await
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
        // Looked up anew in each cycle: a node that restarts may have another address.
        let found = clients.get(&name).map(|client| ObservedSource::new(&name, client));
        async { Ok(found.into_iter().collect()) }
    });
    let probe = |node: ObservedSource<NodeClient>| async move { Ok(node.source.health().await.map(drop)?) };
    let config = ObservationConfig { interval: ASK_AGAIN, ..ObservationConfig::default() };
    let runtime = ObservationRuntime::start(address, PerSource::new(ASK_AGAIN, probe), config).await;
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

fn name(id: NodeId) -> String {
    format!("n{id}")
}

fn id(node: &str) -> Option<NodeId> {
    node.strip_prefix('n')?.parse().ok()
}

fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}
