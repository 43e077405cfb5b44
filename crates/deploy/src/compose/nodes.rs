//! The nodes of a cluster, found by the labels of their containers.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerSummary;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt;
use futures_util::future::ready;
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use watchkeeper::report::{debug_as_text, error_chain};
use watchkeeper::{DynError, ObservedSource, SourceProvider, async_trait};
use watchkeeper_scenario::{Application, NodeClients};

use super::engine;
use crate::shared::{client, lock};
use crate::{NodeAccess, NodeAddress};

/// Labels a container, network or volume with the name of its cluster.
pub const CLUSTER_LABEL: &str = "watchkeeper.cluster";
/// Labels a container with the name of its node, such as `n1`. A number at its end is the node's number.
pub const NODE_LABEL: &str = "watchkeeper.node";
/// Labels a container with a port that its node serves on: `watchkeeper.port` with that called `client`,
/// `watchkeeper.port.peer` with that called `peer`.
pub const PORT_LABEL: &str = "watchkeeper.port";
/// The name of the port of [`PORT_LABEL`] itself.
const CLIENT: &str = "client";

/// docker-compose labels a container with its service.
const SERVICE_LABEL: &str = "com.docker.compose.service";

/// How often the engine's events are asked for at the most, when they end.
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
    /// The application makes no client of a node's address.
    #[error("no client can be made of the node {node} at {at}: give its container the labels that it needs")]
    NoClient {
        /// The node's name.
        node: String,
        /// Its ports.
        at: String,
        /// Why.
        source: DynError,
    },
}

debug_as_text!(ContainerError);

impl ContainerError {
    pub(super) fn is_of(&self, name: &str) -> bool {
        matches!(self, Self::SameName { node, .. } | Self::NoClient { node, .. } if node == name)
    }
}

/// Finds the nodes of one cluster by label, whatever has started them.
///
/// A container is a source from when it first has an address until it is removed: one that is paused,
/// stopped or killed stays, at its last address. One that comes back at another address gets a new
/// client under the same name. Of two containers with one name the first is the source;
/// [`problem`](Self::problem) names both, and every action on that name fails. Clones share their data.
///
/// As a [`SourceProvider`] it asks the engine in every cycle; [`follow`](Self::follow) updates the
/// [`clients`](Self::clients) by the engine's events.
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use bollard::Docker;
/// use watchkeeper_deploy::{NodeAccess, compose::ContainerNodes};
/// use watchkeeper_scenario::{Application, DynError};
///
/// # async fn found<A: Application>(access: Arc<dyn NodeAccess<A>>) -> Result<(), DynError> {
/// let nodes = ContainerNodes::new(Docker::connect_with_defaults()?, "shop", access);
/// nodes.refresh().await?;
/// println!("{:?}", nodes.clients().names());
/// # Ok(())
/// # }
/// ```
pub struct ContainerNodes<A: Application> {
    docker: Docker,
    cluster: Arc<str>,
    access: Arc<dyn NodeAccess<A>>,
    clients: NodeClients<A::NodeClient>,
    addresses: Arc<std::sync::Mutex<Addresses>>,
    /// Held while the engine is asked: an older list must not replace a newer one.
    known: Arc<Mutex<KnownNodes>>,
    problem: Arc<std::sync::Mutex<Option<Arc<ContainerError>>>>,
}

/// The id of the container of each node.
type KnownNodes = BTreeMap<String, String>;
/// The address that each client was made of.
type Addresses = BTreeMap<String, NodeAddress>;

impl<A: Application> Clone for ContainerNodes<A> {
    fn clone(&self) -> Self {
        Self {
            docker: self.docker.clone(),
            cluster: Arc::clone(&self.cluster),
            access: Arc::clone(&self.access),
            clients: self.clients.clone(),
            addresses: Arc::clone(&self.addresses),
            known: Arc::clone(&self.known),
            problem: Arc::clone(&self.problem),
        }
    }
}

impl<A: Application> fmt::Debug for ContainerNodes<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cluster, clients, .. } = self;
        f.debug_struct("ContainerNodes")
            .field("cluster", cluster)
            .field("clients", clients)
            .finish_non_exhaustive()
    }
}

impl<A: Application> ContainerNodes<A> {
    /// Looks for containers that are labelled with `cluster`.
    #[must_use]
    pub fn new(docker: Docker, cluster: &str, access: Arc<dyn NodeAccess<A>>) -> Self {
        Self {
            docker,
            cluster: cluster.into(),
            access,
            clients: NodeClients::new(),
            addresses: Arc::default(),
            known: Arc::default(),
            problem: Arc::default(),
        }
    }

    /// The clients of the nodes that were found last.
    #[must_use]
    pub fn clients(&self) -> NodeClients<A::NodeClient> {
        self.clients.clone()
    }

    pub(super) fn access(&self) -> &Arc<dyn NodeAccess<A>> {
        &self.access
    }

    /// The address of the node's current client.
    pub(super) fn address(&self, node: &str) -> Option<NodeAddress> {
        lock(&self.addresses).get(node).cloned()
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
        let containers = self.list(vec![self.label()]).await?;
        self.take_in(&mut known, &containers);
        Ok(())
    }

    fn take_in(&self, known: &mut KnownNodes, containers: &[ContainerSummary]) {
        let (chosen, mut now) = by_name(known, containers);
        let mut nodes = Vec::with_capacity(chosen.len());
        for (name, container) in &chosen {
            match self.node(name, container) {
                Ok(client) => nodes.extend(client.map(|client| ObservedSource::new(name, client))),
                Err(no_client) => drop(now.get_or_insert(no_client)),
            }
        }
        lock(&self.addresses).retain(|name, _| nodes.iter().any(|node| node.name == *name));
        self.clients.replace(nodes);
        *known = chosen.iter().map(|(name, container)| (name.clone(), id(container).to_owned())).collect();
        let mut problem = lock(&self.problem);
        let text = now.as_ref().map(|now| error_chain(now));
        if text != problem.as_ref().map(|known| error_chain(&**known)) {
            if let Some(text) = text {
                tracing::warn!(cluster = &*self.cluster, "{text}");
            }
            *problem = now.map(Arc::new);
        }
    }

    /// Refreshes on every event of the cluster's containers, without end.
    pub async fn follow(self) {
        self.follow_and(|| ready(())).await;
    }

    /// Refreshes on every event, and does `then` each time.
    pub(super) async fn follow_and<F: Future<Output = ()> + Send>(self, then: impl Fn() -> F + Send) {
        let mut again = interval(RETRY);
        again.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            again.tick().await;
            // The stream has all events since a moment before the list: nothing is missed between them.
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let filters =
                [("type".to_owned(), vec!["container".to_owned()]), ("label".to_owned(), vec![self.label()])];
            let options = EventsOptions {
                since: Some(now.as_secs().to_string()),
                filters: Some(HashMap::from(filters)),
                ..EventsOptions::default()
            };
            let mut events = engine::events(&self.docker, options);
            let mut known = self.refresh().await;
            then().await;
            while known.is_ok() && matches!(events.next().await, Some(Ok(_))) {
                known = self.refresh().await;
                then().await;
            }
            tracing::debug!(cluster = &*self.cluster, ?known, "the engine's events ended; asking again");
        }
    }

    /// The id of the container of `node`; an error if two containers have that name.
    pub(super) async fn container(&self, node: &str) -> Result<Option<String>, ContainerError> {
        let found = self.list(vec![self.label(), format!("{NODE_LABEL}={node}")]).await?;
        match by_name(&KnownNodes::new(), &found) {
            (_, Some(same_name)) => Err(same_name),
            (chosen, None) => Ok(chosen.get(node).map(|container| id(container).to_owned())),
        }
    }

    /// The name of the node of each service, by the service.
    pub(super) async fn of_services(&self) -> Result<BTreeMap<String, String>, ContainerError> {
        let containers = self.list(vec![self.label()]).await?;
        let of = |container: ContainerSummary| {
            let mut labels = container.labels?;
            Some((labels.remove(SERVICE_LABEL)?, labels.remove(NODE_LABEL)?))
        };
        Ok(containers.into_iter().filter_map(of).collect())
    }

    /// What shares the network of this container, if anything does: a cut would cut that off as well.
    pub(super) async fn shares_network(&self, container: &str) -> Result<Option<String>, EngineError> {
        let containers = engine::containers(&self.docker, None).await?;
        Ok(sharer(container, &containers))
    }

    /// All containers with these labels, also those that do not run.
    async fn list(&self, labels: Vec<String>) -> Result<Vec<ContainerSummary>, EngineError> {
        let options = ListContainersOptions {
            all: true,
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        engine::containers(&self.docker, Some(options)).await
    }

    fn label(&self) -> String {
        format!("{CLUSTER_LABEL}={}", self.cluster)
    }

    /// The client of the node in `container`: the known one, unless it has another address now.
    fn node(
        &self,
        name: &str,
        container: &ContainerSummary,
    ) -> Result<Option<A::NodeClient>, ContainerError> {
        let known = self.clients.get(name);
        // It has none while it is down.
        let Some(ports) = ports(container) else { return Ok(known) };
        let at = NodeAddress {
            cluster: self.cluster.to_string(),
            node: name.to_owned(),
            number: number(name),
            ports,
        };
        if let (Some(known), true) = (known, lock(&self.addresses).get(name) == Some(&at)) {
            return Ok(Some(known));
        }
        let client = client(&*self.access, &at).map_err(|source| {
            let at = format!("{:?}", at.ports);
            ContainerError::NoClient { node: name.to_owned(), at, source }
        })?;
        lock(&self.addresses).insert(name.to_owned(), at);
        Ok(Some(client))
    }
}

/// The number at the end of a name; 0 if there is none.
fn number(name: &str) -> u64 {
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    name[name.len() - digits..].parse().unwrap_or(0)
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

/// Where the node of `container` serves, by the name of the port, if it has an address now.
fn ports(container: &ContainerSummary) -> Option<BTreeMap<String, String>> {
    let networks = container.network_settings.as_ref()?.networks.as_ref()?;
    let mut ips = networks.values().filter_map(|network| network.ip_address.as_deref());
    let ip = ips.find(|ip| !ip.is_empty())?;
    let ports = container.labels.iter().flatten().filter_map(|(label, port)| {
        let name = match label.strip_prefix(PORT_LABEL)? {
            "" => CLIENT,
            named => named.strip_prefix('.')?,
        };
        Some((name.to_owned(), format!("{ip}:{port}")))
    });
    Some(ports.collect())
}

#[async_trait]
impl<A: Application> SourceProvider<A::NodeClient> for ContainerNodes<A> {
    async fn sources(&self) -> Result<Vec<ObservedSource<A::NodeClient>>, DynError> {
        self.refresh().await?;
        Ok(self.clients.all())
    }
}

#[cfg(test)]
mod tests;
