//! A journal is plain JSON lines for readers that know nothing of it.

use std::fs;

use serde::Deserialize;
use serde_json::json;
use watchkeeper_journal::{Entry, Journal, JournalConfig};

use crate::common::*;

#[derive(Debug, PartialEq, Deserialize)]
struct Operation {
    endpoint: String,
    success: bool,
    #[serde(default)]
    duration_ms: u64,
}

/// The replay that the journal replaces: each line is parsed, and those that are no operations are skipped.
fn plain_replay(text: &[u8]) -> Vec<Operation> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

#[tokio::test]
async fn the_plain_replay_gets_the_same_operations() {
    let directory = directory();
    let journal = Journal::open(directory.path(), JournalConfig { ..small_segments() }).await.unwrap();
    let operation =
        |n: u64| json!({ "endpoint": format!("/op/{n}"), "success": !n.is_multiple_of(3), "duration_ms": n });
    for n in 0..40 {
        let entry = Entry::new(&operation(n)).unwrap();
        match n % 4 {
            0 => journal.append(entry.with_key(&format!("key {n}")).unwrap()).await.unwrap(),
            1 => journal.append(entry.with_position(&format!("tail:{n}")).unwrap()).await.unwrap(),
            2 => {
                let second = Entry::new(&operation(1_000 + n)).unwrap();
                journal.append_batch(vec![entry, second]).await.unwrap()
            }
            _ => journal.append(entry).await.unwrap(),
        };
    }
    journal.close().await.unwrap();
    // A crash, and damage: both readers skip the same.
    let files = segments(directory.path());
    let mut newest = fs::read(files.last().unwrap()).unwrap();
    newest.extend_from_slice(b"{\"endpoint\":\"/torn\",\"succ");
    fs::write(files.last().unwrap(), newest).unwrap();
    let mut oldest = fs::read(&files[0]).unwrap();
    oldest[30] = 0;
    fs::write(&files[0], oldest).unwrap();

    let again = open(directory.path()).await;
    let mut plain = Vec::new();
    for file in segments(directory.path()) {
        plain.extend(plain_replay(&fs::read(file).unwrap()));
    }
    let mut own = Vec::new();
    let mut reader = again.reader(watchkeeper_journal::ReadFrom::Oldest).unwrap();
    while let Some(item) = reader.next_existing().await.unwrap() {
        own.extend(item.record().map(|record| record.parse::<Operation>().unwrap()));
    }
    assert_eq!(plain.len(), 49);
    assert_eq!(plain, own);
}
