//! The output of a child.

use std::fs::{self, File};
use std::process::Stdio;

use tokio::time::timeout;
use watchkeeper_process::{Process, RunDirectory, while_parent_lives};

use crate::common::{SOON, line, shell, start};

#[tokio::test]
async fn the_line_with_the_mark_is_found_and_the_rest_is_read() {
    let (process, ready) = start("echo one; echo two: 2; yes | head -c 1000000; exit 7", "two");
    assert_eq!(line(ready).await.as_deref(), Ok("two: 2"));
    let status = process.exit().wait().await.expect("an exit status");
    assert_eq!(status.code(), Some(7));
    assert!(!process.exit().is_running());
}

#[tokio::test]
async fn the_error_of_a_program_that_ends_too_early_is_its_output() {
    let failing = while_parent_lives(&shell("echo some; echo trouble >&2; exit 1"));
    let (_process, ready) = Process::start(failing, "ready").unwrap();
    assert_eq!(line(ready).await, Err("some\ntrouble\n".to_owned()));
}

#[tokio::test]
async fn of_much_output_the_last_is_kept() {
    let (_process, ready) = start("yes | head -c 1000000; echo; echo trouble; exit 1", "ready");
    let printed = line(ready).await.expect_err("it has no such line");
    assert!(printed.ends_with("y\n\ntrouble\n"), "{}", &printed[printed.len() - 20..]);
    assert_eq!(printed.len(), 64 * 1024);
}

#[tokio::test]
async fn a_long_line_without_a_line_break_is_returned_with_its_last_part() {
    let (_process, ready) = start("yes | tr -d '\\n' | head -c 1000000; printf ready", "ready");
    let line = line(ready).await.expect("the line");
    assert!(line.ends_with("yready"), "{}", &line[line.len() - 20..]);
    assert_eq!(line.len(), 64 * 1024);
}

/// The program waits for input after its prompt, and prints no more.
#[tokio::test]
async fn a_prompt_without_a_newline_is_found_while_the_program_waits() {
    let (process, ready) = start("echo welcome; printf 'ready> '; exec sleep 1000", "ready>");
    assert_eq!(line(ready).await.as_deref(), Ok("ready>"));
    assert!(process.exit().is_running());
}

/// Each dot restarted the time for the rest of the line.
#[tokio::test]
async fn a_program_that_prints_dots_for_ever_becomes_ready() {
    let (process, ready) = start("printf 'ready '; while :; do printf .; sleep 0.01; done", "ready");
    let line = line(ready).await.unwrap();
    assert!(line.starts_with("ready ") && line.ends_with('.'), "{line}");
    assert!(process.exit().is_running());
}

#[tokio::test]
async fn a_line_that_is_printed_in_two_pieces_is_returned_whole() {
    for _ in 0..20 {
        let (_process, ready) =
            start("printf 'listening on 12'; printf '34\\n'; exec sleep 1000", "listening");
        assert_eq!(line(ready).await.as_deref(), Ok("listening on 1234"));
    }
}

/// Moving all kept bytes at every line took minutes.
#[tokio::test]
async fn eight_megabytes_of_short_lines_before_the_mark_take_linear_time() {
    let (_process, ready) = start("yes | head -c 8000000; echo ready; exec sleep 1000", "ready");
    assert_eq!(line(ready).await.as_deref(), Ok("ready"));
}

#[tokio::test]
async fn a_line_that_grows_byte_by_byte_is_searched_once() {
    let script = "yes | tr -d '\\n' | head -c 200000 | dd bs=1 2>/dev/null; echo ready; exec sleep 1000";
    let (_process, ready) = start(script, "yready");
    assert!(line(ready).await.is_ok_and(|line| line.ends_with("yyready")));
}

/// A pipe holds 64 KiB: the child blocked on the full pipe, and never printed its line.
#[tokio::test]
async fn a_piped_stderr_is_read_and_does_not_block_the_child() {
    let mut command = shell("yes | head -c 1000000 >&2; echo ready; yes | head -c 1000000 >&2; exit 3");
    command.stderr(Stdio::piped());
    let (process, ready) = Process::start(command, "ready").unwrap();
    assert_eq!(line(ready).await.as_deref(), Ok("ready"));
    let ended = timeout(SOON, async { process.exit().wait().await });
    assert_eq!(ended.await.expect("it does not block").unwrap().code(), Some(3));
}

#[tokio::test]
async fn the_error_for_a_missing_line_includes_a_piped_stderr() {
    for _ in 0..50 {
        let mut command = shell("echo some; echo trouble >&2; exit 1");
        command.stderr(Stdio::piped());
        let (_process, ready) = Process::start(command, "ready").unwrap();
        let printed = line(ready).await.unwrap_err();
        assert!(printed.contains("some\n") && printed.contains("trouble\n"), "{printed:?}");
    }
}

#[tokio::test]
async fn a_mark_that_no_line_can_have_is_refused() {
    let error = Process::start(shell("echo a; echo b"), "a\nb").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert!(error.to_string().contains(r#""a\nb" has a line break"#), "{error}");
}

/// The whole output is in the file, also what comes after the mark, and before the end of the wait for it.
#[tokio::test]
async fn both_streams_are_written_to_the_file() {
    let folder = RunDirectory::new("watchkeeper-test-").unwrap();
    let path = folder.path().join("log");
    let open = || File::options().create(true).append(true).open(&path).unwrap();
    let mut piped = shell("echo out; echo err >&2; echo up; seq 100000");
    piped.stderr(Stdio::piped());
    let merged = while_parent_lives(&shell("echo out; echo err >&2; echo up; seq 100000"));
    for (command, before) in [(merged, 0), (piped, 1)] {
        let (process, ready) = Process::start_logged(command, "up", open()).unwrap();
        assert_eq!(line(ready).await.as_deref(), Ok("up"));
        assert!(fs::read_to_string(&path).unwrap().matches("up\n").count() > before, "it is written first");
        timeout(SOON, process.output_ended()).await.unwrap();
    }
    let log = fs::read_to_string(&path).unwrap();
    for (part, times) in [("out\n", 2), ("err\n", 2), ("up\n", 2), ("\n100000\n", 2)] {
        assert_eq!(log.matches(part).count(), times, "{part:?}");
    }
}

/// Its output is read all the same: a full pipe would block it.
#[tokio::test]
async fn a_file_that_cannot_be_written_does_not_block_the_program() {
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (process, ready) = Process::start_logged(shell("seq 100000; echo up"), "up", full).unwrap();
    assert_eq!(line(ready).await.as_deref(), Ok("up"));
    assert!(process.exit().wait().await.unwrap().success());
    timeout(SOON, process.output_ended()).await.unwrap();
}
