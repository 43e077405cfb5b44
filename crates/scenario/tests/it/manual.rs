//! Clusters that a test drives by hand.

use std::future::pending;
use std::time::Duration;

use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{PollNowError, StateKind, StopOutcome, StopReason};
use watchkeeper::wait::{Inconclusive, UnmetOutcome};
use watchkeeper_scenario::{
    CancellationToken, DeployError, Deployer, ExternalError, ManualCluster, NodeClients, NodeControl,
    NodeControlError, ObserverError, RunningCluster, ShutDownError, async_trait,
};

use crate::common::{Diary, Goes, Memory, Number, Numbers, Watcher, often, secs};

async fn two_nodes(memory: &Memory) -> ManualCluster<Numbers> {
    ManualCluster::deploy(memory, &2).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn observers_follow_nodes_that_are_driven_by_hand() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    cluster.node_client("n1").unwrap().set(8);
    numbers.eventually("n1 is 8", |seen| seen["n1"] == 8).within(secs(1)).await.unwrap();

    cluster.stop("n1").await.unwrap();
    numbers.eventually("n1 is gone", |seen| seen.len() == 1).within(secs(1)).await.unwrap();
    let error = cluster.wait_ready("n1", secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "n1 was not ready within 1s: it is down");
    let error = cluster.node_client("n1").unwrap_err();
    assert_eq!(error.to_string(), r#"no node is called "n1"; the nodes are: n2"#);

    cluster.start("n1").await.unwrap();
    cluster.wait_ready("n1", secs(1)).await.unwrap();
    cluster.node_client("n1").unwrap().set(9);
    numbers
        .eventually("the new n1 is seen", |seen| seen.get("n1") == Some(&9))
        .within(secs(1))
        .await
        .unwrap();

    cluster.restart("n1").await.unwrap();
    numbers.eventually("n1 restarts from 0", |seen| seen["n1"] == 0).within(secs(1)).await.unwrap();
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}

#[tokio::test(start_paused = true)]
async fn an_unsupported_action_is_reported() {
    let cluster = two_nodes(&Memory::default()).await;
    let (kill, pause, resume) = tokio::join!(cluster.kill("n1"), cluster.pause("n1"), cluster.resume("n1"));
    for (error, action) in [(kill, "kill"), (pause, "pause"), (resume, "resume")] {
        let expected =
            format!("the memory deployer cannot {action} n1: use a deployer that can, such as compose");
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
    let error = cluster.control().isolate("n1").await.unwrap_err();
    assert!(matches!(error, NodeControlError::Unsupported { .. }), "{error}");
    let error = cluster.stop("n7").await.unwrap_err();
    assert_eq!(error.to_string(), r#"no node is called "n7"; the nodes are: n1, n2"#);
}

#[tokio::test(start_paused = true)]
async fn an_external_endpoint_is_a_source_from_the_next_cycle_on() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    let outside = Number::default();
    outside.set(77);
    cluster.add_external("outside", outside.clone()).unwrap();
    let seen = numbers.eventually("it is seen", |seen| seen.contains_key("outside")).within(secs(1)).await;
    assert_eq!(seen.unwrap().value.values().copied().collect::<Vec<_>>(), [1, 2, 77]);
    assert_eq!(cluster.node_client("outside").unwrap().get(), 77);
    assert_eq!(cluster.node_clients().names(), ["n1", "n2"], "it is no node");

    for (name, expected) in [
        ("", "an external endpoint needs a name: it may not be empty"),
        ("outside", r#"there is a source called "outside" already; the sources are: n1, n2, outside"#),
        ("n2", r#"there is a source called "n2" already; the sources are: n1, n2, outside"#),
    ] {
        assert_eq!(cluster.add_external(name, outside.clone()).unwrap_err().to_string(), expected);
    }
    cluster.stop("n2").await.unwrap();
    let down = cluster.add_external("n2", outside.clone()).unwrap_err();
    assert!(matches!(down, ExternalError::DuplicateName { .. }), "it may start again: {down}");

    assert!(cluster.remove_external("outside").is_some());
    numbers.eventually("it is gone", |seen| !seen.contains_key("outside")).within(secs(1)).await.unwrap();
    cluster.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn observers_are_attached_and_detached_at_any_time() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    let watcher = || Watcher::new(&memory.diary);
    let first = cluster.attach("numbers", watcher(), often()).await.unwrap();
    let taken = cluster.attach("numbers", watcher(), often()).await.unwrap_err();
    assert!(matches!(taken, ObserverError::DuplicateName { .. }), "{taken}");

    assert_eq!(cluster.detach("numbers").await.unwrap(), StopOutcome::Stopped);
    assert_eq!(memory.diary.count("observer dropped"), 2, "the refused one, and this one");
    let ended = first.eventually("anything", |_| true).within(secs(1)).await.unwrap_err();
    assert!(matches!(ended.outcome(), UnmetOutcome::Inconclusive(Inconclusive::Stopped { .. })), "{ended}");
    let unknown = cluster.detach("numbers").await.unwrap_err();
    assert_eq!(unknown.to_string(), r#"no observer is called "numbers"; the observers are: none"#);

    let again = cluster.attach("numbers", watcher(), often()).await.unwrap();
    again.eventually("anything", |_| true).within(secs(1)).await.unwrap();
    assert!(cluster.observer::<Watcher>("numbers").is_ok());
    cluster.observer_control("numbers").unwrap().pause().await.unwrap();
    assert!(cluster.timelines()[0].paused);
    cluster.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_detach_that_is_dropped_half_way_is_awaited_by_the_end() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    // Polled once: the stop is requested, and the observer has not stopped yet.
    let detached = tokio::time::timeout(secs(0), cluster.detach("numbers")).await;
    assert!(detached.is_err(), "{detached:?}");
    assert_eq!(memory.diary.count("observer dropped"), 0);
    let taken = cluster.attach("numbers", Watcher::new(&Diary::default()), often()).await.unwrap_err();
    assert!(matches!(taken, ObserverError::DuplicateName { .. }), "{taken}");
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}

#[tokio::test(start_paused = true)]
async fn an_observer_is_detached_by_two_at_once() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    let (first, second) = tokio::join!(cluster.detach("numbers"), cluster.detach("numbers"));
    assert_eq!((first.unwrap(), second.unwrap()), (StopOutcome::Stopped, StopOutcome::Stopped));
    cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    cluster.shut_down().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_does_not_come_up_or_go_down_reports_why() {
    let memory = Memory { up: Goes::Fails, ..Memory::default() };
    let error = ManualCluster::<Numbers>::deploy(&memory, &2).await.unwrap_err();
    assert_eq!(error.to_string(), "the memory deployer could not start the nodes");

    let memory = Memory { down: Goes::Fails, ..Memory::default() };
    let cluster = two_nodes(&memory).await;
    cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
    let error = cluster.shut_down().await.unwrap_err();
    assert!(matches!(error, ShutDownError::Cluster { .. }), "{error}");
    assert_eq!(memory.diary.read(), ["up", "observer dropped", "down", "cluster dropped"]);
}

/// Panics in the method with this name.
struct Panicking(&'static str, Memory);

#[async_trait]
impl Deployer<Numbers> for Panicking {
    fn name(&self) -> &'static str {
        assert_ne!(self.0, "name", "no name");
        "panicking"
    }
    async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Numbers>>, DeployError> {
        assert_ne!(self.0, "deploy", "no nodes");
        let inner = self.1.deploy(nodes).await?;
        Ok(Box::new(PanickingCluster(self.0, inner)))
    }
}

struct PanickingCluster(&'static str, Box<dyn RunningCluster<Numbers>>);

#[async_trait]
impl RunningCluster<Numbers> for PanickingCluster {
    fn node_clients(&self) -> NodeClients<Number> {
        assert_ne!(self.0, "node_clients", "no clients");
        self.1.node_clients()
    }
    fn node_control(&self) -> std::sync::Arc<dyn NodeControl> {
        assert_ne!(self.0, "node_control", "no control");
        self.1.node_control()
    }
    async fn shut_down(&self) -> Result<(), DeployError> {
        self.1.shut_down().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_deployer_that_panics_is_an_error_of_a_manual_cluster() {
    let cases: [(&str, &str, &[&str]); 4] = [
        ("name", "the unnamed deployer panicked", &[]),
        ("deploy", "the panicking deployer panicked", &[]),
        ("node_clients", "no clients", &["up", "down", "cluster dropped"]),
        ("node_control", "no control", &["up", "down", "cluster dropped"]),
    ];
    for (panics, expected, diary) in cases {
        let memory = Memory::default();
        let deployer = Panicking(panics, memory.clone());
        let error = ManualCluster::<Numbers>::deploy(&deployer, &2).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{panics}: {error}");
        assert_eq!(memory.diary.read(), diary, "{panics}");
    }
}

/// Two at once would abort the process.
#[tokio::test(start_paused = true)]
async fn a_manual_deployment_that_is_dropped_survives_the_destructors_in_its_future() {
    let memory = Memory { up: Goes::HangsSharply, ..Memory::default() };
    let pair = async {
        tokio::join!(
            ManualCluster::<Numbers>::deploy(&memory, &2),
            ManualCluster::<Numbers>::deploy(&memory, &2)
        )
    };
    assert!(tokio::time::timeout(secs(1), pair).await.is_err());
}

#[test]
fn a_cluster_may_be_dropped_where_there_is_no_runtime() {
    let memory = Memory::default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let cluster = runtime.block_on(async {
        let cluster = two_nodes(&memory).await;
        cluster.attach("numbers", Watcher::new(&memory.diary), often()).await.unwrap();
        cluster
    });
    drop(cluster);
    assert_eq!(memory.diary.read(), ["up", "cluster dropped"]);
    drop(runtime);
    assert_eq!(memory.diary.count("observer dropped"), 1);
}

/// A deployment in progress leaves nothing; observers are stopped, and the nodes go down as usual.
#[tokio::test(start_paused = true)]
async fn a_parent_token_ends_a_manual_cluster_in_any_state() {
    let (parent, hangs) = (CancellationToken::new(), Memory { up: Goes::Hangs, ..Memory::default() });
    let deploying = ManualCluster::<Numbers>::deploy_with_parent(&hangs, &2, parent.clone());
    let (ended, ()) = tokio::join!(deploying, async {
        tokio::time::sleep(secs(1)).await;
        parent.cancel();
    });
    let error = ended.unwrap_err();
    assert!(matches!(&error, DeployError::Cancelled { deployer } if deployer == "memory"), "{error}");
    // An already cancelled parent deploys nothing.
    let memory = Memory::default();
    let ended = ManualCluster::<Numbers>::deploy_with_parent(&memory, &2, parent).await;
    assert!(matches!(ended, Err(DeployError::Cancelled { .. })));
    assert_eq!((hangs.diary.read(), memory.diary.read()), (Vec::new(), Vec::new()));

    let parent = CancellationToken::new();
    let cluster = ManualCluster::<Numbers>::deploy_with_parent(&memory, &2, parent.clone()).await.unwrap();
    let of_its_own = CancellationToken::new();
    let config = ObservationConfig { parent: Some(of_its_own), ..often() };
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), config).await.unwrap();
    let starting = cluster.attach_over("late", Hangs, Watcher::new(&memory.diary), often());
    let waiting = numbers.eventually("nobody knows", |_| false).within(secs(60));
    let (unmet, late, refused) = tokio::join!(waiting, starting, async {
        tokio::time::sleep(secs(1)).await;
        parent.cancel();
        // At once: no task has been polled since.
        cluster.attach("refused", Watcher::new(&memory.diary), often()).await
    });
    let stopped = Inconclusive::Stopped { reason: StopReason::Requested };
    assert_eq!(unmet.unwrap_err().outcome(), UnmetOutcome::Inconclusive(stopped));
    for over in [late, refused] {
        assert!(matches!(over, Err(ObserverError::Over { .. })), "{over:?}");
    }
    assert_eq!(numbers.stopped().await, StopReason::Requested);
    assert_eq!(cluster.timelines().len(), 1, "it is still there for a report");
    assert_eq!(memory.diary.count("down"), 0, "the nodes are left to the test");
    cluster.shut_down().await.unwrap();
    assert_eq!(memory.diary.read().iter().rev().take(2).collect::<Vec<_>>(), ["cluster dropped", "down"]);
}

/// No poll by the executor is needed: a blocked executor would delay the stop beyond its deadline.
#[tokio::test(start_paused = true)]
async fn a_parent_token_requests_the_stop_in_the_thread_that_cancels_it() {
    let (memory, parent) = (Memory::default(), CancellationToken::new());
    let cluster = ManualCluster::<Numbers>::deploy_with_parent(&memory, &2, parent.clone()).await.unwrap();
    let config = ObservationConfig { stop_timeout: Duration::from_millis(50), ..often() };
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), config).await.unwrap();
    parent.cancel();
    let began = std::time::Instant::now();
    while numbers.state().kind() != StateKind::Stopped {
        assert!(began.elapsed() < Duration::from_secs(20), "the stop was not requested");
        std::thread::yield_now();
    }
    cluster.shut_down().await.unwrap();
}

/// A provider that never returns.
struct Hangs;

#[async_trait]
impl watchkeeper::SourceProvider<Number> for Hangs {
    async fn sources(
        &self,
    ) -> Result<Vec<watchkeeper::ObservedSource<Number>>, watchkeeper_scenario::DynError> {
        pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_of_an_observer_by_name_returns_when_its_cycle_has_succeeded() {
    let memory = Memory::default();
    let cluster = two_nodes(&memory).await;
    let rarely = ObservationConfig { interval: secs(3_600), ..often() };
    let numbers = cluster.attach("numbers", Watcher::new(&memory.diary), rarely).await.unwrap();
    cluster.node_client("n1").unwrap().set(8);
    assert_eq!(cluster.poll_now_and_wait("numbers").await.unwrap(), 1);
    assert_eq!(numbers.latest_snapshot().unwrap().value["n1"], 8);
    let unknown = cluster.poll_now_and_wait("nobody").await.unwrap_err();
    assert!(matches!(unknown, ObserverError::Unknown { .. }), "{unknown}");
    let _ = cluster.observer_control("numbers").unwrap().stop().await;
    let error = cluster.poll_now_and_wait("numbers").await.unwrap_err();
    let ObserverError::NotPolled { name, source: PollNowError::NotTaken(_) } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (&**name, error.to_string()),
        ("numbers", r#"the requested cycle of the observer "numbers" has not succeeded"#.to_owned())
    );
    cluster.shut_down().await.unwrap();
}
