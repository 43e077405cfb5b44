//! What the tests share.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use watchkeeper_journal::{Durability, Entry, Gap, Journal, JournalConfig, ReadFrom, ReadItem};

/// A directory of its own for each test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

/// Without a reserve, which takes time.
pub(crate) fn config() -> JournalConfig {
    JournalConfig { reserve: 0, ..JournalConfig::default() }
}

pub(crate) fn small_segments() -> JournalConfig {
    JournalConfig { segment_bytes: 4_096, durability: Durability::Buffered, ..config() }
}

pub(crate) fn entry(n: u64) -> Entry {
    Entry::new(&serde_json::json!({ "n": n })).unwrap()
}

pub(crate) fn long_entry(n: u64) -> Entry {
    Entry::new(&serde_json::json!({ "n": n, "text": "x".repeat(900) })).unwrap()
}

pub(crate) async fn open(path: &Path) -> Journal {
    Journal::open(path, config()).await.unwrap()
}

pub(crate) async fn append_all(journal: &Journal, numbers: impl IntoIterator<Item = u64>) {
    for n in numbers {
        journal.append(entry(n)).await.unwrap();
    }
}

/// The `n` of each record, or the gap, from `from` to the present end.
pub(crate) async fn read(journal: &Journal, from: ReadFrom) -> Vec<Result<u64, Gap>> {
    let mut reader = journal.reader(from).unwrap();
    let mut items = Vec::new();
    while let Some(item) = reader.next_existing().await.unwrap() {
        items.push(match item {
            ReadItem::Record(record) => {
                let value: serde_json::Value = record.parse().unwrap();
                assert_eq!(serde_json::from_str::<serde_json::Value>(record.body()).unwrap(), value);
                Ok(value["n"].as_u64().unwrap())
            }
            ReadItem::Gap(gap) => Err(gap),
        });
    }
    items
}

pub(crate) async fn numbers(journal: &Journal) -> Vec<u64> {
    read(journal, ReadFrom::Oldest).await.into_iter().map(Result::unwrap).collect()
}

/// The segments, from the oldest to the newest.
pub(crate) fn segments(path: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    found.sort();
    found
}
