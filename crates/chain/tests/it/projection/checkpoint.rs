//! Checkpoints that load, and files that do not.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::projection::checkpoint::{Checkpoint, LoadError, SaveError, lock};
use watchkeeper_chain::{Agreement, Header};

use super::{Tree, numbered};
use crate::common::{self, Watched, config, identity, local, long, show};

/// A directory of one test, removed with it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("watchkeeper-chain-{}-{next}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn sample() -> Checkpoint<Vec<u128>> {
    let mut tree = Tree::<super::Coins>::new();
    let headers = (0..3).map(|parent| {
        let place = tree.grow(parent, Vec::new());
        tree.header(place)
    });
    let identity = ChainIdentity { id: "test".to_owned(), genesis: numbered(1) };
    Checkpoint { identity, headers: headers.collect(), state: vec![0, u128::MAX] }
}

#[test]
fn a_checkpoint_is_read_as_it_was_written() {
    let scratch = Scratch::new();
    let path = scratch.path("c");
    assert_eq!(Checkpoint::<Vec<u128>>::load(&path).unwrap(), None);
    let mut checkpoint = sample();
    checkpoint.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), Some(checkpoint.clone()));
    checkpoint.state.push(3);
    checkpoint.save(&path).unwrap();
    assert_eq!(Checkpoint::load(&path).unwrap(), Some(checkpoint));
    let files: Vec<_> =
        fs::read_dir(path.parent().unwrap()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["c"]);
}

#[test]
fn a_checkpoint_that_cannot_be_written_leaves_the_old_one() {
    let scratch = Scratch::new();
    // The name of the new file is longer, and then too long.
    let path = scratch.path(&"c".repeat(250));
    fs::write(&path, written()).unwrap();
    let error = Checkpoint { state: Vec::<u128>::new(), ..sample() }.save(&path).unwrap_err();
    assert!(matches!(error, SaveError::Io { .. }), "{error}");
    assert_eq!(Checkpoint::load(&path).unwrap(), Some(sample()));
    let nowhere = sample().save(&scratch.path("no/such/directory")).unwrap_err();
    assert!(nowhere.to_string().contains("no/such/directory"), "{nowhere}");
}

/// Whatever has the name of a new file already is not written to, and other names are not used.
#[cfg(unix)]
#[test]
fn other_files_stay_as_they_are() {
    let scratch = Scratch::new();
    let path = scratch.path("c");
    let mine = ["c.new", ".c.new", "c.1.2.new", ".c.1.x.new", ".c..2.new", ".c.1.2.3.new", ".c.new.1.2.new"];
    for name in mine {
        fs::write(scratch.path(name), "mine").unwrap();
    }
    // Those that a process of this number may have left.
    let left: Vec<_> =
        (0..256).map(|nth| scratch.path(&format!(".c.{}.{nth}.new", std::process::id()))).collect();
    for link in &left {
        std::os::unix::fs::symlink(scratch.path("c.new"), link).unwrap();
    }
    fs::write(scratch.path(".c.1.2.new"), "of a process that was killed").unwrap();
    let held = lock(&path).unwrap();
    sample().save(&path).unwrap();
    drop(held);
    assert_eq!(Checkpoint::load(&path).unwrap(), Some(sample()));
    for name in mine {
        assert_eq!(fs::read(scratch.path(name)).unwrap(), b"mine", "{name}");
    }
    assert!(left.iter().all(|link| link.is_symlink()));
    let count = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(count, mine.len() + left.len() + 2, "the checkpoint and its lock");
}

/// ```text
/// link -> to -> folder/c          (which is not there at first)
/// ```
#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("folder")).unwrap();
    let (link, target) = (scratch.path("link"), scratch.path("folder/c"));
    symlink("folder/c", scratch.path("to")).unwrap();
    symlink("to", &link).unwrap();
    let mode = || fs::metadata(&target).unwrap().permissions().mode() & 0o777;
    sample().save(&link).unwrap();
    assert_eq!(mode(), 0o600, "a new file is for its owner");
    for kept in [0o640, 0o400, 0o644] {
        fs::set_permissions(&target, PermissionsExt::from_mode(kept)).unwrap();
        sample().save(&link).unwrap();
        assert_eq!(mode(), kept);
    }
    assert!(link.is_symlink() && scratch.path("to").is_symlink());
    assert_eq!(Checkpoint::load(&link).unwrap(), Some(sample()));
    // It is one file by any name.
    let _held = lock(&target).unwrap();
    assert!(matches!(lock(&link), Err(SaveError::InUse { .. })));
    symlink("loop", scratch.path("loop")).unwrap();
    assert!(matches!(sample().save(&scratch.path("loop")), Err(SaveError::Io { .. })));
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_neither_read_nor_replaced() {
    use std::process::Command;
    let scratch = Scratch::new();
    let pipe = scratch.path("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe, scratch.path(""), "/dev/zero".into(), "/dev/null".into(), "..".into()] {
        let error = Checkpoint::<Vec<u128>>::load(&path).unwrap_err();
        assert!(matches!(error, LoadError::NotAFile { .. }), "{error:?}");
        for error in [sample().save(&path).unwrap_err(), lock(&path).unwrap_err()] {
            assert!(matches!(error, SaveError::NotAFile { .. }), "{error:?}");
        }
        assert!(!fs::metadata(&path).unwrap().is_file());
    }
    let large = scratch.path("large");
    fs::File::create(&large).unwrap().set_len((256 << 20) + 1).unwrap();
    let error = Checkpoint::<Vec<u128>>::load(&large).unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { .. }), "{error:?}");
}

/// The parser repeats what it has read.
#[test]
fn messages_about_a_file_are_one_short_line() {
    let long = "x".repeat(10_000);
    let text = String::from_utf8(written()).unwrap();
    let headers = text.replacen("\"headers\":3", &format!("\"headers\":\"{long}\""), 1);
    let recorded = text.replacen("\"sum\":\"", &format!("\"sum\":\"{long}"), 1);
    let scratch = Scratch::new();
    for (text, is_expected) in [(headers, "in line 1: "), (recorded, "in line 6: its checksum is ")] {
        let path = scratch.path("a\nb");
        fs::write(&path, text).unwrap();
        let error = Checkpoint::<Vec<u128>>::load(&path).unwrap_err().to_string();
        assert!(error.contains(is_expected) && error.contains("a\\nb"), "{error}");
        assert!(error.lines().count() == 1 && error.len() < 800, "{error}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_resumed_is_not_written() {
    let scratch = Scratch::new();
    let path = scratch.path("c");
    sample().save(&path).unwrap();
    let [one, two, three] = sample().headers[..] else { panic!("three headers") };
    let high = Header { height: u64::MAX, ..one };
    let above = Header { hash: numbered(9), parent: high.hash, height: 0, ..one };
    for (headers, says) in [
        (vec![], "a checkpoint without headers cannot be resumed"),
        (vec![one, three], "is not the child of the one before"),
        (vec![two, one, three], "is not the child of the one before"),
        (vec![one, Header { height: 9, ..two }], "at height 9 is not the child"),
        (vec![high, above], "at height 0 is not the child"),
    ] {
        let expects_gap = !headers.is_empty();
        let error = Checkpoint { headers, ..sample() }.save(&path).unwrap_err();
        let is_expected =
            matches!((&error, expects_gap), (SaveError::NoHeaders, false) | (SaveError::Gap { .. }, true));
        assert!(is_expected && error.to_string().contains(says), "{error:?}");
        assert_eq!(Checkpoint::load(&path).unwrap(), Some(sample()), "the old one is intact");
    }
    sample().save(&path).unwrap();
}

fn load(text: &[u8]) -> Result<Option<Checkpoint<Vec<u128>>>, LoadError> {
    let scratch = Scratch::new();
    let path = scratch.path("c");
    fs::write(&path, text).unwrap();
    Checkpoint::load(&path)
}

fn written() -> Vec<u8> {
    let scratch = Scratch::new();
    sample().save(&scratch.path("c")).unwrap();
    fs::read(scratch.path("c")).unwrap()
}

/// A file that is truncated or changed at any byte is a typed error, and never another checkpoint.
#[test]
fn every_damage_is_detected() {
    let text = written();
    assert!(load(&text).unwrap().is_some());
    let first = text.iter().position(|byte| *byte == b'\n').unwrap();
    for length in 0..text.len() {
        let error = load(&text[..length]).unwrap_err();
        let expected = match length {
            0 => matches!(error, LoadError::Empty { .. }),
            _ if length >= first => matches!(error, LoadError::Truncated { .. }),
            _ => matches!(error, LoadError::Foreign { .. }),
        };
        assert!(expected, "cut at {length}: {error:?}");
    }
    for at in 0..text.len() {
        let mut text = text.clone();
        text[at] ^= 1;
        load(&text).expect_err(&format!("changed at {at}"));
    }
}

/// A text, what is wrong with it, and what the message says.
type Case<'a> = (&'a str, fn(&LoadError) -> bool, &'a str);

#[test]
fn other_files_are_distinguished() {
    let text = String::from_utf8(written()).unwrap();
    let version = text.replacen("\"version\":1", "\"version\":2", 1);
    let longer = format!("{text}{{}}\n");
    let cases: [Case; 5] = [
        ("hello\n", |error| matches!(error, LoadError::Foreign { .. }), "is no checkpoint"),
        ("{\"format\":\"x\",\"version\":1}\n", |error| matches!(error, LoadError::Foreign { .. }), "is no"),
        (&version, |error| matches!(error, LoadError::Version { found: 2, .. }), "has version 2"),
        (&longer, |error| matches!(error, LoadError::Corrupt { line: 7, .. }), "more after the end"),
        ("", |error| matches!(error, LoadError::Empty { .. }), "is empty: remove it"),
    ];
    for (text, is_expected, says) in cases {
        let error = load(text.as_bytes()).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

/// The checkpoint has a8, a9 and a10, and all nodes have left the branch when the app restarts. With a8 on the new
/// branch it is a reorg. Without it no block is emitted: the app has to start without the checkpoint.
///
/// ```text
/// g - a1 - ... - a7 - a8 - a9 - a10
///                 \     \
///                  \      b9 - b10 - b11
///                    c8 - c9 - ... - c12
/// ```
#[tokio::test(start_paused = true)]
async fn a_branch_without_the_lowest_kept_header_is_a_breach() {
    let mut tree = common::Tree::new(&long("a", 10));
    tree.line("a8 b9 b10 b11");
    tree.line("a7 c8 c9 c10 c11 c12");
    let scratch = Scratch::new();
    let path = scratch.path("c");
    let headers = ["a8", "a9", "a10"].map(|name| tree.header(name)).to_vec();
    Checkpoint { identity: identity(), headers, state: () }.save(&path).unwrap();
    let loaded = Checkpoint::<()>::load(&path).unwrap().unwrap();
    for (head, events, tip, agreement) in [
        ("b11", &["reorged a10 a9 to b9 b10 b11 at a8"][..], "b11", Agreement::Behind(0)),
        ("c12", &["n1 breached a8 by c12", "n2 breached a8 by c12"], "a10", Agreement::Breached),
    ] {
        let (n1, n2) = (tree.node(head), tree.node(head));
        let resumed = loaded.resume(&config());
        let mut watched = Watched::start(resumed, local(&[("n1", &n1), ("n2", &n2)])).await;
        assert_eq!(watched.events().await, events);
        let view = watched.cycle().await;
        assert_eq!((show(view.tip), &view.node("n1").unwrap().agreement), (tip.to_owned(), &agreement));
        // Without the checkpoint the nodes are believed.
        let mut fresh = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
        fresh.events().await;
        assert_eq!(show(fresh.cycle().await.tip), head);
    }
}
