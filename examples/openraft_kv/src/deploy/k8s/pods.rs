//! The pods of a cluster as sources.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use watchkeeper::{DynError, ObservedSource, SourceProvider, async_trait};
use watchkeeper_scenario::NodeClients;

use super::error::K8sError;
use super::forward::Forward;
use super::options::Reach;
use super::pod::{PodView, node_of};
use crate::NodeClient;
use crate::http::Http;

/// How long to wait before pods are listed again if no other pause is known.
const RETRY: Duration = Duration::from_secs(30);

/// Which pods are nodes, and how they are talked to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSelection {
    /// The namespace they are in.
    pub namespace: String,
    /// A label selector, such as `app.kubernetes.io/name=openraft-kv`.
    pub labels: String,
    /// The cluster that a node must be of: addresses are reused, and a node of another cluster
    /// then refuses. `None` takes whoever is there.
    pub cluster: Option<String>,
    /// How they are reached.
    pub reach: Reach,
}

/// Follows pods by label: a [`SourceProvider`] that has one source for each pod with an address.
///
/// The pods are listed once and watched from there on, so that asking for the sources costs the
/// API server nothing. A source is named after its node, `n1` for the pod `...-0`. A pod that was
/// deleted and made again under its name is the same source at another address. A pod that is not
/// ready is a source all the same: whether a node answers is for the observer to find out.
///
/// While the API server cannot be reached, the pods that were last seen stay sources, and the
/// watch is taken up again where it broke off; [`problem`](Self::problem) tells of that. Dropping
/// the value ends the watch.
#[derive(Debug)]
pub struct PodSources {
    clients: NodeClients<NodeClient>,
    seen: watch::Receiver<Seen>,
    _task: AbortOnDropHandle<()>,
}

/// What is known of the pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether all pods have been listed, ever.
    pub(super) listed: bool,
    /// By the node's name.
    pub(super) pods: Arc<BTreeMap<String, PodView>>,
    /// What last kept the watch from working, until the next event.
    pub(super) problem: Option<Arc<K8sError>>,
}

impl PodSources {
    /// Begins to follow the pods, in a task of the current tokio runtime.
    ///
    /// # Panics
    ///
    /// When there is no tokio runtime.
    #[must_use]
    pub fn follow(client: Client, selection: PodSelection) -> Self {
        let clients = NodeClients::new();
        let (tell, seen) = watch::channel(Seen::default());
        let follower = Follower {
            api: Api::namespaced(client, &selection.namespace),
            selection,
            http: Http::new(),
            clients: clients.clone(),
            listing: None,
            pods: BTreeMap::new(),
            routes: BTreeMap::new(),
            tell,
        };
        Self { clients, seen, _task: AbortOnDropHandle::new(tokio::spawn(follower.run())) }
    }

    /// The clients of the pods that have an address now; the set is kept true.
    #[must_use]
    pub fn clients(&self) -> NodeClients<NodeClient> {
        self.clients.clone()
    }

    /// The pods by node name, those without an address included.
    #[must_use]
    pub fn pods(&self) -> Arc<BTreeMap<String, PodView>> {
        self.seen.borrow().pods.clone()
    }

    /// What last kept the pods from being followed, until the next event shows that they are again.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<K8sError>> {
        self.seen.borrow().problem.clone()
    }

    /// Waits until what is known satisfies `condition`, and returns it.
    pub(super) async fn when(&self, condition: impl FnMut(&Seen) -> bool) -> Result<Seen, Arc<K8sError>> {
        let mut seen = self.seen.clone();
        seen.wait_for(condition).await.map(|seen| seen.clone()).map_err(|_| Arc::new(K8sError::Ended))
    }
}

#[async_trait]
impl SourceProvider<NodeClient> for PodSources {
    /// Waits for the first list; later it answers at once.
    ///
    /// # Errors
    ///
    /// [`K8sError`]: the first list was refused.
    async fn sources(&self) -> Result<Vec<ObservedSource<NodeClient>>, DynError> {
        let seen = self.when(|seen| seen.listed || seen.problem.is_some()).await?;
        match seen.problem {
            Some(problem) if !seen.listed => Err(problem.into()),
            _ => Ok(self.clients.all()),
        }
    }
}

/// The way to one pod, for as long as the pod is the same.
#[derive(Debug)]
struct Route {
    pod: PodView,
    client: NodeClient,
    _forward: Option<Forward>,
}

/// The task behind [`PodSources`].
struct Follower {
    api: Api<Pod>,
    selection: PodSelection,
    http: Http,
    clients: NodeClients<NodeClient>,
    /// What a list that is under way has told so far.
    listing: Option<BTreeMap<String, PodView>>,
    pods: BTreeMap<String, PodView>,
    routes: BTreeMap<String, Route>,
    tell: watch::Sender<Seen>,
}

impl Follower {
    async fn run(mut self) {
        // Outlives the watcher: a server whose every watch is too old would be asked without a pause.
        let mut backoff = watcher::DefaultBackoff::default();
        loop {
            let config = watcher::Config::default().labels(&self.selection.labels);
            let mut events = pin!(watcher(self.api.clone(), config).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(event)) => self.apply(event).await,
                    Ok(None) => return,
                    // The watcher lists again when a watch turns out to be too old, but not when it is
                    // refused for that reason from the beginning: it would ask for the same for ever.
                    Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) if status.code == 410 => {
                        debug!("the watch is too old to go on from: listing again");
                        sleep(backoff.next().unwrap_or(RETRY)).await;
                        break;
                    }
                    Err(error) => self.report(error),
                }
            }
        }
    }

    async fn apply(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => {
                self.listing = Some(BTreeMap::new());
                return;
            }
            watcher::Event::InitApply(pod) => {
                if let Some(listing) = &mut self.listing {
                    insert(listing, &pod);
                }
                return;
            }
            watcher::Event::InitDone => self.pods = self.listing.take().unwrap_or_default(),
            watcher::Event::Apply(pod) => insert(&mut self.pods, &pod),
            watcher::Event::Delete(pod) => {
                self.pods.remove(&node_of(pod.metadata.name.as_deref().unwrap_or_default()));
            }
        }
        self.publish().await;
    }

    /// Clients first: whoever learns of a pod here finds its client.
    async fn publish(&mut self) {
        let mut problem = None;
        let mut old = std::mem::take(&mut self.routes);
        let mut changed = false;
        for (node, pod) in &self.pods {
            let Some(addr) = pod.addr else { continue };
            let kept =
                old.remove(node).filter(|route| route.pod.uid == pod.uid && route.pod.addr == pod.addr);
            let route = match kept {
                Some(route) => route,
                None => match self.route(node, pod, addr).await {
                    Ok(route) => {
                        changed = true;
                        route
                    }
                    Err(error) => {
                        problem = Some(Arc::new(error));
                        continue;
                    }
                },
            };
            self.routes.insert(node.clone(), route);
        }
        if changed || !old.is_empty() {
            let sources =
                self.routes.iter().map(|(node, route)| ObservedSource::new(node, route.client.clone()));
            self.clients.replace(sources.collect());
        }
        self.tell.send_replace(Seen { listed: true, pods: Arc::new(self.pods.clone()), problem });
    }

    async fn route(&self, node: &str, pod: &PodView, addr: SocketAddr) -> Result<Route, K8sError> {
        let forward = match self.selection.reach {
            Reach::PodIp => None,
            Reach::PortForward => {
                let opened = Forward::open(self.api.clone(), &pod.name, addr.port()).await;
                Some(opened.map_err(|source| K8sError::Forward { pod: pod.name.clone(), source })?)
            }
        };
        let reached = forward.as_ref().map_or(addr, |forward| forward.addr);
        let mut client = NodeClient::sharing(self.http.clone(), reached.to_string());
        let id = node.strip_prefix('n').and_then(|id| id.parse().ok());
        if let (Some(cluster), Some(id)) = (&self.selection.cluster, id) {
            client = client.expecting(cluster.as_str(), id);
        }
        debug!(node, pod = pod.name, %addr, %reached, "a pod is reached");
        Ok(Route { pod: pod.clone(), client, _forward: forward })
    }

    fn report(&mut self, error: watcher::Error) {
        let (doing, error) = match error {
            watcher::Error::InitialListFailed(error) => ("list the pods", error),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                ("watch the pods", error)
            }
            // Too old to go on from, which is cured by a new list, or told what is wrong by the server.
            watcher::Error::WatchError(status) if status.code == 410 => {
                debug!(reason = status.message, "the watch is too old to go on: listing again");
                return;
            }
            watcher::Error::WatchError(status) => ("watch the pods", kube::Error::Api(status)),
            watcher::Error::NoResourceVersion => {
                warn!("the API server answers without a resource version; retrying");
                return;
            }
        };
        let problem = K8sError::of(format!("{doing} of {}", self.selection.namespace))(error);
        warn!(%problem, "the pods are not followed; retrying");
        self.tell.send_modify(|seen| seen.problem = Some(Arc::new(problem)));
    }
}

fn insert(pods: &mut BTreeMap<String, PodView>, pod: &Pod) {
    let view = PodView::of(pod);
    pods.insert(node_of(&view.name), view);
}
