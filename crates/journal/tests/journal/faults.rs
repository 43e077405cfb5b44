//! Disks that are full, write less than they should, or fail.

use std::error::Error;
use std::fs;
use std::io;
use std::sync::Arc;

use watchkeeper_journal::medium::Medium;
use watchkeeper_journal::{
    AppendError, CloseError, Durability, Entry, GapCause, Journal, JournalConfig, JournalError,
    JournalProblemKind, ReadFrom,
};

use crate::common::*;
use crate::faulty::{Faulty, Operation};

const SYNCED: [Durability; 2] = [Durability::Group, Durability::Always];

fn level(durability: Durability) -> JournalConfig {
    JournalConfig { durability, ..config() }
}

async fn open_on(disk: &Faulty, config: JournalConfig) -> Journal {
    Journal::open_on(Arc::new(disk.clone()), config).await.unwrap()
}

/// A journal with the records 0 to 2, on a disk that works so far.
async fn three(config: JournalConfig) -> (Faulty, Journal) {
    let disk = Faulty::default();
    let journal = open_on(&disk, config).await;
    append_all(&journal, 0..3).await;
    (disk, journal)
}

fn problem(journal: &Journal) -> Option<JournalProblemKind> {
    journal.health().problem.map(|problem| problem.kind)
}

/// The `n` of each line, as any reader of JSON lines sees them.
fn plain(disk: &Faulty) -> Vec<u64> {
    let text = disk.text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.map(|value| value["n"].as_u64().unwrap()).collect()
}

/// The journal closes, opens without a finding, and has these records.
async fn check_after_closing(disk: &Faulty, journal: Journal, expected: &[u64]) {
    journal.close().await.unwrap();
    let journal = open_on(disk, config()).await;
    let recovery = journal.recovery();
    assert_eq!((recovery.torn_bytes, recovery.uncommitted, recovery.damage.len()), (0, 0, 0));
    let found: Vec<u64> = read(&journal, ReadFrom::Oldest).await.into_iter().flatten().collect();
    assert_eq!(found, expected);
    assert_eq!(plain(disk), expected);
    journal.close().await.unwrap();
}

#[tokio::test]
async fn short_writes_are_continued() {
    for bytes in [1, 7, 100] {
        for durability in [Durability::Buffered, Durability::Group, Durability::Always] {
            let disk = Faulty::default();
            disk.write_at_most(bytes);
            let journal = open_on(&disk, level(durability)).await;
            append_all(&journal, 0..5).await;
            journal.append_batch((5..9).map(entry).collect()).await.unwrap();
            assert_eq!(numbers(&journal).await, (0..9).collect::<Vec<_>>());
            assert!(journal.health().is_ok());
            check_after_closing(&disk, journal, &(0..9).collect::<Vec<_>>()).await;
        }
    }
}

#[tokio::test]
async fn a_failed_write_leaves_nothing_and_costs_no_number() {
    // How many writes and truncates fail, how, and the number of segments then.
    let cases = [
        (1, 0, None, 1),
        (3, 0, None, 1),
        (1, 1, None, 1),
        (1, 3, None, 1),
        (1, 0, Some(io::ErrorKind::FileTooLarge), 2),
        (2, 2, Some(io::ErrorKind::FileTooLarge), 2),
        (1, 0, Some(io::ErrorKind::PermissionDenied), 1),
    ];
    for (writes, truncates, kind, segments) in cases {
        for durability in SYNCED {
            let case = format!("{writes} writes, {truncates} truncates, {kind:?}, {durability}");
            let (disk, journal) = three(level(durability)).await;
            // A part of the line is written.
            disk.write_at_most(20).fail_as(Operation::Append, 1, writes, kind);
            disk.fail(Operation::Truncate, truncates);
            let mut failures = 0;
            let appended = loop {
                match journal.append_batch(vec![entry(3), entry(4)]).await {
                    Ok(appended) => break appended,
                    Err(error) => assert!(matches!(error, AppendError::Write { .. }), "{case}: {error}"),
                }
                failures += 1;
                assert!(failures < 10, "{case}");
                assert_eq!(problem(&journal), Some(JournalProblemKind::Write), "{case}");
                assert_eq!(numbers(&journal).await, [0, 1, 2], "{case}");
            };
            assert_eq!(appended.number, 3, "{case}");
            assert_eq!((problem(&journal), journal.health().problems), (None, failures), "{case}");
            assert_eq!(disk.segments().len(), segments, "{case}");
            check_after_closing(&disk, journal, &[0, 1, 2, 3, 4]).await;
        }
    }
}

#[tokio::test]
async fn a_full_disk_refuses_until_there_is_room_for_the_reserve() {
    const RESERVE: u64 = 10_000;
    for durability in SYNCED {
        let disk = Faulty::default();
        let journal = open_on(&disk, JournalConfig { reserve: RESERVE, ..level(durability) }).await;
        assert_eq!(disk.size("reserve"), RESERVE);
        disk.set_capacity(RESERVE + 5_000);
        let mut count = 0;
        let error = loop {
            match journal.append(long_entry(count)).await {
                Ok(appended) => assert_eq!(appended.number, count),
                Err(error) => break error,
            }
            count += 1;
        };
        assert!(matches!(error, AppendError::Full { reserve: RESERVE, .. }), "{error}");
        assert!(error.to_string().contains("10000 bytes"), "{error}");
        assert!(error.source().is_some());
        let before: Vec<u64> = (0..count).collect();
        // Somebody else takes what the reserve has freed.
        disk.set_capacity(RESERVE);
        for _ in 0..3 {
            assert!(matches!(journal.append(entry(99)).await, Err(AppendError::Full { .. })));
            assert_eq!(problem(&journal), Some(JournalProblemKind::Full));
            assert_eq!(numbers(&journal).await, before, "reading goes on");
        }
        assert_eq!((disk.size("reserve"), journal.health().problems), (0, 1));
        disk.set_capacity(2 * RESERVE + 5_000);
        let appended = journal.append(entry(count)).await.unwrap();
        assert_eq!((appended.number, problem(&journal)), (count, None));
        assert_eq!(disk.size("reserve"), RESERVE);
        check_after_closing(&disk, journal, &(0..=count).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_and_ends_the_segment() {
    // How many syncs and truncates fail, and how many appends then.
    for (syncs, truncates, expected) in [(1, 0, 1), (2, 0, 1), (3, 0, 2), (1, 1, 1), (1, 3, 3)] {
        for durability in SYNCED {
            let case = format!("{syncs} syncs, {truncates} truncates, {durability}");
            let (disk, journal) = three(level(durability)).await;
            disk.fail(Operation::Sync, syncs).fail(Operation::Truncate, truncates);
            let error = journal.append(entry(3)).await.unwrap_err();
            assert!(matches!(error, AppendError::Sync { .. }), "{case}: {error}");
            assert_eq!(problem(&journal), Some(JournalProblemKind::Sync), "{case}");
            let mut failures = 1;
            let appended = loop {
                assert_eq!(numbers(&journal).await, [0, 1, 2], "{case}");
                match journal.append(entry(4)).await {
                    Ok(appended) => break appended,
                    Err(error) => assert!(matches!(error, AppendError::Write { .. }), "{case}: {error}"),
                }
                failures += 1;
            };
            assert_eq!((failures, appended.number), (expected, 4), "{case}: 3 is not used again");
            assert_eq!((problem(&journal), disk.segments().len()), (None, 2), "{case}");
            let gap = read(&journal, ReadFrom::Oldest).await[3].clone().unwrap_err();
            assert_eq!((gap.first, gap.last, gap.cause), (3, 3, GapCause::Missing), "{case}");
            check_after_closing(&disk, journal, &[0, 1, 2, 4]).await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_begun_costs_no_number() {
    for operation in [Operation::Create, Operation::SyncNames] {
        for durability in SYNCED {
            let (disk, journal) = three(JournalConfig { segment_bytes: 4_096, ..level(durability) }).await;
            disk.fail(operation, 2);
            let large = || Entry::new(&serde_json::json!({ "n": 3, "text": "x".repeat(5_000) })).unwrap();
            for _ in 0..2 {
                let error = journal.append(large()).await.unwrap_err();
                assert!(matches!(error, AppendError::Write { .. }), "{error}");
                assert_eq!(problem(&journal), Some(JournalProblemKind::Write));
                assert_eq!(numbers(&journal).await, [0, 1, 2]);
            }
            assert_eq!(journal.append(large()).await.unwrap().number, 3);
            assert!(journal.health().is_ok());
            assert_eq!(disk.segments().len(), 2);
            check_after_closing(&disk, journal, &[0, 1, 2, 3]).await;
        }
    }
}

#[tokio::test]
async fn a_segment_that_cannot_be_removed_is_removed_later() {
    let (disk, journal) = three(JournalConfig { segment_bytes: 4_096, segments: 2, ..config() }).await;
    disk.fail(Operation::Remove, 2);
    let mut most = 0;
    for n in 3..40 {
        journal.append(long_entry(n)).await.unwrap();
        most = most.max(disk.segments().len());
    }
    let health = journal.health();
    assert_eq!((health.problems, most), (2, 4));
    assert_eq!(health.last_problem.unwrap().kind, JournalProblemKind::Retention);
    assert_eq!(disk.segments().len(), 2);
    assert_eq!(numbers(&journal).await.last(), Some(&39));
}

#[tokio::test]
async fn buffered_keeps_records_in_memory_while_the_disk_fails() {
    // What fails: writes after a part, truncates, syncs.
    for (truncates, syncs) in [(0, 0), (1, 0), (2, 0), (0, 1), (3, 3)] {
        let (disk, journal) = three(level(Durability::Buffered)).await;
        disk.write_at_most(20).fail_as(Operation::Append, 1, usize::MAX, None);
        disk.fail(Operation::Truncate, truncates).fail(Operation::Sync, syncs);
        for n in 3..9 {
            let appended = journal.append(entry(n)).await.unwrap();
            assert_eq!((appended.number, appended.durability), (n, Durability::Memory));
            let health = journal.health();
            assert_eq!((health.in_memory, health.is_ok()), (n - 2, false));
            assert_eq!(numbers(&journal).await, [0, 1, 2], "what is in memory alone is not read");
        }
        disk.heal();
        let appended = journal.append(entry(9)).await.unwrap();
        assert_eq!((appended.number, appended.durability), (9, Durability::Buffered));
        let health = journal.health();
        assert_eq!((health.in_memory, health.is_ok()), (0, true));
        assert_eq!(numbers(&journal).await, (0..10).collect::<Vec<_>>());
        check_after_closing(&disk, journal, &(0..10).collect::<Vec<_>>()).await;
    }
}

#[tokio::test]
async fn what_waits_in_memory_is_bounded() {
    let (disk, journal) = three(level(Durability::Buffered)).await;
    disk.fail(Operation::Append, usize::MAX);
    let large = |n: u64| Entry::new(&serde_json::json!({ "n": n, "text": "x".repeat(1_000_000) })).unwrap();
    let mut next = 3;
    let error = loop {
        match journal.append(large(next)).await {
            Ok(appended) => assert_eq!((appended.number, appended.durability), (next, Durability::Memory)),
            Err(error) => break error,
        }
        next += 1;
    };
    assert!(matches!(error, AppendError::Write { .. }), "{error}");
    assert_eq!((next, journal.health().in_memory), (3 + 16, 16), "16 MiB");
    disk.heal();
    assert_eq!(journal.append(entry(next)).await.unwrap().number, next);
    assert_eq!(journal.health().in_memory, 0);
    check_after_closing(&disk, journal, &(0..=next).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn closing_reports_what_is_lost() {
    // What fails at the end, with how many records in memory.
    for (operation, in_memory) in [(Operation::Append, 4), (Operation::Sync, 0)] {
        let (disk, journal) = three(level(Durability::Buffered)).await;
        disk.fail(operation, usize::MAX);
        append_all(&journal, 3..7).await;
        for _ in 0..2 {
            let error = journal.close().await.unwrap_err();
            assert!(matches!(error, CloseError::Write { lost, .. } if lost == in_memory), "{error}");
            assert!(error.to_string().starts_with(&format!("{in_memory} records were not written")));
        }
        disk.heal();
        let journal = open_on(&disk, config()).await;
        assert_eq!(numbers(&journal).await.len() as u64, 7 - in_memory);
    }
}

#[tokio::test]
async fn closing_reports_a_sync_that_failed_earlier() {
    let disk = Faulty::default();
    let config = JournalConfig { segment_bytes: 4_096, ..level(Durability::Buffered) };
    let journal = open_on(&disk, config).await;
    disk.fail(Operation::Sync, 1);
    for n in 0..5 {
        assert_eq!(journal.append(long_entry(n)).await.unwrap().durability, Durability::Buffered);
    }
    let health = journal.health();
    assert_eq!((health.problems, health.last_problem.unwrap().kind), (1, JournalProblemKind::Sync));
    // A segment is left only when it is durable.
    assert_eq!(disk.segments().len(), 1);
    append_all(&journal, 5..6).await;
    assert_eq!(disk.segments().len(), 2);
    // What the later syncs have confirmed may not be all.
    assert!(matches!(journal.close().await, Err(CloseError::Write { lost: 0, .. })));
}

#[tokio::test]
async fn a_segment_without_records_that_stays_is_begun_again() {
    for kind in [io::ErrorKind::FileTooLarge, io::ErrorKind::StorageFull] {
        let disk = Faulty::default();
        let journal = open_on(&disk, config()).await;
        disk.fail_as(Operation::Append, 0, 1, Some(kind)).fail(Operation::Remove, 2);
        journal.append(entry(0)).await.unwrap_err();
        assert_eq!(disk.segments().len(), 1, "it could not be removed");
        append_all(&journal, 0..3).await;
        assert_eq!(numbers(&journal).await, [0, 1, 2]);
        check_after_closing(&disk, journal, &[0, 1, 2]).await;
    }
}

#[tokio::test]
async fn nothing_is_appended_after_a_torn_end_that_cannot_be_cut() {
    // The records before the torn one, and the number of segments after the next append.
    for (before, segments) in [(0, 1), (1, 2), (3, 2)] {
        let disk = Faulty::default();
        let journal = open_on(&disk, config()).await;
        append_all(&journal, 0..=before).await;
        journal.close().await.unwrap();
        disk.cut_end(1);
        disk.fail(Operation::Truncate, 1);
        let journal = open_on(&disk, config()).await;
        assert!(journal.recovery().torn_bytes > 0);
        append_all(&journal, before..before + 2).await;
        assert_eq!(disk.segments().len(), segments);
        assert_eq!(numbers(&journal).await, (0..before + 2).collect::<Vec<_>>());
        journal.close().await.unwrap();
        assert_eq!(numbers(&open_on(&disk, config()).await).await, (0..before + 2).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_journal_does_not_open_while_lines_of_a_batch_cannot_be_cut() {
    let (disk, journal) = three(config()).await;
    journal.append_batch((3..6).map(entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    disk.cut_end(1);
    for operation in [Operation::Create, Operation::SyncNames, Operation::Truncate] {
        disk.fail(operation, 1);
        let error = Journal::open_on(Arc::new(disk.clone()), config()).await.unwrap_err();
        assert!(matches!(error, JournalError::Io { .. }), "{operation:?}: {error}");
    }
    let journal = open_on(&disk, config()).await;
    assert_eq!((journal.recovery().uncommitted, numbers(&journal).await), (2, vec![0, 1, 2]));
    assert_eq!(journal.append(entry(3)).await.unwrap().number, 3);
}

#[tokio::test]
async fn a_removed_directory_is_a_failed_write() {
    for durability in [Durability::Buffered, Durability::Group, Durability::Always] {
        let parent = directory();
        let path = parent.path().join("journal");
        let journal = Journal::open(&path, level(durability)).await.unwrap();
        append_all(&journal, 0..3).await;
        fs::remove_dir_all(&path).unwrap();
        let appended = journal.append(entry(3)).await;
        let health = journal.health();
        assert_eq!(health.problem.unwrap().kind, JournalProblemKind::Write);
        assert_eq!(health.problems, 2, "the removed file, and the new one");
        let lost = read(&journal, ReadFrom::Number(0)).await[0].clone().unwrap_err();
        assert_eq!((lost.first, lost.last), (0, 2));
        if durability == Durability::Buffered {
            assert_eq!(appended.unwrap().durability, Durability::Memory);
            assert!(matches!(journal.close().await, Err(CloseError::Write { lost: 1, .. })));
        } else {
            assert!(matches!(appended, Err(AppendError::Write { .. })));
            journal.close().await.unwrap();
        }
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn failed_syncs_do_not_retire_what_is_good() {
    let disk = Faulty::default();
    let journal = open_on(&disk, JournalConfig { segments: 3, ..level(Durability::Group) }).await;
    append_all(&journal, 0..3).await;
    for n in 3..12 {
        disk.fail(Operation::Sync, 1);
        assert!(matches!(journal.append(entry(n)).await, Err(AppendError::Sync { .. })));
        append_all(&journal, [n]).await;
    }
    let found: Vec<u64> = read(&journal, ReadFrom::Number(0)).await.into_iter().flatten().collect();
    assert_eq!(
        found,
        (0..12).collect::<Vec<_>>(),
        "each failure has ended a segment, and none is removed for it"
    );
}

#[tokio::test]
async fn a_reserve_that_cannot_be_made_is_reported_at_once() {
    let disk = Faulty::default();
    disk.set_capacity(1_000);
    let journal = open_on(&disk, JournalConfig { reserve: 100_000, ..config() }).await;
    assert_eq!(problem(&journal), Some(JournalProblemKind::Reserve));
    append_all(&journal, 0..1).await;
    assert_eq!(problem(&journal), Some(JournalProblemKind::Reserve));
}

#[tokio::test]
async fn a_problem_that_stays_is_shown_again_after_one_that_passes() {
    let (disk, journal) = three(JournalConfig { segments: 2, segment_bytes: 4_096, ..config() }).await;
    disk.fail(Operation::Remove, 1);
    for n in 3..12 {
        journal.append(long_entry(n)).await.unwrap();
    }
    assert_eq!(problem(&journal), Some(JournalProblemKind::Retention));
    disk.fail(Operation::Append, 1);
    assert!(journal.append(entry(12)).await.is_err());
    assert_eq!(problem(&journal), Some(JournalProblemKind::Write));
    append_all(&journal, 12..13).await;
    assert_eq!(problem(&journal), Some(JournalProblemKind::Retention));
}

#[tokio::test]
async fn a_removal_at_the_close_does_not_cost_what_waits_in_memory() {
    let (disk, journal) = three(level(Durability::Buffered)).await;
    disk.fail(Operation::Append, 2);
    append_all(&journal, 3..5).await;
    assert_eq!(journal.health().in_memory, 2);
    let file = disk.segments().remove(0);
    disk.remove(&file).unwrap();
    journal.close().await.unwrap();
    let journal = open_on(&disk, config()).await;
    let found: Vec<u64> = read(&journal, ReadFrom::Number(0)).await.into_iter().flatten().collect();
    assert_eq!((found, journal.cursor().seq()), (vec![3, 4], 5));
}

#[tokio::test]
async fn a_group_is_what_came_during_the_sync_before() {
    for (durability, expected) in
        [(Durability::Group, 2), (Durability::Always, 50), (Durability::Buffered, 0)]
    {
        let disk = Faulty::default();
        let journal = open_on(&disk, level(durability)).await;
        let before = disk.syncs();
        let mut answers = Vec::new();
        {
            let _gate = disk.hold_syncs().await;
            answers.push(journal.submit_entry(entry(0)).await.unwrap());
            // The thread is in the sync of the first one.
            while durability != Durability::Buffered && disk.syncs() == before {
                std::thread::yield_now();
            }
            for n in 1..50 {
                answers.push(journal.submit_entry(entry(n)).await.unwrap());
            }
        }
        for answer in answers {
            answer.await.unwrap();
        }
        assert_eq!(disk.syncs() - before, expected, "{durability}");
        journal.close().await.unwrap();
    }
}
