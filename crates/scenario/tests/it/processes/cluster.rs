//! Nodes that are processes, as an application with its deployer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use watchkeeper::{ObservationConfig, ObservedSource, PerSource};
use watchkeeper_scenario::{
    Application, DeployError, Deployer, DynError, NodeAction, NodeClients, NodeControl, NodeControlError,
    RunContext, RunningCluster, Scenario, ScenarioBuilder, async_trait,
};

use super::node::{Node, listening};
use super::{count, exists, new_mark};
use crate::common::{Diary, Drops};

pub struct Names;

impl Application for Names {
    /// How many nodes.
    type Deployment = usize;
    type NodeClient = Client;
}

#[derive(Clone, Copy, Debug)]
pub struct Client(SocketAddr);

impl Client {
    pub async fn name(self) -> Result<String, DynError> {
        let mut name = String::new();
        TcpStream::connect(self.0).await?.read_to_string(&mut name).await?;
        if name.is_empty() { Err("it sent no name".into()) } else { Ok(name) }
    }
}

/// Starts processes; clones share them.
#[derive(Clone)]
pub struct Processes {
    pub mark: String,
    pub diary: Diary,
    pids: Arc<Mutex<Vec<u32>>>,
}

impl Processes {
    pub fn new() -> Self {
        Self::marked(new_mark())
    }

    pub fn marked(mark: String) -> Self {
        assert_eq!(count(&mark), usize::from(std::env::var(super::MARK).is_ok_and(|own| own == mark)));
        Self { mark, diary: Diary::default(), pids: Arc::default() }
    }

    async fn start(&self, name: &str) -> Result<(Node, Client), DynError> {
        let (node, output) = Node::start(name, &self.mark);
        self.pids.lock().unwrap().push(node.pid());
        let address = tokio::task::spawn_blocking(|| listening(output)).await?;
        Ok((node, Client(address.ok_or("it did not listen")?)))
    }

    /// Asserts that so many processes were started, and that all have ended.
    pub fn assert_ended(&self, started: usize) {
        assert_eq!(count(&self.mark), 0);
        let pids = self.pids.lock().unwrap();
        assert_eq!(pids.len(), started);
        assert!(pids.iter().all(|pid| !exists(*pid)), "{pids:?}");
    }
}

#[async_trait]
impl Deployer<Names> for Processes {
    fn name(&self) -> &'static str {
        "processes"
    }

    async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Names>>, DeployError> {
        let failed = |source| DeployError::Failed {
            deployer: "processes".to_owned(),
            step: "start a node".to_owned(),
            source,
        };
        let (clients, mut running) = (NodeClients::new(), BTreeMap::new());
        for node in 1..=*nodes {
            let name = format!("n{node}");
            let (node, client) = self.start(&name).await.map_err(failed)?;
            clients.insert(&name, client);
            running.insert(name, Some(node));
        }
        let nodes = Arc::new(Nodes { running: Mutex::new(running), clients, deployer: self.clone() });
        Ok(Box::new(ProcessCluster { nodes }))
    }
}

struct ProcessCluster {
    nodes: Arc<Nodes>,
}

/// Nodes by name: `None` for a node that is down.
struct Nodes {
    running: Mutex<BTreeMap<String, Option<Node>>>,
    clients: NodeClients<Client>,
    deployer: Processes,
}

impl Nodes {
    fn end_all(&self) {
        let nodes: Vec<_> = self.running.lock().unwrap().values_mut().filter_map(Option::take).collect();
        if !nodes.is_empty() {
            self.deployer.diary.note("nodes go down");
        }
    }
}

impl Drop for ProcessCluster {
    fn drop(&mut self) {
        self.nodes.end_all();
    }
}

#[async_trait]
impl RunningCluster<Names> for ProcessCluster {
    fn node_clients(&self) -> NodeClients<Client> {
        self.nodes.clients.clone()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        self.nodes.clone()
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        self.nodes.end_all();
        Ok(())
    }
}

impl Nodes {
    fn signal(&self, action: NodeAction, node: &str, signal: Signal) -> Result<(), NodeControlError> {
        let failed = |source| NodeControlError::Failed { action, node: node.to_owned(), source };
        let running = self.running.lock().unwrap();
        let Some(Some(process)) = running.get(node) else { return Err(failed("it does not run".into())) };
        let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap()).unwrap();
        kill_process(pid, signal).map_err(|error| failed(error.into()))
    }
}

#[async_trait]
impl NodeControl for Nodes {
    fn deployer(&self) -> &'static str {
        "processes"
    }

    fn nodes(&self) -> Vec<String> {
        self.running.lock().unwrap().keys().cloned().collect()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let client = self.clients.get(node).ok_or_else(|| self.unknown(node))?;
        let asked = tokio::time::timeout(within, client.name()).await;
        let last = match asked {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        Err(NodeControlError::NotReady { node: node.to_owned(), within, last })
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let failed =
            |source| NodeControlError::Failed { action: NodeAction::Start, node: node.to_owned(), source };
        let (process, client) = self.deployer.start(node).await.map_err(failed)?;
        self.running.lock().unwrap().insert(node.to_owned(), Some(process));
        self.clients.insert(node, client);
        Ok(())
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        let process = self.running.lock().unwrap().get_mut(node).map(Option::take);
        process.map(drop).ok_or_else(|| self.unknown(node))
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        self.kill(node).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        self.signal(NodeAction::Pause, node, Signal::STOP)
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        self.signal(NodeAction::Resume, node, Signal::CONT)
    }
}

/// Asks each node for its name.
pub type Asking = PerSource<Client, String>;

pub fn asking(diary: &Diary) -> Asking {
    let dropped = Arc::new(Drops(diary.clone(), "observer dropped"));
    PerSource::new(move |node: ObservedSource<Client>| {
        let held = Arc::clone(&dropped);
        async move {
            let name = node.source.name().await;
            drop(held);
            name
        }
    })
}

pub fn quickly() -> ObservationConfig {
    ObservationConfig { interval: Duration::from_millis(20), ..Default::default() }
}

/// Two observed nodes, counted before a workload begins.
pub fn observed(processes: &Processes) -> ScenarioBuilder<Names> {
    let (diary, mark) = (processes.diary.clone(), processes.mark.clone());
    Scenario::builder("names", 2)
        .with_observer("names", move |_: &RunContext<Names>| asking(&diary), quickly())
        .workload("count", move |context| async move {
            let own = usize::from(std::env::var(super::MARK).is_ok_and(|own| own == mark));
            assert_eq!(count(&mark), 2 + own);
            assert_eq!(context.node_client("n2")?.name().await?, "n2");
            Ok(())
        })
}
