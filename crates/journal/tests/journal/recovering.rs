//! What a crash or a disk has left.

use std::fs;
use std::path::{Path, PathBuf};

use watchkeeper_journal::{Durability, GapCause, Journal, JournalConfig, ReadFrom, Recovery};

use crate::common::*;

/// A closed journal with the records 0 to 9.
async fn ten(path: &Path) -> Vec<u8> {
    let journal = open(path).await;
    append_all(&journal, 0..10).await;
    journal.close().await.unwrap();
    fs::read(&segments(path)[0]).unwrap()
}

/// The copy of what was at this byte of the first segment.
fn quarantined(path: &Path, offset: u64) -> PathBuf {
    let name = format!("{:020}-{offset:020}-", 0);
    let mut copies = fs::read_dir(path.join("quarantine")).unwrap().map(|copy| copy.unwrap().path());
    copies.find(|copy| copy.file_name().unwrap().to_str().unwrap().starts_with(&name)).unwrap()
}

async fn recovered(path: &Path) -> (Journal, Recovery) {
    let journal = open(path).await;
    let recovery = journal.recovery().clone();
    (journal, recovery)
}

#[tokio::test]
async fn each_truncation_is_a_torn_tail_that_is_cut() {
    let directory = directory();
    let whole = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    let ends: Vec<usize> =
        (0..whole.len()).filter(|place| whole[*place] == b'\n').map(|place| place + 1).collect();
    for length in 0..=whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let (journal, recovery) = recovered(directory.path()).await;
        let records = ends.iter().filter(|end| **end <= length).count();
        let end = if records == 0 { 0 } else { ends[records - 1] };
        assert_eq!(recovery.torn_bytes, (length - end) as u64, "cut to {length}");
        assert_eq!((recovery.records, recovery.damage.len()), (records as u64, 0));
        // The next record is not glued to what is left.
        journal.append(entry(77)).await.unwrap();
        let mut expected: Vec<u64> = (0..records as u64).collect();
        expected.push(77);
        assert_eq!(numbers(&journal).await, expected);
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_flipped_bit_costs_one_record_and_its_bytes_are_kept() {
    let directory = directory();
    let whole = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    let line = whole.len() / 10;
    for place in (3 * line..4 * line - 1).step_by(3) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        let (journal, recovery) = recovered(directory.path()).await;
        let damage = &recovery.damage[0];
        assert_eq!((damage.offset, damage.bytes, damage.records), (3 * line as u64, line as u64, 1));
        assert_eq!((recovery.damage.len(), recovery.torn_bytes, recovery.records), (1, 0, 9));
        let items = read(&journal, ReadFrom::Oldest).await;
        let gap = items[3].as_ref().unwrap_err();
        assert_eq!((gap.first, gap.last), (3, 3));
        assert!(matches!(&gap.cause, GapCause::Damaged { offset, .. } if *offset == damage.offset));
        assert_eq!(items[4], Ok(4));
        assert_eq!(journal.append(entry(10)).await.unwrap().number, 10);
        journal.close().await.unwrap();
        assert_eq!(fs::read(&file).unwrap()[..whole.len()], bytes, "a segment is never rewritten");
        let kept = quarantined(directory.path(), 3 * line as u64);
        assert_eq!(fs::read(&kept).unwrap(), bytes[3 * line..4 * line]);
        fs::remove_file(kept).unwrap();
    }
}

#[tokio::test]
async fn nul_bytes_and_other_encodings_are_damage() {
    let directory = directory();
    let whole = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    for junk in [vec![0; 5_000], b"\xff\xfe\n".to_vec(), b"\n\n\r\n".to_vec(), vec![b'x'; 3_000_000]] {
        let half = whole.len() / 2;
        let bytes = [&whole[..half], &junk[..], b"\n", &whole[half..], &junk[..]].concat();
        fs::write(&file, &bytes).unwrap();
        let (journal, recovery) = recovered(directory.path()).await;
        assert_eq!(recovery.damage[0].bytes, junk.len() as u64 + 1);
        assert_eq!((recovery.damage[0].records, recovery.torn_bytes), (0, junk.len() as u64));
        assert_eq!(numbers(&journal).await, (0..10).collect::<Vec<_>>());
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_without_its_commit_mark_is_cut() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..2).await;
    journal.append_batch((2..6).map(entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let ends: Vec<usize> =
        (0..whole.len()).filter(|place| whole[*place] == b'\n').map(|place| place + 1).collect();
    for length in ends[1]..whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        let (journal, recovery) = recovered(directory.path()).await;
        let whole_lines = ends.iter().filter(|end| **end <= length).count() as u64;
        assert_eq!(recovery.uncommitted, whole_lines - 2, "cut to {length}");
        assert_eq!(numbers(&journal).await, [0, 1]);
        assert_eq!(journal.append(entry(2)).await.unwrap().number, 2);
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_with_a_hole_in_the_last_group_was_never_committed() {
    let directory = directory();
    let journal = open(directory.path()).await;
    journal.append_batch((0..3).map(long_entry).collect()).await.unwrap();
    journal.append(entry(3)).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let second = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;

    // Other damage came later: what is whole stays.
    let mut bytes = whole.clone();
    bytes[second + 10] ^= 1;
    fs::write(&file, &bytes).unwrap();
    let journal = open(directory.path()).await;
    let found: Vec<u64> = read(&journal, ReadFrom::Number(0)).await.into_iter().flatten().collect();
    assert_eq!(found, [0, 2, 3]);
    assert_eq!(journal.recovery().uncommitted, 0);
    journal.close().await.unwrap();
    fs::remove_dir_all(directory.path().join("quarantine")).unwrap();

    // A block that was not written is zeros.
    let mut bytes = whole;
    let block = second.next_multiple_of(512);
    bytes[block..block + 512].fill(0);
    fs::write(&file, bytes).unwrap();
    for _ in 0..2 {
        let journal = open(directory.path()).await;
        let items = read(&journal, ReadFrom::Number(0)).await;
        assert_eq!(items[0].as_ref().unwrap_err().count(), 3);
        assert_eq!(items[1..], [Ok(3)]);
        journal.close().await.unwrap();
    }
    assert_eq!(fs::read_dir(directory.path().join("quarantine")).unwrap().count(), 4);
}

#[tokio::test]
async fn a_batch_with_a_hole_at_the_very_end_is_cut() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..2).await;
    journal.append_batch((2..5).map(long_entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    // A block of the last line but one.
    let last = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    let block = last / 512 * 512;
    bytes[block - 512..block].fill(0);
    fs::write(&file, bytes).unwrap();
    for (uncommitted, torn) in [(2, true), (0, false)] {
        let (journal, recovery) = recovered(directory.path()).await;
        assert_eq!((recovery.uncommitted, recovery.torn_bytes > 0, recovery.records), (uncommitted, torn, 2));
        assert_eq!(recovery.damage, []);
        assert_eq!((numbers(&journal).await, journal.cursor().seq()), (vec![0, 1], 2));
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn numbers_at_the_end_without_records_are_a_gap_at_once() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..3).await;
    journal.close().await.unwrap();
    // A process that was killed after it had begun a segment.
    fs::write(directory.path().join(format!("{:020}.jsonl", 5)), "").unwrap();
    let (journal, recovery) = recovered(directory.path()).await;
    assert_eq!((recovery.gaps[0].first, recovery.gaps[0].last), (3, 4));
    let items = read(&journal, ReadFrom::Oldest).await;
    let gap = items[3].as_ref().unwrap_err();
    assert_eq!((items.len(), gap.first, gap.last, &gap.cause), (4, 3, 4, &GapCause::Missing));
    assert_eq!(journal.append(entry(5)).await.unwrap().number, 5);
}

#[tokio::test]
async fn a_missing_segment_is_one_exact_gap() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    for n in 0..20 {
        journal.append(long_entry(n)).await.unwrap();
    }
    journal.close().await.unwrap();
    let files = segments(directory.path());
    let first = |place: usize| files[place].file_stem().unwrap().to_str().unwrap().parse::<u64>().unwrap();
    fs::remove_file(&files[2]).unwrap();
    let (journal, recovery) = recovered(directory.path()).await;
    assert_eq!((recovery.gaps[0].first, recovery.gaps[0].last), (first(2), first(3) - 1));
    let items = read(&journal, ReadFrom::Oldest).await;
    let gaps: Vec<_> = items.iter().filter_map(|item| item.as_ref().err()).collect();
    assert_eq!((gaps.len(), gaps[0].first, gaps[0].last), (1, first(2), first(3) - 1));
    assert_eq!(gaps[0].cause, GapCause::Missing);
    assert_eq!(items.iter().filter(|item| item.is_ok()).count() as u64, 20 - gaps[0].count());
}

#[tokio::test]
async fn a_copy_of_a_running_journal_is_a_valid_journal() {
    let directory = directory();
    let journal = Journal::open(
        directory.path(),
        JournalConfig { durability: Durability::Buffered, ..small_segments() },
    )
    .await
    .unwrap();
    let writing = {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..2_000 {
                journal.append(entry(n)).await.unwrap();
            }
        })
    };
    let mut copied = Vec::new();
    for round in 0..20 {
        let copy = directory.path().join(format!("copies/{round}"));
        fs::create_dir_all(&copy).unwrap();
        fs::copy(directory.path().join("journal.json"), copy.join("journal.json")).unwrap();
        for file in segments(directory.path()) {
            // Retention may remove it first.
            let _ = fs::copy(&file, copy.join(file.file_name().unwrap()));
        }
        let other = open(&copy).await;
        assert!(other.recovery().damage.is_empty());
        let found: Vec<u64> = read(&other, ReadFrom::Oldest).await.into_iter().flatten().collect();
        assert!(found.is_sorted() && found.windows(2).all(|pair| pair[0] < pair[1]));
        copied.push(found.len());
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
    assert!(copied.iter().any(|count| *count > 0), "{copied:?}");
}

#[tokio::test]
async fn many_damaged_places_are_one_from_the_thousandth_on() {
    let directory = directory();
    let journal = open(directory.path()).await;
    journal.append(entry(0)).await.unwrap();
    for start in [1, 2_001] {
        let entries = (start..start + 2_000).map(entry);
        for answer in entries.map(|entry| journal.submit_entry(entry)).collect::<Vec<_>>() {
            drop(answer.await.unwrap());
        }
    }
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    // Each second line.
    let mut bytes = Vec::new();
    for (n, line) in whole.split_inclusive(|byte| *byte == b'\n').enumerate() {
        bytes.extend_from_slice(line);
        if n % 2 == 1 {
            let place = bytes.len() - 5;
            bytes[place] ^= 1;
        }
    }
    fs::write(&file, &bytes).unwrap();
    let (journal, recovery) = recovered(directory.path()).await;
    assert_eq!((recovery.damage.len(), recovery.records), (1_000, 2_001));
    assert_eq!(recovery.damage.iter().map(|damage| damage.records).sum::<u64>(), 2_000);
    let last = recovery.damage.last().unwrap();
    let kept = quarantined(directory.path(), last.offset);
    assert_eq!(fs::metadata(kept).unwrap().len(), last.bytes);
    let items = read(&journal, ReadFrom::Oldest).await;
    assert_eq!(items.iter().filter(|item| item.is_err()).count(), 2_000);
}

#[tokio::test]
async fn a_directory_that_somebody_has_emptied_is_a_journal_again() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    append_all(&journal, 0..3).await;
    let cursor = journal.cursor();
    for entry in fs::read_dir(directory.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    assert_eq!(journal.append(entry(3)).await.unwrap().number, 3);
    journal.close().await.unwrap();
    let again = open(directory.path()).await;
    let items = read(&again, ReadFrom::Cursor(cursor)).await;
    assert_eq!(items, [Ok(3)], "its cursors are valid still");
}

#[tokio::test]
async fn whole_lines_at_the_torn_end_keep_their_numbers() {
    let directory = directory();
    let whole = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    let line = whole.len() / 10;
    let mut bytes = whole.clone();
    // The last two records are damaged, and half a line follows.
    for place in [8 * line + 5, 9 * line + 5] {
        bytes[place] ^= 1;
    }
    bytes.extend_from_slice(&whole[..20]);
    fs::write(&file, bytes).unwrap();
    let (journal, recovery) = recovered(directory.path()).await;
    assert_eq!((recovery.torn_bytes, recovery.torn_lines), (2 * line as u64 + 20, 2));
    assert_eq!((recovery.gaps[0].first, recovery.gaps[0].last), (8, 9));
    let end = journal.cursor();
    journal.close().await.unwrap();

    // A consumer that had read them misses nothing of what comes.
    let journal = open(directory.path()).await;
    assert_eq!(journal.cursor(), end);
    assert_eq!(journal.append(entry(10)).await.unwrap().number, 10);
    assert_eq!(read(&journal, ReadFrom::Cursor(end)).await, [Ok(10)]);
    let items = read(&journal, ReadFrom::Oldest).await;
    assert_eq!(items[8].as_ref().unwrap_err().count(), 2);
    assert_eq!(items.len(), 10);
}

#[tokio::test]
async fn a_batch_whose_commit_mark_is_damaged_keeps_its_numbers() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..2).await;
    journal.append_batch((2..5).map(entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    let place = bytes.len() - 10;
    bytes[place] ^= 1;
    fs::write(&file, bytes).unwrap();
    for _ in 0..2 {
        let journal = open(directory.path()).await;
        assert_eq!(journal.cursor().seq(), 5);
        let items = read(&journal, ReadFrom::Oldest).await;
        assert_eq!(items[..2], [Ok(0), Ok(1)]);
        assert_eq!((items.len(), items[2].as_ref().unwrap_err().count()), (3, 3));
        journal.close().await.unwrap();
    }
}

#[tokio::test]
async fn a_damaged_line_feed_costs_two_numbers() {
    let directory = directory();
    let mut bytes = ten(directory.path()).await;
    let line = bytes.len() / 10;
    bytes[9 * line - 1] = b' ';
    fs::write(&segments(directory.path())[0], bytes).unwrap();
    let (journal, recovery) = recovered(directory.path()).await;
    assert_eq!((recovery.torn_lines, journal.cursor().seq()), (2, 10));
}
