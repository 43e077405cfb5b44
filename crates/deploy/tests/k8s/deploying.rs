//! The deployer applies, waits, acts on pods and takes everything down again.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, async_trait};
use watchkeeper_deploy::k8s::{
    K8sDeployer, K8sError, K8sOptions, K8sProgram, Manifests, NodePod, PodChanges, Reach,
};
use watchkeeper_deploy::{NodeAccess, NodeAddress};
use watchkeeper_scenario::{
    Application, DeployError, Deployer, NodeAction, NodeControlError, RunContext, RunningCluster, Scenario,
};

use crate::SOON;
use crate::app::{Counter, Counting};
use crate::fake::{FakeApiServer, Key};
use crate::fixture::{Fixture, MANIFESTS, SPACE, cause, deployer, fixture};

const INTERVAL: Duration = Duration::from_millis(20);

type Counts = PerSource<Counter, u64>;

fn counts() -> Counts {
    PerSource::new(|node: ObservedSource<Counter>| async move {
        Ok::<_, DynError>(node.source.ask("GET /count").await?.parse()?)
    })
}

fn config() -> ObservationConfig {
    ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() }
}

/// A whole scenario: what is counted survives the loss of a pod.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scenario_holds() {
    let fixture = fixture().await;
    let scenario = Scenario::<Counting>::builder("counting", 3)
        .with_observer("counts", |_: &RunContext<Counting>| counts(), config())
        .workload("count, and lose a pod", |context| async move {
            for node in context.clients().all() {
                node.source.ask("POST /add").await?;
            }
            context.control().kill("n2").await?;
            Ok(context.control().start("n2").await?)
        })
        .expect_wait("each has counted to 1", |context| async move {
            let counts = context.require_observer::<Counts>("counts")?;
            let names = ["n1", "n2", "n3"];
            let counted = counts.eventually("each has counted to 1", move |seen| {
                names.iter().all(|name| seen.answer(name) == Some(&1))
            });
            counted.or_now().within(SOON).await?;
            Ok(())
        })
        .build()
        .unwrap();
    let report = scenario.run(&deployer(&fixture.options)).await.unwrap();
    assert_eq!(report.deployer, "k8s");
    fixture.left_nothing().await;
}

/// The whole life of a cluster, through forwarded ports as from outside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_deployed_loses_a_pod_and_is_taken_down() {
    let mut fixture = fixture().await;
    fixture.options.reach = Some(Reach::PortForward);
    let cluster = fixture.deploy(3).await.unwrap();
    let (clients, control) = (cluster.node_clients(), cluster.node_control());
    assert_eq!(clients.names(), ["n1", "n2", "n3"]);
    assert_eq!(control.nodes(), ["n1", "n2", "n3"]);
    let at = clients.get("n3").unwrap().at;
    assert_eq!((at.cluster.as_str(), at.node.as_str(), at.number, at.ports.len()), (SPACE, "n3", 3, 1));
    for node in clients.all() {
        assert_eq!(node.source.ask("POST /add").await.unwrap(), "1");
    }
    let runtime = ObservationRuntime::start(clients.clone(), counts(), config()).await.unwrap();
    let handle = runtime.handle();

    let before = clients.get("n2").unwrap();
    let started = fixture.kubelet.started();
    // The set is slow, as a real one is.
    fixture.server.change(|state| state.held.insert("pods"));
    control.kill("n2").await.unwrap();
    handle.eventually("n2 has left", |seen| seen.get("n2").is_none()).or_now().within(SOON).await.unwrap();
    assert_eq!(clients.names(), ["n1", "n3"]);
    let refused = tokio::net::TcpStream::connect(before.addr()).await;
    assert!(refused.is_err(), "its forwarded port is closed");

    fixture.server.change(|state| state.held.remove("pods"));
    control.start("n2").await.unwrap();
    control.wait_ready("n2", SOON).await.unwrap();
    let after = clients.get("n2").unwrap();
    assert_ne!(after.addr(), before.addr(), "another pod, forwarded by another port");
    assert_eq!(fixture.kubelet.started(), started + 1);
    let back = handle.eventually("n2 is back with what it had counted", |seen| seen.answer("n2") == Some(&1));
    back.or_now().within(SOON).await.unwrap();

    let log = cluster.log("n1").await.unwrap();
    assert!(log.contains("serving"), "{log}");
    let _ = runtime.stop().await;
    cluster.shut_down().await.unwrap();
    fixture.left_nothing().await;
    cluster.shut_down().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_are_applied_in_their_own_namespace() {
    let mut fixture = fixture().await;
    fixture.options.namespace = None;
    fixture.options.image = Some("counting:7".to_owned());
    let cluster = fixture.deploy(2).await.unwrap();
    let keys = fixture.server.keys();
    let name = &keys.iter().find(|key| key.kind == "namespaces").unwrap().name;
    let mut kinds: Vec<String> = keys
        .iter()
        .filter(|key| key.namespace == *name)
        .map(|key| format!("{} {}", key.kind, key.name))
        .collect();
    kinds.sort();
    assert_eq!(kinds, ["pods counting-0", "pods counting-1", "services counting", "statefulsets counting"]);
    let set = fixture.server.get(&Key::of("statefulsets", name, "counting")).unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "counting:7");
    let args = container["args"].as_array().unwrap();
    assert_eq!(*args, ["--name=$(POD_NAME)".to_owned(), format!("--cluster={name}")]);
    assert!(name.starts_with("counting-") && name.len() > "counting-".len(), "{name}");
    cluster.shut_down().await.unwrap();
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_pod_stops_cleanly_and_comes_back() {
    let fixture = fixture().await;
    let cluster = fixture.deploy(1).await.unwrap();
    let control = cluster.node_control();
    let pod = Key::of("pods", SPACE, "counting-0");
    let uid = || fixture.server.get(&pod).map(|pod| pod["metadata"]["uid"].clone());
    let before = uid();
    control.restart("n1").await.unwrap();
    control.wait_ready("n1", SOON).await.unwrap();
    assert_ne!(uid(), before);
    let log = cluster.log("n1").await.unwrap();
    assert_eq!(log, "serving\nstopped\nserving\n", "it had time to stop");
    cluster.shut_down().await.unwrap();
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsupported_actions_and_unknown_nodes_are_errors() {
    let fixture = fixture().await;
    let cluster = fixture.deploy(1).await.unwrap();
    let control = cluster.node_control();
    let cases = [
        (NodeAction::Stop, control.stop("n1").await),
        (NodeAction::Pause, control.pause("n1").await),
        (NodeAction::Resume, control.resume("n1").await),
        (NodeAction::Isolate, control.isolate("n1").await),
        (NodeAction::Rejoin, control.rejoin("n1").await),
    ];
    for (action, answer) in cases {
        let error = answer.unwrap_err();
        assert!(
            matches!(&error, NodeControlError::Unsupported { action: refused, .. } if *refused == action),
            "{error}"
        );
    }
    for answer in [
        control.kill("n9").await,
        control.start("n9").await,
        control.wait_ready("n9", SOON).await,
        control.stop("n9").await,
        control.pause("n9").await,
        control.isolate("n9").await,
    ] {
        assert_eq!(answer.unwrap_err().to_string(), "no node is called \"n9\"; the nodes are: n1");
    }
    fixture.server.refuse("delete", "pods", 403, "Forbidden", "pods is forbidden");
    let error = control.kill("n1").await.unwrap_err();
    assert!(
        error.source().unwrap().to_string().contains("cannot delete the pod counting-0: the account may not")
    );
    cluster.shut_down().await.unwrap();
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_is_restarted_as_by_the_other_deployers() {
    let fixture = fixture().await;
    let cluster = fixture.deploy(1).await.unwrap();
    let control = cluster.node_control();
    fixture.server.change(|state| state.held.insert("pods"));
    control.kill("n1").await.unwrap();
    let (restarted, ()) = tokio::join!(control.restart("n1"), async {
        // It waits for the set: there is no pod to delete.
        control.kill("n1").await.unwrap_err();
        fixture.server.change(|state| state.held.remove("pods"));
    });
    restarted.unwrap();
    control.wait_ready("n1", SOON).await.unwrap();
    cluster.shut_down().await.unwrap();
    fixture.left_nothing().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_the_api_are_typed_and_leave_nothing() {
    let mut fixture = fixture().await;
    fixture.options.ready_within = SOON;
    let server = &fixture.server;

    server.refuse("create", "namespaces", 403, "Forbidden", "namespaces is forbidden");
    let error = fixture.refused().await;
    assert!(matches!(cause(&error), K8sError::Forbidden { .. }), "{error:?}");
    server.refuse_nothing();

    server.refuse("patch", "statefulsets", 409, "Conflict", "conflict with \"kubectl\": .spec.replicas");
    let error = fixture.refused().await;
    assert!(matches!(cause(&error), K8sError::Conflict { .. }), "{error:?}");
    assert!(cause(&error).to_string().contains(".spec.replicas"), "{error:?}");
    server.refuse_nothing();
    fixture.left_nothing().await;

    server.refuse("patch", "services", 404, "NotFound", "the server could not find the requested resource");
    let error = fixture.refused().await;
    assert!(matches!(cause(&error), K8sError::NotFound { .. }), "{error:?}");
    server.refuse_nothing();
    fixture.left_nothing().await;

    server.refuse("list", "pods", 401, "Unauthorized", "Unauthorized");
    let error = fixture.refused().await;
    assert!(error.source().unwrap().to_string().contains("log in again"), "{error:?}");
    server.refuse_nothing();
    fixture.left_nothing().await;
}

#[tokio::test]
async fn without_a_cluster_the_answer_is_one_line() {
    let directory = TempDir::new().unwrap();
    let deploy = async |options: K8sOptions| {
        let error = deployer(&options).deploy(&3).await.err().expect("there is no cluster");
        assert!(matches!(error, DeployError::Unavailable { .. }), "{error:?}");
        assert_eq!(error.to_string().lines().count(), 1, "{error}");
        error.to_string()
    };
    let absent = K8sOptions { kubeconfig: Some(directory.path().join("absent")), ..K8sOptions::default() };
    let text = deploy(absent).await;
    assert!(text.contains("there is no usable kubeconfig") && text.contains("set KUBECONFIG"), "{text}");

    let server = FakeApiServer::start().await;
    let kubeconfig = Some(server.kubeconfig(directory.path()));
    let options = K8sOptions { kubeconfig, ..K8sOptions::default() };
    let context = Some("staging".to_owned());
    let text = deploy(K8sOptions { context, ..options.clone() }).await;
    assert!(text.contains("staging"), "{text}");

    drop(server);
    let text = deploy(options.clone()).await;
    assert!(text.contains("the API server http://127.0.0.1:") && text.contains("refused"), "{text}");

    // Real servers speak TLS: up to the connection it is the same.
    let path = options.kubeconfig.as_ref().unwrap();
    let encrypted = std::fs::read_to_string(path).unwrap().replace("http:", "https:");
    std::fs::write(path, encrypted).unwrap();
    let text = deploy(options).await;
    assert!(text.contains("the API server https://127.0.0.1:") && text.contains("refused"), "{text}");
}

/// Counting, with pods of another shape.
struct Shaped(NodePod);

impl Application for Shaped {
    type Deployment = u64;
    type NodeClient = Counter;
}

#[async_trait]
impl NodeAccess<Self> for Shaped {
    fn client(&self, at: &NodeAddress) -> Result<Counter, DynError> {
        Counting.client(at)
    }

    async fn probe(&self, node: &Counter) -> Result<(), DynError> {
        Counting.probe(node).await
    }
}

impl K8sProgram<Self> for Shaped {
    fn pod(&self) -> NodePod {
        self.0.clone()
    }

    fn changes(&self, nodes: &u64, cluster: &str) -> Result<PodChanges, DynError> {
        if *nodes > 3 { Err("at most 3".into()) } else { Counting.changes(nodes, cluster) }
    }
}

impl Shaped {
    async fn deploy(
        pod: NodePod,
        fixture: &Fixture,
        nodes: u64,
    ) -> Result<Box<dyn RunningCluster<Self>>, DeployError> {
        let manifests = Manifests::from_directory(MANIFESTS).unwrap();
        K8sDeployer::new(Self(pod), manifests, fixture.options.clone()).deploy(&nodes).await
    }
}

#[tokio::test]
async fn a_mistake_in_a_manifest_or_a_deployment_is_reported_before_any_request() {
    let fixture = fixture().await;
    let directory = TempDir::new().unwrap();
    for file in ["namespace.yaml", "service.yaml", "statefulset.yaml"] {
        let text = std::fs::read_to_string(Path::new(MANIFESTS).join(file)).unwrap();
        let text = text.replace("runAsNonRoot: true", "runAsNonRoot: yes please");
        std::fs::write(directory.path().join(file), text).unwrap();
    }
    let error = Manifests::from_directory(directory.path()).unwrap_err();
    assert!(matches!(error, DeployError::InvalidManifest { .. }), "{error:?}");
    assert!(error.to_string().contains("statefulset.yaml: line 18"), "{error}");
    std::fs::remove_file(directory.path().join("service.yaml")).unwrap();
    let error = Manifests::from_directory(directory.path()).unwrap_err();
    assert!(error.to_string().contains("service.yaml: cannot be read"), "{error}");

    for (pod, words) in [
        (
            NodePod::new("main", ["client"]),
            "statefulset.yaml: spec.template.spec.containers has none called `main`",
        ),
        (NodePod::new("node", ["client", "admin"]), "the container `node` has no port called `admin`"),
    ] {
        let error = Shaped::deploy(pod, &fixture, 1).await.err().unwrap();
        assert!(matches!(error, DeployError::InvalidManifest { .. }), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    let node = || NodePod::new("node", ["client"]);
    let called = |name: fn(u64) -> String| NodePod { name, ..node() };
    for (pod, nodes, words) in [
        (node(), 4, "at most 3"),
        (node(), 0, "it has 0 nodes"),
        (called(|number| "x".repeat(usize::from(number > 2))), 3, "node 1 has an empty name"),
        (called(|number| format!("n{}", number % 2)), 3, "the nodes 1 and 3 are both called n1"),
    ] {
        let error = Shaped::deploy(pod, &fixture, nodes).await.err().unwrap();
        assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error:?}");
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(fixture.server.asked("namespaces").is_empty());
}

/// The application names its nodes, and has several ports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_are_called_as_the_application_says_and_each_port_is_forwarded() {
    let mut fixture = fixture().await;
    fixture.options.reach = Some(Reach::PortForward);
    let pod =
        NodePod { name: |number| format!("count-{number}"), ..NodePod::new("node", ["client", "peer"]) };
    let cluster = Shaped::deploy(pod, &fixture, 2).await.unwrap();
    assert_eq!(cluster.node_control().nodes(), ["count-1", "count-2"]);
    let at = cluster.node_clients().get("count-2").unwrap().at;
    assert_eq!(at.number, 2);
    assert_eq!(at.ports.keys().collect::<Vec<_>>(), ["client", "peer"]);
    assert_ne!(at.port("client"), at.port("peer"));
    tokio::net::TcpStream::connect(at.port("peer").unwrap()).await.expect("it is forwarded");
    cluster.shut_down().await.unwrap();
    for port in at.ports.values() {
        assert!(tokio::net::TcpStream::connect(port).await.is_err(), "{port} is still forwarded");
    }
    fixture.left_nothing().await;
}
