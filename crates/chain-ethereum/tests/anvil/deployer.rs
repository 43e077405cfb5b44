//! Real nodes for scenarios.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain_ethereum::EthereumClient;
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig, AnvilError};
use watchkeeper_scenario::{
    Application, DeployError, Deployer, DynError, NodeAction, NodeClients, NodeControl, NodeControlError,
    RunningCluster, async_trait,
};

#[path = "../../../deploy/tests/contract/mod.rs"]
mod contract;

use contract::State;

const NAME: &str = "anvil";

const SHUT_DOWN: &str = "the cluster was shut down";

/// Ethereum nodes that make the same blocks when they get the same commands.
pub(crate) struct Chain;

impl Application for Chain {
    /// The number of nodes.
    type Deployment = usize;
    type NodeClient = Node;
}

/// A node as a workload sees it. It does not keep the node alive.
#[derive(Clone)]
pub(crate) struct Node {
    /// Asks the node, also after a restart.
    pub(crate) client: EthereumClient,
    anvil: Weak<Mutex<Anvil>>,
}

impl Node {
    /// The node itself, locked for one action at a time.
    pub(crate) async fn anvil(&self) -> Result<OwnedMutexGuard<Anvil>, DynError> {
        let anvil = self.anvil.upgrade().ok_or(SHUT_DOWN)?;
        Ok(anvil.lock_owned().await)
    }
}

/// Starts nodes that are named n1, n2 and so on.
pub(crate) struct AnvilDeployer;

#[async_trait]
impl Deployer<Chain> for AnvilDeployer {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Chain>>, DeployError> {
        if *nodes == 0 {
            return Err(DeployError::InvalidDeployment("it has no nodes: ask for at least one".to_owned()));
        }
        let clients = NodeClients::new();
        let mut running = BTreeMap::new();
        for nth in 1..=*nodes {
            let name = format!("n{nth}");
            let anvil =
                Anvil::start(AnvilConfig::default()).await.map_err(|error| not_started(&name, error))?;
            let client = anvil.client();
            let anvil = Arc::new(Mutex::new(anvil));
            clients.insert(&name, Node { client, anvil: Arc::downgrade(&anvil) });
            running.insert(name, anvil);
        }
        let control = Arc::new(Control { clients: clients.clone() });
        Ok(Box::new(Cluster { clients, control, nodes: Mutex::new(running) }))
    }
}

fn not_started(name: &str, error: AnvilError) -> DeployError {
    if matches!(error, AnvilError::NotInstalled) {
        let missing = "the program anvil is not installed".to_owned();
        let fix = "run `npm install --no-save @foundry-rs/anvil`".to_owned();
        return DeployError::Unavailable { deployer: NAME.to_owned(), missing, fix };
    }
    DeployError::Failed { deployer: NAME.to_owned(), step: format!("start {name}"), source: error.into() }
}

/// Dropping it kills the nodes.
struct Cluster {
    clients: NodeClients<Node>,
    control: Arc<Control>,
    nodes: Mutex<BTreeMap<String, Arc<Mutex<Anvil>>>>,
}

#[async_trait]
impl RunningCluster<Chain> for Cluster {
    fn node_clients(&self) -> NodeClients<Node> {
        self.clients.clone()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::clone(&self.control) as Arc<dyn NodeControl>
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        for (_, node) in std::mem::take(&mut *self.nodes.lock().await) {
            node.lock().await.kill();
        }
        Ok(())
    }
}

struct Control {
    clients: NodeClients<Node>,
}

impl Control {
    fn node(&self, node: &str) -> Result<Node, NodeControlError> {
        self.clients.get(node).ok_or_else(|| self.unknown(node))
    }

    async fn anvil(
        &self,
        action: NodeAction,
        node: &str,
    ) -> Result<OwnedMutexGuard<Anvil>, NodeControlError> {
        let found = self.node(node)?.anvil().await;
        found.map_err(|source| NodeControlError::Failed { action, node: node.to_owned(), source })
    }
}

fn done(action: NodeAction, node: &str, ended: Result<(), AnvilError>) -> Result<(), NodeControlError> {
    ended.map_err(|error| NodeControlError::Failed { action, node: node.to_owned(), source: error.into() })
}

#[async_trait]
impl NodeControl for Control {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        self.clients.names()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let asked = self.node(node)?;
        if asked.anvil.strong_count() == 0 {
            let last = SHUT_DOWN.to_owned();
            return Err(NodeControlError::NotReady { node: node.to_owned(), within, last });
        }
        let last = match timeout(within, asked.client.head()).await {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it has not answered".to_owned(),
        };
        Err(NodeControlError::NotReady { node: node.to_owned(), within, last })
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let mut anvil = self.anvil(NodeAction::Start, node).await?;
        if is_paused(&anvil) {
            return Err(refused(NodeAction::Start, node, PAUSED));
        }
        done(NodeAction::Start, node, anvil.start_again().await)
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        let mut anvil = self.anvil(NodeAction::Stop, node).await?;
        if is_paused(&anvil) {
            return Err(refused(NodeAction::Stop, node, PAUSED));
        }
        anvil.stop().await;
        Ok(())
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        let mut anvil = self.anvil(NodeAction::Kill, node).await?;
        if anvil.pid().is_none() {
            return done(NodeAction::Kill, node, Err(AnvilError::NotRunning));
        }
        anvil.kill();
        Ok(())
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        let paused = self.anvil(NodeAction::Pause, node).await?.pause();
        done(NodeAction::Pause, node, paused)
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        let resumed = self.anvil(NodeAction::Resume, node).await?.resume();
        done(NodeAction::Resume, node, resumed)
    }
}

const PAUSED: &str = "it is paused: resume it first, or kill it";

fn refused(action: NodeAction, node: &str, reason: &str) -> NodeControlError {
    NodeControlError::Failed { action, node: node.to_owned(), source: reason.into() }
}

/// Reads the process state in `/proc/PID/stat`: `T` is paused.
fn is_paused(anvil: &Anvil) -> bool {
    let stat = anvil.pid().and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok());
    stat.is_some_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')))
}

/// Runs the table of cases that all deployers share.
#[tokio::test]
async fn each_action_answers_as_the_contract_says() {
    let cluster = AnvilDeployer.deploy(&1).await.unwrap();
    let (control, node) = (cluster.node_control(), cluster.node_clients().get("n1").unwrap());
    let is = async |state| {
        let anvil = node.anvil().await.unwrap();
        state
            == match anvil.pid() {
                None => State::Down,
                Some(_) if is_paused(&anvil) => State::Paused,
                Some(_) => State::Runs,
            }
    };
    contract::holds(&*control, "n1", is).await;
    cluster.shut_down().await.unwrap();
    contract::holds_after_the_end(&*control, "n1").await;
}
