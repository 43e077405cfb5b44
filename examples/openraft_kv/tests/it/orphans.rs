//! A parent that is killed takes its nodes with it.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use openraft_kv::{ClusterOptions, LocalCluster};
use tempfile::TempDir;

use crate::common::{gone, options, process_runs};

/// Set in the copy of this test that is the parent: the directory for its cluster.
const AS_PARENT: &str = "OPENRAFT_KV_TEST_PARENT";
const THIS_TEST: &str = "orphans::a_parent_killed_with_sigkill_leaves_no_node";

#[tokio::test]
async fn a_parent_killed_with_sigkill_leaves_no_node() {
    if let Some(directory) = std::env::var_os(AS_PARENT) {
        return be_the_parent(directory.into()).await;
    }
    let dir = TempDir::new().unwrap();
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", THIS_TEST, "--nocapture"])
        .env(AS_PARENT, dir.path().join("cluster"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pids: Vec<u32> = loop {
        let line = lines.next().expect("the parent prints its children").unwrap();
        if let Some((_, pids)) = line.split_once("children:") {
            break pids.split_whitespace().map(|p| p.parse().unwrap()).collect();
        }
    };
    assert_eq!(pids.len(), 2);
    assert!(pids.iter().all(|pid| process_runs(*pid)));

    parent.kill().unwrap();
    parent.wait().unwrap();
    gone(&pids).await;
}

/// One of the two nodes is paused, and cannot notice anything itself.
async fn be_the_parent(directory: PathBuf) {
    let options = ClusterOptions { directory: Some(directory), ..options(2) };
    let mut cluster = LocalCluster::start(options).await.unwrap();
    cluster.pause(2).unwrap();
    let pids = [1, 2].map(|id| cluster.pid(id).unwrap().to_string());
    println!("children: {}", pids.join(" "));
    std::io::stdout().flush().unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
}
