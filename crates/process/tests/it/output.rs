//! The output of a child.

use std::process::Stdio;

use watchkeeper_process::{Process, while_parent_lives};

use crate::common::{line, shell, start};

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
    let ended = tokio::time::timeout(crate::common::SOON, async { process.exit().wait().await });
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
