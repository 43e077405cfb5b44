//! `follow --checkpoint`: runs that go on where the last one has ended.

mod faults;
mod other_files;

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::Value;
use tokio::time::timeout;
use watchkeeper::until;
use watchkeeper_chain::projection::checkpoint::Checkpoint;

use super::{ACCOUNT, Follow, PATIENCE, follow, following};
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

/// All lines of a run that is interrupted once the file has a block of this height.
///
/// With a wallet it is written later than the block is printed: when the balance where the observation begins is known.
async fn run_until_kept(server: &Misbehaving, path: &str, flags: &[&str], height: u64) -> Vec<String> {
    let follow = following(server, &[&["--json", "--checkpoint", path], flags].concat());
    let is_kept = || async {
        let kept = Checkpoint::<IgnoredAny>::load(Path::new(path));
        kept.map(|kept| kept.is_some_and(|kept| kept.headers.last().unwrap().height == height))
    };
    let kept = until("the file has the block", is_kept).every(Duration::from_millis(20));
    kept.within(PATIENCE).await.unwrap();
    follow.interrupt();
    follow.rest().await
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
    let wallet = ["--wallet", ACCOUNT];
    let server = Misbehaving::start(Modes { blocks: 8, ..Modes::default() }).await;
    let mut branch = Branch::default();
    let first = run_until_kept(&server, &path, &wallet, 8).await;
    assert!(first.iter().any(|line| line.contains("\"saved\":\"up to block 8 (")), "{first:#?}");
    branch.follow(&first);
    assert_eq!(branch.0.len(), 8);

    server.reorg(3, 5);
    let second = run_until_kept(&server, &path, &wallet, 10).await;
    let resumed = second.iter().find(|line| line.contains("\"resumed\":\"after block 8 (")).unwrap();
    assert!(resumed.contains("); --from does not count\""), "{resumed}");
    branch.follow(&second);
    assert_eq!(branch.0.len(), 10);
    let other = files.path().join("other.checkpoint");
    let whole = run_until_kept(&server, other.to_str().unwrap(), &wallet, 10).await;
    let mut again = Branch::default();
    again.follow(&whole);
    assert_eq!((again.0, wei_at_the_end(&whole)), (branch.0, wei_at_the_end(&second)));

    // A third run has nothing to emit.
    let flags = [&["--checkpoint", &path], &wallet[..]].concat();
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
            run_until_kept(&server, &path, &[], tip).await;
        }
    }
    // What killed runs leave, the next one removes.
    run_until(&server, &["--checkpoint", &path], "\"resumed\"").await;
    assert_eq!(names_in(&files), [".chain.checkpoint.lock", "chain.checkpoint"]);
}

fn height_of_first(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).unwrap()["event"]["new"][0]["height"].as_u64()
}

/// All files of a folder.
fn names_in(files: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(files.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// The one line that says why a run does not begin.
async fn refused(flags: &[&str]) -> String {
    let output = timeout(PATIENCE, follow(flags).output()).await.unwrap().unwrap();
    let printed = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), printed.lines().count()), (Some(1), 1), "{printed}");
    assert!(!String::from_utf8(output.stdout).unwrap().contains("event"));
    printed
}
