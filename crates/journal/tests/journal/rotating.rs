//! Segments, retention and the reserve.

use std::fs;
use std::time::Duration;

use tokio::time::advance;
use watchkeeper_journal::{Durability, GapCause, Journal, JournalConfig, JournalProblemKind, ReadFrom};

use crate::common::*;

#[tokio::test]
async fn retention_keeps_the_newest_segments_and_reports_the_gap() {
    let directory = directory();
    let config = JournalConfig { segments: 3, ..small_segments() };
    let journal = Journal::open(directory.path(), config).await.unwrap();
    let beginning = journal.cursor();
    for n in 0..30 {
        journal.append(long_entry(n)).await.unwrap();
    }
    let kept = segments(directory.path());
    assert_eq!(kept.len(), 3);
    let oldest = journal.oldest().seq();
    assert_eq!(kept[0].file_name().unwrap().to_str().unwrap(), format!("{oldest:020}.jsonl"));
    let items = read(&journal, ReadFrom::Cursor(beginning)).await;
    let gap = items[0].as_ref().unwrap_err();
    assert_eq!((gap.first, gap.last, &gap.cause), (0, oldest - 1, &GapCause::Retired));
    assert_eq!(gap.count(), oldest);
    let rest: Vec<u64> = items[1..].iter().map(|item| *item.as_ref().unwrap()).collect();
    assert_eq!(rest, (oldest..30).collect::<Vec<_>>());
    assert_eq!(numbers(&journal).await, rest);
}

#[tokio::test]
async fn records_are_never_split_and_a_large_one_has_its_own_segment() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    journal.append(entry(0)).await.unwrap();
    let large = serde_json::json!({ "n": 1, "text": "y".repeat(10_000) });
    journal.append(watchkeeper_journal::Entry::new(&large).unwrap()).await.unwrap();
    journal.append(entry(2)).await.unwrap();
    journal.append_batch((3..20).map(long_entry).collect()).await.unwrap();
    let files = segments(directory.path());
    assert_eq!(files.len(), 4);
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        assert!(
            text.ends_with('\n') && text.lines().all(|line| line.starts_with('{') && line.ends_with('}'))
        );
    }
    assert_eq!(numbers(&journal).await, (0..20).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_segment_ends_by_age() {
    let directory = directory();
    let config = JournalConfig { segment_age: Some(Duration::from_secs(3_600)), ..config() };
    let journal = Journal::open(directory.path(), config).await.unwrap();
    append_all(&journal, 0..3).await;
    assert_eq!(segments(directory.path()).len(), 1);
    advance(Duration::from_secs(3_601)).await;
    append_all(&journal, 3..5).await;
    assert_eq!(segments(directory.path()).len(), 2);
    assert_eq!(numbers(&journal).await, [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_deleted_file_is_noticed_and_a_new_segment_is_begun() {
    for durability in [Durability::Buffered, Durability::Group, Durability::Always] {
        let directory = directory();
        let journal =
            Journal::open(directory.path(), JournalConfig { durability, ..config() }).await.unwrap();
        append_all(&journal, 0..3).await;
        fs::remove_file(&segments(directory.path())[0]).unwrap();
        assert_eq!(journal.append(entry(3)).await.unwrap().number, 3);
        let health = journal.health();
        assert_eq!(
            health.problem.unwrap().kind,
            JournalProblemKind::Deleted,
            "it stays until somebody has looked"
        );
        assert_eq!(segments(directory.path()).len(), 1);
        let items = read(&journal, ReadFrom::Number(0)).await;
        assert_eq!(items[0].as_ref().unwrap_err().count(), 3);
        assert_eq!(items[1], Ok(3));
        journal.close().await.unwrap();
        assert_eq!(numbers(&open(directory.path()).await).await, [3]);
    }
}

#[tokio::test]
async fn the_directory_may_hold_everything_else_that_can_be_made_again() {
    let directory = directory();
    let journal =
        Journal::open(directory.path(), JournalConfig { reserve: 100_000, ..config() }).await.unwrap();
    append_all(&journal, 0..3).await;
    journal.close().await.unwrap();
    assert_eq!(fs::metadata(directory.path().join("reserve")).unwrap().len(), 100_000);
    // All but the segments and the identity.
    fs::remove_file(directory.path().join("reserve")).unwrap();
    let journal = open(directory.path()).await;
    assert_eq!(numbers(&journal).await, [0, 1, 2]);
    journal.close().await.unwrap();
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing else is kept: {left:?}");
}

#[tokio::test]
async fn a_segment_that_was_damaged_is_found_when_it_is_complete() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    append_all(&journal, 0..5).await;
    let file = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[5] ^= 1;
    // The same file: it has not lost its name.
    fs::write(&file, bytes).unwrap();
    for n in 5..20 {
        journal.append(long_entry(n)).await.unwrap();
    }
    let mut health = journal.watch_health();
    let found = tokio::time::timeout(
        Duration::from_secs(20),
        health.wait_for(|health| health.last_problem.is_some()),
    );
    let problem = found.await.unwrap().unwrap().last_problem.clone().unwrap();
    assert_eq!(problem.kind, JournalProblemKind::Damaged);
    assert_eq!(problem.detail, file.file_name().unwrap().to_str().unwrap());
    assert!(problem.to_string().contains("run `journal check`"), "{problem}");
}

#[tokio::test]
async fn a_file_that_somebody_has_changed_is_left_as_it_is() {
    for (durability, change) in [
        (Durability::Group, b"{\"n\":77}\n".as_slice()),
        (Durability::Buffered, b"half a line"),
        (Durability::Always, b""),
    ] {
        let directory = directory();
        let journal =
            Journal::open(directory.path(), JournalConfig { durability, ..config() }).await.unwrap();
        append_all(&journal, 0..3).await;
        let file = segments(directory.path()).remove(0);
        let mut bytes = fs::read(&file).unwrap();
        if change.is_empty() {
            // As a rotation that copies and cuts: of the first line nothing is left.
            bytes.drain(..bytes.len() / 3);
        } else {
            bytes.extend_from_slice(change);
        }
        fs::write(&file, &bytes).unwrap();
        assert_eq!(journal.append(entry(3)).await.unwrap().number, 3);
        assert_eq!(journal.health().problem.unwrap().kind, JournalProblemKind::Altered);
        assert_eq!(fs::read(&file).unwrap(), bytes, "nothing of it is cut");
        assert_eq!(segments(directory.path()).len(), 2);
        if !change.is_empty() {
            assert_eq!(numbers(&journal).await, [0, 1, 2, 3]);
        }
        journal.close().await.unwrap();
        let again = open(directory.path()).await;
        let found: Vec<u64> = read(&again, ReadFrom::Number(0)).await.into_iter().flatten().collect();
        assert!(found.ends_with(&[2, 3]), "{found:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_changed_again_and_again_retires_nothing() {
    let directory = directory();
    let config = JournalConfig { segments: 3, ..small_segments() };
    let journal = Journal::open(directory.path(), config).await.unwrap();
    for n in 0..9 {
        append_all(&journal, [n]).await;
        let newest = segments(directory.path()).pop().unwrap();
        let mut bytes = fs::read(&newest).unwrap();
        bytes.extend_from_slice(b"a note\n");
        fs::write(&newest, bytes).unwrap();
    }
    append_all(&journal, [9]).await;
    assert_eq!(numbers(&journal).await, (0..10).collect::<Vec<_>>());
    let health = journal.health();
    assert_eq!((health.problem.unwrap().kind, health.problems), (JournalProblemKind::Altered, 9));
}

#[tokio::test]
async fn a_removal_that_the_closing_notices_costs_no_number() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..3).await;
    let health = journal.watch_health();
    fs::remove_file(&segments(directory.path())[0]).unwrap();
    journal.close().await.unwrap();
    assert_eq!(health.borrow().problem.as_ref().unwrap().kind, JournalProblemKind::Deleted);
    let journal = open(directory.path()).await;
    assert_eq!(journal.append(entry(3)).await.unwrap().number, 3);
}
