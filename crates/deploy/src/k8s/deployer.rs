//! Starts the nodes as pods.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use futures_util::{AsyncReadExt, FutureExt, TryFutureExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{LogParams, Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::DropGuard;
use watchkeeper::report::error_chain;
use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::{Application, DeployError, Deployer, NodeClients, NodeControl, RunningCluster};

use super::connect::{connect, reach};
use super::control::{K8sControl, NAME};
use super::error::K8sError;
use super::manifests::Manifests;
use super::names::Names;
use super::options::K8sOptions;
use super::pod::NodePod;
use super::pods::{PodSelection, PodSources, Seen};
use super::program::K8sProgram;
use super::space::{OwnedNamespace, labels};
use crate::access::asked;
use crate::shared::{LogEnd, unique, with_log_tail};
use crate::{NodeAccess, ready};

/// The field manager of server-side apply.
const MANAGER: &str = "watchkeeper";
/// Lines of a node's log in a report.
const LOG_LINES: i64 = 100;

/// Deploys on a Kubernetes cluster of 1.33 or newer: a `StatefulSet` and its headless Service in their own namespace,
/// which is deleted in the end. A deployment that fails returns after the deletion, or says what is left; one that is
/// dropped requests the deletion and does not wait.
///
/// The image must be one that the cluster can get. By default a node is called `n1` and is the pod `NAME-0` of the set
/// called `NAME`. The set replaces every pod that ends, so that nodes can be killed and restarted, but not stopped,
/// paused or isolated.
///
/// # Examples
///
/// ```no_run
/// use watchkeeper_deploy::k8s::{K8sDeployer, K8sOptions, K8sProgram, Manifests};
/// use watchkeeper_scenario::{Application, Deployer, DynError};
///
/// # async fn up<A: Application>(shop: impl K8sProgram<A>, deployment: A::Deployment) -> Result<(), DynError> {
/// let manifests = Manifests::from_directory("deploy/k8s")?;
/// let options = K8sOptions { image: Some("registry.example/shop:1".to_owned()), ..K8sOptions::default() };
/// let cluster = K8sDeployer::new(shop, manifests, options).deploy(&deployment).await?;
/// cluster.node_control().kill("n1").await?; // the set makes another pod
/// cluster.shut_down().await?;
/// # Ok(())
/// # }
/// ```
pub struct K8sDeployer<A> {
    program: Arc<dyn K8sProgram<A>>,
    manifests: Manifests,
    options: K8sOptions,
}

impl<A> Clone for K8sDeployer<A> {
    fn clone(&self) -> Self {
        let Self { program, manifests, options } = self;
        Self { program: Arc::clone(program), manifests: manifests.clone(), options: options.clone() }
    }
}

impl<A> fmt::Debug for K8sDeployer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("K8sDeployer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<A: Application> K8sDeployer<A> {
    /// Deploys the manifests as `options` say.
    #[must_use]
    pub fn new(program: impl K8sProgram<A>, manifests: Manifests, options: K8sOptions) -> Self {
        Self { program: Arc::new(program), manifests, options }
    }

    fn access(&self) -> Arc<dyn NodeAccess<A>> {
        Arc::clone(&self.program) as _
    }

    /// Applies the manifests and follows the pods until each node can be reached.
    async fn bring_up(
        &self,
        client: &Client,
        manifests: &Manifests,
        space: &OwnedNamespace,
        nodes: &[String],
    ) -> Result<Arc<PodSources<A>>, DeployError> {
        let name = space.name();
        apply_all(client, manifests, space).await?;
        let pod = self.program.pod();
        let set = manifests.stateful_set.metadata.name.as_deref().unwrap_or_default();
        let names = Names::of(set, pod.name);
        let selection = PodSelection {
            namespace: name.to_owned(),
            labels: manifests.selector(),
            cluster: name.to_owned(),
            pod,
            reach: reach(&self.options),
        };
        let sources = Arc::new(PodSources::follow_as(client.clone(), selection, self.access(), names));
        if let Err(error) = self.ready(&sources, nodes).await {
            let pods = Api::namespaced(client.clone(), name);
            return Err(failed("bring the pods up")(self.explained(error, &pods, &sources).await));
        }
        Ok(sources)
    }

    /// Adds the end of its log to each node that is not ready.
    async fn explained(&self, error: DynError, pods: &Api<Pod>, sources: &PodSources<A>) -> DynError {
        let (within, waiting) = match error.downcast::<K8sError>().map(|error| *error) {
            Ok(K8sError::NotReady { within, waiting }) => (within, waiting),
            Ok(other) => return other.into(),
            Err(other) => return other,
        };
        let (seen, container) = (sources.pods(), self.program.pod().container);
        let explained = waiting.into_iter().map(async |problem| {
            let pod = problem.split_once(": ").and_then(|(node, _)| seen.get(node)).map(|pod| &pod.name);
            let Some(pod) = pod else { return problem };
            let within = self.options.answer_within;
            let log = match log(within, pods, pod, &container, false).await {
                Some(log) if !log.is_empty() => Some(log),
                // It has ended, and the next one has printed nothing yet.
                _ => log(within, pods, pod, &container, true).await,
            };
            log.map_or_else(|| problem.clone(), |log| with_log_tail(&problem, Some(&log)))
        });
        let waiting = join_all(explained).await;
        K8sError::NotReady { within, waiting }.into()
    }

    /// Waits until every node can be reached.
    async fn ready(&self, sources: &PodSources<A>, nodes: &[String]) -> Result<(), DynError> {
        let within = self.options.ready_within;
        let deadline = Instant::now() + within;
        let all_ready = sources.when(|seen| {
            (seen.problem.is_some() && !seen.listed) || nodes.iter().all(|node| seen.serves(node))
        });
        let Ok(seen) = timeout(within, all_ready).await else {
            let seen = sources.seen();
            let waiting = nodes.iter().filter(|node| !seen.serves(node));
            let waiting = waiting.map(|node| format!("{node}: {}", seen.waits_for(node))).collect();
            return Err(K8sError::NotReady { within, waiting }.into());
        };
        let seen = seen?;
        if let (false, Some(problem)) = (seen.listed, &seen.problem) {
            return Err(Arc::clone(problem).into());
        }
        let clients = sources.clients();
        all_answer(nodes, &clients, &*self.access(), &seen, || sources.seen(), (within, deadline)).await
    }
}

/// Waits until each node of `seen`, all of which served, answers its probe, and fails if a pod was lost or replaced
/// before all had answered. `now` returns what is known of the pods now.
async fn all_answer<A: Application>(
    nodes: &[String],
    clients: &NodeClients<A::NodeClient>,
    access: &dyn NodeAccess<A>,
    seen: &Seen,
    now: impl Fn() -> Seen,
    (within, deadline): (Duration, Instant),
) -> Result<(), DynError> {
    let uid = |seen: &Seen, node: &String| seen.pods.get(node).map(|pod| pod.uid.clone());
    let not_ready = |waiting: Vec<String>| DynError::from(K8sError::NotReady { within, waiting });
    for node in nodes {
        let Some(client) = clients.get(node) else {
            let waits_for = now().waits_for(node);
            return Err(not_ready(vec![format!("{node}: its pod was lost again ({waits_for})")]));
        };
        let left = deadline.saturating_duration_since(Instant::now());
        ready(left, || asked(access, &client)).await.map_err(|unmet| {
            let last = unmet.reason().unwrap_or("its pod is ready, but does not answer");
            not_ready(vec![format!("{node}: {last}")])
        })?;
    }
    // The first may have been lost while the last one was asked.
    let now = now();
    let lost = nodes.iter().filter_map(|node| {
        if !now.serves(node) {
            Some(format!("{node}: it served, and no longer does ({})", now.waits_for(node)))
        } else if uid(&now, node) != uid(seen, node) {
            Some(format!("{node}: its pod was replaced while others started"))
        } else {
            None
        }
    });
    let lost: Vec<String> = lost.collect();
    if lost.is_empty() { Ok(()) } else { Err(not_ready(lost)) }
}

#[async_trait]
impl<A: Application> Deployer<A> for K8sDeployer<A> {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError> {
        let run = unique();
        let own = self.manifests.namespace.metadata.name.as_deref().unwrap_or(MANAGER);
        let name = self.options.namespace.clone().unwrap_or_else(|| format!("{own}-{run}"));
        let changes = self.program.changes(deployment, &name);
        let changes = changes.map_err(|error| DeployError::InvalidDeployment(error_chain(&*error)))?;
        let (pod, image, replicas) = (self.program.pod(), self.options.image.as_deref(), changes.replicas);
        let manifests = self.manifests.clone().of(changes, &pod, &name, image, &labels(&run))?;
        let nodes: Vec<String> = (1..=replicas).map(pod.name).collect();
        check_names(&nodes)?;
        let (config, client) = connect(&self.options).await?;

        let space = OwnedNamespace::new(config, client.clone(), &name, run);
        let sources = match self.bring_up(&client, &manifests, &space, &nodes).await {
            Ok(sources) => sources,
            Err(error) => return Err(self.taken_down(&space, error).await),
        };
        let pods = Api::namespaced(client, &name);
        let gone_within = self.options.gone_within;
        let control = K8sControl {
            pods: pods.clone(),
            sources: sources.clone(),
            access: self.access(),
            nodes,
            gone_within,
        };
        let ending = sources.ending().drop_guard();
        Ok(Box::new(K8sCluster {
            sources,
            control: Arc::new(control),
            pods,
            pod,
            space,
            answer_within: self.options.answer_within,
            gone_within,
            _ending: ending,
        }))
    }
}

impl<A: Application> K8sDeployer<A> {
    /// Deletes what a failed deployment has made; what is left is added to the error.
    async fn taken_down(&self, space: &OwnedNamespace, error: DeployError) -> DeployError {
        let Err(left) = space.remove(self.options.gone_within).await else { return error };
        let (step, failed) = match error {
            DeployError::Failed { step, source, .. } => (step, error_chain(&*source)),
            other => ("bring the pods up".to_owned(), error_chain(&other)),
        };
        let namespace = space.name().to_owned();
        let left = K8sError::Left { failed, namespace, source: Box::new(left) };
        DeployError::Failed { deployer: NAME.to_owned(), step, source: left.into() }
    }
}

/// Running pods. Dropping it closes the forwarded ports, also while its control is held, and deletes the namespace.
struct K8sCluster<A: Application> {
    sources: Arc<PodSources<A>>,
    control: Arc<K8sControl<A>>,
    pods: Api<Pod>,
    pod: NodePod,
    space: OwnedNamespace,
    answer_within: Duration,
    gone_within: Duration,
    _ending: DropGuard,
}

#[async_trait]
impl<A: Application> RunningCluster<A> for K8sCluster<A> {
    fn node_clients(&self) -> NodeClients<A::NodeClient> {
        self.sources.clients()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        self.control.clone()
    }

    async fn log(&self, node: &str) -> Option<String> {
        let pod = self.sources.pods().get(node)?.name.clone();
        log(self.answer_within, &self.pods, &pod, &self.pod.container, false).await
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        self.sources.end().await;
        let step = format!("delete the namespace {}", self.space.name());
        self.space.remove(self.gone_within).await.map_err(failed(step))
    }
}

/// The last lines of a container's log; of the one before, if this one is `previous`. `None` if there is no log, or
/// nothing of it comes `within` this time.
fn log<'a>(
    within: Duration,
    pods: &'a Api<Pod>,
    pod: &'a str,
    container: &'a str,
    previous: bool,
) -> BoxFuture<'a, Option<String>> {
    read_log(within, pods, pod, container, previous).boxed()
}

async fn read_log(
    within: Duration,
    pods: &Api<Pod>,
    pod: &str,
    container: &str,
    previous: bool,
) -> Option<String> {
    let parameters = LogParams {
        container: Some(container.to_owned()),
        tail_lines: Some(LOG_LINES),
        previous,
        ..LogParams::default()
    };
    let deadline = Instant::now() + within;
    // `limit_bytes` would leave the end out.
    let lines = timeout_at(deadline, pods.log_stream(pod, &parameters)).await.ok()?.ok()?;
    let (mut lines, mut log, mut part) = (pin!(lines), LogEnd::default(), vec![0; 16 * 1024]);
    loop {
        match timeout_at(deadline, lines.read(&mut part)).await {
            Ok(Ok(read @ 1..)) => log.push(&part[..read]),
            Ok(Err(_)) | Err(_) if log.is_empty() => return None,
            // The end, or the server broke off or hangs: what came before explains most.
            _ => return Some(log.into_text()),
        }
    }
}

/// One name is one node.
fn check_names(nodes: &[String]) -> Result<(), DeployError> {
    let mut numbers = BTreeMap::new();
    for (number, name) in (1..).zip(nodes) {
        if name.is_empty() {
            let problem = format!("node {number} has an empty name: give it one");
            return Err(DeployError::InvalidDeployment(problem));
        }
        if let Some(first) = numbers.insert(name, number) {
            let problem =
                format!("the nodes {first} and {number} are both called {name}: make their names differ");
            return Err(DeployError::InvalidDeployment(problem));
        }
    }
    Ok(())
}

/// Makes the namespace, and what is in it.
fn apply_all<'a>(
    client: &'a Client,
    manifests: &'a Manifests,
    space: &'a OwnedNamespace,
) -> BoxFuture<'a, Result<(), DeployError>> {
    let applying = async move {
        let name = space.name();
        space.create(&manifests.namespace).await.map_err(failed(format!("make the namespace {name}")))?;
        apply(client, name, &manifests.service).await.map_err(failed("apply service.yaml"))?;
        apply(client, name, &manifests.stateful_set).await.map_err(failed("apply statefulset.yaml"))
    };
    applying.boxed()
}

async fn apply<K>(client: &Client, namespace: &str, object: &K) -> Result<(), K8sError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone,
    K: fmt::Debug,
{
    let api = Api::<K>::namespaced(client.clone(), namespace);
    let name = object.meta().name.clone().unwrap_or_default();
    let doing = format!("apply the {} {name} in {namespace}", K::kind(&()));
    let parameters = PatchParams::apply(MANAGER);
    api.patch(&name, &parameters, &Patch::Apply(object)).map_err(K8sError::of(doing)).await.map(drop)
}

fn failed<E: Into<DynError>>(step: impl Into<String>) -> impl FnOnce(E) -> DeployError {
    let step = step.into();
    move |source| DeployError::Failed { deployer: NAME.to_owned(), step, source: source.into() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::Router;
    use axum::routing::get;
    use tokio::net::TcpListener;
    use tokio::sync::watch;
    use tokio_util::task::AbortOnDropHandle;

    use super::super::pod::PodView;
    use super::*;
    use crate::NodeAddress;
    use crate::app::{Counter, Counting};

    const WITHIN: Duration = Duration::from_secs(180);

    /// A healthy node that answers once `may_answer` is true.
    async fn serve(may_answer: watch::Receiver<bool>) -> (String, AbortOnDropHandle<()>) {
        let answer = move || {
            let mut may_answer = may_answer.clone();
            async move {
                let _ = may_answer.wait_for(|may| *may).await;
                "ok"
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/healthz", get(answer));
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (addr, AbortOnDropHandle::new(serving))
    }

    /// Pods that all serve, by the names of their nodes.
    fn seen(pods: &[(&str, &str)]) -> Seen {
        let view = |uid: &str| PodView {
            name: format!("kv-{uid}"),
            uid: uid.to_owned(),
            ports: BTreeMap::new(),
            ready: true,
            waits_for: "Running".to_owned(),
        };
        let reached: BTreeSet<String> = pods.iter().map(|(node, _)| (*node).to_owned()).collect();
        let pods: BTreeMap<_, _> = pods.iter().map(|(node, uid)| ((*node).to_owned(), view(uid))).collect();
        Seen { listed: true, pods: Arc::new(pods), reached: Arc::new(reached), problem: None }
    }

    fn client(addr: &str) -> Counter {
        let ports = BTreeMap::from([("client".to_owned(), addr.to_owned())]);
        Counter { at: NodeAddress { cluster: "kv".to_owned(), node: String::new(), number: 1, ports } }
    }

    async fn answer(
        nodes: &[String],
        clients: &NodeClients<Counter>,
        seen: &Seen,
        now: impl Fn() -> Seen,
    ) -> Result<(), DynError> {
        all_answer(nodes, clients, &Counting, seen, now, (WITHIN, Instant::now() + WITHIN)).await
    }

    fn nodes() -> Vec<String> {
        ["n1", "n2"].map(str::to_owned).to_vec()
    }

    /// Only the nodes that had a client were asked: two of three nodes passed for a cluster of three.
    #[tokio::test]
    async fn a_pod_that_is_lost_before_it_is_asked_fails_the_deployment() {
        let (_may, may_answer) = watch::channel(true);
        let (addr, _serving) = serve(may_answer).await;
        let both = seen(&[("n1", "u1"), ("n2", "u2")]);
        let clients = NodeClients::new();
        clients.insert("n1", client(&addr));
        let asked = answer(&nodes(), &clients, &both, || seen(&[("n1", "u1")])).await;
        let error = asked.unwrap_err().to_string();
        assert!(error.contains("n2: its pod was lost again (it has no pod)"), "{error}");

        clients.insert("n2", client(&addr));
        answer(&nodes(), &clients, &both, || both.clone()).await.unwrap();
    }

    /// n1 has answered when it is lost, and n2 has not.
    #[tokio::test]
    async fn a_pod_that_is_lost_while_another_is_asked_fails_the_deployment() {
        let (_now, at_once) = watch::channel(true);
        let (first, _serving) = serve(at_once).await;
        let both = seen(&[("n1", "u1"), ("n2", "u2")]);
        let cases = [
            (seen(&[("n2", "u2")]), "n1: it served, and no longer does (it has no pod)"),
            (seen(&[("n1", "u9"), ("n2", "u2")]), "n1: its pod was replaced while others started"),
        ];
        for (later, expected) in cases {
            let (may, may_answer) = watch::channel(false);
            let (slow, _serving) = serve(may_answer).await;
            let clients = NodeClients::new();
            clients.insert("n1", client(&first));
            clients.insert("n2", client(&slow));
            let (known, now) = watch::channel(both.clone());
            let (nodes, asked_of) = (nodes(), clients.clone());
            let asking = async { answer(&nodes, &asked_of, &both, || now.borrow().clone()).await };
            let change = async {
                known.send_replace(later);
                may.send_replace(true);
            };
            let (asked, ()) = tokio::join!(asking, change);
            let error = asked.unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
