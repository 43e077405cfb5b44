//! Readers of the history beside its writer, in every order that loom finds.

use std::future::poll_fn;
use std::time::SystemTime;

use loom::future::block_on;
use loom::thread;
use tokio::time::Instant;

use super::*;
use crate::cursor::{First, Instance};
use crate::driver::core::loom_rig::{Rig, model};
use crate::publish::history::Announced;

fn batch(seq: u64, generation: u64) -> Arc<ObservationBatch<u64>> {
    Arc::new(ObservationBatch {
        generation,
        seq,
        cycle: seq,
        observed_at: Instant::now(),
        system_time: SystemTime::now(),
        source_count: 0,
        events: vec![seq],
        began: Instant::now(),
        fresh: true,
    })
}

/// The first and the last step of publishing.
fn publish(history: &History<u64>, seq: u64, generation: u64) {
    assert!(history.push(batch(seq, generation)).is_ok(), "nobody has closed it");
    announce(history, seq + 1, generation);
}

fn announce(history: &History<u64>, seq: u64, generation: u64) {
    let cursor = Cursor { instance: history.instance(), generation, seq };
    history.announce(cursor, &mut Announced::default());
}

#[test]
fn loom_behind_a_snapshot_there_is_no_gap_and_no_repetition() {
    model(3, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
        });

        let kept = shared.history.kept().len();
        let snapshot = shared.read(|status| status.snapshot.clone()).unwrap();
        assert!(kept as u64 <= snapshot.value, "a batch is kept before its snapshot");
        let mut subscription =
            Subscription::from_cursor(Arc::clone(&shared.history), snapshot.cursor).unwrap();
        let mut folded = snapshot.value;
        while let Ok(batch) = block_on(subscription.recv()) {
            assert_eq!(batch.events, [folded]);
            folded += 1;
            let published = shared.read(|status| status.snapshot.as_ref().map(|snapshot| snapshot.value));
            assert!(published >= Some(folded), "a batch is seen before its snapshot");
        }
        assert_eq!(folded, 2);
        driver.join().unwrap();
    });
}

/// The end wakes everyone: while the runtime lives on, each announcement has to do so itself.
#[test]
fn loom_a_reader_behind_a_snapshot_is_woken_while_the_runtime_lives_on() {
    model(4, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
            rig
        });

        let snapshot = shared.read(|status| status.snapshot.clone()).unwrap();
        let mut subscription =
            Subscription::from_cursor(Arc::clone(&shared.history), snapshot.cursor).unwrap();
        for event in snapshot.value..2 {
            assert_eq!(block_on(subscription.recv()).unwrap().events, [event]);
        }
        drop(driver.join().unwrap());
    });
}

/// As above, for the stream.
#[test]
fn loom_a_stream_behind_a_snapshot_is_woken_while_the_runtime_lives_on() {
    model(4, || {
        let mut rig = Rig::new(64);
        let shared = Arc::clone(&rig.shared);
        let driver = thread::spawn(move || {
            rig.cycle(1);
            rig.cycle(1);
            rig
        });

        let snapshot = shared.read(|status| status.snapshot.clone()).unwrap();
        let mut subscription =
            Subscription::from_cursor(Arc::clone(&shared.history), snapshot.cursor).unwrap();
        for event in snapshot.value..2 {
            let next = block_on(poll_fn(|context| Pin::new(&mut subscription).poll_next(context)));
            assert_eq!(next.unwrap().unwrap().events, [event]);
        }
        drop(driver.join().unwrap());
    });
}

#[test]
fn loom_a_slow_reader_gets_exactly_the_count_it_missed() {
    model(4, || {
        let history = Arc::new(History::new(Instance(1), 1, First::default()));
        let mut subscription = Subscription::from_now(Arc::clone(&history));
        let writer = thread::spawn(move || (0..3).for_each(|seq| publish(&history, seq, 1)));

        let mut next = 0;
        while next < 3 {
            match block_on(subscription.recv()) {
                Ok(batch) => assert_eq!(batch.seq, next),
                Err(RecvError::Lagged { missed, resume }) => {
                    assert_eq!(next + missed, resume.seq);
                    next += missed;
                    continue;
                }
                Err(other) => panic!("{other}"),
            }
            next += 1;
        }
        writer.join().unwrap();
    });
}

#[test]
fn loom_a_rebuild_is_returned_between_the_generations() {
    model(3, || {
        let history = Arc::new(History::new(Instance(1), 64, First::default()));
        let mut subscription = Subscription::from_now(Arc::clone(&history));
        let writer = thread::spawn(move || {
            publish(&history, 0, 1);
            history.begin_generation(2);
            announce(&history, 1, 2);
            publish(&history, 1, 2);
            history.close(StopReason::Dropped);
        });

        let received: Vec<_> = (0..4).map(|_| block_on(subscription.recv()).map(|batch| batch.seq)).collect();
        let rebuilt = Err(RecvError::Rebuilt { generation: 2 });
        assert_eq!(received, [Ok(0), rebuilt, Ok(1), Err(RecvError::Closed(StopReason::Dropped))]);
        writer.join().unwrap();
    });
}

#[test]
fn loom_a_stream_is_woken_for_every_batch_and_for_the_end() {
    model(4, || {
        let history = Arc::new(History::new(Instance(1), 64, First::default()));
        let mut subscription = Subscription::from_now(Arc::clone(&history));
        let writer = thread::spawn(move || {
            publish(&history, 0, 1);
            publish(&history, 1, 1);
            history.close(StopReason::Dropped);
        });

        let mut next = || block_on(poll_fn(|context| Pin::new(&mut subscription).poll_next(context)));
        let received =
            [next(), next(), next(), next()].map(|item| item.map(|item| item.map(|batch| batch.seq)));
        let closed = Err(RecvError::Closed(StopReason::Dropped));
        assert_eq!(received, [Some(Ok(0)), Some(Ok(1)), Some(closed), None]);
        writer.join().unwrap();
    });
}
