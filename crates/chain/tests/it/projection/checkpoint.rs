//! Checkpoints that load, and files that do not.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use watchkeeper_chain::adapter::ChainIdentity;
use watchkeeper_chain::projection::checkpoint::{Checkpoint, LoadError, SaveError};
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
    let path = scratch.path("c");
    sample().save(&path).unwrap();
    // A directory is in the place of the new file.
    fs::create_dir(scratch.path("c.new")).unwrap();
    let error = Checkpoint { state: Vec::<u128>::new(), ..sample() }.save(&path).unwrap_err();
    assert!(matches!(error, SaveError::Io { .. }), "{error}");
    assert_eq!(Checkpoint::load(&path).unwrap(), Some(sample()));
    let nowhere = sample().save(&scratch.path("no/such/directory")).unwrap_err();
    assert!(nowhere.to_string().contains("no/such/directory"), "{nowhere}");
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
        let expected = if length == 0 || length >= first {
            matches!(error, LoadError::Truncated { .. })
        } else {
            matches!(error, LoadError::Foreign { .. })
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
        ("", |error| matches!(error, LoadError::Truncated { .. }), "truncated"),
    ];
    for (text, is_expected, says) in cases {
        let error = load(text.as_bytes()).unwrap_err();
        assert!(is_expected(&error), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    let scratch = Scratch::new();
    let error = Checkpoint::<Vec<u128>>::load(&scratch.path("")).unwrap_err();
    assert!(matches!(error, LoadError::Io { .. }), "{error}");
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
