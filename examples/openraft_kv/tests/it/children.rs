//! The child processes of a local cluster: none may be left.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use openraft_kv::{ClusterError, ClusterOptions, LocalCluster};
use rustix::process::{Pid, Signal, getpgid, kill_process};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::common::{SOON, options, process_exists};

fn pids(cluster: &LocalCluster) -> Vec<u32> {
    (1..=3).filter_map(|id| cluster.pid(id)).collect()
}

fn assert_gone(pids: &[u32], directory: &Path) {
    for pid in pids {
        assert!(!process_exists(*pid), "process {pid} is left");
    }
    assert!(!directory.exists(), "{} is left", directory.display());
}

#[tokio::test]
async fn a_dropped_cluster_leaves_nothing_even_with_a_paused_node() {
    let mut cluster = LocalCluster::start(options(3)).await.unwrap();
    let (pids, directory) = (pids(&cluster), cluster.directory().to_owned());
    assert_eq!(pids.len(), 3);
    assert!(pids.iter().all(|pid| process_exists(*pid)) && directory.exists());
    cluster.pause(2).unwrap();
    drop(cluster);
    assert_gone(&pids, &directory);
}

#[tokio::test]
async fn a_panic_leaves_nothing() {
    let cluster = LocalCluster::start(options(1)).await.unwrap();
    let (pids, directory) = (pids(&cluster), cluster.directory().to_owned());
    let task = tokio::spawn(async move {
        let _owned = cluster;
        panic!("on purpose");
    });
    assert!(task.await.unwrap_err().is_panic());
    assert_gone(&pids, &directory);
}

#[test]
fn a_cluster_can_be_dropped_where_there_is_no_runtime() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = runtime.block_on(LocalCluster::start(options(1))).unwrap();
    let (pids, directory) = (pids(&cluster), cluster.directory().to_owned());
    let roster = cluster.roster();
    drop(runtime);
    drop(cluster);
    assert_gone(&pids, &directory);
    assert!(roster.running().is_empty());
}

/// For Linux the thread that starts a process is its parent, and nodes die with their parent.
#[tokio::test]
async fn nodes_outlive_the_thread_that_started_the_cluster() {
    let start = || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(LocalCluster::start(options(1))).unwrap()
    };
    let cluster = std::thread::spawn(start).join().unwrap();
    let client = cluster.client(1).unwrap();
    assert_eq!(client.health().await.unwrap().node_id, 1);
}

#[tokio::test]
async fn a_start_that_is_abandoned_leaves_nothing() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("cluster");
    let mut options = options(3);
    options.directory = Some(directory.clone());
    let start = LocalCluster::start(options);
    // Long enough to fork, too short to be ready.
    let abandoned = timeout(Duration::from_millis(1), start).await;
    assert!(abandoned.is_err());
    assert!(!directory.exists());
    assert_eq!(nodes_below(parent.path().to_str().unwrap()), 0);
}

/// How many processes have `path` in their command line.
fn nodes_below(path: &str) -> usize {
    let processes = std::fs::read_dir("/proc").unwrap();
    processes
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| String::from_utf8_lossy(line).contains(path))
        .count()
}

#[tokio::test]
async fn a_kept_directory_stays_and_a_given_one_must_be_new() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("cluster");
    let given = ClusterOptions { directory: Some(directory.clone()), ..options(1) };
    let mut cluster = LocalCluster::start(given.clone()).await.unwrap();
    cluster.keep_directory();
    drop(cluster);
    assert!(directory.join("node-1").join("node.redb").exists());
    assert!(directory.join("node-1.log").exists());

    let error = LocalCluster::start(given).await.unwrap_err();
    assert!(matches!(error, ClusterError::Directory { .. }), "{error:?}");
    assert!(directory.exists(), "it is not ours to remove");
}

#[tokio::test]
async fn a_node_that_dies_at_its_start_shows_its_log() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join("cluster");
    let options = ClusterOptions {
        directory: Some(directory.clone()),
        node_flags: vec!["--heartbeat-ms".to_owned(), "0".to_owned()],
        ..options(3)
    };
    let error = LocalCluster::start(options).await.unwrap_err();
    assert!(matches!(error, ClusterError::DiedAtStart { id: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("--heartbeat-ms: 0ns"), "{text}");
    assert!(text.contains("exit status: 1"), "{text}");
    assert!(!directory.exists());
    assert_eq!(nodes_below(parent.path().to_str().unwrap()), 0);
}

/// A program that is given the flags of a node.
fn script(directory: &TempDir, script: &str) -> PathBuf {
    let path = directory.path().join("program");
    let head = r#"#!/bin/sh
while [ $# -gt 0 ]; do
    case "$1" in --id) id=$2 ;; --data-dir) data=$2 ;; esac
    shift
done
cluster=$(dirname "$data")
"#;
    std::fs::write(&path, format!("{head}{script}")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The start succeeded with two nodes of three.
#[tokio::test]
async fn a_node_that_dies_while_the_others_start_fails_the_start() {
    let directory = TempDir::new().unwrap();
    // The others serve only when nothing is left of the first one, not even a zombie.
    let program = r#"
if [ "$id" = 1 ]; then
    echo $$ > "$cluster/new" && mv "$cluster/new" "$cluster/first"
    echo 'out of memory' >&2
    echo '{"node_id":1,"listening":"127.0.0.1:1"}'
    exit 9
fi
until [ -e "$cluster/first" ] && [ ! -e "/proc/$(cat "$cluster/first")" ]; do sleep 0.01; done
echo "{\"node_id\":$id,\"listening\":\"127.0.0.1:$id\"}"
exec sleep 1000
"#;
    let options = ClusterOptions { program: Some(script(&directory, program)), ..options(3) };
    let error = LocalCluster::start(options).await.unwrap_err();
    assert!(matches!(error, ClusterError::DiedAtStart { id: 1, .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("exit status: 9") && text.contains("out of memory"), "{text}");
}

/// The start waited for the end of the program without a limit.
#[tokio::test]
async fn a_program_that_closes_its_output_is_given_up_after_the_start_timeout() {
    let directory = TempDir::new().unwrap();
    let options = ClusterOptions {
        program: Some(script(&directory, "exec >&-; exec sleep 1000")),
        start_timeout: Duration::from_millis(300),
        ..options(2)
    };
    let error = timeout(SOON, LocalCluster::start(options)).await.expect("it is given up").unwrap_err();
    assert!(matches!(error, ClusterError::NotReady { id: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_program_whose_output_another_one_keeps_open_still_counts_as_dead() {
    let directory = TempDir::new().unwrap();
    let options = ClusterOptions {
        program: Some(script(
            &directory,
            "setsid sh -c 'echo $$ > \"$0\"; exec sleep 1000' \"$cluster.pid\" & sleep 0.1; exit 3",
        )),
        directory: Some(directory.path().join("cluster")),
        ..options(1)
    };
    let error = LocalCluster::start(options).await.unwrap_err();
    let escaped = std::fs::read_to_string(directory.path().join("cluster.pid")).unwrap();
    let escaped = Pid::from_raw(escaped.trim().parse().unwrap()).unwrap();
    kill_process(escaped, Signal::KILL).unwrap();
    assert!(matches!(error, ClusterError::DiedAtStart { id: 1, .. }), "{error:?}");
}

#[tokio::test]
async fn a_program_that_is_no_node_is_an_error() {
    let with = |program: &str| ClusterOptions { program: Some(program.into()), ..options(1) };
    let error = LocalCluster::start(with("/no/such/program")).await.unwrap_err();
    assert!(matches!(error, ClusterError::Spawn { id: 1, .. }), "{error:?}");
    let error = LocalCluster::start(with("echo")).await.unwrap_err();
    assert!(matches!(error, ClusterError::NotANode { id: 1, .. }), "{error:?}");
    let error = LocalCluster::start(with("true")).await.unwrap_err();
    assert!(matches!(error, ClusterError::DiedAtStart { id: 1, .. }), "{error:?}");
    for nodes in [0, 65, u64::MAX] {
        let error = LocalCluster::start(options(nodes)).await.unwrap_err();
        assert!(matches!(error, ClusterError::Impossible { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_port_that_is_in_use_by_now_is_named_at_the_restart() {
    let mut cluster = LocalCluster::start(options(1)).await.unwrap();
    let addr = cluster.client(1).unwrap().addr().to_owned();
    cluster.kill(1).await.unwrap();
    let taken = TcpListener::bind(&addr).unwrap();
    let error = cluster.restart(1).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("cannot listen on {addr}")), "{text}");
    drop(taken);
    cluster.restart(1).await.unwrap();
    assert_eq!(cluster.client(1).unwrap().state().await.unwrap().node_id, 1);
}

#[tokio::test]
async fn controls_refuse_impossible_actions() {
    let mut options = options(1);
    options.stop_timeout = Duration::from_millis(200);
    let mut cluster = LocalCluster::start(options).await.unwrap();
    let error = cluster.kill(9).await.unwrap_err();
    assert!(error.to_string().contains("no node 9"), "{error}");
    let error = cluster.restart(1).await.unwrap_err();
    assert!(matches!(error, ClusterError::StillRunning { id: 1 }), "{error:?}");

    cluster.pause(1).unwrap();
    let error = cluster.terminate(1).await.unwrap_err();
    assert!(matches!(error, ClusterError::DidNotStop { id: 1, .. }), "{error:?}");
    cluster.kill(1).await.unwrap();
    for error in [
        cluster.kill(1).await.unwrap_err(),
        cluster.terminate(1).await.unwrap_err(),
        cluster.pause(1).unwrap_err(),
        cluster.resume(1).unwrap_err(),
        cluster.form().await.unwrap_err(),
    ] {
        assert!(matches!(error, ClusterError::NotRunning { id: 1 }), "{error:?}");
    }
    assert_eq!(cluster.pid(1), None);

    cluster.restart(1).await.unwrap();
    cluster.terminate(1).await.unwrap();
    assert_eq!(cluster.pid(1), None);
}

/// A node that creates a file when it is asked to end, and does not end.
const NEVER_ENDS: &str = r#"
trap 'touch "$cluster/asked"; sleep 1000' TERM
echo "{\"node_id\":$id,\"listening\":\"127.0.0.1:$id\"}"
while :; do sleep 0.01; done
"#;

/// A stop time-out that is longer than any test.
const NO_LIMIT: Duration = Duration::from_secs(3600);

async fn is_there(file: PathBuf) {
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The stop failed, and the node ended some time later.
#[tokio::test]
async fn a_node_that_does_not_stop_in_time_is_killed_and_not_left_to_end_later() {
    let directory = TempDir::new().unwrap();
    let program = Some(script(&directory, NEVER_ENDS));
    let mut cluster =
        LocalCluster::start(ClusterOptions { program, stop_timeout: NO_LIMIT, ..options(1) }).await.unwrap();
    let pid = cluster.pid(1).unwrap();
    let asked = cluster.directory().join("asked");
    let time_is_up = async {
        timeout(SOON, is_there(asked)).await.expect("it is asked first");
        assert!(process_exists(pid), "it may take all its time");
        tokio::time::pause();
        tokio::time::advance(NO_LIMIT).await;
        tokio::time::resume();
    };
    let (stopped, ()) = tokio::join!(cluster.terminate(1), time_is_up);
    stopped.expect("it is down in the end");
    assert_eq!(cluster.pid(1), None);
    cluster.restart(1).await.unwrap();
}

/// The node ended some time after the stop was dropped, during the next action.
#[tokio::test]
async fn a_stop_that_is_dropped_is_carried_out_before_the_next_action() {
    let directory = TempDir::new().unwrap();
    let program = Some(script(&directory, NEVER_ENDS));
    let mut cluster =
        LocalCluster::start(ClusterOptions { program, stop_timeout: NO_LIMIT, ..options(1) }).await.unwrap();
    let stopped = cluster.pid(1).unwrap();
    let asked = cluster.directory().join("asked");
    tokio::select! {
        stopped = cluster.terminate(1) => panic!("it does not end: {stopped:?}"),
        asked = timeout(SOON, is_there(asked)) => asked.expect("it is asked"),
    }
    cluster.restart(1).await.expect("the node is down, and is started");
    assert!(cluster.pid(1).is_some_and(|pid| pid != stopped) && !process_exists(stopped));
}

#[tokio::test]
async fn each_node_has_its_own_process_group() {
    let cluster = LocalCluster::start(options(2)).await.unwrap();
    for id in 1..=2 {
        let pid = i32::try_from(cluster.pid(id).unwrap()).unwrap();
        let group = getpgid(Pid::from_raw(pid)).unwrap();
        assert_eq!(group.as_raw_nonzero().get(), pid);
    }
}
