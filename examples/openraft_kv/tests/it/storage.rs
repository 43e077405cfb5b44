//! openraft's own test suite for stores, and what it leaves out.

use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, EntryPayload, RaftLogReader, RaftSnapshotBuilder, Vote};
use openraft_kv::api::WriteRequest;
use openraft_kv::node::raft::{AppliedEntry, Entry, LogId, StorageError, TypeConfig};
use openraft_kv::node::store::{self, Identity, LogStore, StateMachine};
use tempfile::TempDir;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError> {
        let dir = TempDir::new().unwrap();
        let (log, data) = open(&dir);
        Ok((dir, log, data))
    }
}

fn open(dir: &TempDir) -> (LogStore, StateMachine) {
    let identity = Identity { cluster: "suite".to_owned(), node_id: 1 };
    store::open(dir.path(), &identity).unwrap()
}

fn at(index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(1, 1), index)
}

fn write(index: u64, key: &str, value: &str, serial: u64) -> Entry {
    Entry {
        log_id: at(index),
        payload: EntryPayload::Normal(WriteRequest { key: key.to_owned(), value: value.to_owned(), serial }),
    }
}

#[test]
fn the_suite_of_openraft_passes() {
    Suite::test_all(Builder).unwrap();
}

#[tokio::test]
async fn everything_is_there_when_the_file_is_opened_again() {
    let dir = TempDir::new().unwrap();
    let vote = Vote::new_committed(3, 1);
    let entries = [write(1, "a", "1", 1), write(2, "b", "2", 1)];
    let snapshot = {
        let (mut log, mut data) = open(&dir);
        log.save_vote(&vote).await.unwrap();
        log.blocking_append(entries.clone()).await.unwrap();
        data.apply(entries.clone()).await.unwrap();
        let snapshot = data.build_snapshot().await.unwrap();
        log.purge(at(1)).await.unwrap();
        snapshot
    };

    let (mut log, mut data) = open(&dir);
    assert_eq!(log.read_vote().await.unwrap(), Some(vote));
    let kept = log.try_get_log_entries(..).await.unwrap();
    assert_eq!(kept, entries[1..]);
    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(at(1)));
    assert_eq!(state.last_log_id, Some(at(2)));
    assert_eq!(data.applied_state().await.unwrap().0, Some(at(2)));
    assert_eq!(data.get("b").unwrap().unwrap().value, "2");
    let again = data.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(again.meta, snapshot.meta);
    assert_eq!(again.snapshot, snapshot.snapshot);
}

#[tokio::test]
async fn a_serial_is_applied_once_for_each_key() {
    let dir = TempDir::new().unwrap();
    let (_, mut data) = open(&dir);
    // key, value, serial; the log index that answers, or the serial that refuses
    let cases = [
        ("a", "1", 7, Ok(1)),
        ("a", "other", 7, Ok(1)),
        ("b", "2", 7, Ok(3)),
        ("a", "3", 8, Ok(4)),
        ("a", "4", 7, Err(8)),
    ];
    for (index, (key, value, serial, expected)) in (1..).zip(cases) {
        let outcomes = data.apply([write(index, key, value, serial)]).await.unwrap();
        let got = match &outcomes[..] {
            [AppliedEntry::Written(written)] => Ok(written.log_index),
            [AppliedEntry::Stale { last }] => Err(*last),
            other => panic!("{other:?}"),
        };
        assert_eq!(got, expected, "entry {index}");
    }
    assert_eq!(data.get("a").unwrap().unwrap().value, "3");
}

#[tokio::test]
async fn an_installed_snapshot_replaces_all_and_brings_its_serials() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (_, mut source) = open(&from);
    source.apply([write(5, "a", "new", 9)]).await.unwrap();
    let snapshot = source.build_snapshot().await.unwrap();

    let (_, mut target) = open(&to);
    target.apply([write(1, "old", "x", 1)]).await.unwrap();
    target.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
    assert_eq!(target.view().unwrap(), source.view().unwrap());
    let outcomes = target.apply([write(6, "a", "late", 8)]).await.unwrap();
    assert_eq!(outcomes, [AppliedEntry::Stale { last: 9 }]);
}

#[tokio::test]
async fn a_snapshot_that_is_built_late_does_not_replace_a_newer_one() {
    let dir = TempDir::new().unwrap();
    let (_, mut data) = open(&dir);
    data.apply([write(1, "a", "1", 1)]).await.unwrap();
    let mut newer = data.build_snapshot().await.unwrap();
    newer.meta.last_log_id = Some(at(50));
    newer.meta.snapshot_id = "newer".to_owned();
    data.install_snapshot(&newer.meta, newer.snapshot).await.unwrap();

    let mut later = newer.meta.clone();
    later.last_log_id = Some(at(40));
    let old = data.get_current_snapshot().await.unwrap().unwrap();
    data.install_snapshot(&later, old.snapshot).await.unwrap();
    let current = data.get_current_snapshot().await.unwrap().unwrap();
    assert_eq!(current.meta.snapshot_id, "newer");
}

#[tokio::test]
async fn a_batch_for_a_follower_is_bounded_but_never_empty() {
    let dir = TempDir::new().unwrap();
    let (mut log, _) = open(&dir);
    let large = "x".repeat(700_000);
    let entries = (1..=3).map(|index| write(index, "a", &large, index));
    log.blocking_append(entries).await.unwrap();
    let batch = log.limited_get_log_entries(1, 4).await.unwrap();
    assert_eq!(batch.len(), 1);
    assert_eq!(batch[0].log_id, at(1));
}
