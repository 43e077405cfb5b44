//! What a check finds, in a directory that nobody writes and in one that is being written.

use std::fs;
use std::path::Path;

use watchkeeper_journal::{CheckReport, FindingKind, Journal, JournalError, JournalView, ReadFrom, check};

use crate::common::*;

/// A closed journal with the records 0 to 9, and the length of a line.
async fn ten(path: &Path) -> (Vec<u8>, usize) {
    let journal = open(path).await;
    append_all(&journal, 0..10).await;
    journal.close().await.unwrap();
    let whole = fs::read(&segments(path)[0]).unwrap();
    let line = whole.len() / 10;
    (whole, line)
}

fn kinds(report: &CheckReport) -> Vec<(u64, FindingKind)> {
    report.findings.iter().map(|finding| (finding.byte, finding.kind.clone())).collect()
}

/// A check that finds a content with one fault changes nothing, and agrees with the next opening.
#[tokio::test]
async fn each_fault_is_found_at_its_byte() {
    let directory = directory();
    let (whole, line) = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    let at = |place: usize| (place * line) as u64;
    let lines = |from: usize, to: usize| &whole[from * line..to * line];
    let size = line as u64;
    let damage = |bytes, records| FindingKind::Damage { bytes, records };
    let torn = |bytes, has_lines| FindingKind::TornTail { bytes, has_lines };
    let repeat = FindingKind::Repeat { first: 2, records: 2, bytes: 2 * size };
    // The content, the finding, the number of valid records, and whether it is a problem.
    let cases = [
        (whole.clone(), None, 10, false),
        ([lines(0, 10), b"{\"n\":1"].concat(), Some((at(10), torn(6, false))), 10, false),
        ([lines(0, 10), b"\0\0\n\0"].concat(), Some((at(10), torn(4, true))), 10, true),
        ([lines(0, 3), b"x\n\ny\n", lines(3, 10)].concat(), Some((at(3), damage(5, 0))), 10, true),
        ([lines(0, 3), b"x", lines(3, 10)].concat(), Some((at(3), damage(size + 1, 1))), 9, true),
        (
            [lines(0, 3), b"x", lines(3, 4), b"y", lines(4, 10)].concat(),
            Some((at(3), damage(2 * size + 2, 2))),
            8,
            true,
        ),
        (
            [lines(0, 3), lines(6, 10)].concat(),
            Some((at(3), FindingKind::Gap { first: 3, last: 5 })),
            7,
            true,
        ),
        ([lines(0, 5), lines(2, 4), lines(5, 10)].concat(), Some((at(5), repeat.clone())), 10, true),
        ([lines(0, 5), lines(2, 4)].concat(), Some((at(5), repeat)), 5, true),
        (
            [vec![b'x'; 3_000_000], b"\n".to_vec(), whole.clone()].concat(),
            Some((0, damage(3_000_001, 0))),
            10,
            true,
        ),
    ];
    for (place, (content, expected, records, is_problem)) in cases.into_iter().enumerate() {
        fs::write(&file, &content).unwrap();
        let report = check(directory.path()).unwrap();
        assert_eq!(kinds(&report), Vec::from_iter(expected), "case {place}");
        assert_eq!((report.records, report.problems > 0, report.is_complete), (records, is_problem, true));
        assert_eq!(report.bytes, content.len() as u64);
        assert_eq!(fs::read(&file).unwrap(), content, "a check changes nothing");
        assert!(!directory.path().join("quarantine").exists());
    }
}

#[tokio::test]
async fn a_batch_without_its_end_is_a_note_and_one_with_a_hole_a_problem() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..1).await;
    journal.append_batch((1..4).map(entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let whole = fs::read(&file).unwrap();
    let ends: Vec<usize> = memchr_all(&whole);
    fs::write(&file, &whole[..ends[2]]).unwrap();
    let report = check(directory.path()).unwrap();
    let incomplete = |is_end| FindingKind::IncompleteBatch { first: 1, count: 3, found: 2, is_end };
    assert_eq!(kinds(&report), [(ends[0] as u64, incomplete(true))]);
    assert_eq!(report.problems, 0);
    // A view does not have them, because the next opening cuts them.
    let view = JournalView::open(directory.path()).unwrap();
    assert_eq!(view.cursor().seq(), 1);
    assert_eq!(view.reader(ReadFrom::Oldest).unwrap().count(), 1);

    let with_hole = [&whole[..ends[1]], b"#", &whole[ends[1] + 1..]].concat();
    fs::write(&file, with_hole).unwrap();
    let report = check(directory.path()).unwrap();
    let damage = FindingKind::Damage { bytes: (ends[2] - ends[1]) as u64, records: 1 };
    assert_eq!(kinds(&report), [(ends[1] as u64, damage), (ends[0] as u64, incomplete(false))]);
    assert_eq!((report.problems, report.lost), (2, 1));
}

/// Where each line ends.
fn memchr_all(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len()).filter(|place| bytes[*place] == b'\n').map(|place| place + 1).collect()
}

#[tokio::test]
async fn missing_and_damaged_ends_of_segments_are_gaps() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    for n in 0..60 {
        journal.append(long_entry(n)).await.unwrap();
    }
    journal.close().await.unwrap();
    let whole = check(directory.path()).unwrap();
    assert_eq!((whole.segments.len(), whole.next, whole.problems, whole.lost), (8, 60, 0, 0));
    assert_eq!(whole.records, 60 - whole.first);
    assert!(whole.first > 0 && whole.segments[0].first == Some(whole.first));
    assert_eq!(whole.segments[7].last, Some(59));

    let files = segments(directory.path());
    fs::remove_file(&files[2]).unwrap();
    let before_last = fs::read(&files[5]).unwrap();
    fs::write(&files[5], &before_last[..before_last.len() - 5]).unwrap();
    let report = check(directory.path()).unwrap();
    let (missing, cut) = (&whole.segments[2], &whole.segments[5]);
    let last_line = before_last.len() as u64 / cut.records;
    let expected = [
        (0, FindingKind::Gap { first: missing.first.unwrap(), last: missing.last.unwrap() }),
        (cut.bytes - last_line, FindingKind::Damage { bytes: last_line - 5, records: 1 }),
    ];
    assert_eq!(kinds(&report), expected);
    assert_eq!(report.findings[0].file, whole.segments[3].name);
    assert_eq!((report.lost, report.records), (missing.records + 1, whole.records - missing.records - 1));
}

#[tokio::test]
async fn thousands_of_findings_are_counted_and_a_thousand_are_kept() {
    let directory = directory();
    let journal = open(directory.path()).await;
    journal.append_batch((0..3_000).map(entry).collect()).await.unwrap();
    journal.close().await.unwrap();
    let file = segments(directory.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    for end in memchr_all(&bytes).into_iter().step_by(2).take(1_400) {
        bytes[end] = b'#';
    }
    fs::write(&file, bytes).unwrap();
    let report = check(directory.path()).unwrap();
    assert_eq!((report.findings.len(), report.more_findings), (1_000, 401));
    assert_eq!((report.problems, report.lost, report.records), (1_401, 1_400, 1_600));
}

#[tokio::test]
async fn quarantine_and_runs_are_reported() {
    let directory = directory();
    let (whole, line) = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    let mut damaged = whole.clone();
    damaged[line] ^= 1;
    fs::write(&file, damaged).unwrap();
    open(directory.path()).await.close().await.unwrap();
    for name in ["b", "a"] {
        ten(&directory.path().join("run").join(name)).await;
    }
    let report = check(directory.path()).unwrap();
    assert_eq!((report.quarantine_files, report.quarantine_bytes), (1, line as u64));
    let names: Vec<_> = report.runs.iter().map(|run| run.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(check(&report.runs[0]).unwrap().records, 10);
}

#[tokio::test]
async fn a_segment_that_cannot_be_read_does_not_end_the_check() {
    let directory = directory();
    ten(directory.path()).await;
    fs::create_dir(directory.path().join(format!("{:020}.jsonl", 10))).unwrap();
    let report = check(directory.path()).unwrap();
    assert_eq!((report.records, report.is_complete, report.problems), (10, false, 1));
    assert!(matches!(report.findings[0].kind, FindingKind::Unreadable { .. }));

    assert!(matches!(check(directory.path().join("none")), Err(JournalError::NoJournal { .. })));
    let other = crate::common::directory();
    fs::write(other.path().join("file"), "").unwrap();
    assert!(matches!(check(other.path()), Err(JournalError::NoJournal { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_beside_a_writer_finds_no_problem() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    journal.append(entry(0)).await.unwrap();
    let writing = {
        let journal = journal.clone();
        tokio::spawn(async move {
            for n in 0..400 {
                journal.append_batch((0..7).map(|_| entry(n)).collect()).await.unwrap();
            }
        })
    };
    let mut checks = 0;
    while !writing.is_finished() || checks < 3 {
        let report = check(directory.path()).unwrap();
        assert_eq!(report.problems, 0, "{:?}", report.findings);
        checks += 1;
    }
    writing.await.unwrap();
    assert_eq!(check(directory.path()).unwrap().next, 2_801);
}

/// A view beside a crash and a recovery: the reader is not misled by what was cut.
#[tokio::test]
async fn a_view_goes_on_after_a_torn_end_was_cut() {
    let directory = directory();
    let (whole, line) = ten(directory.path()).await;
    let file = segments(directory.path()).remove(0);
    fs::write(&file, &whole[..10 * line - 7]).unwrap();
    let mut view = JournalView::open(directory.path()).unwrap();
    assert_eq!(view.cursor().seq(), 9);
    let mut reader = view.reader(ReadFrom::Last(2)).unwrap();
    let number = |item: Option<Result<watchkeeper_journal::ReadItem, _>>| {
        item.map(|item: Result<_, watchkeeper_journal::ReadError>| item.unwrap().record().unwrap().number())
    };
    assert_eq!(
        [number(reader.next()), number(reader.next()), number(reader.next())],
        [Some(7), Some(8), None]
    );
    let journal = open(directory.path()).await;
    append_all(&journal, [100, 101]).await;
    assert!(view.refresh().unwrap());
    reader.extend(&view);
    assert_eq!(
        [number(reader.next()), number(reader.next()), number(reader.next())],
        [Some(9), Some(10), None]
    );
}
