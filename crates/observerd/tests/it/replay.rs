//! `observerd replay`: the timeline, its filters, the export, and following.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use observerd::cli::outcome::Outcome;
use observerd::cli::replay::{ReplayArgs, run};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::commands::{ClosedPipe, args, ended, program, refused};
use crate::runs::{app, nodes, write, write_into};

type Ended = (String, Result<Outcome, String>);

async fn replay_in(directory: &Path, words: &[&str]) -> Ended {
    let mut out = Vec::new();
    let words = [&[directory.to_str().unwrap()], words].concat();
    let result = run(&args::<ReplayArgs>(&words), &mut out).await;
    ended(out, result)
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

/// A directory with a run.
fn directory(runs: &[(&str, &[String])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    block_on(async {
        for (name, texts) in runs {
            write(directory.path(), name, texts).await;
        }
    });
    directory
}

fn replay(directory: &TempDir, words: &[&str]) -> Ended {
    block_on(replay_in(directory.path(), words))
}

/// The lines of a timeline that must be fine, without their times.
fn lines(directory: &TempDir, words: &[&str]) -> Vec<String> {
    let (text, result) = replay(directory, words);
    assert_eq!(result, Ok(Outcome::Fine), "{text}");
    text.lines().map(without_time).collect()
}

fn without_time(line: &str) -> String {
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
    rest.to_owned()
}

#[test]
fn a_run_is_a_timeline() {
    let directory = directory(&[("app", &app())]);
    let lines = lines(&directory, &[]);
    let wanted = [
        "cycle 0 start: the record begins: observation \"app\", every 500ms; starting",
        "cycle 0 sources: n1, n2",
        "cycle 0 success: initial state of generation 1, took 0ns: {\"names\":[\"n1\",\"n2\"],\"polls\":0}",
        "cycle 0 state: starting -> idle",
        "cycle 1 state: idle -> refreshing",
        "cycle 1 state: refreshing -> polling",
        "cycle 1 success: took 0ns: /polls: 0 -> 1",
        "cycle 1 state: polling -> idle",
    ];
    assert_eq!(&lines[..wanted.len()], wanted);
    assert_eq!(lines.last().unwrap(), "cycle 14 stop: requested");
}

#[test]
fn each_kind_can_be_asked_for() {
    let directory = directory(&[("app", &app())]);
    let cases: [(&str, &[&str]); 7] = [
        ("starts", &["cycle 0 start: the record begins: observation \"app\", every 500ms; starting"]),
        ("sources", &["cycle 0 sources: n1, n2", "cycle 5 sources: n1, n2, n3; joined: n3"]),
        (
            "events",
            &[
                "cycle 3 event: {\"third\":3}",
                "cycle 10 event: {\"third\":6}",
                "cycle 13 event: {\"third\":9}",
            ],
        ),
        (
            "failures",
            &[
                "cycle 6 failure: poll failed (error) after 0ns: the node\\nis down",
                "cycle 7 failure: poll failed (error) after 0ns: the node\\nis down",
                "cycle 8 failure: poll failed (error) after 0ns: the node\\nis down",
                "cycle 9 failure: poll failed (error) after 0ns: the node\\nis down",
            ],
        ),
        ("stops", &["cycle 14 stop: requested"]),
        ("gaps", &[]),
        (
            "starts,stops",
            &[
                "cycle 0 start: the record begins: observation \"app\", every 500ms; starting",
                "cycle 14 stop: requested",
            ],
        ),
    ];
    for (kinds, wanted) in cases {
        assert_eq!(lines(&directory, &["--only", kinds]), wanted, "{kinds}");
    }
    let successes = lines(&directory, &["--only", "successes"]);
    assert_eq!(successes.len(), 11);
    assert_eq!(successes[5], "cycle 5 success: took 0ns: /names/2: added \"n3\"; /polls: 4 -> 5");
    let transitions = lines(&directory, &["--only", "transitions", "--from", "9", "--to", "10"]);
    assert_eq!(
        transitions,
        [
            "cycle 9 state: failed (poll, 3 consecutive) -> refreshing",
            "cycle 9 state: refreshing -> polling",
            "cycle 9 state: polling -> failed (poll, 4 consecutive)",
            "cycle 10 state: failed (poll, 4 consecutive) -> refreshing",
            "cycle 10 state: refreshing -> polling",
            "cycle 10 state: polling -> idle",
        ]
    );
    assert!(refused::<ReplayArgs>(&["data", "--only", "crashes"]).contains("possible values"));
}

#[test]
fn lines_are_chosen_by_cycle_time_text_and_number() {
    let directory = directory(&[("app", &app())]);
    let successes = ["--only", "successes"];
    let with = |words: &[&'static str]| lines(&directory, &[&successes, words].concat());
    assert_eq!(with(&["--from", "12"]).len(), 3);
    assert_eq!(with(&["--to", "2"]).len(), 3);
    assert_eq!(with(&["--from", "4", "--to", "5", "--last", "1"]).len(), 1);
    assert_eq!(with(&["--last", "2"]), with(&["--from", "13"]));
    assert_eq!(with(&["--last", "100"]), with(&[]));
    // The snapshot has more than the line.
    assert_eq!(with(&["--grep", "\"n3\""]).len(), 6);
    assert_eq!(with(&["--grep", "4 -> 5"]).len(), 1);
    assert!(with(&["--grep", "nowhere"]).is_empty());
    assert_eq!(lines(&directory, &["--grep", "third", "--last", "2"]).len(), 2);

    let (text, _) = replay(&directory, &["--only", "events"]);
    let times: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    // Times of lines are cut to the millisecond.
    let later = lines(&directory, &["--only", "events", "--from", times[1]]);
    assert_eq!(later, ["cycle 10 event: {\"third\":6}", "cycle 13 event: {\"third\":9}"]);
    assert_eq!(lines(&directory, &["--only", "events", "--to", times[1]]), ["cycle 3 event: {\"third\":3}"]);
    assert!(refused::<ReplayArgs>(&["data", "--from", "yesterday"]).contains("such as 2026-11-30T08:15:00Z"));
}

#[test]
fn lines_are_bounded() {
    let directory = directory(&[("nodes", &nodes())]);
    let (text, _) = replay(&directory, &[]);
    assert!(text.lines().all(|line| line.len() <= 200 + " ... (123456 more bytes)".len()), "{text}");
    assert!(text.contains("more bytes)"), "{text}");
    let (text, _) = replay(&directory, &["--width", "0"]);
    assert!(!text.contains("more bytes)"), "{text}");
    let (text, _) = replay(&directory, &["--width", "60"]);
    assert!(text.lines().all(|line| line.len() <= 60 + 24), "{text}");
}

#[test]
fn a_run_of_per_source_says_what_its_sources_said() {
    let directory = directory(&[("nodes", &nodes())]);
    let successes = lines(&directory, &["--only", "successes"]);
    assert_eq!(successes[1], "cycle 1 success: took 0ns: nothing has changed");
    assert_eq!(successes[4], "cycle 4 success: took 0ns: /n1/value: 1 -> 2; /n2/is_failing: false -> true");
    assert_eq!(successes[13], "cycle 13 success: took 0ns: /n2: removed");
    let failed = lines(&directory, &["--only", "events", "--grep", "refused"]);
    assert_eq!(failed.len(), 1);
    assert!(failed[0].starts_with("cycle 4 event: {"), "{failed:?}");
}

#[test]
fn several_runs_are_listed_and_one_is_taken() {
    let (app, nodes) = (app(), nodes());
    let several = directory(&[("app", &app), ("nodes", &nodes)]);
    let (text, result) = replay(&several, &[]);
    assert_eq!(result, Ok(Outcome::Fine));
    let listed: Vec<&str> = text.lines().collect();
    assert_eq!(listed.len(), 3, "{text}");
    assert!(listed[0].ends_with(": 2 runs; name one by --run"), "{text}");
    assert!(listed[1].starts_with("app: 46 records, the newest of 20"), "{text}");
    assert!(listed[2].ends_with(": cycle 14, stopped (requested)"), "{text}");
    for words in [&["--json"][..], &["--expect", "fresh", "--during", "1s"]] {
        let problem = replay(&several, words).1.unwrap_err();
        assert!(problem.contains("has several runs: name one by --run: app, nodes"), "{problem}");
    }
    let problem = replay(&several, &["--run", "apps"]).1.unwrap_err();
    assert!(problem.contains("has no run apps: its runs are app, nodes"), "{problem}");
    assert!(replay(&several, &["--run", "../run/app"]).1.is_err());

    let by_name = lines(&several, &["--run", "app"]);
    let alone = directory(&[("app", &app)]);
    assert_eq!(by_name, lines(&alone, &[]));
    let own = block_on(replay_in(&alone.path().join("run/app"), &[]));
    assert_eq!(own.0.lines().map(without_time).collect::<Vec<_>>(), by_name);
}

#[test]
fn what_is_no_run_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let problem = replay(&directory, &[]).1.unwrap_err();
    assert!(problem.contains("has no recorded run: give a data directory"), "{problem}");
    block_on(write_into(directory.path(), &["{\"endpoint\":\"/put\"}".to_owned()]));
    let problem = replay(&directory, &[]).1.unwrap_err();
    assert!(problem.contains("has operations, and no recorded run"), "{problem}");
    let missing = directory.path().join("missing");
    assert!(block_on(replay_in(&missing, &[])).1.is_err());
}

#[test]
fn a_record_of_something_else_is_a_line() {
    let mut texts = app();
    texts.insert(2, "{\"endpoint\":\"/put\"}".to_owned());
    let directory = directory(&[("app", &texts)]);
    let (text, result) = replay(&directory, &[]);
    assert_eq!(result, Ok(Outcome::Fine));
    assert!(text.contains("\n-- record 2 is no publication of a run: missing field"), "{text}");
    assert!(!replay(&directory, &["--only", "events"]).0.contains("-- record"));
    let problem = replay(&directory, &["--expect", "fresh", "--during", "1s"]).1.unwrap_err();
    assert!(problem.contains("record 2 is no record of this run"), "{problem}");
}

#[test]
fn damage_is_a_gap() {
    let directory = directory(&[("app", &app())]);
    let segment = directory.path().join("run/app/00000000000000000000.jsonl");
    let mut bytes = fs::read(&segment).unwrap();
    let third = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(2).unwrap().0;
    bytes[third + 3] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let gaps = lines(&directory, &["--only", "gaps"]);
    assert_eq!(gaps.len(), 1);
    assert!(gaps[0].contains(" gap: record 3 is missing: "), "{gaps:?}");
    assert!(gaps[0].contains("damaged bytes at byte"), "{gaps:?}");
    let (text, _) = replay(&directory, &["--json", "--only", "stops"]);
    let stop: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stop["missing"], serde_json::json!({ "first": 3, "last": 3, "cause": "damaged" }));
}

#[test]
fn the_next_process_and_another_run_begin_with_a_line() {
    let texts = app();
    // The same instance again, and another one.
    let again: Vec<String> = [texts.clone(), texts, app()].concat();
    let directory = directory(&[("app", &again)]);
    let starts = lines(&directory, &["--only", "starts"]);
    assert_eq!(starts.len(), 3);
    assert!(starts[1].contains("another process resumes the run"), "{starts:?}");
    assert!(starts[2].contains("another run begins"), "{starts:?}");
    // What has changed is said within a run.
    let successes = lines(&directory, &["--only", "successes", "--to", "0"]);
    assert!(successes[2].contains("{\"names\""), "{successes:?}");
}

#[test]
fn an_export_is_a_run_again() {
    let texts = app();
    let first = directory(&[("app", &texts)]);
    let (exported, result) = replay(&first, &["--json"]);
    assert_eq!(result, Ok(Outcome::Fine));
    let exported: Vec<String> = exported.lines().map(str::to_owned).collect();
    assert_eq!(exported.len(), texts.len());
    for (number, (line, text)) in exported.iter().zip(&texts).enumerate() {
        let (mut line, text): (serde_json::Value, serde_json::Value) =
            (serde_json::from_str(line).unwrap(), serde_json::from_str(text).unwrap());
        assert_eq!(line["record"], number);
        line.as_object_mut().unwrap().remove("record");
        assert_eq!(line, text);
    }
    let second = directory(&[("app", &exported)]);
    assert_eq!(replay(&first, &[]).0, replay(&second, &[]).0);
    assert_eq!(replay(&second, &["--json"]).0.lines().collect::<Vec<_>>(), exported);
    let expect = ["--expect", "eventually", "--at", "/polls", "--is", "7", "--within", "1m"];
    assert_eq!(replay(&first, &expect), replay(&second, &expect));
    // Filters choose whole records.
    assert_eq!(replay(&first, &["--json", "--only", "failures"]).0.lines().count(), 4);
    assert_eq!(replay(&first, &["--json", "--grep", "is down", "--last", "3"]).0.lines().count(), 3);
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let directory = directory(&[("app", &app())]);
    let path = directory.path().to_str().unwrap();
    let plain = args::<ReplayArgs>(&[path]);
    assert_eq!(block_on(run(&plain, &mut ClosedPipe)).unwrap(), Outcome::Fine);
    let expect = args::<ReplayArgs>(&[path, "--expect", "reaches", "--state", "idle", "--within", "1m"]);
    assert_eq!(block_on(run(&expect, &mut ClosedPipe)).unwrap(), Outcome::Problems);
}

/// Output that another task reads.
#[derive(Clone, Default)]
struct Shared {
    text: Arc<Mutex<String>>,
    written: Arc<Notify>,
}

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.text.lock().unwrap().push_str(std::str::from_utf8(bytes).unwrap());
        self.written.notify_one();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Shared {
    async fn has(&self, text: &str) {
        while !self.text.lock().unwrap().contains(text) {
            self.written.notified().await;
        }
    }
}

#[test]
fn a_run_is_followed_until_it_stops() {
    let texts = app();
    let (begin, rest) = texts.split_at(20);
    let directory = directory(&[("app", begin)]);
    let path = directory.path().to_str().unwrap();
    let args = args::<ReplayArgs>(&[path, "--follow", "--until-stop", "--last", "1"]);
    let mut out = Shared::default();
    let shown = out.clone();
    let appending = async {
        shown.has("cycle ").await;
        assert_eq!(shown.text.lock().unwrap().lines().count(), 1);
        let (middle, end) = rest.split_at(10);
        write(directory.path(), "app", middle).await;
        shown.has("failure").await;
        write(directory.path(), "app", end).await;
    };
    let (result, ()) = block_on(async { tokio::join!(run(&args, &mut out), appending) });
    assert_eq!(result.unwrap(), Outcome::Fine);
    let followed: Vec<String> = shown.text.lock().unwrap().lines().map(without_time).collect();
    let all = lines(&directory, &[]);
    assert_eq!(followed, all[all.len() - followed.len()..]);
    assert!(followed.len() > 20);
}

#[cfg(unix)]
#[test]
fn the_program_follows_until_a_signal() {
    use rustix::process::{Pid, Signal, kill_process};
    // A stop is not the end: another process may resume the run.
    let directory = directory(&[("app", &app())]);
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_observerd"))
            .args(["replay", directory.path().to_str().unwrap(), "--follow", "--only", "stops"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        assert!(line.ends_with("stop: requested\n"), "{line}");
        assert_eq!(child.try_wait().unwrap(), None);
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
}

#[test]
fn the_program_has_the_exit_codes() {
    let directory = directory(&[("app", &app())]);
    let path = directory.path().to_str().unwrap();
    let code = |words: &[&str]| program(&[&["replay", path], words].concat()).status.code();
    assert_eq!(code(&[]), Some(0));
    assert_eq!(code(&["--run", "other"]), Some(2));
    assert_eq!(code(&["--expect", "reaches", "--state", "failed", "--within", "1m"]), Some(0));
    assert_eq!(code(&["--expect", "fresh", "--during", "5s"]), Some(1));
    assert_eq!(code(&["--expect", "fresh", "--during", "48h"]), Some(2));
    assert_eq!(code(&["--expect", "fresh"]), Some(2));
}
