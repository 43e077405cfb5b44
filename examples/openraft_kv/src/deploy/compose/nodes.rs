//! The nodes of a cluster, found by the labels of their containers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt;
use tokio::sync::Mutex;
use watchkeeper_scenario::{DynError, NodeClients, async_trait};

use watchkeeper::{ObservedSource, SourceProvider};

use crate::NodeClient;
use crate::http::Http;

/// Labels a container, network or volume with the name of the cluster it is of.
pub const CLUSTER_LABEL: &str = "watchkeeper.cluster";
/// Labels a container with the name of its node: `n1`, `n2` and so on.
pub const NODE_LABEL: &str = "watchkeeper.node";
/// Labels a container with the port that its node serves on.
pub const PORT_LABEL: &str = "watchkeeper.port";

/// How long to wait before the engine is asked again when it has gone silent.
const RETRY: Duration = Duration::from_secs(1);

/// Finds the nodes of one cluster by label, whoever started them.
///
/// A container is a source from when it first has an address until it is removed: one that is
/// paused, stopped or killed stays, at its last address. One that comes back elsewhere gets a new
/// client under the same name. Clones share what is known.
///
/// As a [`SourceProvider`] it asks the engine in every cycle; [`follow`](Self::follow) keeps the
/// [`clients`](Self::clients) true by the engine's events.
#[derive(Clone, Debug)]
pub struct ContainerNodes {
    docker: Docker,
    cluster: Arc<str>,
    http: Http,
    clients: NodeClients<NodeClient>,
    /// An older list must not replace a newer one.
    order: Arc<Mutex<()>>,
}

impl ContainerNodes {
    /// Looks for containers that are labelled with `cluster`.
    #[must_use]
    pub fn new(docker: Docker, cluster: &str) -> Self {
        Self {
            docker,
            cluster: cluster.into(),
            http: Http::new(),
            clients: NodeClients::new(),
            order: Arc::default(),
        }
    }

    /// The clients of the nodes that were found last.
    #[must_use]
    pub fn clients(&self) -> NodeClients<NodeClient> {
        self.clients.clone()
    }

    /// Asks the engine which nodes there are now.
    ///
    /// # Errors
    ///
    /// The engine's error; the clients are then as they were.
    pub async fn refresh(&self) -> Result<(), EngineError> {
        let _order = self.order.lock().await;
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), vec![self.label()])])),
            ..ListContainersOptions::default()
        };
        let containers = self.docker.list_containers(Some(options)).await?;
        let mut nodes: Vec<_> = containers.iter().filter_map(|container| self.node(container)).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        self.clients.replace(nodes);
        Ok(())
    }

    /// Refreshes on every event of the cluster's containers, for ever.
    pub async fn follow(self) {
        loop {
            // The stream repeats what happened since: nothing is missed between it and the list.
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
            while known.is_ok() && matches!(events.next().await, Some(Ok(_))) {
                known = self.refresh().await;
            }
            tracing::debug!(cluster = &*self.cluster, ?known, "the engine's events ended; asking again");
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The id of the container that is the node called `node`.
    pub(super) async fn container(&self, node: &str) -> Result<Option<String>, EngineError> {
        let labels = vec![self.label(), format!("{NODE_LABEL}={node}")];
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let found = self.docker.list_containers(Some(options)).await?;
        Ok(found.into_iter().find_map(|container| container.id))
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

    /// Addresses are reused: a client whose node has a number talks to that one only.
    fn client(&self, name: &str, addr: String) -> NodeClient {
        let client = NodeClient::sharing(self.http.clone(), addr);
        match name.strip_prefix('n').and_then(|id| id.parse().ok()) {
            Some(id) => client.expecting(Arc::clone(&self.cluster), id),
            None => client,
        }
    }
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
    use bollard::models::{ContainerSummaryNetworkSettings, EndpointSettings};

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
            assert!(nodes.node(&container("n2", down)).is_none(), "it was never anywhere");
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

    #[test]
    fn a_container_without_the_labels_is_no_node() {
        assert!(nodes().node(&ContainerSummary::default()).is_none());
        let mut without_port = container("n1", Some("172.18.0.2"));
        without_port.labels.as_mut().unwrap().remove(PORT_LABEL);
        assert!(nodes().node(&without_port).is_none());
    }
}
