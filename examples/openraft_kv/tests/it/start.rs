//! Nodes that cannot start: one clear line, a failure, and nothing is left.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use openraft_kv::api::Ready;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::common::PROGRAM;

fn node(args: &[&str]) -> Output {
    Command::new(PROGRAM).arg("node").args(args).output().unwrap()
}

/// It failed, and its only line names everything in `named`.
fn assert_fails(output: &Output, named: &[&str]) {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with("openraft_kv: "), "{text}");
    for name in named {
        assert!(text.contains(name), "no {name:?} in {text}");
    }
}

fn path(dir: &TempDir, name: &str) -> String {
    dir.path().join(name).to_str().unwrap().to_owned()
}

/// A node that serves, killed when the test ends.
struct Running(Child, Ready);

impl Running {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM).arg("node").args(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ready = serde_json::from_str(&line).unwrap();
        Self(child, ready)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn an_unusable_port() {
    let dir = TempDir::new().unwrap();
    let data = path(&dir, "data");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for listen in [taken.as_str(), "127.0.0.1:99999", "no address", "192.0.2.1:80"] {
        let output = node(&["--id", "1", "--data-dir", &data, "--listen", listen]);
        assert_fails(&output, &[listen, "--listen"]);
        assert!(!Path::new(&data).exists(), "{listen}");
    }
    let output = node(&["--id", "1", "--data-dir", &data, "--listen", "0.0.0.0:0"]);
    assert_fails(&output, &["0.0.0.0", "--public-addr"]);
    assert!(!Path::new(&data).exists());
}

#[test]
fn an_unusable_data_directory() {
    let dir = TempDir::new().unwrap();
    let file = path(&dir, "file");
    std::fs::write(&file, "not a directory").unwrap();
    let below_file = path(&dir, "file/data");
    let no_parent = path(&dir, "missing/data");
    for data in [&file, &below_file, &no_parent] {
        let output = node(&["--id", "1", "--data-dir", data]);
        assert_fails(&output, &[data, "--data-dir"]);
    }
    assert!(!Path::new(&path(&dir, "missing")).exists());

    let garbage = path(&dir, "garbage");
    std::fs::create_dir(&garbage).unwrap();
    let store = Path::new(&garbage).join("node.redb");
    std::fs::write(&store, "x".repeat(10_000)).unwrap();
    let output = node(&["--id", "1", "--data-dir", &garbage]);
    assert_fails(&output, &[store.to_str().unwrap(), "--data-dir"]);
    assert_eq!(std::fs::read(&store).unwrap().len(), 10_000, "it is kept");
}

#[test]
fn a_data_directory_of_another_node() {
    let dir = TempDir::new().unwrap();
    let data = path(&dir, "data");
    let first = Running::start(&["--id", "1", "--data-dir", &data]);
    let output = node(&["--id", "1", "--data-dir", &data]);
    assert_fails(&output, &[&data, "in use"]);
    drop(first);

    let output = node(&["--id", "2", "--data-dir", &data]);
    assert_fails(&output, &[&data, "node 1", "node 2"]);
    let output = node(&["--id", "1", "--cluster", "other", "--data-dir", &data]);
    assert_fails(&output, &[&data, "`openraft_kv`", "`other`"]);
    Running::start(&["--id", "1", "--data-dir", &data]);
}

#[test]
fn a_node_prints_where_it_listens_and_stops_cleanly_when_asked() {
    let dir = TempDir::new().unwrap();
    for signal in [Signal::TERM, Signal::INT] {
        let mut running = Running::start(&["--id", "7", "--data-dir", &path(&dir, "data")]);
        let Running(child, ready) = &mut running;
        assert_eq!(ready.node_id, 7);
        assert!(std::net::TcpStream::connect(&ready.listening).is_ok());
        kill_process(Pid::from_child(child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal:?}");
    }
}

#[test]
fn a_typo_in_the_yaml_file_is_named() {
    let dir = TempDir::new().unwrap();
    let file = path(&dir, "node.yaml");
    std::fs::write(&file, "id: 1\nhaertbeat_ms: 20\n").unwrap();
    let output = node(&["--config", &file]);
    assert_fails(&output, &[&file, "haertbeat_ms", "line 2"]);
}
