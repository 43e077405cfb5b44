//! Processes and files of a node do not outlive it.

use std::env;
use std::future::pending;
use std::path::Path;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::task::spawn_blocking;
use watchkeeper_chain_ethereum::anvil::AnvilError;
use watchkeeper_process::RunDirectory;

use crate::common::{PATIENCE, node};

#[tokio::test]
async fn a_dropped_node_is_gone_also_if_it_was_paused() {
    let node = node(0).await;
    let process = Path::new("/proc").join(node.pid().unwrap().to_string());
    assert!(process.exists());
    node.pause().unwrap();
    drop(node);
    assert!(!process.exists());
}

#[tokio::test]
async fn a_stopped_node_gets_no_signal() {
    let mut node = node(0).await;
    node.kill();
    assert_eq!(node.pid(), None);
    assert!(matches!(node.pause(), Err(AnvilError::NotRunning)));
    node.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_reported() {
    let mut node = node(0).await;
    let address = node.http().to_string();
    node.kill();
    let listener = TcpListener::bind(address.trim_start_matches("http://")).await.unwrap();
    let taken = node.start_again().await;
    let Err(AnvilError::Ended { printed }) = &taken else { panic!("{taken:?}") };
    assert!(printed.contains("in use"), "{printed}");
    drop(listener);
    node.start_again().await.unwrap();
}

/// Set in the environment of the process that is to be killed.
const PARENT: &str = "WATCHKEEPER_TEST_IS_PARENT";

/// The test runs itself in another process, as the parent of a node, and kills that process.
#[tokio::test]
async fn a_node_dies_with_a_parent_that_is_killed() {
    if env::var_os(PARENT).is_some() {
        let node = node(0).await;
        println!("\nnode {}", node.pid().unwrap());
        return pending().await;
    }
    let files = tempfile::tempdir().unwrap();
    let mut parent = Command::new(env::current_exe().unwrap())
        .args(["--exact", "process::a_node_dies_with_a_parent_that_is_killed", "--nocapture"])
        .env(PARENT, "")
        // The killed process cannot remove its files: they go here.
        .env("TMPDIR", files.path())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let pid = loop {
        let line = lines.next_line().await.unwrap().expect("the parent ended before it had a node");
        if let Some(pid) = line.strip_prefix("node ") {
            break Pid::from_raw(pid.parse().unwrap()).unwrap();
        }
    };
    let node = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    parent.kill().await.unwrap();
    // The descriptor of a process is readable once the process has ended.
    let ended = spawn_blocking(move || {
        let limit = Timespec::try_from(PATIENCE).unwrap();
        poll(&mut [PollFd::new(&node, PollFlags::IN)], Some(&limit)).unwrap()
    });
    assert_eq!(ended.await.unwrap(), 1, "the node outlived its parent");

    // Its files are left, and the next run removes them; before, they were never removed.
    let inside = || std::fs::read_dir(files.path()).unwrap().count();
    assert_eq!(inside(), 1);
    drop(RunDirectory::new_in(files.path(), "watchkeeper-anvil-").unwrap());
    assert_eq!(inside(), 0);
}
