//! `observerd check`.

use std::fs;
use std::path::Path;

use observerd::cli::check::{CheckArgs, run};
use observerd::cli::outcome::Outcome;
use watchkeeper_journal::Journal;

use crate::commands::{ClosedPipe, args, ended, program, refused};
use crate::runs::{config, write, write_into};

async fn check(words: &[&str]) -> (String, Result<Outcome, String>) {
    let mut out = Vec::new();
    let result = run(&args::<CheckArgs>(words), &mut out).await;
    ended(out, result)
}

async fn data(path: &Path) -> (String, Result<Outcome, String>) {
    let (text, result) = check(&["--data", path.to_str().unwrap()]).await;
    (text.replace(&path.display().to_string(), "DATA"), result)
}

fn operations(count: u64) -> Vec<String> {
    (0..count).map(|n| format!("{{\"endpoint\":\"/put\",\"n\":{n}}}")).collect()
}

fn segment(path: &Path) -> std::path::PathBuf {
    path.join("00000000000000000000.jsonl")
}

/// What a start would refuse of the webhook, without looking a name up.
#[tokio::test]
async fn a_webhook_that_is_refused_is_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("observerd.toml");
    let file = file.to_str().unwrap();
    for (webhook, allow, is_fine) in [
        ("http://127.0.0.1:9/x", "", false),
        ("http://127.0.0.1:9/x", "\"127.0.0.1\"", true),
        ("http://2130706433/x", "", false),
        ("http://169.254.169.254/x", "\"169.254.0.0/16\"", false),
        ("https://hooks.example/x", "", true),
        ("https://hooks.example/x", "\"hooks.example\"", false),
    ] {
        let text = format!(
            "[observerd]\npersist_path = \"data\"\n[observerd.escalation]\nwebhook = \"{webhook}\"\n[observerd.outgoing]\nallow = [{allow}]\n"
        );
        fs::write(file, text).unwrap();
        let (text, result) = check(&["--config", file]).await;
        let expected = if is_fine { Outcome::Fine } else { Outcome::Problems };
        assert_eq!(result, Ok(expected), "{webhook} {allow}: {text}");
        assert!(!text.contains("/x"), "{text}");
    }
}

#[tokio::test]
async fn settings_are_fine_or_listed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("observerd.toml");
    let file = file.to_str().unwrap();
    fs::write(file, "[observerd]\npersist_path = \"data\"\n").unwrap();
    assert_eq!(check(&["--config", file]).await, (format!("{file}: no problems\n"), Ok(Outcome::Fine)));
    fs::write(file, "[observerd]\nauth = \"loopback-open\"\n").unwrap();
    let (text, result) = check(&["--config", file]).await;
    assert_eq!(result, Ok(Outcome::Fine));
    assert!(text.contains("note: `observerd.persist_path` is empty") && text.contains("may call"), "{text}");
    fs::write(file, "[observerd]\nbnid = 1\nsegments = 0\n").unwrap();
    let (text, result) = check(&["--config", file]).await;
    assert_eq!(result, Ok(Outcome::Problems));
    assert_eq!(
        text,
        format!(
            "{file}:2:1: problem: unknown key `observerd.bnid`: did you mean `observerd.bind`?\n\
             {file}:3:12: problem: `observerd.segments` must be a whole number from 2 to 1_000_000\n"
        )
    );
    fs::remove_file(file).unwrap();
    let (text, result) = check(&["--config", file]).await;
    assert!(text.is_empty() && result.unwrap_err().contains("cannot read"));
}

#[tokio::test]
async fn a_sound_directory_and_its_runs_are_fine() {
    let directory = tempfile::tempdir().unwrap();
    write_into(directory.path(), &operations(3)).await;
    write(directory.path(), "tail", &operations(2)).await;
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Fine));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(lines[0].starts_with("DATA: 3 records of the numbers 0 to 2 in 1 segment of "), "{text}");
    assert!(lines[1].starts_with("DATA/run/tail: 2 records"), "{text}");
    assert!(lines.iter().all(|line| line.ends_with("; no problems")), "{text}");
}

#[tokio::test]
async fn damage_is_a_problem_and_a_torn_tail_is_a_note() {
    let directory = tempfile::tempdir().unwrap();
    write_into(directory.path(), &operations(5)).await;
    let whole = fs::read(segment(directory.path())).unwrap();
    fs::write(segment(directory.path()), [&whole, &b"{\"endpoi"[..]].concat()).unwrap();
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Fine));
    assert!(text.contains(": note: torn tail of 8 bytes"), "{text}");
    let mut damaged = whole.clone();
    damaged[3] ^= 1;
    fs::write(segment(directory.path()), &damaged).unwrap();
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Problems));
    assert!(text.contains("00000000000000000000.jsonl: byte 0: problem: damage of"), "{text}");
    assert_eq!(fs::read(segment(directory.path())).unwrap(), damaged, "nothing is changed");
}

#[tokio::test]
async fn damage_of_a_run_has_its_name_before_it() {
    let directory = tempfile::tempdir().unwrap();
    write_into(directory.path(), &operations(1)).await;
    write(directory.path(), "tail", &operations(5)).await;
    let run = segment(&directory.path().join("run/tail"));
    let mut bytes = fs::read(&run).unwrap();
    bytes[3] ^= 1;
    fs::write(&run, bytes).unwrap();
    fs::create_dir(directory.path().join("run/other")).unwrap();
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Incomplete), "a run that is no journal");
    assert!(text.contains("run/tail/00000000000000000000.jsonl: byte 0: problem: damage"), "{text}");
    assert!(text.contains("run/other: problem: there is no journal"), "{text}");
}

#[tokio::test]
async fn a_directory_with_runs_alone_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "tail", &operations(2)).await;
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Fine));
    assert!(text.starts_with("DATA/run/tail: 2 records"), "{text}");
}

#[tokio::test]
async fn a_missing_or_foreign_directory_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    assert!(data(&missing).await.1.unwrap_err().contains("there is no journal in"));
    fs::write(directory.path().join("notes.txt"), "x").unwrap();
    assert!(data(directory.path()).await.1.unwrap_err().contains("there is no journal in"));
    assert!(data(&directory.path().join("notes.txt")).await.1.is_err());
    assert!(!missing.exists());
}

#[tokio::test]
async fn a_directory_in_use_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let journal = Journal::open(directory.path(), config()).await.unwrap();
    for text in operations(2) {
        journal.append(watchkeeper_journal::Entry::from_text(text).unwrap()).await.unwrap();
    }
    let (text, result) = data(directory.path()).await;
    assert_eq!(result, Ok(Outcome::Fine), "{text}");
    assert!(text.starts_with("DATA: 2 records"), "{text}");
    journal.close().await.unwrap();
}

#[tokio::test]
async fn output_that_nobody_reads_is_not_known_to_be_fine() {
    let directory = tempfile::tempdir().unwrap();
    write_into(directory.path(), &operations(1)).await;
    let args = args::<CheckArgs>(&["--data", directory.path().to_str().unwrap()]);
    assert_eq!(run(&args, &mut ClosedPipe).await.unwrap(), Outcome::Problems);
}

#[test]
fn it_needs_something_to_check() {
    assert!(refused::<CheckArgs>(&[]).contains("required"));
}

#[test]
fn the_program_has_the_exit_codes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("observerd.toml");
    let file = file.to_str().unwrap();
    assert_eq!(program(&["check", "--config", file]).status.code(), Some(2));
    fs::write(file, "[observerd]\n").unwrap();
    assert_eq!(program(&["check", "--config", file]).status.code(), Some(0));
    fs::write(file, "[observerd]\nx = 1\n").unwrap();
    let output = program(&["check", "--config", file]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.is_empty() && !output.stdout.is_empty());
    for command in ["check", "import", "replay"] {
        let help = String::from_utf8(program(&[command, "-h"]).stdout).unwrap();
        assert!(help.contains("Example") && help.contains(&format!("observerd {command}")), "{help}");
    }
}

/// Nothing panics if what is printed to is closed or full.
#[cfg(target_os = "linux")]
#[test]
fn output_that_cannot_be_written_is_an_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let app = crate::runs::app();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        write_into(directory.path(), &operations(3)).await;
        write(directory.path(), "app", &app).await;
    });
    let lines = directory.path().join("lines");
    fs::write(&lines, "{\"n\":1}\n").unwrap();
    let into = tempfile::tempdir().unwrap();
    let expect = ["--expect", "reaches", "--state", "failed", "--within", "10s"];
    let cases: [&[&str]; 5] = [
        &["check", "--data", data],
        &["replay", data],
        &["replay", data, "--json"],
        &[&["replay", data][..], &expect].concat(),
        &["import", lines.to_str().unwrap(), "--data", into.path().to_str().unwrap()],
    ];
    for words in cases {
        let run = |out: &str, error: &str| {
            let script = format!("exec \"$0\" \"$@\" {out} {error}");
            let program = env!("CARGO_BIN_EXE_observerd");
            let output = std::process::Command::new("sh").args(["-c", &script, program]).args(words).output();
            let output = output.unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, problem) = run(">/dev/full", "");
        assert_eq!(code, Some(2), "{words:?}");
        assert!(problem.contains("cannot write the output") && !problem.contains("panic"), "{problem}");
        assert_eq!(run(">/dev/full", "2>/dev/full").0, Some(2), "{words:?}");
        assert_eq!(run(">/dev/full", "2>&-").0, Some(2), "{words:?}");
        assert_eq!(run(">&-", "2>&-").0, Some(0), "{words:?}");
    }
    let missing = ["check", "--data", "/nothing/here"];
    let script = "exec \"$0\" \"$@\" 2>/dev/full";
    let program = env!("CARGO_BIN_EXE_observerd");
    let output =
        std::process::Command::new("sh").args(["-c", script, program]).args(missing).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
