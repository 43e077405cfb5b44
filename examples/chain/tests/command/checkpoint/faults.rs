//! A file that cannot be written or may not be, since lines or balances are missing.

use std::fs;
use std::io::{Read, Write, pipe};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;

use serde::de::IgnoredAny;
use tokio::process::Command;
use tokio::time::timeout;
use watchkeeper_chain::projection::checkpoint::Checkpoint;

use super::super::{ACCOUNT, Follow, LOOK, PATIENCE, count, follow, following};
use super::{Branch, height_of_first, names_in, path_of, run_until};
use crate::misbehaving::{Hiccup, HiccupAnswer, Misbehaving, Modes};

/// The folder is moved away during the run, and is back for the last block of the second run.
#[tokio::test]
async fn a_file_that_cannot_be_written_any_more_is_printed_once_and_tried_again() {
    for is_back in [false, true] {
        let files = tempfile::tempdir().unwrap();
        let [folder, away] = ["here", "away"].map(|name| files.path().join(name));
        fs::create_dir(&folder).unwrap();
        let path = folder.join("c").to_str().unwrap().to_owned();
        let server = Misbehaving::start(Modes::default()).await;
        let mut run = following(&server, &["--checkpoint", &path]);
        run.says(" 3 (").await;
        fs::rename(&folder, &away).unwrap();
        server.grow(1);
        run.says("unsaved cannot write the checkpoint ").await;
        if is_back {
            fs::rename(&away, &folder).unwrap();
        }
        server.grow(1);
        run.says(" 5 (").await;
        run.interrupt();
        assert_eq!(run.process.wait().await.unwrap().code(), Some(i32::from(!is_back)));
        let lines = run.rest().await;
        assert_eq!(count(&lines, "unsaved "), 0, "{lines:#?}");
        assert_eq!(count(&lines, "saved   up to block 5 ("), usize::from(is_back), "{lines:#?}");
    }
}

#[tokio::test]
async fn what_nobody_reads_is_printed_by_the_next_run() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    for tip in 3..9 {
        let mut run = following(&server, &["--json", "--checkpoint", &path]);
        run.says("\"resumed\"").await;
        run.says("answers").await;
        let Follow { mut process, lines, .. } = run;
        drop(lines);
        server.grow(1);
        assert!(timeout(PATIENCE, process.wait()).await.unwrap().unwrap().success());
        let kept = Checkpoint::<IgnoredAny>::load(Path::new(&path)).unwrap().unwrap();
        assert_eq!(kept.headers.last().unwrap().height, tip);
        let next = format!("\"height\":{},", tip + 1);
        let next = run_until(&server, &["--checkpoint", &path], &next).await;
        assert_eq!(next.iter().find_map(|line| height_of_first(line)), Some(tip + 1));
    }
}

/// The output is a pipe that is almost full, and nobody reads it until the history no longer has the next events.
#[tokio::test]
async fn a_run_that_has_missed_events_ends_and_does_not_keep_them() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    let url = server.url();
    let first = run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    let (mut output, mut full) = pipe().unwrap();
    full.write_all(&vec![b'\n'; 65_536 - 4_096]).unwrap();
    let mut command = follow(&["--json", "--interval", "1ms", "--rpc", &url, "--checkpoint", &path]);
    let process = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    for _ in 0..130 {
        server.grow(1);
        server.is_asked(LOOK, 2).await;
    }
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        output.read_to_string(&mut text).map(|_| text)
    });
    let ended = timeout(PATIENCE, process.wait_with_output()).await.unwrap().unwrap();
    let printed = String::from_utf8(ended.stderr).unwrap();
    assert!(
        printed.contains("events were dropped before they could be printed, and the checkpoint "),
        "{printed}"
    );
    assert_eq!(ended.status.code(), Some(1));
    let text = read.await.unwrap().unwrap();
    let lines: Vec<String> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    let hole = lines.iter().position(|line| line.contains("\"missed\"")).unwrap();
    let mut branch = Branch::default();
    branch.follow(&first);
    branch.follow(&lines[..hole]);
    let kept = Checkpoint::<IgnoredAny>::load(Path::new(&path)).unwrap().unwrap();
    let kept = kept.headers.last().unwrap().height;
    assert!(kept <= branch.0.len() as u64, "{kept} is beyond the hole: {lines:#?}");
    let next = run_until(&server, &["--checkpoint", &path], "\"height\":133,").await;
    assert_eq!(next.iter().find_map(|line| height_of_first(line)), Some(kept + 1));
}

#[tokio::test]
async fn a_wallet_that_is_not_known_is_printed_as_what_the_file_waits_for() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let hiccups =
        vec![Hiccup::first(u64::MAX, "eth_getBalance", HiccupAnswer::Error(-32007, "request limit reached"))];
    let server = Misbehaving::start(Modes { hiccups, ..Modes::default() }).await;
    let mut run = following(&server, &["--checkpoint", &path, "--wallet", ACCOUNT]);
    run.says("unsaved wallet1 is not known yet").await;
    server.grow(1);
    run.says(" 4 (").await;
    let lines = run.ends().await;
    assert_eq!(count(&lines, "unsaved wallet1 is not known yet"), 1, "once more at the end: {lines:#?}");
    assert_eq!((count(&lines, "  saved  "), Path::new(&path).exists()), (0, false), "{lines:#?}");
}

/// A wallet changes also without a block, when older ones are read.
#[tokio::test]
async fn the_end_is_kept_also_if_the_tip_has_not_moved() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    let before = fs::metadata(&path).unwrap().ino();
    let mut run = following(&server, &["--checkpoint", &path]);
    run.says("resumed after block 3 (").await;
    while fs::metadata(&path).unwrap().ino() == before {
        server.is_asked(LOOK, 1).await;
    }
    fs::remove_file(&path).unwrap();
    let lines = run.ends().await;
    assert!(Path::new(&path).exists() && count(&lines, "saved   up to block 3 (") == 1, "{lines:#?}");
}

/// The largest file that may be written is smaller than the checkpoint.
#[tokio::test]
async fn a_file_without_room_leaves_nothing_behind() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes { blocks: 16, ..Modes::default() }).await;
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' XFSZ; ulimit -f 1; exec \"$@\"",
        "sh",
        env!("CARGO_BIN_EXE_chain"),
        "follow",
    ]);
    command.args(["--interval", "20ms", "--from", "0", "--rpc", &server.url(), "--checkpoint", &path]);
    command.kill_on_drop(true).stderr(Stdio::null());
    let mut run = Follow::of(command);
    run.says(" 16 (").await;
    run.says("unsaved cannot write the checkpoint ").await;
    run.ends().await;
    assert_eq!(names_in(&files), [".chain.checkpoint.lock"]);
}
