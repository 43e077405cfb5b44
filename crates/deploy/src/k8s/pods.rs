//! The pods of a cluster as sources.

mod follower;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use watchkeeper::report::error_chain;
use watchkeeper::{DynError, ObservedSource, SourceProvider, async_trait};
use watchkeeper_scenario::{Application, NodeClients};

use self::follower::Follower;
use super::error::K8sError;
use super::forward::Opener;
use super::names::Names;
use super::options::Reach;
use super::pod::{NodePod, PodView};
use crate::NodeAccess;
use crate::shared::lock;

/// Which pods are nodes, and how they are reached.
#[derive(Clone, Debug)]
pub struct PodSelection {
    /// The namespace they are in.
    pub namespace: String,
    /// A label selector, such as `app.kubernetes.io/name=shop`.
    pub labels: String,
    /// The name of the cluster that the nodes belong to, for the clients: addresses are reused, and a client may have to
    /// distinguish a node of another cluster.
    pub cluster: String,
    /// What in each pod is the node.
    pub pod: NodePod,
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
///
/// # Examples
///
/// ```no_run
/// use std::sync::Arc;
/// use watchkeeper_deploy::NodeAccess;
/// use watchkeeper_deploy::k8s::{NodePod, PodSelection, PodSources, Reach, kube};
/// use watchkeeper_scenario::{Application, DynError};
///
/// # async fn found<A: Application>(access: Arc<dyn NodeAccess<A>>) -> Result<(), DynError> {
/// let selection = PodSelection {
///     namespace: "shop".to_owned(),
///     labels: "app.kubernetes.io/name=shop".to_owned(),
///     cluster: "shop".to_owned(),
///     pod: NodePod::new("shop", ["http"]),
///     reach: Reach::PortForward,
/// };
/// let pods = PodSources::follow(kube::Client::try_default().await?, selection, access);
/// println!("{:?}", pods.clients().names());
/// # Ok(())
/// # }
/// ```
pub struct PodSources<A: Application> {
    clients: NodeClients<A::NodeClient>,
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
            (Some(pod), Some(problem)) if pod.ready => error_chain(&**problem),
            (Some(pod), _) => pod.waits_for.clone(),
            (None, _) => "it has no pod".to_owned(),
        }
    }
}

impl<A: Application> fmt::Debug for PodSources<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, seen, .. } = self;
        f.debug_struct("PodSources").field("clients", clients).field("seen", seen).finish_non_exhaustive()
    }
}

impl<A: Application> PodSources<A> {
    /// Begins to follow the pods, in a task of the current tokio runtime.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn follow(client: Client, selection: PodSelection, access: Arc<dyn NodeAccess<A>>) -> Self {
        let names = Names::new(selection.pod.name);
        Self::follow_as(client, selection, access, names)
    }

    /// Follows with the given names.
    pub(super) fn follow_as(
        client: Client,
        selection: PodSelection,
        access: Arc<dyn NodeAccess<A>>,
        names: Names,
    ) -> Self {
        let clients = NodeClients::new();
        let (publisher, seen) = watch::channel(Seen::default());
        let end = CancellationToken::new();
        let api = Api::namespaced(client, &selection.namespace);
        let opener = Opener::new(selection.reach, &api);
        let follower = Follower::new(opener, &selection, access, clients.clone(), names, publisher);
        let following = follower.run(api, selection.labels, end.clone());
        Self { clients, seen, end, task: Mutex::new(Some(AbortOnDropHandle::new(tokio::spawn(following)))) }
    }

    /// The clients of the pods that have an address; the set is kept up to date.
    #[must_use]
    pub fn clients(&self) -> NodeClients<A::NodeClient> {
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
impl<A: Application> SourceProvider<A::NodeClient> for PodSources<A> {
    /// Waits for the first list; later it returns at once.
    ///
    /// # Errors
    ///
    /// [`K8sError`]: the first list was refused.
    async fn sources(&self) -> Result<Vec<ObservedSource<A::NodeClient>>, DynError> {
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
