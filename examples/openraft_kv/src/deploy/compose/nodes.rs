//! The nodes of a cluster, found by the labels of their containers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt;
use futures_util::future::ready;
use tokio::sync::Mutex;
use watchkeeper_scenario::{DynError, NodeClients, async_trait};

use watchkeeper::{ObservedSource, SourceProvider};

use crate::NodeClient;
use crate::api::node_id;
use crate::http::Http;
use crate::sync::lock;

/// Labels a container, network or volume with the name of its cluster.
pub const CLUSTER_LABEL: &str = "watchkeeper.cluster";
/// Labels a container with the name of its node: `n1`, `n2` and so on.
pub const NODE_LABEL: &str = "watchkeeper.node";
/// Labels a container with the port that its node serves on.
pub const PORT_LABEL: &str = "watchkeeper.port";

/// How long to wait before the engine is asked again when its events have ended.
const RETRY: Duration = Duration::from_secs(1);

/// Why the nodes of a cluster cannot be found or distinguished.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ContainerError {
    /// The engine did not answer, or refused.
    #[error("the engine does not list its containers: check that it runs and may be asked")]
    Engine(#[from] EngineError),
    /// Two containers are labelled with one node's name.
    #[error(
        "the containers {first} and {second} are both labelled {NODE_LABEL}={node}, and {second} is left out: remove one \
         of them, or change its label"
    )]
    SameName {
        /// The node's name.
        node: String,
        /// The container that is the source.
        first: String,
        /// The container that is left out.
        second: String,
    },
}

crate::errors::debug_is_the_text!(ContainerError);

/// Finds the nodes of one cluster by label, whatever has started them.
///
/// A container is a source from when it first has an address until it is removed: one that is paused,
/// stopped or killed stays, at its last address. One that comes back at another address gets a new
/// client under the same name. Of two containers with one name the first is the source;
/// [`problem`](Self::problem) names both, and every action on that name fails. Clones share their data.
///
/// As a [`SourceProvider`] it asks the engine in every cycle; [`follow`](Self::follow) updates the
/// [`clients`](Self::clients) by the engine's events.
#[derive(Clone, Debug)]
pub struct ContainerNodes {
    docker: Docker,
    cluster: Arc<str>,
    http: Http,
    clients: NodeClients<NodeClient>,
    /// Held while the engine is asked: an older list must not replace a newer one.
    known: Arc<Mutex<KnownNodes>>,
    problem: Arc<std::sync::Mutex<Option<Arc<ContainerError>>>>,
}

/// The id of the container of each node.
type KnownNodes = BTreeMap<String, String>;

impl ContainerNodes {
    /// Looks for containers that are labelled with `cluster`.
    #[must_use]
    pub fn new(docker: Docker, cluster: &str) -> Self {
        Self {
            docker,
            cluster: cluster.into(),
            http: Http::new(),
            clients: NodeClients::new(),
            known: Arc::default(),
            problem: Arc::default(),
        }
    }

    /// The clients of the nodes that were found last.
    #[must_use]
    pub fn clients(&self) -> NodeClients<NodeClient> {
        self.clients.clone()
    }

    /// Why a container is not a node, as of the last refresh.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<ContainerError>> {
        lock(&self.problem).clone()
    }

    /// Asks the engine which nodes there are now.
    ///
    /// # Errors
    ///
    /// The engine's error; the clients are unchanged then.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        let mut known = self.known.lock().await;
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![self.label()])])),
            ..ListContainersOptions::default()
        };
        let containers = self.docker.list_containers(Some(options)).await?;
        self.take_in(&mut known, &containers);
        Ok(())
    }

    fn take_in(&self, known: &mut KnownNodes, containers: &[ContainerSummary]) {
        let (chosen, same_name) = by_name(known, containers);
        self.clients.replace(chosen.values().filter_map(|container| self.node(container)).collect());
        *known = chosen.iter().map(|(name, container)| (name.clone(), id(container).to_owned())).collect();
        let mut problem = lock(&self.problem);
        let text = same_name.as_ref().map(ToString::to_string);
        if text != problem.as_ref().map(ToString::to_string) {
            if let Some(text) = text {
                tracing::warn!(cluster = &*self.cluster, "{text}");
            }
            *problem = same_name.map(Arc::new);
        }
    }

    /// Refreshes on every event of the cluster's containers, without end.
    pub async fn follow(self) {
        self.follow_and(|| ready(())).await;
    }

    /// Refreshes on every event, and does `then` each time.
    pub(super) async fn follow_and<F: Future<Output = ()> + Send>(self, then: impl Fn() -> F + Send) {
        loop {
            // The stream has all events since a moment before the list: nothing is missed between them.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let filters =
                [("type".to_owned(), vec!["container".to_owned()]), ("label".to_owned(), vec![self.label()])];
            let options = EventsOptions {
                since: Some(now.as_secs().to_string()),
                filters: Some(HashMap::from(filters)),
                ..EventsOptions::default()
            };
            let mut events = std::pin::pin!(self.docker.events(Some(options)));
            let mut known = self.refresh().await;
            then().await;
            while known.is_ok() && matches!(events.next().await, Some(Ok(_))) {
                known = self.refresh().await;
                then().await;
            }
            tracing::debug!(cluster = &*self.cluster, ?known, "the engine's events ended; asking again");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The id of the container of `node`; an error if two containers have that name.
    pub(super) async fn container(&self, node: &str) -> Result<Option<String>, ContainerError> {
        let labels = vec![self.label(), format!("{NODE_LABEL}={node}")];
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let found = self.docker.list_containers(Some(options)).await?;
        match by_name(&KnownNodes::new(), &found) {
            (_, Some(same_name)) => Err(same_name),
            (chosen, None) => Ok(chosen.get(node).map(|container| id(container).to_owned())),
        }
    }

    /// What shares the network of this container, if anything does: a cut would cut that off as well.
    pub(super) async fn shares_network(&self, container: &str) -> Result<Option<String>, EngineError> {
        let containers = self.docker.list_containers(None::<ListContainersOptions>).await?;
        Ok(sharer(container, &containers))
    }

    fn label(&self) -> String {
        format!("{CLUSTER_LABEL}={}", self.cluster)
    }

    fn node(&self, container: &ContainerSummary) -> Option<ObservedSource<NodeClient>> {
        let name = container.labels.as_ref()?.get(NODE_LABEL)?;
        let known = self.clients.get(name);
        let client = match (address(container), known) {
            (Some(addr), Some(known)) if known.addr() == addr => known,
            (Some(addr), _) => self.client(name, addr),
            // It has none while it is down.
            (None, known) => known?,
        };
        Some(ObservedSource::new(name, client))
    }

    /// Addresses are reused: a client whose node has a number talks only to that node.
    fn client(&self, name: &str, addr: String) -> NodeClient {
        let client = NodeClient::sharing(self.http.clone(), addr);
        match node_id(name) {
            Some(id) => client.expecting(Arc::clone(&self.cluster), id),
            None => client,
        }
    }
}

/// The container of each name: the known one, else the oldest. Also the first two of one name, if there are any.
fn by_name<'a>(
    known: &KnownNodes,
    containers: &'a [ContainerSummary],
) -> (BTreeMap<String, &'a ContainerSummary>, Option<ContainerError>) {
    let mut named: Vec<(&String, &ContainerSummary)> = Vec::new();
    for container in containers {
        named.extend(
            container.labels.as_ref().and_then(|labels| labels.get(NODE_LABEL)).map(|name| (name, container)),
        );
    }
    named.sort_by_key(|(name, container)| {
        let is_known = known.get(*name).is_some_and(|known| known == id(container));
        (!is_known, container.created, id(container))
    });
    let mut chosen: BTreeMap<String, &ContainerSummary> = BTreeMap::new();
    let mut same_name = None;
    for (name, container) in named {
        match chosen.get(name) {
            Some(first) => {
                same_name.get_or_insert_with(|| ContainerError::SameName {
                    node: name.clone(),
                    first: id(first).to_owned(),
                    second: id(container).to_owned(),
                });
            }
            None => drop(chosen.insert(name.clone(), container)),
        }
    }
    (chosen, same_name)
}

/// What `container` shares its network with, among those that run.
fn sharer(container: &str, containers: &[ContainerSummary]) -> Option<String> {
    let mode = |of: &ContainerSummary| of.host_config.as_ref()?.network_mode.clone();
    let of_another = |mode: &str| mode.strip_prefix("container:").map(str::to_owned);
    let own = containers.iter().find(|of| id(of) == container).and_then(mode);
    let with = match own.as_deref() {
        Some("host") => Some("this machine (network_mode: host)".to_owned()),
        Some(own) => of_another(own).map(|other| {
            let other = called(&other, containers).map_or(other.as_str(), id);
            format!("the container {other}")
        }),
        None => None,
    };
    let with = with.or_else(|| {
        let is_in_it = |of: &&ContainerSummary| {
            let other = mode(of).and_then(|mode| of_another(&mode));
            other.is_some_and(|other| {
                // The container itself may be missing from the list: it may have just ended.
                other == container || called(&other, containers).is_some_and(|called| id(called) == container)
            })
        };
        containers.iter().find(is_in_it).map(|of| format!("the container {}", id(of)))
    });
    with.map(|with| {
        format!("it shares its network with {with}, which would be cut off as well: give it its own network")
    })
}

/// The container that the engine finds for `other`: by id, by name, or by the beginning of an id, in this order.
fn called<'a>(other: &str, containers: &'a [ContainerSummary]) -> Option<&'a ContainerSummary> {
    let other = other.strip_prefix('/').unwrap_or(other);
    if other.is_empty() {
        return None;
    }
    let is_named = |of: &ContainerSummary| {
        let mut names = of.names.iter().flatten();
        names.any(|name| name.strip_prefix('/').unwrap_or(name) == other)
    };
    let whole = containers.iter().find(|of| id(of) == other);
    let named = || containers.iter().find(|of| is_named(of));
    whole.or_else(named).or_else(|| containers.iter().find(|of| id(of).starts_with(other)))
}

fn id(container: &ContainerSummary) -> &str {
    container.id.as_deref().unwrap_or_default()
}

/// Where the node of `container` serves, if it has an address now.
fn address(container: &ContainerSummary) -> Option<String> {
    let port = container.labels.as_ref()?.get(PORT_LABEL)?;
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let mut ips = networks.values().filter_map(|network| network.ip_address.as_deref());
    ips.find(|ip| !ip.is_empty()).map(|ip| format!("{ip}:{port}"))
}

#[async_trait]
impl SourceProvider<NodeClient> for ContainerNodes {
    async fn sources(&self) -> Result<Vec<ObservedSource<NodeClient>>, DynError> {
        self.refresh().await?;
        Ok(self.clients.all())
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::{ContainerSummaryHostConfig, ContainerSummaryNetworkSettings, EndpointSettings};

    use super::*;

    fn container(name: &str, ip: Option<&str>) -> ContainerSummary {
        let labels = [(NODE_LABEL, name), (PORT_LABEL, "4000")];
        let endpoint = EndpointSettings { ip_address: ip.map(str::to_owned), ..EndpointSettings::default() };
        ContainerSummary {
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            network_settings: Some(ContainerSummaryNetworkSettings {
                networks: Some(HashMap::from([("raft".to_owned(), endpoint)])),
            }),
            ..ContainerSummary::default()
        }
    }

    fn nodes() -> ContainerNodes {
        // Nothing is sent there.
        ContainerNodes::new(Docker::connect_with_host("tcp://127.0.0.1:1").unwrap(), "cluster")
    }

    #[test]
    fn a_container_that_is_down_keeps_its_last_address() {
        let nodes = nodes();
        for down in [None, Some("")] {
            assert!(nodes.node(&container("n2", down)).is_none(), "it never had an address");
        }
        let up = nodes.node(&container("n2", Some("172.18.0.3"))).unwrap();
        assert_eq!((up.name.as_str(), up.source.addr(), up.source.id()), ("n2", "172.18.0.3:4000", Some(2)));
        nodes.clients.replace(vec![up]);
        for down in [None, Some("")] {
            assert_eq!(nodes.node(&container("n2", down)).unwrap().source.addr(), "172.18.0.3:4000");
        }
        let moved = nodes.node(&container("n2", Some("172.18.0.5"))).unwrap();
        assert_eq!(moved.source.addr(), "172.18.0.5:4000");
    }

    /// Every observer failed from then on: two sources had one name.
    #[test]
    fn of_two_containers_with_one_label_the_first_stays_the_node_and_both_are_named() {
        let nodes = nodes();
        let of = |name: &str, id: &str, created: i64, ip: &str| ContainerSummary {
            id: Some(id.to_owned()),
            created: Some(created),
            ..container(name, Some(ip))
        };
        let (n1, n2) = (of("n1", "aaa", 5, "172.18.0.2"), of("n2", "bbb", 6, "172.18.0.3"));
        let mut known = KnownNodes::new();
        nodes.take_in(&mut known, &[n1.clone(), n2.clone()]);
        assert!(nodes.problem().is_none());

        // Also an older one does not take the place of the one that is known.
        let again = of("n1", "ccc", 4, "172.18.0.9");
        nodes.take_in(&mut known, &[again.clone(), n1, n2.clone()]);
        assert_eq!(nodes.clients().names(), ["n1", "n2"]);
        assert_eq!(nodes.clients().get("n1").unwrap().addr(), "172.18.0.2:4000");
        let problem = format!("{:?}", nodes.problem().unwrap());
        assert!(
            problem.contains(
                "the containers aaa and ccc are both labelled watchkeeper.node=n1, and ccc is left out"
            ),
            "{problem}"
        );

        nodes.take_in(&mut known, &[again, n2]);
        assert_eq!(nodes.clients().get("n1").unwrap().addr(), "172.18.0.9:4000");
        assert!(nodes.problem().is_none());
    }

    #[test]
    fn a_network_that_is_shared_is_found_from_both_sides() {
        let of = |id: &str, mode: &str| ContainerSummary {
            id: Some(id.to_owned()),
            host_config: Some(ContainerSummaryHostConfig {
                network_mode: Some(mode.to_owned()),
                ..ContainerSummaryHostConfig::default()
            }),
            ..ContainerSummary::default()
        };
        let all = [of("aaa", "kv_raft"), of("bbb", "container:aaa"), of("ccc", "kv_raft"), of("ddd", "host")];
        let with = |id: &str| sharer(id, &all);
        assert!(with("aaa").is_some_and(|text| text.contains("the container bbb")));
        assert!(with("bbb").is_some_and(|text| text.contains("the container aaa")));
        assert!(with("ddd").is_some_and(|text| text.contains("network_mode: host")));
        assert_eq!((with("ccc"), with("eee")), (None, None));
    }

    /// Only full ids were compared: a node that was named in another way was cut off with all that shared its network.
    #[test]
    fn a_network_that_is_shared_is_found_by_name_and_by_the_beginning_of_an_id() {
        let of = |id: &str, name: &str, mode: &str| ContainerSummary {
            id: Some(id.to_owned()),
            names: Some(vec![format!("/{name}")]),
            host_config: Some(ContainerSummaryHostConfig {
                network_mode: Some(mode.to_owned()),
                ..ContainerSummaryHostConfig::default()
            }),
            ..ContainerSummary::default()
        };
        for word in ["kv-n1-1", "aaa111", "aaa1", "a"] {
            let all = [
                of("aaa111", "kv-n1-1", "kv_raft"),
                of("bbb222", "debug", &format!("container:{word}")),
                of("ccc333", "kv-n3-1", "kv_raft"),
            ];
            let with = |id: &str| sharer(id, &all).unwrap_or_default();
            assert!(with("aaa111").contains("the container bbb222"), "{word}: {}", with("aaa111"));
            assert!(with("bbb222").contains("the container aaa111"), "{word}: {}", with("bbb222"));
            assert_eq!(with("ccc333"), "", "{word}");
        }
        // A name comes before the beginning of an id, and an empty word is the beginning of none.
        let all = [
            of("aaa111", "kv-n1-1", "kv_raft"),
            of("bbb222", "aaa1", "kv_raft"),
            of("ccc333", "debug", "container:aaa1"),
        ];
        assert!(sharer("aaa111", &all).is_none() && sharer("bbb222", &all).is_some());
        let all = [of("aaa111", "kv-n1-1", "kv_raft"), of("bbb222", "debug", "container:")];
        assert!(sharer("aaa111", &all).is_none());
    }

    #[test]
    fn a_container_without_the_labels_is_no_node() {
        assert!(nodes().node(&ContainerSummary::default()).is_none());
        let mut without_port = container("n1", Some("172.18.0.2"));
        without_port.labels.as_mut().unwrap().remove(PORT_LABEL);
        assert!(nodes().node(&without_port).is_none());
    }
}
