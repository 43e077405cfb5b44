//! The pods of a cluster as sources.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};
use watchkeeper::{DynError, ObservedSource, SourceProvider, async_trait};
use watchkeeper_scenario::NodeClients;

use super::error::K8sError;
use super::forward::{Forward, Opener};
use super::names::{Names, PodOfSet, PodPlace};
use super::options::Reach;
use super::pod::PodView;
use crate::NodeClient;
use crate::http::Http;
use crate::sync::lock;

/// How long to wait before pods are listed again if no other pause is known.
const RETRY: Duration = Duration::from_secs(30);
/// How long to wait before a port that could not be forwarded is tried again, at first and at the most.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Which pods are nodes, and how they are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodSelection {
    /// The namespace they are in.
    pub namespace: String,
    /// A label selector, such as `app.kubernetes.io/name=openraft-kv`.
    pub labels: String,
    /// The cluster that the nodes belong to: addresses are reused, and a node of another cluster then
    /// refuses. `None` accepts any node.
    pub cluster: Option<String>,
    /// How they are reached.
    pub reach: Reach,
}

/// Follows pods by label: a [`SourceProvider`] that has one source for each pod with an address.
///
/// The pods are listed once and watched from there on, so that reading the sources causes no request. A
/// pod that was replaced under its name is the same source at another address. A pod that is not ready
/// is a source too: the observer finds out whether it answers.
///
/// A source is named after its node, `n1` for the pod `...-0` of a `StatefulSet`. Where several sets
/// have the label, the one seen first has the numbers; all other pods keep the name of the pod. A pod
/// belongs to the set that owns it; pods without an owner that are called `kv-0`, `kv-1` are a separate
/// set, also beside a `StatefulSet` called `kv`. Where two pods would have one name, one is left out and
/// [`problem`](Self::problem) names both.
///
/// While the API server cannot be reached, the last known pods stay sources, [`problem`](Self::problem)
/// returns the error, and the watch is resumed where it broke off. A pod for which no port can be
/// forwarded is no source, and is tried again every few seconds. Dropping the value ends the watch and
/// closes the forwarded ports.
#[derive(Debug)]
pub struct PodSources {
    clients: NodeClients<NodeClient>,
    seen: watch::Receiver<Seen>,
    end: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What is known of the pods.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    /// Whether all pods have been listed, ever.
    pub(super) listed: bool,
    /// By the node's name.
    pub(super) pods: Arc<BTreeMap<String, PodView>>,
    /// The nodes that have a client.
    pub(super) reached: Arc<BTreeSet<String>>,
    /// Why pods are not followed or reached, until that works.
    pub(super) problem: Option<Arc<K8sError>>,
}

impl Seen {
    /// Whether the node's pod is ready and can be reached.
    pub(super) fn serves(&self, node: &str) -> bool {
        self.pods.get(node).is_some_and(|pod| pod.ready) && self.reached.contains(node)
    }

    /// Why the node does not serve.
    pub(super) fn waits_for(&self, node: &str) -> String {
        match (self.pods.get(node), &self.problem) {
            (Some(pod), Some(problem)) if pod.ready => problem.to_string(),
            (Some(pod), _) => pod.waits_for.clone(),
            (None, _) => "it has no pod".to_owned(),
        }
    }
}

impl PodSources {
    /// Begins to follow the pods, in a task of the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn follow(client: Client, selection: PodSelection) -> Self {
        Self::follow_as(client, selection, Names::default())
    }

    /// Follows with the given names.
    pub(super) fn follow_as(client: Client, selection: PodSelection, names: Names) -> Self {
        let clients = NodeClients::new();
        let (publisher, seen) = watch::channel(Seen::default());
        let end = CancellationToken::new();
        let api = Api::namespaced(client, &selection.namespace);
        let follower = Follower {
            opener: Opener::new(selection.reach, &api),
            namespace: selection.namespace,
            cluster: selection.cluster,
            http: Http::new(),
            clients: clients.clone(),
            names,
            listing: None,
            pods: BTreeMap::new(),
            routes: BTreeMap::new(),
            retry: Retry::default(),
            not_followed: None,
            publisher,
        };
        let following = follower.run(api, selection.labels, end.clone());
        Self { clients, seen, end, task: Mutex::new(Some(AbortOnDropHandle::new(tokio::spawn(following)))) }
    }

    /// The clients of the pods that have an address; the set is kept up to date.
    #[must_use]
    pub fn clients(&self) -> NodeClients<NodeClient> {
        self.clients.clone()
    }

    /// The pods by node name, those without an address included.
    #[must_use]
    pub fn pods(&self) -> Arc<BTreeMap<String, PodView>> {
        self.seen.borrow().pods.clone()
    }

    /// Why pods are not followed, named or reached, until that works again.
    #[must_use]
    pub fn problem(&self) -> Option<Arc<K8sError>> {
        self.seen.borrow().problem.clone()
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Fails once the watch has ended: what was last seen may be out of date.
    pub(super) fn follows(&self) -> Result<(), Arc<K8sError>> {
        if self.end.is_cancelled() { Err(Arc::new(K8sError::Ended)) } else { Ok(()) }
    }

    /// Waits until what is known satisfies `condition`, and returns it.
    pub(super) async fn when(&self, condition: impl FnMut(&Seen) -> bool) -> Result<Seen, Arc<K8sError>> {
        self.follows()?;
        let mut seen = self.seen.clone();
        seen.wait_for(condition).await.map(|seen| seen.clone()).map_err(|_| Arc::new(K8sError::Ended))
    }

    /// Cancelling it ends the watch and closes the forwarded ports, also while the value is held.
    pub(super) fn ending(&self) -> CancellationToken {
        self.end.clone()
    }

    /// Ends the watch and returns when the forwarded ports are closed.
    pub(super) async fn end(&self) {
        self.end.cancel();
        let task = lock(&self.task).take();
        if let Some(task) = task {
            // It panicked, or the runtime shuts down: it has ended.
            let _ = task.await;
        }
    }
}

#[async_trait]
impl SourceProvider<NodeClient> for PodSources {
    /// Waits for the first list; later it returns at once.
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

    /// `None` where [`sources`](Self::sources) would wait or fail.
    fn revision(&self) -> Option<u64> {
        let is_known = self.follows().is_ok() && self.seen.borrow().listed;
        is_known.then(|| SourceProvider::revision(&self.clients))?
    }
}

/// The route to one pod, for as long as the pod is the same.
#[derive(Debug)]
struct Route {
    uid: String,
    addr: SocketAddr,
    client: NodeClient,
    forward: Option<Forward>,
}

/// When routes that failed are tried again.
#[derive(Debug, Default)]
struct Retry {
    failed: u32,
    at: Option<Instant>,
}

impl Retry {
    fn plan(&mut self, has_failed: bool) {
        self.failed = if has_failed { self.failed.saturating_add(1) } else { 0 };
        self.at = has_failed.then(|| Instant::now() + self.pause());
    }

    fn pause(&self) -> Duration {
        FIRST_RETRY.saturating_mul(1 << self.failed.saturating_sub(1).min(8)).min(LAST_RETRY)
    }

    async fn due(&self) {
        match self.at {
            Some(at) => sleep_until(at).await,
            None => pending().await,
        }
    }
}

/// The task of [`PodSources`].
struct Follower {
    opener: Opener,
    namespace: String,
    cluster: Option<String>,
    http: Http,
    clients: NodeClients<NodeClient>,
    names: Names,
    /// The pods so far of a list in progress.
    listing: Option<BTreeMap<String, PodOfSet>>,
    /// By the pod's name, of which there is one at a time.
    pods: BTreeMap<String, PodOfSet>,
    /// By the node's name.
    routes: BTreeMap<String, Route>,
    retry: Retry,
    not_followed: Option<Arc<K8sError>>,
    publisher: watch::Sender<Seen>,
}

impl Follower {
    async fn run(mut self, api: Api<Pod>, labels: String, end: CancellationToken) {
        tokio::select! {
            () = end.cancelled() => {}
            () = self.follow(&api, &labels) => {}
        }
        for route in std::mem::take(&mut self.routes).into_values() {
            close(route).await;
        }
    }

    async fn follow(&mut self, api: &Api<Pod>, labels: &str) {
        // Outlives the watcher: otherwise a server whose every watch is too old would be asked without a pause.
        let mut backoff = watcher::DefaultBackoff::default();
        loop {
            let config = watcher::Config::default().labels(labels);
            let mut events = pin!(watcher(api.clone(), config).default_backoff());
            loop {
                let event = tokio::select! {
                    event = events.try_next() => event,
                    () = self.retry.due() => {
                        self.publish().await;
                        continue;
                    }
                };
                match event {
                    Ok(Some(event)) => self.apply(event).await,
                    Ok(None) => return,
                    // The watcher lists again when a watch becomes too old, but not when it is refused for
                    // that reason at its start: it would repeat the same request without end.
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
                // Not a newer pod of that name.
                let name = pod.metadata.name.unwrap_or_default();
                let is_it = |known: &PodOfSet| pod.metadata.uid.as_ref() == Some(&known.view.uid);
                if self.pods.get(&name).is_some_and(is_it) {
                    self.pods.remove(&name);
                }
            }
        }
        self.not_followed = None;
        self.publish().await;
    }

    /// Updates the clients first: a reader that sees a pod finds its client.
    async fn publish(&mut self) {
        let (named, left_out) = self.names.give(self.pods.values());
        let mut problem = left_out.into_iter().next().map(Arc::new);
        let named: Vec<(String, PodOfSet)> =
            named.into_iter().map(|(node, pod)| (node, pod.clone())).collect();
        let before = std::mem::take(&mut self.routes);
        let mut old = before;
        let mut has_failed = false;
        for (node, pod) in &named {
            let Some(addr) = pod.view.addr else { continue };
            let known = old.remove(node);
            let is_same = |route: &Route| route.uid == pod.view.uid && route.addr == addr;
            let route = match known {
                Some(route) if is_same(&route) => Ok(route),
                replaced => {
                    close_all(replaced).await;
                    self.route(node, pod, addr)
                }
            };
            match route {
                Ok(route) => drop(self.routes.insert(node.clone(), route)),
                Err(error) => {
                    warn!(node, %error, "a pod is not reached; trying again");
                    has_failed = true;
                    problem = Some(Arc::new(error));
                }
            }
        }
        close_all(old.into_values()).await;
        self.retry.plan(has_failed);
        let sources = self.routes.iter().map(|(node, route)| ObservedSource::new(node, route.client.clone()));
        self.clients.replace(sources.collect());
        let pods: BTreeMap<String, PodView> = named.into_iter().map(|(node, pod)| (node, pod.view)).collect();
        self.publisher.send_replace(Seen {
            listed: true,
            pods: Arc::new(pods),
            reached: Arc::new(self.routes.keys().cloned().collect()),
            problem: self.not_followed.clone().or(problem),
        });
    }

    fn route(&self, node: &str, pod: &PodOfSet, addr: SocketAddr) -> Result<Route, K8sError> {
        let PodOfSet { view, place } = pod;
        let forward = self.opener.open(&view.name, addr.port());
        let forward = forward.map_err(|source| K8sError::Forward { pod: view.name.clone(), source })?;
        let reached = forward.as_ref().map_or(addr, |forward| forward.addr);
        let mut client = NodeClient::sharing(self.http.clone(), reached.to_string());
        if let (Some(cluster), Some(place)) = (&self.cluster, place) {
            client = client.expecting(cluster.as_str(), place.id);
        }
        debug!(node, pod = view.name, %addr, %reached, "a pod is reached");
        Ok(Route { uid: view.uid.clone(), addr, client, forward })
    }

    fn report(&mut self, error: watcher::Error) {
        let (doing, error) = match error {
            watcher::Error::InitialListFailed(error) => ("list the pods", error),
            watcher::Error::WatchStartFailed(error) | watcher::Error::WatchFailed(error) => {
                ("watch the pods", error)
            }
            // Too old to go on from: the watcher lists again.
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
        let problem = Arc::new(K8sError::of(format!("{doing} of {}", self.namespace))(error));
        warn!(%problem, "the pods are not followed; retrying");
        self.not_followed = Some(Arc::clone(&problem));
        self.publisher.send_modify(|seen| seen.problem = Some(problem));
    }
}

fn insert(pods: &mut BTreeMap<String, PodOfSet>, pod: &Pod) {
    let member = PodOfSet { view: PodView::of(pod), place: PodPlace::of(pod) };
    pods.insert(member.view.name.clone(), member);
}

/// A pod that is gone refuses connections, like a process: its port is closed before its end is published.
async fn close(route: Route) {
    if let Some(forward) = route.forward {
        forward.close().await;
    }
}

async fn close_all(routes: impl IntoIterator<Item = Route>) {
    for route in routes {
        close(route).await;
    }
}

#[cfg(test)]
mod tests;
