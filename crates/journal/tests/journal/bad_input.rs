//! What is refused, and how.

use std::error::Error;
use std::fs;

use watchkeeper_journal::{
    AppendError, Durability, Entry, EntryError, Journal, JournalConfig, JournalError, MAX_RECORD,
};

use crate::common::*;

#[test]
fn what_is_no_record_is_refused() {
    let text = |text: &str| Entry::from_text(text).unwrap_err();
    for other in ["1", "-1", "1.5", "\"x\"", "true", "null", "[{}]"] {
        assert_eq!(text(other), EntryError::NotAnObject, "{other}");
    }
    for torn in
        ["", "{", "{\"a\":1", "{\"a\":1}}", "{} {}", "{\"a\":\"\u{0}\"}", "nul", "{\"a\":1}\n{\"b\":2}"]
    {
        assert!(matches!(text(torn), EntryError::NotJson { .. }), "{torn:?}");
    }
    for reserved in ["{\"_wk_n\":1}", "{\"a\":1,\"_wk_x\":{}}", "{\"\\u005fwk_c\":1}"] {
        assert_eq!(text(reserved), EntryError::Reserved, "{reserved}");
    }
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD));
    assert_eq!(text(&long), EntryError::TooLong { bytes: long.len() });
    let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_RECORD - 8));
    assert_eq!(Entry::from_text(fits).unwrap().body().len(), MAX_RECORD);
    assert_eq!(Entry::new(&7).unwrap_err(), EntryError::NotAnObject);
    assert_eq!(
        Entry::new(&std::collections::BTreeMap::from([((1, 2), 3)])).unwrap_err(),
        EntryError::Unserializable
    );
    // Text that a value carries along is checked too.
    let carried = |text: &str| {
        let raw = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        Entry::new(&raw)
    };
    for reserved in ["{\"_wk_n\":1}", "{\"\\u005fwk_c\":1}", "{\"\\u005Fwk_c\":1}", "{ \"_wk_n\":1}"] {
        assert_eq!(carried(reserved).unwrap_err(), EntryError::Reserved, "{reserved}");
    }
    assert_eq!(carried("{\"a\":\n1}").unwrap().body(), "{\"a\": 1}");
    assert_eq!(carried("{\"a\":{\"_wk_n\":1}}").unwrap().body(), "{\"a\":{\"_wk_n\":1}}");
    assert_eq!(carried("[1]").unwrap_err(), EntryError::NotAnObject);
    let entry = || Entry::from_text("{}").unwrap();
    assert!(matches!(
        entry().with_key(""),
        Err(EntryError::InvalidTail { name: "key", bytes: 0, most: 256 })
    ));
    assert!(matches!(entry().with_position(&"x".repeat(1_025)), Err(EntryError::InvalidTail { .. })));
    // Nested, such a field is the operation's own.
    assert!(Entry::from_text("{\"a\":{\"_wk_n\":1}}").is_ok());
    assert_eq!(Entry::from_text(" {\"a\":\n 1}\r\n").unwrap().body(), "{\"a\":  1}");
}

#[tokio::test]
async fn the_largest_records_are_read_again() {
    let directory = directory();
    let journal = open(directory.path()).await;
    let body = format!("{{\"a\":\"{}\"}}", "\u{e9}".repeat((MAX_RECORD - 8) / 2));
    for _ in 0..3 {
        let entry = Entry::from_text(body.clone()).unwrap();
        let entry =
            entry.with_key(&"\u{1}".repeat(256)).unwrap().with_position(&"\u{1}".repeat(1_024)).unwrap();
        journal.append(entry).await.unwrap();
    }
    journal.close().await.unwrap();
    let journal = open(directory.path()).await;
    assert!(journal.recovery().is_clean());
    let mut reader = journal.reader(watchkeeper_journal::ReadFrom::Oldest).unwrap();
    for _ in 0..3 {
        let record = reader.recv().await.unwrap().unwrap().record().unwrap();
        assert_eq!(record.body(), body);
        assert_eq!(record.position().unwrap().len(), 1_024);
    }
}

#[tokio::test]
async fn batches_that_are_empty_or_too_large_are_refused() {
    let journal = Journal::in_memory(config()).unwrap();
    assert!(matches!(journal.append_batch(vec![]).await, Err(AppendError::EmptyBatch)));
    let large = Entry::from_text(format!("{{\"a\":\"{}\"}}", "x".repeat(1_000_000))).unwrap();
    let error = journal.append_batch(vec![large; 5]).await.unwrap_err();
    assert!(matches!(error, AppendError::BatchTooLarge { entries: 5, .. }));
    assert_eq!(journal.cursor().seq(), 0);
}

async fn refused(path: impl Into<std::path::PathBuf>) -> JournalError {
    Journal::open(path, config()).await.unwrap_err()
}

#[tokio::test]
async fn directories_that_are_no_journals_are_refused() {
    let directory = directory();
    let at = |name: &str| directory.path().join(name);

    fs::write(at("file"), "x").unwrap();
    assert!(matches!(refused(at("file")).await, JournalError::Io { .. }));
    assert!(matches!(refused(at("file/below")).await, JournalError::Io { .. }));
    assert!(matches!(refused("/proc/watchkeeper").await, JournalError::Io { .. }));

    let error = refused(directory.path()).await;
    assert!(matches!(&error, JournalError::Foreign { name, .. } if name == "file"), "{error}");

    let journal = open(&at("locked")).await;
    assert!(matches!(refused(at("locked")).await, JournalError::Locked { .. }));
    append_all(&journal, 0..1).await;
    journal.close().await.unwrap();
    drop(open(&at("locked")).await);

    let journal = open(&at("newer")).await;
    journal.close().await.unwrap();
    let identity = fs::read_to_string(at("newer/journal.json")).unwrap();
    fs::write(at("newer/journal.json"), identity.replace(":1,", ":2,")).unwrap();
    let error = refused(at("newer")).await;
    assert!(matches!(error, JournalError::Newer { found: 2, .. }));
    assert!(error.to_string().contains("newer has format 2, and this version knows 1"), "{error}");

    for damaged in
        ["", "{}", "{\"watchkeeper_journal\":1}", "{\"watchkeeper_journal\":1,\"instance\":\"xyz\"}"]
    {
        fs::write(at("newer/journal.json"), damaged).unwrap();
        assert!(matches!(refused(at("newer")).await, JournalError::Identity { .. }), "{damaged}");
    }

    let journal = open(&at("lost")).await;
    append_all(&journal, 0..1).await;
    journal.close().await.unwrap();
    fs::remove_file(at("lost/journal.json")).unwrap();
    assert!(matches!(refused(at("lost")).await, JournalError::Identity { .. }));
}

#[tokio::test]
async fn settings_out_of_their_range_are_refused_before_anything_is_made() {
    let directory = directory();
    let path = directory.path().join("none");
    let cases = [
        ("segment_bytes", JournalConfig { segment_bytes: 4_095, ..config() }),
        ("segments", JournalConfig { segments: 1, ..config() }),
        ("segment_age", JournalConfig { segment_age: Some(std::time::Duration::ZERO), ..config() }),
        ("durability", JournalConfig { durability: Durability::Memory, ..config() }),
    ];
    for (name, config) in cases {
        let error = Journal::open(&path, config).await.unwrap_err();
        assert!(matches!(error, JournalError::InvalidConfig { field, .. } if field == name), "{error}");
    }
    assert!(!path.exists());
}

#[tokio::test]
async fn an_error_shows_what_where_and_what_to_do() {
    let directory = directory();
    fs::write(directory.path().join("notes\u{1b}[31m.txt"), "x").unwrap();
    let error = refused(directory.path()).await;
    let text = error.to_string();
    assert!(!text.contains('\u{1b}') && text.contains("give an empty or a new directory"), "{text}");
    let error = refused(directory.path().join("notes\u{1b}[31m.txt")).await;
    assert!(error.source().is_some() && !error.to_string().contains('\u{1b}'));
}
