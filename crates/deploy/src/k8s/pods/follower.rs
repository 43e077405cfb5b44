//! The task that follows pods.

use std::collections::BTreeMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::{WatchStreamExt, watcher};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use watchkeeper::ObservedSource;
use watchkeeper_scenario::{Application, NodeClients};

use super::super::error::K8sError;
use super::super::forward::{Forward, Opener};
use super::super::names::{Names, PodOfSet, PodPlace};
use super::super::pod::{NodePod, PodView};
use super::{PodSelection, Seen};
use crate::shared::client;
use crate::{NodeAccess, NodeAddress};

/// How long to wait before pods are listed again if no other pause is known.
const RETRY: Duration = Duration::from_secs(30);
/// How long to wait before a port that could not be forwarded is tried again, at first and at the most.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// The route to one pod, for as long as the pod is the same.
struct Route<C> {
    uid: String,
    ports: BTreeMap<String, SocketAddr>,
    client: C,
    forwards: Vec<Forward>,
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

/// The task of [`PodSources`](super::PodSources).
pub(super) struct Follower<A: Application> {
    opener: Opener,
    namespace: String,
    cluster: String,
    pod: NodePod,
    access: Arc<dyn NodeAccess<A>>,
    clients: NodeClients<A::NodeClient>,
    names: Names,
    /// The pods so far of a list in progress.
    listing: Option<BTreeMap<String, PodOfSet>>,
    /// By the pod's name, of which there is one at a time.
    pods: BTreeMap<String, PodOfSet>,
    /// By the node's name.
    routes: BTreeMap<String, Route<A::NodeClient>>,
    retry: Retry,
    not_followed: Option<Arc<K8sError>>,
    publisher: watch::Sender<Seen>,
}

impl<A: Application> Follower<A> {
    pub(super) fn new(
        opener: Opener,
        selection: &PodSelection,
        access: Arc<dyn NodeAccess<A>>,
        clients: NodeClients<A::NodeClient>,
        names: Names,
        publisher: watch::Sender<Seen>,
    ) -> Self {
        Self {
            opener,
            namespace: selection.namespace.clone(),
            cluster: selection.cluster.clone(),
            pod: selection.pod.clone(),
            access,
            clients,
            names,
            listing: None,
            pods: BTreeMap::new(),
            routes: BTreeMap::new(),
            retry: Retry::default(),
            not_followed: None,
            publisher,
        }
    }

    pub(super) async fn run(mut self, api: Api<Pod>, labels: String, end: CancellationToken) {
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
            let mut events = events(api, labels);
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
                let member = self.member(&pod);
                if let Some(listing) = &mut self.listing {
                    listing.insert(member.view.name.clone(), member);
                }
                return;
            }
            watcher::Event::InitDone => self.pods = self.listing.take().unwrap_or_default(),
            watcher::Event::Apply(pod) => {
                let member = self.member(&pod);
                self.pods.insert(member.view.name.clone(), member);
            }
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
            let ports = &pod.view.ports;
            if ports.is_empty() {
                continue;
            }
            let known = old.remove(node);
            let is_same = |route: &Route<_>| route.uid == pod.view.uid && route.ports == *ports;
            let route = match known {
                Some(route) if is_same(&route) => Ok(route),
                replaced => {
                    close_all(replaced).await;
                    self.route(node, pod)
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

    fn route(&self, node: &str, pod: &PodOfSet) -> Result<Route<A::NodeClient>, K8sError> {
        let PodOfSet { view, place } = pod;
        let (mut ports, mut forwards) = (BTreeMap::new(), Vec::new());
        for (name, addr) in &view.ports {
            let forward = self.opener.open(&view.name, addr.port());
            let forward = forward.map_err(|source| K8sError::Forward { pod: view.name.clone(), source })?;
            let reached = forward.as_ref().map_or(*addr, |forward| forward.addr);
            debug!(node, pod = view.name, %addr, %reached, "a pod is reached");
            ports.insert(name.clone(), reached.to_string());
            forwards.extend(forward);
        }
        let number = place.as_ref().map_or(0, |place| place.id);
        let at = NodeAddress { cluster: self.cluster.clone(), node: node.to_owned(), number, ports };
        let client = client(&*self.access, &at).map_err(|source| {
            let at = format!("{:?}", at.ports);
            K8sError::NoClient { node: node.to_owned(), at, source }
        })?;
        Ok(Route { uid: view.uid.clone(), ports: view.ports.clone(), client, forwards })
    }

    fn member(&self, pod: &Pod) -> PodOfSet {
        PodOfSet { view: PodView::of(pod, &self.pod), place: PodPlace::of(pod) }
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

/// What happens to the pods, all that there are at first. It is asked again after an error, later each time.
fn events(api: &Api<Pod>, labels: &str) -> BoxStream<'static, watcher::Result<watcher::Event<Pod>>> {
    watcher(api.clone(), watcher::Config::default().labels(labels)).default_backoff().boxed()
}

/// A pod that is gone refuses connections, like a process: its ports are closed before its end is published.
async fn close<C>(route: Route<C>) {
    for forward in route.forwards {
        forward.close().await;
    }
}

async fn close_all<C>(routes: impl IntoIterator<Item = Route<C>>) {
    for route in routes {
        close(route).await;
    }
}

#[cfg(test)]
mod tests;
