//! Actions on a node by name.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::timeout;
use watchkeeper_deploy::local::{LocalCluster, LocalDeployer, Readiness};
use watchkeeper_scenario::{NodeAction, NodeControlError, RunningCluster};

use crate::app::{App, Program, SOON, client, runs};
use crate::contract::{self, State};

#[tokio::test]
async fn each_action_answers_as_the_contract_says() {
    let cluster = Program::node().start(1).await;
    let (control, client) = (cluster.node_control(), client(&cluster, "n1"));
    let is = async |state| match state {
        State::Runs => control.wait_ready("n1", SOON).await.is_ok(),
        State::Down => client.ask("who").await.is_err(),
        State::Paused => client.hangs().await,
    };
    contract::holds(&*control, "n1", is).await;
    cluster.shut_down().await.unwrap();
    contract::holds_after_the_end(&*control, "n1").await;
    cluster.shut_down().await.expect("a second time changes nothing");
}

#[tokio::test]
async fn a_cut_is_unsupported_and_says_what_would_do() {
    let cluster = Program::node().start(1).await;
    let control = cluster.node_control();
    let unsupported = control.isolate("n1").await.unwrap_err();
    assert_eq!(
        unsupported.to_string(),
        "the local deployer cannot isolate n1: use a deployer that can, such as compose"
    );
    for unknown in [control.isolate("n7").await, control.rejoin("n7").await] {
        assert!(matches!(unknown, Err(NodeControlError::UnknownNode { .. })), "{unknown:?}");
    }
}

/// The reason is there at the end of the window, with what the node has logged.
#[tokio::test]
async fn a_wait_for_a_node_says_why_it_is_not_ready() {
    let cluster = Program::node().start(2).await;
    let control = cluster.node_control();
    let brief = Duration::from_millis(200);
    control.kill("n1").await.unwrap();
    let down = control.wait_ready("n1", brief).await.unwrap_err().to_string();
    for part in
        ["n1 was not ready within 200ms: it does not run (signal: 9", "start it first", "n1 listens on"]
    {
        assert!(down.contains(part), "no {part:?} in {down}");
    }
    control.pause("n2").await.unwrap();
    let paused = control.wait_ready("n2", brief).await.unwrap_err();
    assert!(matches!(&paused, NodeControlError::NotReady { node, .. } if node == "n2"), "{paused}");
    // A wait that has begun is met by the node that comes back.
    let (waited, resumed) = tokio::join!(control.wait_ready("n2", SOON), control.resume("n2"));
    resumed.unwrap();
    waited.unwrap();
}

/// A program that ends at once shows why: a start returns before the node is ready.
#[tokio::test]
async fn a_restart_that_dies_is_explained_by_the_wait() {
    let script = r#"
[ -e "$data/before" ] && { echo "$data/before is corrupt"; exit 9; }
touch "$data/before"; echo ready; exec sleep 1000
"#;
    let cluster = Program::script(script).start(1).await;
    let control = cluster.node_control();
    control.restart("n1").await.unwrap();
    watchkeeper::until("it has ended", || async { cluster.pid("n1").is_none() }).within(SOON).await.unwrap();
    let unmet = control.wait_ready("n1", Duration::from_millis(200)).await.unwrap_err().to_string();
    assert!(unmet.contains("exit status: 9") && unmet.contains("before is corrupt"), "{unmet}");
}

/// Every action on every node waited for the start, and so did the log.
#[tokio::test]
async fn a_node_that_starts_does_not_delay_actions_on_others() {
    // The second start prints its line when the file is there.
    let script = r#"
[ -e "$data/before" ] && until [ -e "$cluster/go" ]; do sleep 0.01; done
touch "$data/before"; echo "n$number listens on 127.0.0.1:1"; exec sleep 1000
"#;
    let readiness = Readiness::Address("listens on".to_owned());
    let cluster = Program { readiness, ..Program::script(script) }.start(3).await;
    let control = cluster.node_control();
    control.kill("n1").await.unwrap();
    let starting = control.start("n1");
    tokio::pin!(starting);
    assert!(now(&mut starting).await.is_none());
    control.pause("n2").await.unwrap();
    control.resume("n2").await.unwrap();
    control.restart("n9").await.unwrap_err();
    control.kill("n3").await.unwrap();
    assert!(cluster.log("n1").await.is_some());
    assert!(now(&mut starting).await.is_none());
    std::fs::write(cluster.directory().join("go"), "").unwrap();
    starting.await.unwrap();
    assert!(cluster.pid("n1").is_some());
    control.restart("n3").await.expect("what was killed is restarted as well");
}

#[tokio::test]
async fn a_node_that_starts_does_not_delay_the_end_of_the_cluster() {
    let script = r#"
[ -e "$data/before" ] && exec sleep 1000
touch "$data/before"; echo "n$number listens on 127.0.0.1:1"; exec sleep 1000
"#;
    let readiness = Readiness::Address("listens on".to_owned());
    for shut_down in [true, false] {
        let cluster = Program { readiness: readiness.clone(), ..Program::script(script) }.start(1).await;
        let control = cluster.node_control();
        control.kill("n1").await.unwrap();
        let starting = control.start("n1");
        tokio::pin!(starting);
        assert!(now(&mut starting).await.is_none());
        let directory = cluster.directory().to_owned();
        let late = if shut_down {
            let (started, down) = tokio::join!(starting, cluster.shut_down());
            down.unwrap();
            started.unwrap_err()
        } else {
            drop(cluster);
            starting.await.unwrap_err()
        };
        assert!(late.source().unwrap().to_string().contains("was shut down"), "{late}");
        assert!(!directory.exists());
    }
}

/// The output of a future that is polled once.
async fn now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

/// The signal stayed pending in the paused process, and the resume delivered it.
#[tokio::test]
async fn a_stop_that_failed_is_not_carried_out_by_a_resume() {
    let cluster = Program::node().start(1).await;
    let (control, client) = (cluster.node_control(), client(&cluster, "n1"));
    control.pause("n1").await.unwrap();
    let paused = control.stop("n1").await.unwrap_err();
    assert!(paused.source().unwrap().to_string().contains("resume it first, or kill it"), "{paused:?}");
    control.resume("n1").await.unwrap();
    for _ in 0..20 {
        client.ask("who").await.expect("it was not stopped");
    }
}

/// A node that creates a file when it is asked to end, and does not end.
const NEVER_ENDS: &str = r#"
trap 'touch "$cluster/asked"; sleep 1000' TERM
echo ready
while :; do sleep 0.01; done
"#;

/// A stop time-out that is longer than any test.
const NO_LIMIT: Duration = Duration::from_secs(3600);

async fn never_ends() -> (LocalCluster<App>, u32, PathBuf) {
    let deployer = LocalDeployer::new(Program::script(NEVER_ENDS)).stop_within(NO_LIMIT);
    let cluster = deployer.start(&1).await.unwrap();
    let (pid, asked) = (cluster.pid("n1").unwrap(), cluster.directory().join("asked"));
    (cluster, pid, asked)
}

async fn is_there(file: &Path) {
    let there = watchkeeper::until("it is asked", || async { file.exists() });
    there.every(Duration::from_millis(5)).within(SOON).await.unwrap();
}

/// The stop failed, and the node ended some time later.
#[tokio::test]
async fn a_node_that_does_not_stop_in_time_is_killed_and_not_left_to_end_later() {
    let (cluster, pid, asked) = never_ends().await;
    let control = cluster.node_control();
    let time_is_up = async {
        is_there(&asked).await;
        assert!(runs(pid), "it may take all its time");
        tokio::time::pause();
        tokio::time::advance(NO_LIMIT).await;
        tokio::time::resume();
    };
    let (stopped, ()) = tokio::join!(control.stop("n1"), time_is_up);
    stopped.expect("it is down in the end");
    assert!(!runs(pid));
    control.restart("n1").await.unwrap();
}

/// The node ended some time after the stop was dropped, during the next action.
#[tokio::test]
async fn a_stop_that_is_dropped_is_carried_out_before_the_next_action() {
    let (cluster, stopped, asked) = never_ends().await;
    let control = cluster.node_control();
    tokio::select! {
        stopped = control.stop("n1") => panic!("it does not end: {stopped:?}"),
        () = is_there(&asked) => {}
    }
    control.restart("n1").await.expect("the node is down, and is started");
    assert!(cluster.pid("n1").is_some_and(|pid| pid != stopped) && !runs(stopped));
}

#[tokio::test]
async fn a_cluster_goes_down_although_a_node_does_not_stop() {
    for drops in [true, false] {
        let (cluster, pid, asked) = never_ends().await;
        let control = cluster.node_control();
        let stopping = tokio::spawn(async move { control.stop("n1").await });
        is_there(&asked).await;
        if drops {
            drop(cluster);
        } else {
            cluster.shut_down().await.unwrap();
        }
        let stopped = timeout(SOON, stopping).await.expect("the action ends").unwrap();
        assert!(
            matches!(stopped, Err(NodeControlError::Failed { action: NodeAction::Stop, .. })),
            "{stopped:?}"
        );
        assert!(!runs(pid));
    }
}
