//! Files that do not fit, and nodes on another chain than the file's.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::super::{ACCOUNT, Follow, LOOK, count, following, rpc};
use super::{names_in, path_of, refused, run_until, run_until_kept};
use crate::fake::{FakeNode, branch, chain};
use crate::misbehaving::{Misbehaving, Modes};

/// A file, flags, and what is said of it.
type Case<'a> = (&'a [u8], &'a [&'a str], &'a str);

#[tokio::test]
async fn a_file_that_does_not_fit_is_one_error_and_stays_as_it_is() {
    let (files, other_files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    let (url, good) = (server.url(), fs::read(&path).unwrap());
    let text = String::from_utf8(good.clone()).unwrap();
    let version = text.replacen("\"version\":1", "\"version\":2", 1);
    let damaged = text.replacen("\"time\":100", "\"time\":101", 1);
    assert_ne!(damaged, text);
    // A chain of the same number with another first block.
    let node = FakeNode::answering(chain("0x1", branch(7, 3))).await;
    let other = rpc(&node);
    let with_account = other_files.path().join("with account").to_str().unwrap().to_owned();
    run_until_kept(&server, &with_account, &["--wallet", ACCOUNT], 3).await;
    let with_account = fs::read(with_account).unwrap();
    let one = format!("give --wallet the same ones in the same order ({ACCOUNT}), or another file");
    let cases: [Case; 9] = [
        (b"hello\n", &[], "is no checkpoint: give another path, or move the file away"),
        (&good[..good.len() - 9], &[], "is truncated: remove it to start again"),
        (version.as_bytes(), &[], "has version 2, this program reads 1: remove it to start again"),
        (damaged.as_bytes(), &[], "is damaged in line "),
        (&good, &["--chain-id", "5"], "is of chain 1 ("),
        (b"", &[], "is empty: remove it to start again"),
        (
            &good,
            &["--wallet", ACCOUNT],
            "has other accounts: give --wallet the same ones in the same order (none)",
        ),
        (&with_account, &[], &one),
        (&good, &["--rpc", &other], "but rpc1 is on chain 1 ("),
    ];
    for (text, flags, says) in cases {
        fs::write(&path, text).unwrap();
        let node: &[&str] = if flags.contains(&"--rpc") { &[] } else { &["--rpc", &url] };
        let printed = refused(&[node, flags, &["--checkpoint", &path]].concat()).await;
        assert!(printed.contains(says) && printed.contains(&path), "{printed}");
        assert_eq!(fs::read(&path).unwrap(), text);
        assert_eq!(names_in(&files), [".chain.checkpoint.lock", "chain.checkpoint"]);
    }

    // What is none, and a place where there can be none.
    let [pipe, foreign] =
        ["pipe", "foreign"].map(|name| files.path().join(name).to_str().unwrap().to_owned());
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::write(&foreign, "hello").unwrap();
    for (path, says) in [
        (files.path().to_str().unwrap(), "cannot read the checkpoint "),
        (&pipe, "which is no regular file: give another path"),
        ("/dev/zero", "which is no regular file: give another path"),
        (&foreign, "is no checkpoint: give another path, or move the file away"),
        ("/no/such/folder/c", "cannot write the checkpoint "),
    ] {
        let printed = refused(&["--rpc", &url, "--checkpoint", path]).await;
        assert!(printed.contains(says) && printed.contains(path), "{printed}");
    }
    // Nothing is left beside them.
    assert_eq!(names_in(&files), [".chain.checkpoint.lock", "chain.checkpoint", "foreign", "pipe"]);
}

/// The first run has the file; the second one gets it when the first has ended.
#[tokio::test]
async fn one_run_at_a_time_has_the_file() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    let mut first = following(&server, &["--checkpoint", &path]);
    first.says(" 3 (").await;
    let printed = refused(&["--rpc", &server.url(), "--checkpoint", &path]).await;
    assert!(printed.contains("is in use by another run: wait until that has ended"), "{printed}");
    first.interrupt();
    first.rest().await;
    run_until(&server, &["--checkpoint", &path], "\"resumed\"").await;
}

/// ```text
/// rpc1: the same number, another first block; answers at once | rpc2: the chain of the file; answers later
/// ```
#[tokio::test]
async fn the_chain_of_the_file_is_followed_whichever_node_answers_first() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    server.set(|modes| modes.latency = Duration::from_millis(200));
    let [same_id, other_id] = [
        FakeNode::answering(chain("0x1", branch(7, 3))).await,
        FakeNode::answering(chain("0x5", branch(7, 3))).await,
    ];
    let (same_id, other_id, url) = (rpc(&same_id), rpc(&other_id), server.url());
    let flags = ["--interval", "20ms", "--checkpoint", &path, "--rpc"];
    let mut run = Follow::start(&[&flags[..], &[&same_id, &url]].concat());
    run.says("rpc1 is on chain 1 (").await;
    let resumed = run.says("resumed after block 3 (").await;
    assert!(!resumed.contains("--from"), "{resumed}");
    server.set(|modes| modes.latency = Duration::ZERO);
    run.says("rpc2 answers").await;
    // What it answered to a look counts before it is asked again.
    server.is_asked(LOOK, 2).await;
    let lines = run.ends().await;
    assert_eq!(count(&lines, "rpc2 at 3;"), 1, "{lines:#?}");

    // A node on the chain's number with another first block is not waited for, and one of another number only if it
    // is given.
    let printed = refused(&[&flags[..], &[&other_id, &same_id]].concat()).await;
    assert!(
        printed.contains(", but rpc1 is on chain 5 (") && printed.contains(", rpc2 is on chain 1 ("),
        "{printed}"
    );
    let given = [&flags[..], &[&other_id, "--chain-id", "1"]].concat();
    let mut run = Follow::start(&given);
    run.says("rpc1 is on chain 5 (").await;
    run.ends().await;
    let printed = refused(&[&flags[..], &[&same_id, "--chain-id", "1"]].concat()).await;
    assert!(printed.contains(", but rpc1 is on chain 1 ("), "{printed}");
}

/// ```text
/// 0 - 1 - 2 - ... - 5 - ... - 8     (the first run begins at 5)
///       \
///         2' - ... - 10'            (the second run)
/// ```
#[tokio::test]
async fn a_reorg_below_the_file_says_what_helps() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes { blocks: 8, ..Modes::default() }).await;
    let url = server.url();
    let flags = ["--interval", "20ms", "--from", "5", "--rpc", &url, "--checkpoint", &path];
    let mut first = Follow::start(&flags);
    first.says(" 8 (").await;
    first.ends().await;
    server.reorg(7, 9);
    let fix = format!("if the node is right, move {path} away to start again");
    let mut second = Follow::start(&flags);
    let line = second.says(" without the final block ").await;
    assert!(line.ends_with(&fix), "{line}");
    second.ends().await;
    let mut json = Follow::start(&[&flags[..], &["--json"]].concat());
    let line = json.says("finality_breached").await;
    assert!(line.contains(&format!("\"fix\":\"{fix}\"")), "{line}");
}
