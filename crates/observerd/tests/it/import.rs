//! `observerd import`, and the way back.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use observerd::cli::import::{ImportArgs, run};
use observerd::cli::outcome::Outcome;
use serde::Deserialize;
use watchkeeper_journal::Journal;

use crate::commands::{ClosedPipe, args, ended, program};
use crate::runs::config;

async fn import(words: &[&str]) -> (String, Result<Outcome, String>) {
    let mut out = Vec::new();
    let result = run(&args::<ImportArgs>(words), &mut out).await;
    ended(out, result)
}

/// A line of the replaced system, with what its reader knows of it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Operation {
    endpoint: String,
    #[serde(default)]
    timestamp: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    success: bool,
    #[serde(default)]
    error: String,
}

/// The reader of the replaced system, made again: line by line, at most 1 MiB a line, what does not parse is skipped,
/// unknown fields are ignored.
fn old_reader(bytes: &[u8]) -> Vec<Operation> {
    let mut operations = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if line.len() > 1024 * 1024 {
            break;
        }
        operations.extend(serde_json::from_slice::<Operation>(line).ok());
    }
    operations
}

/// All segments, as `cat DIR/*.jsonl`.
fn cat(directory: &Path) -> Vec<u8> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    files.iter().flat_map(|file| fs::read(file).unwrap()).collect()
}

/// A file of the replaced system, with what programs and crashes leave in one.
fn old_file() -> Vec<u8> {
    let line = |n: usize| {
        let (day, success) = (n % 28 + 1, !n.is_multiple_of(3));
        let source = ["mcp", "scenario", "langfuse", "nobody's"][n % 4];
        format!(
            "{{\"timestamp\":\"2026-11-{day:02}T08:00:{n:02}Z\",\"source\":\"{source}\",\"endpoint\":\"/e/{n}\",\
             \"success\":{success},\"duration_ms\":{n}.25,\"error\":\"\",\
             \"extra\":{{\"n\":[{n},null,\"\\u00e9 \\\"x\\\"\"]}}}}\n"
        )
    };
    let text = (0..40).map(line).collect::<Vec<_>>().concat();
    let damaged = text.replacen("{\"timestamp\":\"2026-11-05", "\u{1}{\"timest", 1);
    format!("{damaged}\r\n[1]\n{{\"endpoint\":\"/last\",\"success\":tr").into_bytes()
}

#[tokio::test]
async fn an_imported_file_is_read_by_the_old_reader_again() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    fs::write(&file, old_file()).unwrap();
    let (text, result) = import(&[file.to_str().unwrap(), "--data", data.to_str().unwrap()]).await;
    assert_eq!(result, Ok(Outcome::Problems));
    assert_eq!(
        text,
        "imported 39 of 43 lines as records 0 to 38\nskipped, no JSON: 2 (lines 5, 43)\nskipped, JSON, but no object: 1 \
         (line 42)\nblank: 1\n"
    );
    let (before, after) = (old_reader(&old_file()), old_reader(&cat(&data)));
    assert_eq!(before.len(), 39);
    assert_eq!(before, after);
}

/// Segments that the service goes on with, and small ones.
#[tokio::test]
async fn what_is_appended_later_is_read_by_the_old_reader_too() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    fs::write(&file, old_file()).unwrap();
    assert!(import(&[file.to_str().unwrap(), "--data", data.to_str().unwrap()]).await.1.is_ok());
    let small = watchkeeper_journal::JournalConfig { segment_bytes: 4_096, ..config() };
    let journal = Journal::open(&data, small).await.unwrap();
    for n in 0..60 {
        let text =
            format!("{{\"endpoint\":\"/later/{n}\",\"success\":true,\"padding\":\"{}\"}}", "x".repeat(100));
        let entry = watchkeeper_journal::Entry::from_text(text).unwrap().with_key(&format!("k{n}")).unwrap();
        journal.append(entry).await.unwrap();
    }
    journal.close().await.unwrap();
    let read = old_reader(&cat(&data));
    assert_eq!(read.len(), 99);
    assert_eq!(read[39].endpoint, "/later/0");
    assert_eq!(read[98].endpoint, "/later/59");
}

#[tokio::test]
async fn a_whole_file_is_fine_and_the_report_is_json() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    fs::write(&file, "\u{feff}{\"endpoint\":\"/a\"}\r\n{\"endpoint\":\"/b\"}").unwrap();
    let words = [file.to_str().unwrap(), "--data", data.to_str().unwrap(), "--json"];
    let (text, result) = import(&words).await;
    assert_eq!(result, Ok(Outcome::Fine));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["imported"], &report["last"]), (&2.into(), &1.into()));
    // The same again is there twice.
    let (text, _) = import(&words).await;
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["first"], &report["last"]), (&2.into(), &3.into()));
    assert_eq!(run(&args::<ImportArgs>(&words), &mut ClosedPipe).await.unwrap(), Outcome::Problems);
}

#[tokio::test]
async fn what_cannot_be_imported_makes_no_directory() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for file in [directory.path().join("missing"), directory.path().to_owned()] {
        let (text, result) = import(&[file.to_str().unwrap(), "--data", data.to_str().unwrap()]).await;
        assert!(text.is_empty() && result.unwrap_err().contains("cannot open"), "{}", file.display());
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn a_directory_in_use_or_of_something_else_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    fs::write(&file, "{\"endpoint\":\"/a\"}\n").unwrap();
    let words = [file.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let journal = Journal::open(&data, config()).await.unwrap();
    assert!(import(&words).await.1.unwrap_err().contains("in use by another journal"));
    journal.close().await.unwrap();
    let words = [file.to_str().unwrap(), "--data", directory.path().to_str().unwrap()];
    assert!(import(&words).await.1.unwrap_err().contains("is no journal, and has other files"));
    let words = [file.to_str().unwrap(), "--data", file.to_str().unwrap()];
    assert!(import(&words).await.1.is_err());
    assert_eq!(fs::read(&file).unwrap(), b"{\"endpoint\":\"/a\"}\n");
}

#[test]
fn the_program_reads_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut child = Command::new(env!("CARGO_BIN_EXE_observerd"))
        .args(["import", "-", "--data", data.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"{\"endpoint\":\"/a\"}\n{\"endpoint\":\"/b\"}\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stdout, b"imported 2 of 2 lines as records 0 to 1\n");
    let output = program(&["import", "missing.jsonl", "--data", data.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

/// A pipe that stays open does not keep the program.
#[cfg(unix)]
#[test]
fn a_signal_ends_an_import_and_what_was_appended_stays() {
    use rustix::process::{Pid, Signal, kill_process};
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let mut child = Command::new(env!("CARGO_BIN_EXE_observerd"))
        .args(["import", "-", "--data", data.to_str().unwrap()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // The last one may go on.
    input.write_all(b"{\"endpoint\":\"/a\"}\n\nno JSON\n{\"endpoint\":\"/b\"}").unwrap();
    while watchkeeper_journal::JournalView::open(&data).map_or(0, |view| view.cursor().seq()) == 0 {
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    drop(input);
    assert_eq!(output.status.code(), Some(2));
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(problem.contains("standard input: interrupted after line 3: "), "{problem}");
    assert!(problem.contains("`tail -n +4 FILE | observerd import - --data DIR`"), "{problem}");
    let report = String::from_utf8(output.stdout).unwrap();
    assert_eq!(report, "imported 1 of 3 lines as record 0\nskipped, no JSON: 1 (line 3)\nblank: 1\n");
    assert_eq!(old_reader(&cat(&data)).len(), 1);
}

/// What a service would remove is what is there, not what was imported.
#[tokio::test]
async fn more_segments_than_a_service_keeps_are_noted() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    fs::write(&file, "{\"endpoint\":\"/a\"}\n").unwrap();
    let words = ["import", file.to_str().unwrap(), "--data", data.to_str().unwrap()];
    let output = program(&words);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    let small = watchkeeper_journal::JournalConfig { segment_bytes: 4_096, segments: 100, ..config() };
    let journal = Journal::open(&data, small).await.unwrap();
    for _ in 0..9 {
        let text = format!("{{\"padding\":\"{}\"}}", "x".repeat(4_000));
        journal.append(watchkeeper_journal::Entry::from_text(text).unwrap()).await.unwrap();
    }
    journal.close().await.unwrap();
    let output = program(&words);
    let note = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(note.contains(" segments, which is more than the 8 that a service keeps"), "{note}");
}

/// Lines of any length, whole or not, arrive as they are.
#[tokio::test]
async fn lines_that_are_longer_than_what_is_read_at_once_are_whole() {
    let directory = tempfile::tempdir().unwrap();
    let (file, data) = (directory.path().join("old.jsonl"), directory.path().join("data"));
    let line = |length: usize| format!("{{\"endpoint\":\"/{}\"}}", "x".repeat(length));
    let lines = [line(131_058), line(500_000), line(5_000_000), line(131_056), line(1)];
    fs::write(&file, lines.join("\n")).unwrap();
    let (text, result) = import(&[file.to_str().unwrap(), "--data", data.to_str().unwrap()]).await;
    assert_eq!(text, "imported 4 of 5 lines as records 0 to 3\nskipped, over 1 MiB: 1 (line 3)\n");
    assert_eq!(result, Ok(Outcome::Problems));
    assert_eq!(old_reader(&cat(&data)).len(), 4);
}
