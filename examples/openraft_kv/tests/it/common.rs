//! What the tests share. Every wait is on an observation.

use std::fmt::Debug;
use std::future::ready;
use std::path::Path;
use std::time::Duration;

use openraft_kv::api::{NodeId, NodeState, Written};
use openraft_kv::demo::{observe_nodes, sources};
use openraft_kv::observer::RaftObserver;
use openraft_kv::{ClusterOptions, LocalCluster, NodeClient, failover};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_openraft_kv");
pub(crate) const SOON: Duration = Duration::from_secs(15);
const INTERVAL: Duration = Duration::from_millis(20);

pub(crate) fn options(nodes: u64) -> ClusterOptions {
    ClusterOptions { nodes, program: Some(PROGRAM.into()), ..ClusterOptions::default() }
}

pub(crate) async fn formed(options: ClusterOptions) -> LocalCluster {
    let cluster = LocalCluster::start(options).await.unwrap();
    cluster.form().await.unwrap();
    cluster
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
    cluster: &LocalCluster,
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

pub(crate) fn process_exists(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A process that has ended and is not reaped does not run.
pub(crate) fn process_runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
