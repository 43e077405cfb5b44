//! `follow --checkpoint`: runs that go on where the last one has ended.

use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::timeout;
use watchkeeper_chain::projection::checkpoint::Checkpoint;

use super::{ACCOUNT, Follow, PATIENCE, follow, following, rpc};
use crate::fake::{FakeNode, branch, chain};
use crate::misbehaving::{Misbehaving, Modes};

/// The blocks that lines of events lead through. Each is connected above the one before.
#[derive(Default)]
struct Branch(Vec<String>);

impl Branch {
    /// Follows all events of these lines; a block is never connected twice or skipped.
    fn follow(&mut self, lines: &[String]) {
        for line in lines {
            let line: Value = serde_json::from_str(line).unwrap();
            let blocks = |of: &str| line["event"][of].as_array().cloned().unwrap_or_default();
            for old in blocks("old") {
                assert_eq!(self.0.pop().as_deref(), old["hash"].as_str(), "{line}");
            }
            for new in blocks("new") {
                self.connect(&new);
            }
        }
    }

    fn connect(&mut self, block: &Value) {
        let hash = block["hash"].as_str().unwrap();
        assert!(!self.0.iter().any(|known| known == hash), "{hash} is there");
        assert_eq!(block["height"].as_u64(), Some(self.0.len() as u64 + 1));
        self.0.push(hash.to_owned());
    }
}

fn path_of(file: &tempfile::TempDir) -> String {
    file.path().join("chain.checkpoint").to_str().unwrap().to_owned()
}

/// All lines of a run up to a line with this text, and those after an interruption.
async fn run_until(server: &Misbehaving, flags: &[&str], text: &str) -> Vec<String> {
    let mut follow = following(server, &[&["--json"], flags].concat());
    let line = follow.says(text).await;
    follow.interrupt();
    let mut lines = std::mem::take(&mut follow.unclaimed);
    lines.push(line);
    lines.extend(follow.rest().await);
    lines
}

fn wei_at_the_end(lines: &[String]) -> Value {
    let line = lines.iter().rfind(|line| line.contains("\"wei\"")).unwrap();
    serde_json::from_str::<Value>(line).unwrap()["wei"].clone()
}

/// ```text
/// 0 - ... - 5 - 6 - 7 - 8          (the first run; nothing runs during the reorg)
///             \
///               6' - ... - 10'     (the second run)
/// ```
#[tokio::test]
async fn a_run_goes_on_over_a_reorg_that_nobody_saw() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let flags = ["--checkpoint", &path, "--wallet", ACCOUNT];
    let server = Misbehaving::start(Modes { blocks: 8, ..Modes::default() }).await;
    let mut branch = Branch::default();
    let first = run_until(&server, &flags, "\"height\":8,").await;
    assert!(first.iter().any(|line| line.contains("\"saved\":\"up to block 8 (")), "{first:#?}");
    branch.follow(&first);
    assert_eq!(branch.0.len(), 8);

    server.reorg(3, 5);
    let second = run_until(&server, &flags, "\"reorged\"").await;
    assert!(second.iter().any(|line| line.contains("\"resumed\":\"after block 8 (")), "{second:#?}");
    branch.follow(&second);
    assert_eq!(branch.0.len(), 10);
    let whole = run_until(&server, &["--wallet", ACCOUNT], "\"height\":10,").await;
    let mut again = Branch::default();
    again.follow(&whole);
    assert_eq!((again.0, wei_at_the_end(&whole)), (branch.0, wei_at_the_end(&second)));

    // A third run has nothing to emit.
    let third = run_until(&server, &flags, "\"resumed\"").await;
    assert!(!third.iter().any(|line| line.contains("\"event\"")), "{third:#?}");
}

/// A killed run has printed at most what it had no time to keep: the next one emits that again, and misses nothing.
#[tokio::test]
async fn a_run_that_is_killed_leaves_a_whole_file() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes { blocks: 3, ..Modes::default() }).await;
    let (url, mut branch) = (server.url(), Branch::default());
    let flags = ["--json", "--interval", "1ms", "--from", "0", "--rpc", &url, "--checkpoint", &path];
    for nth in 0..12_u64 {
        let mut run = Follow::start(&flags);
        server.grow(nth % 3 + 1);
        let tip = 3 + (0..=nth).map(|nth| nth % 3 + 1).sum::<u64>();
        let last = run.says(&format!("\"height\":{tip},")).await;
        run.process.start_kill().unwrap();
        let mut lines = std::mem::take(&mut run.unclaimed);
        lines.push(last);
        lines.extend(run.rest().await);
        // The first blocks may have been printed before; then each is above the one before.
        let first = lines.iter().find_map(|line| height_of_first(line));
        branch.0.truncate(usize::try_from(first.unwrap() - 1).unwrap());
        branch.follow(&lines);
        assert_eq!(branch.0.len() as u64, tip);
        let kept = Checkpoint::<IgnoredAny>::load(Path::new(&path)).unwrap();
        let resumes = lines.iter().any(|line| line.contains("\"resumed\""));
        assert!(nth == 0 || resumes, "{lines:#?}");
        assert!(kept.is_none_or(|kept| kept.headers.last().unwrap().height <= tip));
        if nth == 0 {
            // One file for the runs after it.
            run_until(&server, &["--checkpoint", &path], "\"event\"").await;
        }
    }
}

fn height_of_first(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).unwrap()["event"]["new"][0]["height"].as_u64()
}

/// A file, flags, and what is said of it.
type Case<'a> = (&'a [u8], &'a [&'a str], &'a str);

#[tokio::test]
async fn a_file_that_does_not_fit_is_one_error_and_stays_as_it_is() {
    let files = tempfile::tempdir().unwrap();
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
    let cases: [Case; 7] = [
        (b"hello\n", &[], "is no checkpoint: give another path, or move the file away"),
        (&good[..good.len() - 9], &[], "is truncated: remove it to start again"),
        (version.as_bytes(), &[], "has version 2, this program reads 1: remove it to start again"),
        (damaged.as_bytes(), &[], "is damaged in line "),
        (&good, &["--chain-id", "5"], "is of chain 1 ("),
        (&good, &["--wallet", ACCOUNT], "has other accounts: give --wallet the same ones in the same order"),
        (&good, &["--rpc", &other], "a local node is on chain 1 ("),
    ];
    for (text, flags, says) in cases {
        fs::write(&path, text).unwrap();
        let node: &[&str] = if flags.contains(&"--rpc") { &[] } else { &["--rpc", &url] };
        let printed = refused(&[node, flags, &["--checkpoint", &path]].concat()).await;
        assert!(printed.contains(says) && printed.contains(&path), "{printed}");
        assert_eq!(fs::read(&path).unwrap(), text);
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 2, "no file but the lock is left");
    }

    // Neither a folder nor a file in none.
    for (path, says) in
        [(files.path().to_str().unwrap(), "cannot read"), ("/no/such/folder/c", "cannot write")]
    {
        let printed = refused(&["--rpc", &url, "--checkpoint", path]).await;
        assert!(printed.contains(&format!("{says} the checkpoint {path}")), "{printed}");
    }
}

/// The one line that says why a run does not begin.
async fn refused(flags: &[&str]) -> String {
    let output = timeout(PATIENCE, follow(flags).output()).await.unwrap().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), printed.lines().count()), (Some(1), 1), "{printed}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("event"));
    printed
}

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
        assert_eq!(super::count(&lines, "unsaved "), 0, "{lines:#?}");
        assert_eq!(super::count(&lines, "saved   up to block 5 ("), usize::from(is_back), "{lines:#?}");
    }
}

#[tokio::test]
async fn what_nobody_reads_is_printed_by_the_next_run() {
    let files = tempfile::tempdir().unwrap();
    let path = path_of(&files);
    let server = Misbehaving::start(Modes::default()).await;
    run_until(&server, &["--checkpoint", &path], "\"height\":3,").await;
    let mut run = following(&server, &["--json", "--checkpoint", &path]);
    run.says("\"resumed\"").await;
    let Follow { mut process, lines, .. } = run;
    drop(lines);
    server.grow(1);
    assert!(timeout(PATIENCE, process.wait()).await.unwrap().unwrap().success());
    let kept = Checkpoint::<IgnoredAny>::load(Path::new(&path)).unwrap().unwrap();
    assert_eq!(kept.headers.last().unwrap().height, 3);
    let next = run_until(&server, &["--checkpoint", &path], "\"height\":4,").await;
    assert_eq!(next.iter().find_map(|line| height_of_first(line)), Some(4));
}
