//! `subscribe_from(snapshot.cursor)` goes on right behind that snapshot; a cursor that cannot be
//! continued is refused.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::{
    CursorError, ObservationConfig, ObservationHandle, ObservationRuntime, RecvError, StaticSourceProvider,
};

use crate::common::threads::{Flavour, Tally, block_on, executor};
use crate::common::{Act, App, Call, at, each_second};

#[tokio::test(start_paused = true)]
async fn of_another_runtime_it_is_refused() {
    let (one, other) = (App::new().start(each_second()).await, App::new().start(each_second()).await);
    let cursor = one.handle().latest_snapshot().unwrap().cursor;
    assert!(one.handle().subscribe_from(cursor).is_ok());
    assert_eq!(other.handle().subscribe_from(cursor).map(|_| ()), Err(CursorError::Foreign));
    // Also when the other one has ended, or comes behind it.
    let _ = other.stop().await;
    assert_eq!(other.handle().subscribe_from(cursor).map(|_| ()), Err(CursorError::Foreign));
    let later = App::new().start(each_second()).await;
    assert_eq!(later.handle().subscribe_from(cursor).map(|_| ()), Err(CursorError::Foreign));
}

#[tokio::test(start_paused = true)]
async fn too_old_it_starts_with_the_exact_count() {
    let app = App::new();
    app.then(Call::Poll, (1..=10).map(|n| Act::Ok(vec![n])));
    let start = Instant::now();
    let runtime = app.start(ObservationConfig { history_limit: 4, ..each_second() }).await;
    let handle = runtime.handle();
    let mut cursors = Vec::new();
    for n in 0..=10 {
        at(start, n * 1_000 + 500).await;
        cursors.push(handle.latest_snapshot().unwrap().cursor);
    }
    for (behind, cursor) in (0_u64..).zip(cursors) {
        let mut batches = handle.subscribe_from(cursor).unwrap();
        let mut next = behind + 1;
        if behind < 6 {
            let Some(Err(RecvError::Lagged { missed, resume })) = batches.try_recv() else {
                panic!("{behind}")
            };
            assert_eq!((missed, resume.seq()), (6 - behind, 6), "behind event {behind}");
            next = 7;
        }
        for event in next..=10 {
            assert_eq!(batches.try_recv().unwrap().unwrap().events, [event], "behind event {behind}");
        }
        assert!(batches.try_recv().is_none(), "behind event {behind}");
    }
}

/// Four readers start behind the newest snapshot while batches are published as fast as can be.
#[test]
fn a_snapshot_and_the_batches_behind_its_cursor_have_no_gap_and_no_duplicate() {
    const ROUNDS: u64 = 300;
    let executor = executor(Flavour::MultiThread);
    for history_limit in [2, 4_096] {
        let wake = Arc::new(Notify::new());
        let config = ObservationConfig {
            interval: Duration::from_secs(3600),
            wake: Some(Arc::clone(&wake)),
            min_gap: Duration::from_nanos(1),
            history_limit,
            ..ObservationConfig::default()
        };
        let sources = StaticSourceProvider::new(vec![]);
        let runtime =
            executor.block_on(ObservationRuntime::start(sources, Tally::default(), config)).unwrap();
        let handle = runtime.handle();
        thread::scope(|scope| {
            let readers: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..ROUNDS).map(|_| read_behind_a_snapshot(&handle)).sum::<u64>()))
                .collect();
            while !readers.iter().all(thread::ScopedJoinHandle::is_finished) {
                wake.notify_one();
                thread::yield_now();
            }
            let read: u64 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
            assert!(read > 0);
        });
    }
}

/// Returns how many batches it read.
fn read_behind_a_snapshot(handle: &ObservationHandle<Tally>) -> u64 {
    let snapshot = handle.latest_snapshot().unwrap();
    let mut batches = handle.subscribe_from(snapshot.cursor).unwrap();
    let mut known = snapshot.value;
    let mut read = 0;
    for _ in 0..3 {
        if let Some(newest) = handle.history().last() {
            assert!(handle.latest_snapshot().unwrap().value > newest.seq, "history ran ahead");
        }
        match block_on(batches.recv()) {
            Ok(batch) => {
                assert_eq!(batch.events, [known + 1]);
                assert_eq!(batch.seq, known, "the first event is in batch 0");
                known += 1;
                read += 1;
                let published = handle.latest_snapshot().unwrap();
                assert!(published.value >= known, "a batch was read before its snapshot was published");
                assert!(handle.status().snapshot.unwrap().cycle >= batch.cycle);
            }
            Err(RecvError::Lagged { missed, resume }) => {
                known += missed;
                assert_eq!(resume.seq(), known);
                assert_eq!(batches.cursor(), resume);
            }
            Err(other) => panic!("{other}"),
        }
    }
    read
}
