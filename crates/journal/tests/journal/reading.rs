//! Reading from positions, and following.

use futures_util::StreamExt;
use tokio::task::yield_now;
use watchkeeper_journal::{Journal, ReadFrom, ReadFromError, ReadItem};

use crate::common::*;

#[tokio::test]
async fn a_reader_begins_where_it_is_asked_to() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    for n in 0..20 {
        journal.append(long_entry(n)).await.unwrap();
    }
    assert!(segments(directory.path()).len() > 4);
    let position = journal.cursor();
    let cases = [
        (ReadFrom::Oldest, 0),
        (ReadFrom::Number(7), 7),
        (ReadFrom::Cursor(position.at(11)), 11),
        (ReadFrom::Last(3), 17),
        (ReadFrom::Last(100), 0),
        (ReadFrom::Last(0), 20),
        (ReadFrom::End, 20),
        (ReadFrom::Cursor(position), 20),
    ];
    for (from, first) in cases {
        let found: Vec<u64> = read(&journal, from).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(found, (first..20).collect::<Vec<_>>(), "{from:?}");
    }
}

#[tokio::test]
async fn a_record_in_the_middle_of_a_large_segment_is_found() {
    let directory = directory();
    let journal = open(directory.path()).await;
    for batch in 0..12 {
        journal.append_batch((0..1_000).map(|n| long_entry(batch * 1_000 + n)).collect()).await.unwrap();
    }
    assert_eq!(segments(directory.path()).len(), 1);
    for first in [0, 1, 999, 5_000, 6_789, 11_998, 11_999] {
        let mut reader = journal.reader(ReadFrom::Number(first)).unwrap();
        for n in first..(first + 3).min(12_000) {
            let record = reader.next_existing().await.unwrap().unwrap().record().unwrap();
            assert_eq!(record.parse::<serde_json::Value>().unwrap()["n"], n);
        }
    }
}

#[tokio::test]
async fn a_reader_follows_over_segments_and_ends_with_the_journal() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    let reader = journal.reader(ReadFrom::End).unwrap();
    let following =
        tokio::spawn(reader.map(|item| item.unwrap().record().unwrap().number()).collect::<Vec<_>>());
    for n in 0..50 {
        journal.append(long_entry(n)).await.unwrap();
        if n % 7 == 0 {
            yield_now().await;
        }
    }
    journal.close().await.unwrap();
    // The last eight segments may be all that was left for a slow reader: it was not that slow.
    assert_eq!(following.await.unwrap(), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_dropped_call_takes_nothing() {
    let directory = directory();
    let journal = open(directory.path()).await;
    append_all(&journal, 0..3).await;
    let mut reader = journal.reader(ReadFrom::Oldest).unwrap();
    for n in 0..3 {
        {
            // Polled once, and dropped while a thread reads.
            let call = reader.recv();
            futures_util::pin_mut!(call);
            if let std::task::Poll::Ready(item) = futures_util::poll!(call.as_mut()) {
                assert_eq!(item.unwrap().unwrap().record().unwrap().number(), n);
                continue;
            }
        }
        assert_eq!(reader.cursor().seq(), n);
        assert_eq!(reader.recv().await.unwrap().unwrap().record().unwrap().number(), n);
    }
    assert_eq!(reader.cursor(), journal.cursor());
}

#[tokio::test]
async fn cursors_of_others_and_of_the_future_are_refused() {
    let (journal, other) = (Journal::in_memory(config()).unwrap(), Journal::in_memory(config()).unwrap());
    append_all(&journal, 0..2).await;
    let refused = |from| journal.reader(from).unwrap_err();
    assert_eq!(refused(ReadFrom::Cursor(other.cursor())), ReadFromError::Foreign);
    let future = ReadFromError::Future { number: 3, next: 2 };
    assert_eq!(refused(ReadFrom::Cursor(journal.cursor().at(3))), future);
    assert_eq!(refused(ReadFrom::Number(3)), future);
}

#[tokio::test]
async fn two_readers_are_independent() {
    let journal = Journal::in_memory(config()).unwrap();
    append_all(&journal, 0..4).await;
    let (mut one, mut two) =
        (journal.reader(ReadFrom::Oldest).unwrap(), journal.reader(ReadFrom::Number(2)).unwrap());
    let number = |item: Option<ReadItem>| item.unwrap().record().unwrap().number();
    for n in 0..4 {
        assert_eq!(number(one.recv().await.unwrap()), n);
    }
    assert_eq!(number(two.recv().await.unwrap()), 2);
    journal.append(entry(4)).await.unwrap();
    assert_eq!(number(one.recv().await.unwrap()), 4);
    assert_eq!(number(two.recv().await.unwrap()), 3);
}

#[tokio::test]
async fn what_is_lost_at_the_end_is_a_gap_at_once() {
    let directory = directory();
    let journal = Journal::open(directory.path(), small_segments()).await.unwrap();
    for n in 0..6 {
        journal.append(long_entry(n)).await.unwrap();
    }
    journal.close().await.unwrap();
    let files = segments(directory.path());
    let first: u64 = files[1].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let length = bytes.len();
    bytes[length - 9] ^= 1;
    std::fs::write(&files[0], bytes).unwrap();
    std::fs::write(&files[1], "{\"torn\":").unwrap();
    let journal = open(directory.path()).await;
    let items = read(&journal, ReadFrom::Oldest).await;
    assert_eq!(items[..items.len() - 1], (0..first - 1).map(Ok).collect::<Vec<_>>());
    let gap = items.last().unwrap().as_ref().unwrap_err();
    assert_eq!((gap.first, gap.last), (first - 1, first - 1));
}
