//! A `FileStore` keeps all that a stage has committed, and refuses every file that it cannot be sure of.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::{StreamExt, stream as streams};
use proptest::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use watchkeeper::DynError;
use watchkeeper::report::error_chain;
use watchkeeper::subscription::{Cursor, CursorError};
use watchkeeper_pipeline::store::{
    DeadLetter, DeadLetterChange, FileStoreError, NewOutputs, OtherStage, StageName, Stored,
};
use watchkeeper_pipeline::{
    CommitStore, FileStore, Item, MemoryStore, OnError, OnStageFailure, Pipeline, PipelineError,
    StageFailureKind, StagePosition, StageState, Upstream, UpstreamError, UpstreamErrorKind,
    UpstreamPosition, stage,
};

use crate::common::{LONG, Published, Seen, numbers, pass, scripted};

const OUTPUT: &str = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7.1.0";

fn name() -> StageName {
    StageName { pipeline: "flow".into(), stage: "double".into() }
}

fn cursor(seq: u64) -> Cursor {
    OUTPUT.parse::<Cursor>().unwrap().at(seq)
}

fn count(items: u64) -> StagePosition {
    [("numbers", UpstreamPosition::Count(items))].into_iter().collect()
}

fn new<O>(seq: u64, batch: &[O], consumed: u64) -> NewOutputs<'_, O> {
    NewOutputs { cursor: cursor(seq), batch, consumed }
}

fn letter<T>(id: u64, item: Item<T>) -> DeadLetter<T> {
    DeadLetter {
        id,
        upstream: "numbers".into(),
        position: UpstreamPosition::Count(id),
        item,
        error: "no\\n \u{1f980}".to_owned(),
        attempts: 4,
        at: SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789),
    }
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("double.json")
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(format!("{}{suffix}", path.file_name().unwrap().to_str().unwrap()))
}

async fn load<T, O>(path: &Path) -> Result<Stored<T, O>, FileStoreError>
where
    T: Clone + Serialize + DeserializeOwned + Send + Sync + Debug + 'static,
    O: Clone + Serialize + DeserializeOwned + Send + Sync + Debug + 'static,
{
    FileStore::<T, O>::new(path).load(&name()).await.map_err(typed)
}

fn typed(error: DynError) -> FileStoreError {
    *error.downcast::<FileStoreError>().unwrap()
}

/// The bytes of a file with a line of this JSON and its checksum.
fn sealed(json: &str) -> Vec<u8> {
    format!("{json}\n{:08x}\n", crc32fast::hash(json.as_bytes())).into_bytes()
}

/// A file with everything in it.
async fn full(path: &Path) -> Vec<u8> {
    let mut store = FileStore::<u64, u64>::new(path);
    store.load(&name()).await.unwrap();
    let changes = [
        DeadLetterChange::Put(letter(0, Item::Event(7))),
        DeadLetterChange::Put(letter(1, Item::Lagged { missed: 3 })),
    ];
    store.commit(&count(5), new(0, &[0, 2, 4], 0), &changes).await.unwrap();
    store.commit(&count(8), new(1, &[6], 0), &[]).await.unwrap();
    fs::read(path).unwrap()
}

#[track_caller]
fn assert_same<T: PartialEq + Debug, O: PartialEq + Debug>(found: &Stored<T, O>, expected: &Stored<T, O>) {
    assert_eq!(found.position, expected.position);
    assert_eq!(found.cursor, expected.cursor);
    assert_eq!(found.outputs, expected.outputs);
    assert_eq!(found.dead_letters, expected.dead_letters);
    assert_eq!(found.next_dead_letter, expected.next_dead_letter);
}

#[track_caller]
fn assert_in_text(error: &impl Display, parts: &[&str]) {
    let text = error.to_string();
    for part in parts {
        assert!(text.contains(part), "{text:?} does not contain {part:?}");
    }
    assert!(!text.contains(char::is_control), "{text:?} is not escaped");
}

#[tokio::test]
async fn a_store_without_a_file_has_no_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing").join("directories").join("double.json");
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_same(&stored, &Stored::default());
    assert!(!path.exists(), "a load writes nothing");
    assert!(beside(&path, ".lock").exists());
}

#[tokio::test]
async fn positions_of_each_kind_are_read_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let batch = UpstreamPosition::Batch { cursor: cursor(u64::MAX), done: u64::MAX };
    let position: StagePosition = [
        ("numbers", UpstreamPosition::Count(u64::MAX)),
        ("a \"name\"\n\u{1b}", UpstreamPosition::Count(0)),
        ("stage", batch),
    ]
    .into_iter()
    .collect();
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    store.commit(&position, new(0, &[], 0), &[]).await.unwrap();
    drop(store);
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!(stored.position, position);
    assert_eq!(stored.cursor, Some(cursor(0)));
}

#[tokio::test]
async fn outputs_are_kept_until_they_are_consumed() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    store.commit(&count(2), new(0, &[0, 2], 0), &[]).await.unwrap();
    store.commit(&count(3), new(1, &[4], 0), &[]).await.unwrap();
    store.commit(&count(4), new(2, &[6], 1), &[]).await.unwrap();
    drop(store);
    let mut store = FileStore::<u64, u64>::new(&path);
    let stored = store.load(&name()).await.unwrap();
    assert_eq!(stored.cursor, Some(cursor(1)));
    assert_eq!(stored.outputs, [[4], [6]]);
    // The numbers go on after a load.
    store.commit(&count(4), new(3, &[], 3), &[]).await.unwrap();
    drop(store);
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!(stored.cursor, Some(cursor(3)));
    assert_eq!(stored.outputs, [[0; 0]; 0]);
}

#[tokio::test]
async fn a_commit_that_is_repeated_replaces_its_outputs() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    store.commit(&count(1), new(0, &[0], 0), &[]).await.unwrap();
    store.commit(&count(2), new(1, &[2], 0), &[]).await.unwrap();
    store.commit(&count(3), new(1, &[2, 4], 0), &[]).await.unwrap();
    drop(store);
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!(stored.position, count(3));
    assert_eq!(stored.outputs, [vec![0], vec![2, 4]]);
}

#[tokio::test]
async fn dead_letters_of_each_kind_of_item_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let letters = [
        letter(0, Item::Event("a \"text\"\n".to_owned())),
        letter(1, Item::Lagged { missed: u64::MAX }),
        letter(2, Item::Rebuilt { generation: 3 }),
    ];
    let mut store = FileStore::<String, u64>::new(&path);
    store.load(&name()).await.unwrap();
    let changes = letters.clone().map(DeadLetterChange::Put);
    store.commit(&count(3), new(0, &[], 0), &changes).await.unwrap();
    drop(store);
    let stored = load::<String, u64>(&path).await.unwrap();
    assert_eq!(stored.dead_letters, letters);
    assert_eq!(stored.next_dead_letter, 3);
}

#[tokio::test]
async fn the_number_of_a_dead_letter_is_never_used_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    let put = [0, 1].map(|id| DeadLetterChange::Put(letter(id, Item::Event(id))));
    store.commit(&count(2), new(0, &[], 0), &put).await.unwrap();
    let removed = [DeadLetterChange::Removed(1), DeadLetterChange::Removed(0)];
    store.commit(&count(2), new(0, &[], 0), &removed).await.unwrap();
    drop(store);
    let mut store = FileStore::<u64, u64>::new(&path);
    let stored = store.load(&name()).await.unwrap();
    assert_eq!(stored.dead_letters, []);
    assert_eq!(stored.next_dead_letter, 2);
    store.commit(&count(3), new(0, &[], 0), &[]).await.unwrap();
    drop(store);
    assert_eq!(load::<u64, u64>(&path).await.unwrap().next_dead_letter, 2);
}

#[tokio::test]
async fn a_truncated_file_is_torn_at_every_length() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = full(&path).await;
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        let error = load::<u64, u64>(&path).await.unwrap_err();
        assert!(
            matches!(error, FileStoreError::Torn { bytes, .. } if bytes == length),
            "{length} bytes: {error}"
        );
        let size = format!("({length} bytes)");
        assert_in_text(
            &error,
            &[
                path.to_str().unwrap(),
                "is torn",
                &size,
                "put back a copy, or, if it is the file of this stage, remove it",
            ],
        );
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(load::<u64, u64>(&path).await.unwrap().position, count(8));
}

#[tokio::test]
async fn a_file_with_any_bit_flipped_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = full(&path).await;
    for place in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[place] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            let error =
                load::<u64, u64>(&path).await.map(|_| format!("bit {bit} of byte {place}")).unwrap_err();
            assert!(matches!(error, FileStoreError::Torn { .. }), "bit {bit} of byte {place}: {error}");
        }
    }
}

#[tokio::test]
async fn a_checksum_in_other_digits_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = full(&path).await;
    let check = whole.len() - 9;
    let (line, check) = (&whole[..check], std::str::from_utf8(&whole[check..whole.len() - 1]).unwrap());
    for digits in
        [check.to_uppercase(), format!("0{check}"), format!(" {}", &check[1..]), check[1..].to_owned()]
    {
        if digits == check {
            continue;
        }
        fs::write(&path, [line, digits.as_bytes(), b"\n"].concat()).unwrap();
        let error = load::<u64, u64>(&path).await.map(|_| digits.clone()).unwrap_err();
        assert_in_text(&error, &["its second line is not 8 hexadecimal digits"]);
    }
    // A number that begins with a zero could be written with a sign.
    let mut jsons = (0..1_000).map(|n| format!("{{{n}}}"));
    let json = jsons.find(|json| crc32fast::hash(json.as_bytes()) < 1 << 28).unwrap();
    let signed = String::from_utf8(sealed(&json)).unwrap().replace("\n0", "\n+");
    fs::write(&path, signed).unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert_in_text(&error, &["its second line is not 8 hexadecimal digits"]);
}

#[tokio::test]
async fn an_empty_file_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    fs::write(&path, "").unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    let path = path.display();
    assert_eq!(
        error.to_string(),
        format!(
            "{path} is torn (0 bytes): it does not end with a line feed; put back a copy, or, if it is the file of this stage, remove it, and the \
             stage begins without a position"
        )
    );
}

#[tokio::test]
async fn a_file_with_a_cursor_that_is_none_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = String::from_utf8(full(&path).await).unwrap();
    let (line, _) = whole.split_once('\n').unwrap();
    fs::write(&path, sealed(&line.replace(OUTPUT, "0.1.0"))).unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert_in_text(&error, &["its cursor is no cursor"]);
}

#[tokio::test]
async fn a_file_of_another_stage_or_pipeline_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    full(&path).await;
    let stage = StageName { pipeline: "flow".into(), stage: "triple".into() };
    let pipeline = StageName { pipeline: "ebb".into(), stage: "double".into() };
    for expected in [stage, pipeline] {
        // Whatever its items are.
        let error = typed(FileStore::<String, String>::new(&path).load(&expected).await.unwrap_err());
        let FileStoreError::OtherStage { other, .. } = &error else { panic!("{error}") };
        assert_eq!(*other, OtherStage { found: name(), expected: expected.clone() });
        let expected = format!("not of stage {} of pipeline {}", expected.stage, expected.pipeline);
        let fix = "give each stage a store of its own, or the names back";
        let found = "is of stage double of pipeline flow";
        assert_in_text(&error, &[path.to_str().unwrap(), found, &expected, fix]);
    }
}

#[tokio::test]
async fn a_file_of_another_format_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = String::from_utf8(full(&path).await).unwrap();
    let (line, _) = whole.split_once('\n').unwrap();
    let newer = line.replace("\"watchkeeper_pipeline\":1", "\"watchkeeper_pipeline\":2");
    assert_ne!(newer, line);
    // Nothing but the number need be the same.
    for json in [&newer, "{\"watchkeeper_pipeline\":2,\"stage\":[\"double\"]}"] {
        fs::write(&path, sealed(json)).unwrap();
        let error = load::<u64, u64>(&path).await.unwrap_err();
        assert!(matches!(error, FileStoreError::Format { found: 2, .. }), "{error}");
        let fix = "use the version that wrote it";
        assert_in_text(&error, &[path.to_str().unwrap(), "has format 2", "reads format 1", fix]);
    }
}

#[tokio::test]
async fn items_and_outputs_of_other_types_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    full(&path).await;
    let items = load::<String, u64>(&path).await.map(drop).unwrap_err();
    let outputs = load::<u64, Vec<u64>>(&path).await.map(drop).unwrap_err();
    for error in [items, outputs] {
        assert!(matches!(error, FileStoreError::Json { doing: "read", .. }), "{error}");
        assert_in_text(
            &error,
            &[path.to_str().unwrap(), "cannot read", "the types must be those that were written"],
        );
        assert_in_text(&error, &["a value of another type, ", "at byte"]);
    }
}

#[tokio::test]
async fn outputs_that_are_no_json_are_not_committed() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, BTreeMap<(u8, u8), u8>>::new(&path);
    store.load(&name()).await.unwrap();
    store.commit(&count(1), new(0, &[BTreeMap::new()], 0), &[]).await.unwrap();
    let batch = [BTreeMap::from([((1, 2), 3)])];
    let error = typed(store.commit(&count(2), new(1, &batch, 0), &[]).await.unwrap_err());
    assert!(matches!(error, FileStoreError::Json { doing: "write", .. }), "{error}");
    assert_in_text(&error, &[path.to_str().unwrap(), "cannot write", "with maps by text alone"]);
    drop(store);
    let stored = load::<u64, BTreeMap<u8, u8>>(&path).await.unwrap();
    assert_eq!(stored.position, count(1));
}

#[tokio::test]
async fn numbers_with_a_point_are_read_as_they_were_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, f64>::new(&path);
    store.load(&name()).await.unwrap();
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from_bits(state)
    };
    let batch: Vec<f64> =
        std::iter::repeat_with(&mut next).filter(|number| number.is_finite()).take(5_000).collect();
    store.commit(&count(1), new(0, &batch, 0), &[]).await.unwrap();
    drop(store);
    let stored = load::<u64, f64>(&path).await.unwrap();
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
    assert!(bits(&stored.outputs[0]) == bits(&batch), "some numbers have changed");
}

#[tokio::test]
async fn a_directory_in_the_place_of_the_file_or_its_lock_is_an_error_of_the_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    fs::create_dir(&path).unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert!(matches!(error, FileStoreError::Io { doing: "read it", .. }), "{error}");
    assert_in_text(&error, &[path.to_str().unwrap(), "cannot read it", "can be written to and has room"]);
    fs::remove_dir(&path).unwrap();

    let lock = beside(&path, ".lock");
    fs::remove_file(&lock).unwrap();
    fs::create_dir(&lock).unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert!(matches!(error, FileStoreError::Io { doing: "open it", .. }), "{error}");
    assert_in_text(&error, &[lock.to_str().unwrap(), "cannot open it"]);
    fs::remove_dir(&lock).unwrap();

    fs::write(&path, "").unwrap();
    let below = path.join("double.json");
    let error = load::<u64, u64>(&below).await.unwrap_err();
    assert!(matches!(error, FileStoreError::Io { doing: "make its directory", .. }), "{error}");
    assert_in_text(&error, &[below.to_str().unwrap(), "cannot make its directory"]);
}

#[tokio::test]
async fn a_commit_that_the_file_system_refuses_leaves_the_file_and_can_be_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    store.commit(&count(1), new(0, &[0], 0), &[]).await.unwrap();
    let before = fs::read(&path).unwrap();
    let written = beside(&path, ".tmp");
    fs::create_dir(&written).unwrap();
    let put = [DeadLetterChange::Put(letter(0, Item::Event(1)))];
    for _ in 0..2 {
        let error = typed(store.commit(&count(2), new(1, &[2], 0), &put).await.unwrap_err());
        assert!(matches!(error, FileStoreError::Io { doing: "write it", .. }), "{error}");
        assert_in_text(&error, &[written.to_str().unwrap(), "cannot write it"]);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    fs::remove_dir(&written).unwrap();
    store.commit(&count(3), new(1, &[2, 4], 0), &put).await.unwrap();
    drop(store);
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!(stored.position, count(3));
    assert_eq!(stored.outputs, [vec![0], vec![2, 4]]);
    assert_eq!(stored.dead_letters, [letter(0, Item::Event(1))]);

    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let error = typed(store.commit(&count(4), new(2, &[], 0), &[]).await.unwrap_err());
    assert!(matches!(error, FileStoreError::Io { doing: "replace it", .. }), "{error}");
}

#[tokio::test]
async fn a_change_of_dead_letters_that_was_refused_is_not_part_of_a_later_commit() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    store.load(&name()).await.unwrap();
    let put = [DeadLetterChange::Put(letter(0, Item::Event(1)))];
    store.commit(&count(2), new(0, &[], 0), &put).await.unwrap();
    let written = beside(&path, ".tmp");
    fs::create_dir(&written).unwrap();
    // A stage gives up the replay of a letter whose commit is refused, and goes on.
    store.commit(&count(2), new(0, &[2], 0), &[DeadLetterChange::Removed(0)]).await.unwrap_err();
    fs::remove_dir(&written).unwrap();
    store.commit(&count(3), new(0, &[4], 0), &[]).await.unwrap();
    drop(store);
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!(stored.dead_letters, [letter(0, Item::Event(1))]);
    assert_eq!(stored.outputs, [[4]]);
}

#[tokio::test]
async fn a_commit_before_a_load_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut store = FileStore::<u64, u64>::new(&path);
    let error = typed(store.commit(&count(1), new(0, &[], 0), &[]).await.unwrap_err());
    assert!(matches!(error, FileStoreError::NotLoaded { .. }), "{error}");
    assert_in_text(&error, &[path.to_str().unwrap(), "commit was called before load"]);
    assert!(!path.exists());
}

/// Takes the five seconds for which a store waits for a lock.
#[tokio::test]
async fn a_file_is_locked_as_long_as_its_store_lives() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut first = FileStore::<u64, u64>::new(&path);
    first.load(&name()).await.unwrap();
    // A second load of the same store, as after a failed start, is no other one.
    first.load(&name()).await.unwrap();
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert!(matches!(error, FileStoreError::Locked { .. }), "{error}");
    let fix = "stop that one, or give each stage a file of its own";
    assert_in_text(&error, &[path.to_str().unwrap(), "is used by another process or another stage", fix]);
    first.commit(&count(1), new(0, &[], 0), &[]).await.unwrap();
    drop(first);
    assert_eq!(load::<u64, u64>(&path).await.unwrap().position, count(1));
}

#[tokio::test]
async fn what_a_crash_has_left_of_a_commit_is_ignored_and_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let whole = full(&path).await;
    let written = beside(&path, ".tmp");
    for left in [&b""[..], b"half of a comm", &sealed("{}"), &vec![b' '; 100_000]] {
        fs::write(&path, &whole).unwrap();
        fs::write(&written, left).unwrap();
        let mut store = FileStore::<u64, u64>::new(&path);
        assert_eq!(store.load(&name()).await.unwrap().position, count(8));
        store.commit(&count(9), new(2, &[], 2), &[]).await.unwrap();
        drop(store);
        assert!(!written.exists());
        assert_eq!(load::<u64, u64>(&path).await.unwrap().position, count(9));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn names_are_escaped_in_errors() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("line\nfeed \u{1b}[31m");
    let expected = r"line\nfeed \u{1b}[31m";
    let mut store = FileStore::<u64, u64>::new(&path);
    let error = typed(store.commit(&count(1), new(0, &[], 0), &[]).await.unwrap_err());
    assert_in_text(&error, &[expected]);
    let named = StageName { pipeline: "a\nb".into(), stage: "\u{1b}[31m".into() };
    store.load(&named).await.unwrap();
    store.commit(&count(1), new(0, &[], 0), &[]).await.unwrap();
    drop(store);
    let error = load::<u64, u64>(&path).await.unwrap_err();
    assert_in_text(&error, &[expected, r"is of stage \u{1b}[31m of pipeline a\nb"]);
    // Debug is the same text.
    assert_eq!(format!("{error:?}"), error_chain(&error));
    fs::write(&path, "").unwrap();
    assert_in_text(&load::<u64, u64>(&path).await.unwrap_err(), &[expected]);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_in_text(&load::<u64, u64>(&path).await.unwrap_err(), &[expected]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Output {
    Number(u64),
    Text { text: String },
}

#[derive(Clone, Debug)]
struct Commit {
    items: u64,
    batch: Vec<Output>,
    consumed: u64,
    put: Option<Item<Option<String>>>,
    removed: Option<u64>,
    is_repeated: bool,
    is_loaded_again: bool,
}

fn commits() -> impl Strategy<Value = Vec<Commit>> {
    let output = prop_oneof![
        any::<u64>().prop_map(Output::Number),
        any::<String>().prop_map(|text| Output::Text { text })
    ];
    let item = prop_oneof![
        any::<Option<String>>().prop_map(Item::Event),
        any::<u64>().prop_map(|missed| Item::Lagged { missed }),
        any::<u64>().prop_map(|generation| Item::Rebuilt { generation }),
    ];
    let batch = prop::collection::vec(output, 0..3);
    let letters = (prop::option::of(item), prop::option::of(0..4_u64));
    let commit = (0..9_u64, batch, 0..3_u64, letters, any::<bool>(), any::<bool>());
    let commit = commit.prop_map(|(items, batch, consumed, (put, removed), is_repeated, is_loaded_again)| {
        Commit { items, batch, consumed, put, removed, is_repeated, is_loaded_again }
    });
    prop::collection::vec(commit, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is read after any commits is what a store in memory has.
    #[test]
    fn a_file_keeps_what_memory_keeps(commits in commits()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let directory = tempfile::tempdir().unwrap();
            let path = file(&directory);
            let mut memory = MemoryStore::<Option<String>, Output>::new();
            memory.load(&name()).await.unwrap();
            let mut store = FileStore::<Option<String>, Output>::new(&path);
            store.load(&name()).await.unwrap();
            let (mut items, mut seq, mut consumed, mut letters) = (0, 0, 0, 0);
            for commit in commits {
                items += commit.items;
                let end = seq + u64::from(!commit.batch.is_empty());
                consumed = seq.min(consumed + commit.consumed);
                let mut changes = Vec::new();
                if let Some(item) = commit.put {
                    changes.push(DeadLetterChange::Put(letter(letters, item)));
                    letters += 1;
                }
                changes.extend(commit.removed.map(DeadLetterChange::Removed));
                for _ in 0..=u8::from(commit.is_repeated) {
                    let outputs = || new(seq, &commit.batch, consumed);
                    memory.commit(&count(items), outputs(), &changes).await.unwrap();
                    store.commit(&count(items), outputs(), &changes).await.unwrap();
                }
                seq = end;
                if commit.is_loaded_again {
                    drop(store);
                    store = FileStore::new(&path);
                    assert_same(&store.load(&name()).await.unwrap(), &memory.stored());
                }
            }
            drop(store);
            assert_same(&load(&path).await.unwrap(), &memory.stored());
        });
    }
}

/// A pipeline of two stages with files in a directory.
struct Flow<'a> {
    directory: &'a Path,
    upstream: Upstream<u64>,
}

impl Flow<'_> {
    fn path(&self, stage: &str) -> PathBuf {
        self.directory.join(format!("{stage}.json"))
    }

    async fn start(self, seen: &Seen) -> Result<Pipeline, PipelineError> {
        let (double, sink) = (self.path("double"), self.path("sink"));
        let doubled = |item: Item<u64>, _| Ok(item.event().map(|n| 2 * n).into_iter().collect());
        let double = stage("double", scripted(&Seen::default(), doubled))
            .from(self.upstream)
            .store(FileStore::new(double));
        let sink =
            stage("sink", scripted(seen, pass)).from(Upstream::stage("double")).store(FileStore::new(sink));
        Pipeline::builder("flow").stage(double).stage(sink).start().await
    }
}

/// The numbers from `committed` up to `end`.
fn up_to(end: u64) -> Upstream<u64> {
    Upstream::seekable("numbers", move |committed| streams::iter(committed..end))
}

/// Runs the flow until its numbers have ended and are committed.
async fn run(directory: &Path, upstream: Upstream<u64>) -> Vec<u64> {
    let seen = Seen::default();
    let pipeline = Flow { directory, upstream }.start(&seen).await.unwrap();
    pipeline.ended().await;
    drop(pipeline);
    numbers(&seen)
}

#[track_caller]
fn not_started(started: Result<Pipeline, PipelineError>) -> (String, String, String) {
    let error = started.unwrap_err();
    let PipelineError::NotStarted { stage, state, failure } = &error else { panic!("{error}") };
    let failure = failure.as_ref().unwrap();
    assert_eq!(*state, StageState::Failed);
    assert_eq!(failure.kind, StageFailureKind::Open);
    let cause = failure.cause().unwrap();
    assert!(cause.is::<FileStoreError>() || cause.is::<UpstreamError>(), "its type is kept: {cause}");
    (stage.to_string(), failure.message.to_string(), error.to_string())
}

#[track_caller]
fn assert_upstream(
    started: Result<Pipeline, PipelineError>,
    stage: &str,
    upstream: &str,
    kind: UpstreamErrorKind,
) {
    let (found, message, _) = not_started(started);
    assert_eq!(found, stage);
    assert_eq!(message, UpstreamError { upstream: upstream.into(), kind }.to_string());
}

#[tokio::test]
async fn a_pipeline_goes_on_where_its_files_are() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(run(directory.path(), up_to(3)).await, [0, 2, 4]);
    assert_eq!(run(directory.path(), up_to(3)).await, [0; 0]);
    assert_eq!(run(directory.path(), up_to(5)).await, [6, 8]);
}

#[tokio::test]
async fn a_pipeline_with_a_torn_file_does_not_start_and_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), up_to(3)).await;
    let flow = Flow { directory: directory.path(), upstream: up_to(3) };
    let path = flow.path("sink");
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..20]).unwrap();
    let (stage, _, text) = not_started(flow.start(&Seen::default()).await);
    assert_eq!(stage, "sink");
    let path = path.display();
    assert_eq!(
        text,
        format!(
            "stage sink is failed: it cannot start: {path} is torn (20 bytes): it does not end with a line feed; \
             put back a copy, or, if it is the file of this stage, remove it, and the stage begins without a position"
        )
    );
    // The locks are free again.
    fs::write(path.to_string(), &whole).unwrap();
    assert_eq!(run(directory.path(), up_to(4)).await, [6]);
}

#[tokio::test]
async fn a_pipeline_whose_files_are_exchanged_does_not_start() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), up_to(3)).await;
    let flow = Flow { directory: directory.path(), upstream: up_to(3) };
    fs::copy(flow.path("sink"), flow.path("double")).unwrap();
    let (stage, message, _) = not_started(flow.start(&Seen::default()).await);
    assert_eq!(stage, "double");
    assert_in_text(&message, &["is of stage sink of pipeline flow, not of stage double of pipeline flow"]);
}

#[tokio::test]
async fn a_position_of_an_observation_that_was_not_resumed_is_foreign() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = Published::new(64);
    let flow = |source: &Published| Flow {
        directory: directory.path(),
        upstream: Upstream::observation("numbers", &source.handle()),
    };
    let pipeline = flow(&source).start(&Seen::default()).await.unwrap();
    source.batch([1, 2]);
    source.end();
    pipeline.ended().await;
    drop(pipeline);
    let source = Published::new(64);
    let started = flow(&source).start(&Seen::default()).await;
    assert_upstream(started, "double", "numbers", UpstreamErrorKind::Cursor(CursorError::Foreign));
}

#[tokio::test]
async fn a_position_after_the_point_from_which_an_observation_resumes_is_of_the_future() {
    let directory = tempfile::tempdir().unwrap();
    let mut source = Published::new(64);
    let flow = |source: &Published| Flow {
        directory: directory.path(),
        upstream: Upstream::observation("numbers", &source.handle()),
    };
    let pipeline = flow(&source).start(&Seen::default()).await.unwrap();
    source.batch([1]);
    let earlier = source.cursor();
    source.batch([2]);
    source.batch([3]);
    let (later, earlier_seq) = (source.cursor().seq(), earlier.seq());
    source.end();
    pipeline.ended().await;
    drop(pipeline);
    let source = Published::resumed(64, Some(earlier));
    let started = flow(&source).start(&Seen::default()).await;
    let future = CursorError::Future { seq: later, published: source.cursor().seq() };
    assert_eq!((later, earlier_seq), (3, 1));
    assert_upstream(started, "double", "numbers", UpstreamErrorKind::Cursor(future));
}

#[tokio::test]
async fn a_position_in_a_stage_whose_store_was_removed_is_foreign() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), up_to(3)).await;
    let flow = Flow { directory: directory.path(), upstream: up_to(3) };
    fs::remove_file(flow.path("double")).unwrap();
    let started = flow.start(&Seen::default()).await;
    assert_upstream(started, "sink", "double", UpstreamErrorKind::OtherOutputs);
}

#[tokio::test]
async fn older_copies_of_one_of_two_stores_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let flow = || Flow { directory: directory.path(), upstream: up_to(9) };
    run(directory.path(), up_to(3)).await;
    let older = ["double", "sink"].map(|stage| fs::read(flow().path(stage)).unwrap());
    for end in 4..=9 {
        run(directory.path(), up_to(end)).await;
    }
    let newer = ["double", "sink"].map(|stage| fs::read(flow().path(stage)).unwrap());

    fs::write(flow().path("double"), &older[0]).unwrap();
    let started = flow().start(&Seen::default()).await;
    let future = CursorError::Future { seq: 7, published: 1 };
    assert_upstream(started, "sink", "double", UpstreamErrorKind::Cursor(future));

    fs::write(flow().path("double"), &newer[0]).unwrap();
    fs::write(flow().path("sink"), &older[1]).unwrap();
    let started = flow().start(&Seen::default()).await;
    assert_upstream(started, "sink", "double", UpstreamErrorKind::Gone { oldest: 6 });

    fs::write(flow().path("double"), &older[0]).unwrap();
    assert_eq!(run(directory.path(), up_to(5)).await, [6, 8]);
}

#[tokio::test]
async fn a_position_of_another_kind_of_upstream_or_of_a_missing_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    run(directory.path(), up_to(3)).await;
    let source = Published::new(64);
    let upstream = Upstream::observation("numbers", &source.handle());
    let started = Flow { directory: directory.path(), upstream }.start(&Seen::default()).await;
    assert_upstream(started, "double", "numbers", UpstreamErrorKind::OtherKind);
    let upstream = Upstream::observation("figures", &source.handle());
    let started = Flow { directory: directory.path(), upstream }.start(&Seen::default()).await;
    assert_upstream(started, "double", "numbers", UpstreamErrorKind::Unknown);
}

#[tokio::test]
async fn a_dead_letter_whose_replay_is_refused_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let works = Arc::new(OnceLock::new());
    let start = || {
        let works = Arc::clone(&works);
        let act = move |item: Item<u64>, _| match item.event() {
            Some(1) if works.get().is_none() => Err("not yet".into()),
            event => Ok(event.into_iter().collect()),
        };
        let upstream =
            Upstream::seekable("numbers", |committed| streams::iter(committed..3).chain(streams::pending()));
        let double = stage("double", scripted(&Seen::default(), act)).from(upstream).retries(0);
        Pipeline::builder("flow")
            .on_stage_failure(OnStageFailure::Isolate)
            .stage(double.on_error(OnError::DeadLetter).store(FileStore::new(&path)))
            .start()
    };
    let pipeline = start().await.unwrap();
    let outputs = pipeline.output::<u64>("double").unwrap();
    outputs.eventually("0 and 2", |progress| progress.outputs == 2).within(LONG).await.unwrap();
    works.set(()).unwrap();
    let double = pipeline.stage("double").unwrap();
    let written = beside(&path, ".tmp");
    fs::create_dir(&written).unwrap();
    let refused = double.replay(0).await.unwrap_err();
    assert_in_text(
        &refused,
        &["dead letter 0 of stage double is not settled", "cannot write it", "restart the stage"],
    );
    let failure = double.status().failure.unwrap();
    assert_in_text(&failure, &["the commit, attempt 1", "cannot write it"]);
    fs::remove_dir(&written).unwrap();
    let letters = double.dead_letters();
    assert_eq!(letters.len(), 1);
    pipeline.abort().await;
    drop((pipeline, double, outputs));

    let pipeline = start().await.unwrap();
    let double = pipeline.stage("double").unwrap();
    assert_eq!(double.dead_letters(), letters);
    double.replay(0).await.unwrap();
    assert_eq!(double.dead_letters(), []);
    pipeline.stop().await;
    drop((pipeline, double));
    let stored = load::<u64, u64>(&path).await.unwrap();
    assert_eq!((stored.dead_letters.len(), stored.next_dead_letter), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_commit_does_not_replace_a_later_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = file(&directory);
    let mut dropped_while_writing = 0;
    for round in 0..50 {
        let mut store = FileStore::<u64, u64>::new(&path);
        store.load(&name()).await.unwrap();
        {
            // Large, so that it is slower than the next one.
            let (position, outputs) = (count(1), vec![round; 20_000]);
            let mut dropped = Box::pin(store.commit(&position, new(0, &outputs, 0), &[]));
            // On a busy machine it may be written before this thread gets its next turn.
            dropped_while_writing += u64::from(dropped.as_mut().now_or_never().is_none());
        }
        store.commit(&count(2), new(0, &[], 0), &[]).await.unwrap();
        // The lock is held until both are written.
        drop(store);
        let stored = load::<u64, u64>(&path).await.unwrap();
        assert_eq!((stored.position, stored.outputs), (count(2), vec![]));
    }
    assert!(dropped_while_writing > 0);
}
