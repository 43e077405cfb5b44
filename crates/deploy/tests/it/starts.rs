//! Clusters that come up, and what is in them.

use std::time::Duration;

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_deploy::local::{LocalDeployer, Readiness};
use watchkeeper_scenario::{Deployer, RunningCluster};

use crate::app::{Client, Program, Runs, SOON, client};

#[tokio::test]
async fn three_processes_serve_are_killed_and_come_back_with_their_data() {
    let cluster = Program::node().start(3).await;
    let control = cluster.node_control();
    assert_eq!(control.nodes(), ["n1", "n2", "n3"]);
    assert_eq!(cluster.node_clients().names(), ["n1", "n2", "n3"]);
    let n2 = client(&cluster, "n2");
    assert_eq!(n2.ask("set blue").await.unwrap(), "blue");
    let before = cluster.pid("n2").unwrap();

    control.kill("n2").await.unwrap();
    assert_eq!(cluster.pid("n2"), None);
    n2.ask("get").await.expect_err("it is down");
    assert_eq!(client(&cluster, "n1").ask("who").await.unwrap(), "n1", "the others go on");

    control.start("n2").await.unwrap();
    control.wait_ready("n2", SOON).await.unwrap();
    assert_eq!(n2.ask("get").await.unwrap(), "blue", "on its port, with its data");
    assert_ne!(cluster.pid("n2").unwrap(), before);
    cluster.shut_down().await.unwrap();
}

/// A node is ready by a probe, by a line on either stream, or by a line with the address that it has picked.
#[tokio::test]
async fn a_node_is_ready_as_its_program_says() {
    let line = || "listens on".to_owned();
    let on_its_own_port = Program {
        runs: Runs::NodeOnItsOwnPort,
        readiness: Readiness::Address(line()),
        ports: Vec::new(),
        ..Program::node()
    };
    let cases = [
        Program::node(),
        Program { readiness: Readiness::Line(line()), ..Program::node() },
        Program { readiness: Readiness::Line(line()), to_stderr: true, ..Program::node() },
        Program { readiness: Readiness::Address(line()), ..Program::node() },
        Program { to_stderr: true, ..on_its_own_port.clone() },
        on_its_own_port,
    ];
    for program in cases {
        let cluster = program.clone().start(2).await;
        for node in cluster.node_clients().all() {
            // At once: it was ready when the cluster was returned.
            assert_eq!(node.source.ask("who").await.unwrap(), node.name, "{program:?}");
        }
        let address = client(&cluster, "n1").address;
        let control = cluster.node_control();
        control.restart("n1").await.unwrap();
        control.wait_ready("n1", SOON).await.unwrap();
        assert_eq!(client(&cluster, "n1").address, address, "also a port that it has picked is kept");
        let log = cluster.log("n1").await.unwrap();
        assert_eq!(log.matches("n1 listens on").count(), 2, "both streams, over a restart: {log}");
        assert_eq!(cluster.log("n9").await, None);
        cluster.shut_down().await.unwrap();
    }
}

/// ```text
/// n1, n2 --observed--> n3 is added --> n1, n2, n3
/// ```
#[tokio::test]
async fn a_node_that_is_added_is_found_by_an_observer_over_the_clients() {
    let cluster = Program::node().start(2).await;
    let probe = |node: ObservedSource<Client>| async move { node.source.ask("who").await };
    let config = ObservationConfig { interval: Duration::from_millis(20), ..ObservationConfig::default() };
    let runtime =
        ObservationRuntime::start(cluster.node_clients(), PerSource::new(probe), config).await.unwrap();
    assert_eq!(cluster.add_node().await.unwrap(), "n3");
    let found = runtime.handle().eventually("n3 answers", |seen| seen.answer("n3").is_some());
    found.or_now().within(SOON).await.unwrap();

    let control = cluster.node_control();
    assert_eq!(control.nodes(), ["n1", "n2", "n3"]);
    control.kill("n3").await.unwrap();
    control.start("n3").await.unwrap();
    control.wait_ready("n3", SOON).await.unwrap();
    assert!(cluster.log("n3").await.unwrap().contains("n3 listens on"));
    let pid = cluster.pid("n3").unwrap();
    cluster.shut_down().await.unwrap();
    assert!(!crate::app::runs(pid), "it goes down with the others");
    let late = cluster.add_node().await.unwrap_err();
    assert!(std::error::Error::source(&late).unwrap().to_string().contains("was shut down"), "{late}");
}

/// It is no node then, and the next one gets its number. A cluster that goes down does not wait for it.
#[tokio::test]
async fn a_node_that_cannot_be_added_leaves_nothing() {
    let script = r#"
[ "$number" = 2 ] && [ ! -e "$data/before" ] && { touch "$data/before"; echo 'not yet'; exit 1; }
[ "$number" = 3 ] && exec sleep 1000
echo ready; exec sleep 1000
"#;
    let cluster = Program::script(script).start(1).await;
    let refused = cluster.add_node().await.unwrap_err();
    assert!(std::error::Error::source(&refused).unwrap().to_string().contains("not yet"), "{refused}");
    assert_eq!(cluster.node_control().nodes(), ["n1"]);
    assert_eq!(cluster.node_clients().names(), ["n1"]);
    assert_eq!(cluster.add_node().await.unwrap(), "n2");

    let directory = cluster.directory().join("n3/log");
    let shut_down = async {
        let started = watchkeeper::until("n3 was started", || async { directory.exists() });
        started.every(Duration::from_millis(5)).within(SOON).await.unwrap();
        assert!(cluster.log("n1").await.is_some(), "nothing else waits for it");
        cluster.shut_down().await.unwrap();
    };
    let (added, ()) = tokio::join!(cluster.add_node(), shut_down);
    let reason = std::error::Error::source(&added.unwrap_err()).unwrap().to_string();
    assert!(reason.contains("was shut down"), "{reason}");
    assert!(!cluster.directory().exists());
    assert_eq!(crate::app::processes_with(cluster.directory().to_str().unwrap()), 0);
}

#[tokio::test]
async fn no_node_is_added_to_a_cluster_that_has_as_many_as_there_can_be() {
    let cluster = Program::script("echo ready; exec sleep 1000").start(64).await;
    let refused = cluster.add_node().await.unwrap_err();
    assert!(matches!(refused, watchkeeper_scenario::DeployError::InvalidDeployment(_)), "{refused}");
    assert!(refused.to_string().contains("at most 64 nodes"), "{refused}");
    assert_eq!(cluster.node_control().nodes().len(), 64);
}

/// A program with another working directory got its data at another place.
#[tokio::test]
async fn a_relative_directory_is_one_of_this_process() {
    let parent = tempfile::tempdir_in(".").unwrap();
    let relative = std::path::Path::new(parent.path().file_name().unwrap()).join("cluster");
    let script = r#"cd /; touch "$data/there" && echo ready; exec sleep 1000"#;
    let deployer = LocalDeployer::new(Program::script(script)).in_directory(&relative);
    let cluster = deployer.start(&1).await.unwrap();
    assert!(cluster.directory().is_absolute() && cluster.directory().join("n1/data/there").exists());
}

#[tokio::test]
async fn a_given_directory_has_data_and_logs_and_stays() {
    let parent = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    let path = parent.path().join("cluster");
    let deployer = LocalDeployer::new(Program::node()).in_directory(&path);
    assert_eq!(Deployer::name(&deployer), "local");
    let cluster = deployer.start(&1).await.unwrap();
    assert_eq!(cluster.directory(), path);
    client(&cluster, "n1").ask("set kept").await.unwrap();
    drop(cluster);
    assert_eq!(std::fs::read_to_string(path.join("n1/data/value")).unwrap(), "kept");
    assert!(std::fs::read_to_string(path.join("n1/log")).unwrap().contains("n1 listens on"));
    let again = deployer.start(&1).await.unwrap_err();
    let reason = std::error::Error::source(&again).unwrap().to_string();
    assert!(reason.contains("it must not exist") && reason.contains("/cluster"), "{reason}");
    assert!(path.exists(), "it is not ours to remove");
}

/// For Linux the thread that starts a process is its parent, and nodes die with their parent.
#[test]
fn nodes_outlive_the_thread_and_the_runtime_that_started_them() {
    let start = || tokio::runtime::Runtime::new().unwrap().block_on(Program::node().start(1));
    let cluster = std::thread::spawn(start).join().unwrap();
    let client = client(&cluster, "n1");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(client.ask("who")).unwrap(), "n1");
}
