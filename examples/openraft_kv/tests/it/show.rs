//! The command, as a person or a script uses it.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::common::{PROGRAM, SOON, gone};
use crate::screen::Screen;

/// The command with its own temporary directory.
struct Run {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    temp: tempfile::TempDir,
}

fn run(args: &[&str]) -> Run {
    run_in(tempfile::tempdir().unwrap(), args)
}

fn run_in(temp: tempfile::TempDir, args: &[&str]) -> Run {
    let mut child = Command::new(PROGRAM)
        .args(args)
        .env("TMPDIR", temp.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    Run { child, lines, temp }
}

impl Run {
    async fn line(&mut self) -> Option<String> {
        tokio::time::timeout(SOON, self.lines.next_line()).await.expect("a line in time").unwrap()
    }

    async fn json(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.line().await?).expect("every line is one JSON object"))
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id().unwrap()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// The nodes that have this run's directory open, by what their command lines say.
    fn nodes(&self) -> Vec<u32> {
        let directory = self.temp.path().to_string_lossy().into_owned();
        let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse::<u32>().ok()?;
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).ok()?;
            command.contains(&directory).then_some(pid)
        });
        processes.collect()
    }

    fn left(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.temp.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    async fn status(&mut self) -> std::process::ExitStatus {
        tokio::time::timeout(SOON, self.child.wait()).await.expect("it ends in time").unwrap()
    }

    async fn stderr(&mut self) -> String {
        let mut text = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        tokio::io::AsyncReadExt::read_to_string(&mut stderr, &mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn json_is_one_event_per_line_and_shows_the_failover() {
    let mut run = run(&["--json", "--interval", "50ms"]);
    let mut kinds = Vec::new();
    let mut summary = Value::Null;
    while let Some(line) = run.json().await {
        assert!(line["at_s"].is_number(), "{line}");
        kinds.extend(line["event"]["event"].as_str().map(str::to_owned));
        if line["summary"].is_object() {
            summary = line["summary"].clone();
        }
    }
    assert!(run.status().await.success(), "{}", run.stderr().await);
    for kind in
        ["node_seen", "leader_changed", "node_lost", "term_advanced", "node_back", "membership_changed"]
    {
        assert!(kinds.iter().any(|found| found == kind), "no {kind} in {kinds:?}");
    }
    assert_eq!((&summary["nodes"], &summary["keys"]), (&3.into(), &16.into()), "{summary}");
    assert_ne!(summary["killed"]["node_id"], summary["elected"]["node_id"]);
    assert_eq!((run.nodes(), run.left()), (vec![], vec![]));
}

#[tokio::test]
async fn five_nodes_piped_are_plain_text() {
    let mut run = run(&["--nodes", "5"]);
    let mut text = String::new();
    while let Some(line) = run.line().await {
        text += &line;
        text.push('\n');
    }
    assert!(run.status().await.success(), "{text}{}", run.stderr().await);
    assert!(text.contains("5 nodes hold 16 keys and agree"), "{text}");
    assert!(!text.contains('\x1b'), "no colours in a pipe");
}

#[tokio::test]
async fn a_deployer_is_given_the_whole_scenario() {
    let mut run = run(&["--deployer", "local"]);
    let mut text = String::new();
    while let Some(line) = run.line().await {
        text += &line;
        text.push('\n');
    }
    assert!(run.status().await.success(), "{text}{}", run.stderr().await);
    for line in ["freezing n", "waking n", "3 nodes hold 24 keys and agree"] {
        assert!(text.contains(line), "no {line:?} in {text}");
    }
    assert!(text.contains("left out: the local deployer cannot isolate n"), "{text}");
    assert_eq!((run.nodes(), run.left()), (vec![], vec![]));
}

/// At every step of the demo.
#[tokio::test]
async fn an_interrupt_leaves_no_process_and_no_directory() {
    for step in ["starting", "forming", "writing", "killing", "restarting", "watching"] {
        for signal in [Signal::INT, Signal::TERM] {
            let mut run = run(&["--json", "--interval", "50ms", "--keep"]);
            while let Some(line) = run.json().await {
                if line["step"].as_str().is_some_and(|text| text.starts_with(step)) {
                    break;
                }
            }
            run.signal(signal);
            let status = run.status().await;
            assert_eq!(status.code(), Some(if step == "watching" { 0 } else { 130 }), "{step}");
            assert_eq!((run.nodes(), run.left()), (vec![], vec![]), "{step}");
        }
    }
}

#[tokio::test]
async fn a_terminal_has_a_table_of_the_nodes_while_the_cluster_is_kept() {
    let temp = tempfile::tempdir().unwrap();
    let settings = [("TMPDIR", temp.path().to_str().unwrap())];
    let mut screen = Screen::start(PROGRAM, &["--interval", "50ms", "--keep"], &settings);
    screen.shows("watching").await;
    for node in ["n1", "n2", "n3"] {
        screen.shows(node).await;
    }
    assert!(screen.text().contains("took over"), "the summary is above the table");
    screen.interrupted().await;
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_parent_that_is_killed_leaves_no_node_running() {
    let mut run = run(&["--json", "--keep"]);
    while let Some(line) = run.json().await {
        if line["event"]["event"] == "leader_changed" {
            break;
        }
    }
    let nodes = run.nodes();
    assert!(nodes.len() >= 3, "{nodes:?}");
    run.signal(Signal::KILL);
    run.status().await;
    gone(&nodes).await;
}

/// After a killed run, only the next one can remove its directory.
#[tokio::test]
async fn the_directory_of_a_killed_run_is_removed_by_the_next() {
    let mut killed = run(&["--json", "--keep"]);
    while let Some(line) = killed.json().await {
        if line["event"]["event"] == "leader_changed" {
            break;
        }
    }
    let nodes = killed.nodes();
    killed.signal(Signal::KILL);
    killed.status().await;
    gone(&nodes).await;
    assert_eq!(killed.left().len(), 1);

    let mut next = run_in(killed.temp, &["--json"]);
    while next.json().await.is_some() {}
    assert!(next.status().await.success());
    assert_eq!(next.left(), [""; 0]);
}

#[tokio::test]
async fn an_impossible_argument_is_one_clear_line() {
    let cases: [(&[&str], &str); 6] = [
        (
            &["--nodes", "2"],
            "--nodes is 2: the cluster must survive the loss of its leader, which takes 3 or more",
        ),
        (&["--nodes", "65"], "a local cluster has 1 to 64 nodes, and this one 65"),
        (
            &["--interval", "0s"],
            "ObservationConfig::interval is 0ns: it must be more than zero and at most 24 h",
        ),
        (
            &["--interval", "2days"],
            "ObservationConfig::interval is 172800s: it must be more than zero and at most 24 h",
        ),
        (&["--interval", "soon"], "invalid value 'soon' for '--interval <INTERVAL>'"),
        (&["--nods", "5"], "unexpected argument '--nods' found"),
    ];
    for (args, expected) in cases {
        let mut run = run(args);
        let status = run.status().await;
        let stderr = run.stderr().await;
        assert!(!status.success(), "{args:?}");
        assert!(stderr.lines().next().unwrap().contains(expected), "{args:?}: {stderr}");
        assert_eq!((run.nodes(), run.left()), (vec![], vec![]), "{args:?}");
    }
}

#[tokio::test]
async fn a_deployer_that_is_not_available_is_one_clear_line() {
    let cases = [
        (
            "compose",
            cfg!(feature = "compose"),
            "the compose deployer is not available: no container engine answers at unix:///nowhere",
        ),
        ("k8s", cfg!(feature = "k8s"), "the k8s deployer is not available: there is no usable kubeconfig"),
    ];
    for (deployer, is_built, unavailable) in cases {
        let unbuilt = format!("built without the {deployer} deployer: build it with `--features {deployer}`");
        let expected = if is_built { unavailable } else { &unbuilt };
        let mut command = Command::new(PROGRAM);
        command.args(["--deployer", deployer]).stdin(Stdio::null());
        command.env("DOCKER_HOST", "unix:///nowhere").env("KUBECONFIG", "/nowhere");
        let output = tokio::time::timeout(SOON, command.output()).await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{deployer}: {stderr}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{deployer}: {stderr}");
    }
}

#[tokio::test]
async fn a_temporary_directory_that_cannot_be_used_is_named() {
    let mut child = Command::new(PROGRAM);
    let missing = "/nonexistent/for/sure";
    let output = child.env("TMPDIR", missing).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(Duration::from_secs(15), output).await.unwrap().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains(missing) && stderr.lines().count() == 1, "{stderr}");
}
