//! Nothing outlives its test, however that ends.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::time::timeout;
use watchkeeper_deploy::local::{LocalCluster, LocalDeployer, Readiness};
use watchkeeper_scenario::RunningCluster;

use crate::app::{App, Program, SOON, processes_with, runs};

fn pids(cluster: &LocalCluster<App>) -> Vec<u32> {
    cluster.node_control().nodes().iter().filter_map(|node| cluster.pid(node)).collect()
}

/// How the cluster of a test ends.
#[derive(Clone, Copy, Debug)]
enum Ends {
    Dropped,
    ShutDown,
    Panicked,
    WithoutRuntime,
}

#[test]
fn a_cluster_leaves_nothing_also_of_a_paused_node() {
    for ends in [Ends::Dropped, Ends::ShutDown, Ends::Panicked, Ends::WithoutRuntime] {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let cluster = runtime.block_on(Program::node().start(2));
        let (pids, directory) = (pids(&cluster), cluster.directory().to_owned());
        assert!(pids.len() == 2 && pids.iter().all(|pid| runs(*pid)) && directory.exists());
        // They keep no process alive.
        let (control, clients) = (cluster.node_control(), cluster.node_clients());
        runtime.block_on(control.pause("n2")).unwrap();
        match ends {
            Ends::Dropped => runtime.block_on(async { drop(cluster) }),
            Ends::ShutDown => runtime.block_on(cluster.shut_down()).unwrap(),
            Ends::Panicked => {
                let task = async move {
                    let _owned = cluster;
                    panic!("on purpose");
                };
                let ended = runtime.block_on(async { tokio::spawn(task).await });
                assert!(ended.unwrap_err().is_panic());
            }
            Ends::WithoutRuntime => {
                drop(runtime);
                drop(cluster);
            }
        }
        assert!(!pids.iter().any(|pid| runs(*pid)), "{ends:?}");
        assert!(!directory.exists(), "{ends:?}");
        assert_eq!((control.nodes().len(), clients.names().len()), (2, 2));
    }
}

#[tokio::test]
async fn a_start_that_is_abandoned_leaves_nothing() {
    let parent = watchkeeper_process::RunDirectory::new("watchkeeper-test-").unwrap();
    let path = parent.path().join("cluster");
    let deployer = LocalDeployer::new(Program::script("exec sleep 1000")).in_directory(&path);
    // Long enough to fork; no node is ever ready.
    assert!(timeout(Duration::from_millis(300), deployer.start(&3)).await.is_err());
    assert!(path.join("n3/log").exists(), "all were started");
    assert_eq!(processes_with(path.to_str().unwrap()), 0);
}

/// Is ready at its first start; prints nothing at a later one, nor when it is added.
const READY_ONCE: &str = r#"
trap '' TERM
[ "$number" = 2 ] || [ -e "$data/before" ] && exec sleep 1000
touch "$data/before"; echo "n$number listens on 127.0.0.1:1"; exec sleep 1000
"#;

async fn ready_once() -> LocalCluster<App> {
    let readiness = Readiness::Address("listens on".to_owned());
    let deployer = LocalDeployer::new(Program { readiness, ..Program::script(READY_ONCE) });
    deployer.stop_within(SOON * 10).start(&1).await.unwrap()
}

/// Polls `held` once.
async fn begin<F: Future + Unpin>(held: &mut F) {
    tokio::select! {
        biased;
        _ = held => panic!("it ended"),
        () = std::future::ready(()) => {}
    }
}

/// The end waited for the turn of the action, which nothing drove, or left its process and the directory.
#[tokio::test]
async fn an_action_that_is_held_and_not_polled_neither_delays_the_end_nor_leaves_anything() {
    for (action, drops) in ["stop", "start", "wait"].into_iter().flat_map(|of| [(of, true), (of, false)]) {
        let cluster = ready_once().await;
        let (control, directory) = (cluster.node_control(), cluster.directory().to_owned());
        let mut pids = pids(&cluster);
        let mut held = match action {
            "stop" => control.stop("n1"),
            "wait" => control.wait_ready("n1", SOON * 10),
            _ => {
                control.kill("n1").await.unwrap();
                control.start("n1")
            }
        };
        begin(&mut held).await;
        pids.extend(cluster.pid("n1"));
        if drops {
            drop(cluster);
        } else {
            timeout(SOON, cluster.shut_down()).await.expect("it waits for no action").unwrap();
        }
        assert!(!pids.iter().any(|pid| runs(*pid)), "{action}, drops: {drops}");
        assert!(!directory.exists(), "{action}, drops: {drops}");
        assert_eq!(processes_with(directory.to_str().unwrap()), 0, "{action}, drops: {drops}");
        drop(held);
    }
}

#[tokio::test]
async fn a_node_whose_addition_is_held_does_not_delay_the_end() {
    let cluster = ready_once().await;
    let mut held = Box::pin(cluster.add_node());
    begin(&mut held).await;
    assert!(cluster.directory().join("n2/log").exists());
    timeout(SOON, cluster.shut_down()).await.expect("it waits for no action").unwrap();
    assert_eq!(processes_with(cluster.directory().to_str().unwrap()), 0);
    assert!(!cluster.directory().exists());
    let late = held.await.unwrap_err();
    assert!(std::error::Error::source(&late).unwrap().to_string().contains("was shut down"), "{late}");
}

/// Set in the copy of this test that is killed.
const AS_PARENT: &str = "WATCHKEEPER_DEPLOY_TEST_PARENT";
const THIS_TEST: &str = "ends::a_test_killed_with_sigkill_leaves_no_process";

/// ```text
/// this test --kills--> the copy --started--> n1, n2 (paused), and a child of n3 that is a shell
/// ```
#[tokio::test]
async fn a_test_killed_with_sigkill_leaves_no_process() {
    if std::env::var_os(AS_PARENT).is_some() {
        return be_the_parent().await;
    }
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(AS_PARENT, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("cluster: ")).expect("the parent prints its cluster");
    let mut words = line.split_once("cluster: ").unwrap().1.split(' ');
    let directory = std::path::PathBuf::from(words.next().unwrap());
    let pids: Vec<u32> = words.map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| runs(*pid)));
    assert!(processes_with(directory.to_str().unwrap()) > 3, "the child of the shell too");

    parent.kill().unwrap();
    parent.wait().unwrap();
    let gone = watchkeeper::until("its processes are gone", || async {
        processes_with(directory.to_str().unwrap()) == 0
    });
    gone.every(Duration::from_millis(20)).within(SOON).await.unwrap();
    assert!(!pids.iter().any(|pid| runs(*pid)));
    // The next cluster removes the directory of the killed one, with its logs.
    assert!(directory.join("n1/log").exists());
    drop(Program::script("echo ready; exec sleep 1000").start(1).await);
    assert!(!directory.exists());
}

/// One of the nodes is paused, and cannot notice anything itself.
async fn be_the_parent() {
    let script = r#"
echo ready
[ "$number" = 3 ] || exec sleep 1000
sleep 1000 &
wait
"#;
    let cluster = Program::script(script).start(3).await;
    cluster.node_control().pause("n2").await.unwrap();
    let pids: Vec<String> = pids(&cluster).iter().map(u32::to_string).collect();
    println!("cluster: {} {}", cluster.directory().display(), pids.join(" "));
    std::io::stdout().flush().unwrap();
    std::future::pending::<()>().await;
}
