//! What the tests share. Every wait is on an observation.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use openraft_kv::api::NodeId;
use openraft_kv::demo::observe_nodes;
use openraft_kv::deploy::compose::compose_deployer;
use openraft_kv::deploy::{Deployment, RaftKv, form};
use openraft_kv::observer::{ClusterView, Presence, RaftObserver};
use tokio::sync::{Mutex, MutexGuard};
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, PerSource,
    StaticSourceProvider,
};
use watchkeeper_deploy::compose::bollard::Docker;
use watchkeeper_deploy::compose::bollard::query_parameters::{
    ListContainersOptions, ListNetworksOptions, ListVolumesOptions,
};
use watchkeeper_deploy::compose::{CLUSTER_LABEL, NODE_LABEL};
use watchkeeper_scenario::{Deployer, RunningCluster};

pub(crate) const SOON: Duration = Duration::from_secs(30);
pub(crate) const INTERVAL: Duration = Duration::from_millis(50);

static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// The containers, networks and volumes of any cluster, by the label.
pub(crate) type Labelled = [usize; 3];

/// The engine, for one test at a time: parts of another test would count as left.
pub(crate) struct Engine {
    pub(crate) docker: Docker,
    /// What a test that failed just before may not have taken down yet.
    before: BTreeSet<String>,
    _alone: MutexGuard<'static, ()>,
}

impl Engine {
    pub(crate) async fn alone() -> Self {
        let alone = ONE_AT_A_TIME.lock().await;
        let docker = Docker::connect_with_defaults()
            .expect("a container engine answers: start one with dockerd, name it by DOCKER_HOST");
        let docker =
            docker.negotiate_version().await.expect("a container engine answers: start one with dockerd");
        let before = names(&docker).await;
        Self { docker, before, _alone: alone }
    }

    /// Ends a test that has taken everything down.
    pub(crate) async fn ends_as_it_began(self) {
        let left = names(&self.docker).await;
        let left: Vec<&String> = left.difference(&self.before).collect();
        assert!(left.is_empty(), "containers, networks and volumes are left: {left:?}");
    }

    /// Waits until nothing is there that was not there before.
    pub(crate) async fn comes_to_end_as_it_began(self) {
        let before = self.before.len();
        self.eventually("nothing is left", move |labelled| labelled.iter().sum::<usize>() <= before).await;
        // Nothing comes back either: all earlier requests are done by now.
        self.ends_as_it_began().await;
    }

    /// Waits until what is labelled satisfies `condition`.
    pub(crate) async fn eventually(&self, what: &str, condition: impl Fn(&Labelled) -> bool + Send + Sync) {
        let engine = StaticSourceProvider::new(vec![ObservedSource::new("engine", self.docker.clone())]);
        let probe =
            |engine: ObservedSource<Docker>| async move { Ok::<_, DynError>(labelled(&engine.source).await) };
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let runtime = ObservationRuntime::start(engine, PerSource::new(probe), config).await.unwrap();
        let met = runtime.handle().eventually(what, |seen| {
            seen.iter().all(|engine| engine.value.is_some_and(|labelled| condition(labelled)))
        });
        met.or_now().within(SOON).await.unwrap();
    }
}

pub(crate) async fn labelled(docker: &Docker) -> Labelled {
    let names = names(docker).await;
    ["container ", "network ", "volume "]
        .map(|kind| names.iter().filter(|name| name.starts_with(kind)).count())
}

/// The containers, networks and volumes that carry the label.
async fn names(docker: &Docker) -> BTreeSet<String> {
    let filters = || Some(HashMap::from([("label".to_owned(), vec![CLUSTER_LABEL.to_owned()])]));
    let containers =
        ListContainersOptions { all: true, filters: filters(), ..ListContainersOptions::default() };
    let containers = docker.list_containers(Some(containers)).await.unwrap();
    let networks = docker.list_networks(Some(ListNetworksOptions { filters: filters() })).await.unwrap();
    let volumes = docker.list_volumes(Some(ListVolumesOptions { filters: filters() })).await.unwrap();
    let containers =
        containers.into_iter().filter_map(|container| Some(format!("container {}", container.id?)));
    let networks = networks.into_iter().filter_map(|network| Some(format!("network {}", network.id?)));
    let volumes =
        volumes.volumes.unwrap_or_default().into_iter().map(|volume| format!("volume {}", volume.name));
    containers.chain(networks).chain(volumes).collect()
}

/// The one cluster that is up: its name, and the containers of its nodes.
pub(crate) async fn containers(docker: &Docker) -> (String, BTreeMap<String, String>) {
    let filters = HashMap::from([("label".to_owned(), vec![CLUSTER_LABEL.to_owned()])]);
    let options =
        ListContainersOptions { all: true, filters: Some(filters), ..ListContainersOptions::default() };
    let mut cluster = String::new();
    let mut nodes = BTreeMap::new();
    for container in docker.list_containers(Some(options)).await.unwrap() {
        let labels = container.labels.unwrap();
        cluster.clone_from(&labels[CLUSTER_LABEL]);
        nodes.insert(labels[NODE_LABEL].clone(), container.id.unwrap());
    }
    (cluster, nodes)
}

pub(crate) async fn deploy() -> Box<dyn RunningCluster<RaftKv>> {
    compose_deployer().deploy(&Deployment::default()).await.unwrap()
}

/// A formed cluster of three under observation, and its leader.
pub(crate) async fn observed() -> (Box<dyn RunningCluster<RaftKv>>, ObservationRuntime<RaftObserver>, NodeId)
{
    let cluster = deploy().await;
    form(&cluster.node_clients(), SOON).await.unwrap();
    let runtime = observe_nodes(cluster.node_clients(), INTERVAL).await.unwrap();
    let leader = leader(&runtime.handle()).await;
    (cluster, runtime, leader)
}

pub(crate) async fn leader(handle: &ObservationHandle<RaftObserver>) -> NodeId {
    let agreed = handle.eventually("a leader is agreed on", |c| c.leader.is_some()).or_now().within(SOON);
    agreed.await.unwrap().value.leader.unwrap().node_id
}

pub(crate) fn presence(cluster: &ClusterView, id: NodeId) -> &Presence {
    &cluster.nodes[name(id).as_str()].presence
}

pub(crate) fn name(id: NodeId) -> String {
    format!("n{id}")
}

pub(crate) fn others(id: NodeId) -> impl Iterator<Item = NodeId> {
    (1..=3).filter(move |other| *other != id)
}
