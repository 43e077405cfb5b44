//! The program `journal`, as it is called from a shell.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use watchkeeper_journal::{Durability, Entry, Journal, JournalConfig};

use crate::common::*;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn program(directory: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_journal"));
    command.args(args).current_dir(directory).env_remove("COLUMNS").env("RUST_BACKTRACE", "0");
    command
}

/// The exit code, the output and the errors.
fn run(directory: &Path, args: &[&str]) -> (i32, String, String) {
    let output = program(directory, args).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// The output of a command that succeeds.
fn output(directory: &Path, args: &[&str]) -> String {
    let (code, output, errors) = run(directory, args);
    assert_eq!((code, errors.as_str()), (0, ""), "{args:?}: {output}");
    output
}

/// The one line of a command that fails.
fn refused(directory: &Path, args: &[&str]) -> String {
    let (code, output, errors) = run(directory, args);
    assert_eq!((code, output.as_str(), errors.lines().count()), (2, "", 1), "{args:?}: {errors}");
    errors.strip_prefix("journal: ").unwrap().trim_end().to_owned()
}

async fn journal_with(path: &Path, entries: impl IntoIterator<Item = Entry>) {
    let journal = open(path).await;
    for entry in entries {
        journal.append(entry).await.unwrap();
    }
    journal.close().await.unwrap();
}

fn text(body: &str) -> Entry {
    Entry::from_text(body).unwrap()
}

/// A journal `j` with the records 0 to 9, of which 3 is damaged, and a torn tail.
async fn damaged(directory: &Path) -> (usize, String) {
    let path = directory.join("j");
    journal_with(&path, (0..10).map(entry)).await;
    let file = segments(&path).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let line = bytes.len() / 10;
    bytes[3 * line + 2] ^= 1;
    bytes.extend_from_slice(b"{\"n\":10");
    fs::write(&file, bytes).unwrap();
    (line, file.file_name().unwrap().to_str().unwrap().to_owned())
}

#[tokio::test]
async fn check_prints_a_line_for_each_finding_and_a_summary() {
    let directory = directory();
    let (line, name) = damaged(directory.path()).await;
    let (damage, torn) = (3 * line, 10 * line);
    let size = torn + 7;
    let (code, output, errors) = run(directory.path(), &["check", "j"]);
    assert_eq!((code, errors.as_str()), (1, ""));
    assert_eq!(
        output,
        format!(
            "{name}: byte {damage}: problem: damage of {line} bytes: 1 record lost; readers return a gap\n\
             {name}: byte {torn}: note: torn tail of 7 bytes: a torn tail is cut at the next opening; while a process \
             writes it is normal\n\
             j: 9 records of the numbers 0 to 9 in 1 segment of {size} bytes; 1 record lost; 1 problem\n"
        )
    );
    let (code, output, _) = run(directory.path(), &["check", "j", "--json"]);
    let report: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((code, output.lines().count()), (1, 1));
    assert_eq!(
        (&report["records"], &report["problems"], &report["is_complete"]),
        (&json!(9), &json!(1), &json!(true))
    );
    assert_eq!(
        report["segments"][0],
        json!({ "name": name, "first": 0, "last": 9, "records": 9, "bytes": size })
    );
    let finding = &report["findings"][0];
    assert_eq!(
        (&finding["kind"], &finding["byte"], &finding["is_problem"]),
        (&json!("damage"), &json!(damage), &json!(true))
    );
    assert_eq!(report["findings"][1]["kind"], "torn_tail");
}

#[tokio::test]
async fn check_reads_the_journals_of_runs_and_what_was_removed() {
    let directory = directory();
    let path = directory.path().join("j");
    let journal = Journal::open(&path, JournalConfig { segments: 2, ..small_segments() }).await.unwrap();
    for n in 0..20 {
        journal.append(long_entry(n)).await.unwrap();
    }
    let run_path = path.join("run/nightly");
    journal_with(&run_path, (0..2).map(entry)).await;
    // The journal is open, and a check needs no lock.
    let text = output(directory.path(), &["check", "j"]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[0].ends_with("were removed, because there were newer ones"), "{text}");
    assert!(lines[1].starts_with("j: ") && lines[1].ends_with("; no problems"), "{text}");
    assert!(lines[2].starts_with("j/run/nightly: 2 records of the numbers 0 to 1 in 1 segment"), "{text}");

    fs::write(run_path.join("journal.json"), "{\"watchkeeper_journal\":2}").unwrap();
    let (code, text, _) = run(directory.path(), &["check", "j"]);
    assert!(code == 2 && text.contains("run/nightly: problem: j/run/nightly has format 2"), "{text}");
    let (code, text, _) = run(directory.path(), &["check", "j", "--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["runs"][0]["name"]), (2, &json!("nightly")));

    let segment = segments(&path).pop().unwrap();
    fs::remove_file(&segment).unwrap();
    fs::create_dir(&segment).unwrap();
    let (code, text, _) = run(directory.path(), &["check", "j"]);
    assert!(code == 2 && text.contains("cannot be read, the rest was not checked"), "{text}");
    assert!(refused(directory.path(), &["show", "j"]).contains("cannot read its segments"));
}

#[tokio::test]
async fn show_prints_what_it_is_asked_for() {
    let directory = directory();
    let path = directory.path();
    journal_with(
        &path.join("j"),
        (0..30)
            .map(|n| text(&format!("{{\"n\":{n},\"a\":{{\"ok\":{},\"b.c\":[\"x\",{n}.5]}}}}", n % 2 == 0))),
    )
    .await;
    let cursor = {
        let line = output(path, &["show", "j", "--from", "7", "--to", "7", "--json"]);
        let value: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["body"], json!({ "n": 7, "a": { "ok": false, "b.c": ["x", 7.5] } }));
        assert_eq!(
            (&value["number"], &value["key"], &value["batch"]),
            (&json!(7), &json!(null), &json!(null))
        );
        value["cursor"].as_str().unwrap().to_owned()
    };
    let cases: &[(&[&str], Vec<u64>)] = &[
        (&[], (10..30).collect()),
        (&["--all"], (0..30).collect()),
        (&["--last", "3"], vec![27, 28, 29]),
        (&["--last", "100"], (0..30).collect()),
        (&["--from", "28"], vec![28, 29]),
        (&["--from", &cursor, "--to", "8"], vec![7, 8]),
        (&["--to", "1"], vec![0, 1]),
        (&["--to", "9", "--last", "2"], vec![8, 9]),
        (&["--from", "29", "--last", "5"], vec![29]),
        (&["--where", "a.ok=true", "--last", "2"], vec![26, 28]),
        (&["--where", "a.ok=true", "--where", "n=4"], vec![4]),
        (&["--where", "a.ok=true", "--where", "n=5"], vec![]),
        (&["--where", "a.b.c.1=3.5"], vec![3]),
        (&["--where", "a.b.c.0=x", "--to", "1"], vec![0, 1]),
        (&["--where", "a.b.c=[\"x\",9.5]"], vec![9]),
        (&["--grep", "12.5"], vec![12]),
        (&["--grep", "nothing"], vec![]),
        (&["--grep", "nothing", "--last", "2"], vec![]),
    ];
    for (args, expected) in cases {
        let printed = output(path, &[&["show", "j"], *args].concat());
        let numbers: Vec<u64> =
            printed.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
        assert_eq!(numbers, *expected, "{args:?}");
    }
    let (code, printed, errors) = run(path, &["show", "j", "--from", "31"]);
    assert_eq!((code, printed.as_str()), (0, ""));
    assert_eq!(errors, "journal: there is no record 31 yet: the next one is 30\n");
}

#[tokio::test]
async fn show_prints_gaps_and_ends_before_a_torn_tail() {
    let directory = directory();
    let (line, name) = damaged(directory.path()).await;
    let byte = 3 * line;
    assert_eq!(
        output(directory.path(), &["show", "j", "--from", "2", "--to", "4"]),
        format!(
            "2 {{\"n\":2}}\n-- record 3 is missing: {line} damaged bytes at byte {byte} of {name}\n4 {{\"n\":4}}\n"
        )
    );
    assert_eq!(output(directory.path(), &["show", "j", "--last", "1"]), "9 {\"n\":9}\n");
    let json_lines = output(directory.path(), &["show", "j", "--all", "--json"]);
    let values: Vec<Value> = json_lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 10);
    let gap =
        json!({ "first": 3, "last": 3, "cause": "damaged", "segment": name, "byte": byte, "bytes": line });
    assert_eq!(values[3], json!({ "gap": gap }));
}

#[tokio::test]
async fn show_escapes_and_truncates() {
    let directory = directory();
    let path = directory.path();
    let evil = "{\"a\":\"\u{9b}2J\u{202e}x\",\"n\":1}";
    let keyed = text(evil).with_key("k\u{1b}").unwrap().with_position("\u{202e}").unwrap();
    journal_with(&path.join("j/run/r 1"), [keyed, text(&format!("{{\"a\":\"{}\"}}", "y".repeat(500)))]).await;
    let show = |args: &[&str]| output(path, &[&["show", "j", "--run", "r 1"], args].concat());
    let printed = show(&[]);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], r#"0 {"a":"\u{9b}2J\u{202e}x","n":1}"#);
    assert!(lines[1].len() <= 202 && lines[1].ends_with("yyy ... (332 more bytes)"), "{}", lines[1]);
    assert!(show(&["--width", "0"]).lines().nth(1).unwrap().len() > 500);
    let printed = show(&["--json", "--to", "0"]);
    assert!(printed.is_ascii(), "{printed}");
    let value: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(value["body"], serde_json::from_str::<Value>(evil).unwrap());
    assert_eq!((&value["key"], &value["position"]), (&json!("k\u{1b}"), &json!("\u{202e}")));
}

/// A process whose lines are read by a thread, so that a wait for one has an end.
struct Following {
    child: Child,
    lines: Receiver<String>,
}

impl Following {
    fn new(directory: &Path, args: &[&str]) -> Self {
        let mut child = program(directory, args).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { child, lines }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(LONG).unwrap()
    }

    /// Sends a signal, and returns the exit code.
    fn end(mut self, signal: &str) -> Option<i32> {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
        // Its output ends with it.
        assert!(self.lines.recv_timeout(LONG).is_err());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(unix)]
#[tokio::test]
async fn show_follows_over_segments_until_a_signal() {
    let directory = directory();
    let path = directory.path().join("j");
    for signal in ["-TERM", "-INT"] {
        let config = JournalConfig { segments: 100, ..small_segments() };
        let journal = Journal::open(&path, config).await.unwrap();
        let first = journal.append(long_entry(0)).await.unwrap().number;
        let args = ["show", "j", "--last", "1", "--follow", "--interval", "5", "--width", "20"];
        let following = Following::new(directory.path(), &args);
        assert!(following.line().starts_with(&format!("{first} ")));
        for n in first + 1..first + 30 {
            journal.append(long_entry(n)).await.unwrap();
            assert!(following.line().starts_with(&format!("{n} ")));
        }
        journal.append_batch((0..3).map(long_entry).collect()).await.unwrap();
        journal.close().await.unwrap();
        for n in first + 30..first + 33 {
            assert!(following.line().starts_with(&format!("{n} ")));
        }
        assert_eq!(following.end(signal), Some(0));
    }
    assert!(segments(&path).len() > 4);
}

#[cfg(unix)]
#[tokio::test]
async fn a_signal_ends_a_program_whose_output_is_blocked() {
    let directory = directory();
    journal_with(&directory.path().join("j"), (0..500).map(long_entry)).await;
    let args = ["show", "j", "--all", "--follow", "--width", "0"];
    let mut child = program(directory.path(), &args).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::with_capacity(10, child.stdout.take().unwrap());
    output.read_line(&mut String::new()).unwrap();
    // The rest does not fit into the pipe, and is not read.
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_the_program_quietly() {
    let directory = directory();
    let path = directory.path().join("j");
    let journal = open(&path).await;
    append_all(&journal, 0..1).await;
    let args = ["show", "j", "--follow", "--interval", "5"];
    let mut child =
        program(directory.path(), &args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "0 {\"n\":0}\n");
    // The pipe is closed now.
    append_all(&journal, 1..2).await;
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

#[tokio::test]
async fn import_prints_what_it_skipped() {
    let directory = directory();
    let path = directory.path();
    fs::write(path.join("ops"), "\u{feff}{\"n\":0}\r\n\n[1]\n{\"n\":\n{\"_wk_n\":1}\n{\"n\":1}").unwrap();
    let (code, printed, errors) = run(path, &["import", "ops", "j/below"]);
    assert_eq!((code, errors.as_str()), (1, ""));
    assert_eq!(
        printed,
        "imported 2 of 6 lines as records 0 to 1\n\
         skipped, no JSON: 1 (line 4)\n\
         skipped, JSON, but no object: 1 (line 3)\n\
         skipped, fields _wk_*, but no valid record of a journal: 1 (line 5)\n\
         blank: 1\n"
    );
    assert_eq!(output(path, &["show", "j/below"]), "0 {\"n\":0}\n1 {\"n\":1}\n");
    let segment = format!("j/below/{:020}.jsonl", 0);
    let args = ["import", &segment, "j/below", "--durability", "buffered", "--json"];
    let report: Value = serde_json::from_str(&output(path, &args)).unwrap();
    assert_eq!((&report["imported"], &report["first"], &report["last"]), (&json!(2), &json!(2), &json!(3)));

    let mut child = program(path, &["import", "-", "other"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{}\n").unwrap();
    let ended = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), "imported 1 of 1 line as record 0\n");
}

#[cfg(unix)]
#[tokio::test]
async fn import_takes_lines_of_a_pipe_at_once_until_a_signal() {
    let directory = directory();
    let path = directory.path();
    journal_with(&path.join("j"), [entry(0)]).await;
    let mut importing = program(path, &["import", "-", "j"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = importing.stdin.take().unwrap();
    let following = Following::new(path, &["show", "j", "--from", "1", "--follow", "--interval", "5"]);
    for n in 1..4 {
        writeln!(lines, "{{\"n\":{n}}}").unwrap();
        assert_eq!(following.line(), format!("{n} {{\"n\":{n}}}"));
    }
    assert!(Command::new("kill").arg(importing.id().to_string()).status().unwrap().success());
    let ended = importing.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(2), 0));
    let errors = String::from_utf8(ended.stderr).unwrap();
    let expected = "journal: standard input: interrupted after 3 records were appended: ";
    assert!(errors.starts_with(expected) && errors.lines().count() == 1, "{errors}");
    assert_eq!(following.end("-TERM"), Some(0));
    assert!(output(path, &["check", "j"]).starts_with("j: 4 records of the numbers 0 to 3"));
}

#[tokio::test]
async fn import_removes_no_segments_unless_it_is_asked_to() {
    let directory = directory();
    let path = directory.path();
    let line = format!("{{\"a\":\"{}\"}}\n", "x".repeat(900));
    fs::write(path.join("ops"), line.repeat(60)).unwrap();
    output(path, &["import", "ops", "all", "--segment-bytes", "4096"]);
    assert_eq!(segments(&path.join("all")).len(), 15);
    assert!(
        output(path, &["check", "all"]).starts_with("all: 60 records of the numbers 0 to 59 in 15 segments")
    );
    output(path, &["import", "ops", "some", "--segment-bytes", "4096", "--segments", "3"]);
    assert_eq!(segments(&path.join("some")).len(), 3);
    let shown = output(path, &["show", "some", "--all"]);
    assert!(shown.starts_with("-- records 0 to 47 are missing: the segment was removed"), "{shown}");
}

#[tokio::test]
async fn a_directory_with_runs_alone_is_checked() {
    let directory = directory();
    let path = directory.path();
    for name in ["one", "two"] {
        journal_with(&path.join("j/run").join(name), [Entry::from_text("{\"kind\":\"start\"}").unwrap()])
            .await;
    }
    let checked = output(path, &["check", "j"]);
    assert_eq!(checked.lines().count(), 2);
    assert!(
        checked.starts_with("j/run/one: 1 record") && checked.contains("\nj/run/two: 1 record"),
        "{checked}"
    );
    let json: Value = serde_json::from_str(&output(path, &["check", "j", "--json"])).unwrap();
    assert_eq!((&json["runs"][1]["name"], &json["runs"][1]["records"]), (&json!("two"), &json!(1)));
}

#[tokio::test]
async fn directories_and_files_that_cannot_be_used_are_refused_in_one_line() {
    let directory = directory();
    let path = directory.path();
    fs::create_dir(path.join("foreign")).unwrap();
    fs::write(path.join("foreign/no\u{1b}[2Jtes"), "").unwrap();
    fs::write(path.join("ops"), "{}\n").unwrap();
    journal_with(&path.join("newer"), []).await;
    let identity = fs::read_to_string(path.join("newer/journal.json")).unwrap();
    fs::write(path.join("newer/journal.json"), identity.replace(":1,", ":9,")).unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["check", "none"], "there is no journal in none: give the directory that has journal.json"),
        (&["check", "ops"], "ops: cannot list it: make sure that it is a directory"),
        (&["check", "foreign"], "there is no journal in foreign: give the directory that has journal.json"),
        (&["check", "newer"], "newer has format 9, and this version knows 1: use"),
        (&["show", "none\u{1b}"], r"there is no journal in none\u{1b}: give"),
        (&["show", "foreign"], "there is no journal in foreign"),
        (&["show", "newer"], "newer has format 9"),
        (&["show", "newer", "--run", "x"], "there is no journal in newer/run/x: give"),
        (&["import", "none", "j"], "cannot open none: check that it exists and can be read: No such file"),
        (&["import", "no\u{1b}ne", "j"], r"cannot open no\u{1b}ne: check"),
        (&["import", "foreign", "j"], "cannot open foreign: check"),
        (
            &["import", "ops", "foreign"],
            r"foreign is no journal, and has other files, such as no\u{1b}[2Jtes: give",
        ),
        (&["import", "ops", "newer"], "newer has format 9"),
        (&["import", "ops", "ops"], "ops: cannot make and lock it"),
    ];
    for (args, expected) in cases {
        let error = refused(path, args);
        assert!(error.starts_with(expected), "{args:?}: {error}");
        assert!(!error.contains(char::is_control), "{args:?}: {error}");
    }
    assert!(!path.join("j").exists(), "a file that is missing makes no journal");

    let journal =
        Journal::open(path.join("busy"), JournalConfig { durability: Durability::Buffered, ..config() })
            .await
            .unwrap();
    assert!(refused(path, &["import", "ops", "busy"]).starts_with("busy is in use by another journal: stop"));
    let cursor = journal.cursor().to_string();
    journal_with(&path.join("j"), [entry(0)]).await;
    assert!(
        refused(path, &["show", "j", "--from", &cursor])
            .starts_with("--from: give a number or a cursor of this")
    );
}

#[test]
fn wrong_usage_is_refused_in_one_line_and_help_has_an_example() {
    let directory = directory();
    let cases: &[(&[&str], &str)] = &[
        (&["chek"], "there is no such command"),
        (&["check"], "<DIR> is missing"),
        (&["check", "a", "b\u{1b}"], r"there is no argument b\u{1b}"),
        (&["check", "a", "--wrong\n"], r"there is no argument --wrong\n"),
        (&["import", "a"], "<DIR> is missing"),
        (
            &["import", "a", "b", "--durability", "x\u{1b}"],
            r"--durability <DURABILITY> cannot be x\u{1b}: give one of buffered",
        ),
        (&["import", "a", "b", "--segments", "1"], "--segments <N>: 1 is not in 2.."),
        (&["import", "a", "b", "--segment-bytes", "x"], "--segment-bytes <BYTES>: invalid digit"),
        (&["show", "a", "--from", "x"], "--from <N|CURSOR>: give a number, or a cursor"),
        (&["show", "a", "--where", "x"], "--where <FIELD=VALUE>: give a field and a value"),
        (&["show", "a", "--where", "=x"], "--where <FIELD=VALUE>: give a field and a value"),
        (&["show", "a", "--last", "0"], "--last <N>: 0 is not in 1.."),
        (&["show", "a", "--last"], "--last <N> has no value"),
        (&["show", "a", "--run", "../b"], "--run <NAME>: give the name of a directory"),
        (&["show", "a", "--run", ".."], "--run <NAME>: give the name of a directory"),
        (&["show", "a", "--run", ""], "--run <NAME>"),
        (&["show", "a", "--all", "--last", "2"], "--all cannot be given with --last"),
        (&["show", "a", "--follow", "--to", "2"], "--follow cannot be given with --to"),
    ];
    for (args, expected) in cases {
        let error = refused(directory.path(), args);
        assert!(error.starts_with(expected) && error.ends_with("see `journal --help`"), "{args:?}: {error}");
    }
    let (code, printed, _) = run(directory.path(), &[]);
    assert!(code == 2 && printed.contains("Usage: journal <COMMAND>"));
    for command in ["check", "show", "import"] {
        for help in ["-h", "--help"] {
            assert!(
                output(directory.path(), &[command, help]).contains(&format!("  journal {command} /var"))
                    || output(directory.path(), &[command, help])
                        .contains(&format!("Example: journal {command} "))
            );
        }
    }
}
