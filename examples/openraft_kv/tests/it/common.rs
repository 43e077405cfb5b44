//! What the tests share. Every wait is on an observation.

use std::fmt::Debug;
use std::future::ready;
use std::sync::Arc;
use std::time::Duration;

use openraft_kv::api::{Formed, NodeId, NodeState, Written, node_name};
use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::{Deployment, FormError, RaftKv, form, local_deployer};
use openraft_kv::observer::RaftObserver;
use openraft_kv::{NodeClient, failover};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};
use watchkeeper_deploy::local::LocalCluster;
use watchkeeper_scenario::{NodeControl, RunningCluster};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_openraft_kv");
pub(crate) const SOON: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn options(nodes: u64) -> Deployment {
    Deployment { nodes, ..Deployment::default() }
}

/// Node processes, by number.
pub(crate) struct Cluster {
    pub(crate) nodes: LocalCluster<RaftKv>,
    control: Arc<dyn NodeControl>,
}

impl Cluster {
    pub(crate) async fn start(deployment: Deployment) -> Self {
        let nodes = local_deployer(Some(PROGRAM.into())).start(&deployment).await.unwrap();
        let control = nodes.node_control();
        Self { nodes, control }
    }

    pub(crate) async fn form(&self) -> Result<Formed, FormError> {
        form(&self.nodes.node_clients(), SOON).await
    }

    pub(crate) async fn kill(&self, id: NodeId) {
        self.control.kill(&node_name(id)).await.unwrap();
    }

    pub(crate) async fn restart(&self, id: NodeId) {
        self.control.start(&node_name(id)).await.unwrap();
    }

    pub(crate) async fn pause(&self, id: NodeId) {
        self.control.pause(&node_name(id)).await.unwrap();
    }

    pub(crate) async fn resume(&self, id: NodeId) {
        self.control.resume(&node_name(id)).await.unwrap();
    }

    /// Starts one more node, in no cluster yet.
    pub(crate) async fn start_extra(&self) -> NodeId {
        self.nodes.add_node().await.unwrap()[1..].parse().unwrap()
    }

    pub(crate) fn client(&self, id: NodeId) -> NodeClient {
        self.nodes.node_clients().get(&node_name(id)).unwrap()
    }

    /// Those of the nodes that run, paused ones included.
    pub(crate) fn clients(&self) -> Vec<NodeClient> {
        let all = self.nodes.node_clients().all().into_iter();
        all.filter(|node| self.nodes.pid(&node.name).is_some()).map(|node| node.source).collect()
    }

    pub(crate) async fn observe(&self, interval: Duration) -> ObservationRuntime<RaftObserver> {
        observe_nodes(self.nodes.node_clients(), interval).await.unwrap()
    }
}

pub(crate) async fn formed(deployment: Deployment) -> Cluster {
    let cluster = Cluster::start(deployment).await;
    cluster.form().await.unwrap();
    cluster
}

/// Nodes as sources, called `n1`, `n2` and so on.
pub(crate) fn sources(clients: &[NodeClient]) -> Vec<ObservedSource<NodeClient>> {
    let name = |client: &NodeClient| client.id().map_or_else(|| client.addr().to_owned(), node_name);
    clients.iter().map(|client| ObservedSource::new(name(client), client.clone())).collect()
}

async fn observed(clients: &[NodeClient]) -> ObservationRuntime<RaftObserver> {
    observe_nodes(StaticSourceProvider::new(sources(clients)), INTERVAL).await.unwrap()
}

/// Waits until every source has an answer that satisfies `condition`.
pub(crate) async fn every<S, V, F, Fut>(
    what: &str,
    sources: Vec<ObservedSource<S>>,
    probe: F,
    condition: impl Fn(&V) -> bool + Send + Sync,
) where
    S: Clone + Send + Sync + 'static,
    V: PartialEq + Debug + Send + Sync + 'static,
    F: Fn(ObservedSource<S>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<V, DynError>> + Send + 'static,
{
    let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
    let provider = StaticSourceProvider::new(sources);
    let runtime = ObservationRuntime::start(provider, PerSource::new(probe), config).await.unwrap();
    let all = runtime.handle().eventually(what, |seen| {
        seen.iter().all(|source| !source.is_failing() && source.value.is_some_and(|value| condition(value)))
    });
    all.or_now().within(SOON).await.unwrap();
}

/// Waits until all running nodes satisfy `condition`.
pub(crate) async fn all(
    cluster: &Cluster,
    what: &str,
    condition: impl Fn(&NodeState) -> bool + Send + Sync,
) -> Vec<NodeState> {
    let runtime = observed(&cluster.clients()).await;
    let met = runtime.handle().eventually(what, |c| c.all(&condition)).or_now().within(SOON).await.unwrap();
    met.value.present().map(|(_, state)| state.clone()).collect()
}

/// The leader that `clients` agree on.
pub(crate) async fn agreed_leader(clients: &[NodeClient]) -> NodeId {
    let runtime = observed(clients).await;
    let agreed = runtime.handle().eventually("a leader is agreed on", |c| c.leader.is_some());
    agreed.or_now().within(SOON).await.unwrap().value.leader.unwrap().node_id
}

/// Writes through the leader.
pub(crate) async fn write(clients: &[NodeClient], key: &str, value: &str, serial: u64) -> Written {
    let runtime = observed(clients).await;
    failover::write(&runtime.handle(), (key, value, serial)).await.unwrap()
}

/// Waits until none of these processes runs.
pub(crate) async fn gone(pids: &[u32]) {
    let processes = pids.iter().map(|pid| ObservedSource::new(pid.to_string(), *pid)).collect();
    let probe = |process: ObservedSource<u32>| ready(Ok(process_runs(process.source)));
    every("the processes are gone", processes, probe, |runs| !runs).await;
}

/// A process that has ended and is not reaped does not run.
fn process_runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
