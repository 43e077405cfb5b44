//! What an append answers.

use std::time::Duration;

use watchkeeper_journal::{AppendError, Durability, Entry, Journal, JournalConfig, ReadFrom, ReadItem};

use crate::common::*;

#[tokio::test]
async fn the_answer_has_number_cursor_and_level() {
    let directory = directory();
    for (level, expected) in
        [(Durability::Buffered, "buffered"), (Durability::Group, "group"), (Durability::Always, "always")]
    {
        let config = JournalConfig { durability: level, ..config() };
        let path = directory.path().join(expected);
        let journal = Journal::open(&path, config).await.unwrap();
        assert!(journal.recovery().is_new && journal.recovery().is_clean());
        let first = journal.append(entry(0)).await.unwrap();
        let batch = journal.append_batch(vec![entry(1), entry(2)]).await.unwrap();
        assert_eq!((first.number, first.count, first.durability.to_string()), (0, 1, expected.to_owned()));
        assert_eq!((batch.number, batch.count, batch.cursor), (1, 2, journal.cursor()));
        assert_eq!(batch.cursor.seq(), 3);
        assert!(journal.health().is_ok());
        journal.close().await.unwrap();
        assert!(matches!(journal.append(entry(3)).await, Err(AppendError::Closed)));
        let again = open(&path).await;
        assert!(!again.recovery().is_new && again.recovery().is_clean());
        assert_eq!(again.recovery().records, 3);
        assert_eq!(numbers(&again).await, [0, 1, 2]);
        assert_eq!(again.append(entry(3)).await.unwrap().number, 3);
    }
    let journal = Journal::in_memory(config()).unwrap();
    assert_eq!(journal.append(entry(0)).await.unwrap().durability, Durability::Memory);
    assert_eq!(numbers(&journal).await, [0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_share_syncs_and_each_keeps_its_order() {
    let directory = directory();
    let journal = open(directory.path()).await;
    let tasks: Vec<_> = (0..32_u64)
        .map(|task| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for n in 0..20 {
                    journal.append(entry(task * 1_000 + n)).await.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let all = numbers(&journal).await;
    assert_eq!(all.len(), 640);
    for task in 0..32 {
        let own: Vec<u64> = all.iter().filter(|n| **n / 1_000 == task).map(|n| n % 1_000).collect();
        assert_eq!(own, (0..20).collect::<Vec<_>>());
    }
    journal.close().await.unwrap();
    assert_eq!(numbers(&open(directory.path()).await).await, all);
}

#[tokio::test]
async fn what_rides_in_the_tail_is_read_again() {
    let journal = Journal::in_memory(config()).unwrap();
    let full = entry(1).with_key("a \"key\"").unwrap().with_position("file\\1:17").unwrap();
    journal.append_batch(vec![entry(0), full]).await.unwrap();
    journal.append(Entry::from_text("{}").unwrap().with_key("k").unwrap()).await.unwrap();
    let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
    let mut records = Vec::new();
    while let Some(ReadItem::Record(record)) = reader.next_existing().await.unwrap() {
        records.push(record);
    }
    let batch = records[0].batch().unwrap();
    assert_eq!((batch.first, batch.count, batch.end()), (0, 2, 2));
    assert_eq!(records[1].batch(), Some(batch));
    assert_eq!((records[0].key(), records[0].position()), (None, None));
    assert_eq!(records[1].key().as_deref(), Some("a \"key\""));
    assert_eq!(records[1].position().as_deref(), Some("file\\1:17"));
    assert_eq!((records[2].body(), records[2].key().as_deref(), records[2].batch()), ("{}", Some("k"), None));
    assert_eq!((records[2].cursor(), records[2].after()), (records[1].after(), journal.cursor()));
}

#[tokio::test]
async fn what_was_submitted_is_written_without_waiting_for_the_answer() {
    let directory = directory();
    let journal = open(directory.path()).await;
    for n in 0..100 {
        drop(journal.submit_entry(entry(n)).await.unwrap());
    }
    journal.close().await.unwrap();
    assert_eq!(numbers(&open(directory.path()).await).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_last_clone_that_is_dropped_writes_the_rest_and_frees_the_directory() {
    let directory = directory();
    let journal = open(directory.path()).await;
    let waiting: Vec<_> = {
        let mut waiting = Vec::new();
        for n in 0..100 {
            waiting.push(journal.submit_entry(entry(n)).await.unwrap());
        }
        waiting
    };
    let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
    drop(journal);
    for answer in waiting {
        answer.await.unwrap();
    }
    let mut count = 0;
    while reader.recv().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 100);
    let opening = async {
        loop {
            if let Ok(journal) = Journal::open(directory.path(), config()).await {
                return journal;
            }
            tokio::task::yield_now().await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(20), opening).await.unwrap();
    assert_eq!(numbers(&again).await.len(), 100);
}
