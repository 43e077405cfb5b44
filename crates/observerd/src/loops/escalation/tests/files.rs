//! `escalations.json`: damaged, foreign, bounded.

use std::fs;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::cluster;
use crate::loops::escalation::document::{EscalatedCluster, Letter};
use crate::loops::escalation::file::EscalationFile;
use crate::loops::escalation::ledger::{Ending, Entry, Ledger, MOST_ENTRIES, Record};

const HOUR: Duration = Duration::from_hours(1);

fn entry(id: impl Into<String>, sequence: u64, at: Timestamp) -> Entry {
    Entry { id: id.into(), sequence, at, ending: Ending::Posted }
}

fn record() -> Record {
    let document = EscalatedCluster {
        cluster: cluster("b2", 12, 9),
        threshold: 10,
        posted_at: "2026-11-28T10:05:01Z".to_owned(),
        service: "observerd".to_owned(),
    };
    let escalated = vec![entry("a1", 7, Timestamp::UNIX_EPOCH)];
    Record { pending: Some(Letter { key: "b2-9".to_owned(), document }), escalated, ..Record::default() }
}

#[test]
fn what_is_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = EscalationFile::new(directory.path());
    assert_eq!(file.read().unwrap(), Record::default());
    // One that a crash has left.
    fs::write(directory.path().join("escalations.json.new"), "half").unwrap();
    file.write(&record()).unwrap();
    assert_eq!(file.read().unwrap(), record());
    let names: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["escalations.json"]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_damaged_or_foreign_file_is_kept_aside() {
    let good = serde_json::to_string(&record()).unwrap();
    let cases = [
        String::new(),
        "{".to_owned(),
        "[]".to_owned(),
        "null".to_owned(),
        "\0\0\0\0".to_owned(),
        "{\"version\":1}".to_owned(),
        good[..good.len() - 1].to_owned(),
        format!("{good}{good}"),
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"version\":1", "\"version\":1,\"more\":0"),
        good.replace("\"a1\"", "\"a 1\""),
        good.replace("\"a1\"", "\"\""),
        good.replace("1970-", "soon-"),
        good.replace("b2-9", "b2\\n9"),
        " ".repeat(5 * 1024 * 1024),
    ];
    for damaged in cases {
        let directory = tempfile::tempdir().unwrap();
        let file = EscalationFile::new(directory.path());
        fs::write(file.path(), &damaged).unwrap();
        let start = &damaged[..damaged.len().min(80)];
        assert_eq!(file.read().unwrap(), Record::default(), "{start:?}");
        let aside = directory.path().join("escalations.json.damaged");
        assert_eq!(fs::read_to_string(&aside).unwrap(), damaged);
        assert!(!file.path().exists());
        file.write(&record()).unwrap();
        assert_eq!(file.read().unwrap(), record());
    }
    let directory = tempfile::tempdir().unwrap();
    let file = EscalationFile::new(directory.path());
    fs::create_dir(file.path()).unwrap();
    assert_eq!(file.read().unwrap(), Record::default());
    assert!(directory.path().join("escalations.json.damaged").is_dir());
}

#[test]
fn the_newest_ids_are_known() {
    let (now, wall) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut ledger = Ledger::of(Vec::new(), HOUR, now, wall);
    for n in 0..MOST_ENTRIES as u64 + 10 {
        ledger.ended(entry(format!("id{n}"), n, wall), now);
        // The same again and again takes no room of others.
        ledger.ended(entry("same", n, wall), now);
    }
    let kept = ledger.record(None).escalated;
    assert_eq!(kept.len(), MOST_ENTRIES);
    assert!(ledger.allows("id10", 11, now) && !ledger.allows("id11", 12, now));
    assert_eq!(kept.last().map(|entry| entry.id.as_str()), Some("same"));
    let directory = tempfile::tempdir().unwrap();
    let file = EscalationFile::new(directory.path());
    file.write(&ledger.record(record().pending)).unwrap();
    assert_eq!(file.read().unwrap().escalated, kept, "the largest file is read again");
}

#[test]
fn a_cooldown_goes_on_after_a_restart() {
    let (now, wall) = (Instant::now(), Timestamp::from_second(1_000_000).unwrap());
    let minute = Duration::from_mins(1);
    let cases = [
        // When it ended, and after which time it may be posted again.
        (wall - 10 * minute, 50 * minute),
        (wall - HOUR, Duration::ZERO),
        (wall - 100 * HOUR, Duration::ZERO),
        (wall, HOUR),
        // The clock was set back.
        (wall + 100 * HOUR, HOUR),
        (Timestamp::MAX, HOUR),
        (Timestamp::MIN, Duration::ZERO),
    ];
    for (at, left) in cases {
        let ledger = Ledger::of(vec![entry("a1", 7, at)], HOUR, now, wall);
        let second = Duration::from_secs(1);
        assert!(left < second || !ledger.allows("a1", 8, now + left - second), "{at}");
        assert!(ledger.allows("a1", 8, now + left), "{at}");
        assert!(!ledger.allows("a1", 7, now + 10 * HOUR), "nothing is new");
        assert!(ledger.allows("a1", 3, now + left), "another journal");
    }
}
