//! `subscribe_from(snapshot.cursor)` goes on right after that snapshot; a cursor that cannot be
//! continued is refused.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::subscription::{Cursor, CursorError, PositionProblem, RecvError, Resume};
use watchkeeper::{ObservationConfig, ObservationHandle, ObservationRuntime, StaticSourceProvider};

use crate::common::threads::{Flavour, Tally, block_on, executor};
use crate::common::{Act, App, Call, at, each_second};

#[tokio::test(start_paused = true)]
async fn of_another_runtime_it_is_refused() {
    let (one, other) = (App::new().start(each_second()).await, App::new().start(each_second()).await);
    let cursor = one.handle().latest_snapshot().unwrap().cursor;
    assert!(one.handle().subscribe_from(cursor).is_ok());
    assert_eq!(other.handle().subscribe_from(cursor).map(|_| ()), Err(CursorError::Foreign));
    // Also when the other one has ended, or starts later.
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
    for (after, cursor) in (0_u64..).zip(cursors) {
        let mut batches = handle.subscribe_from(cursor).unwrap();
        let mut next = after + 1;
        if after < 6 {
            let Some(Err(RecvError::Lagged { missed, resume })) = batches.try_recv() else {
                panic!("{after}")
            };
            assert_eq!((missed, resume.seq()), (6 - after, 6), "after event {after}");
            next = 7;
        }
        for event in next..=10 {
            assert_eq!(batches.try_recv().unwrap().unwrap().events, [event], "after event {after}");
        }
        assert!(batches.try_recv().is_none(), "after event {after}");
    }
}

/// Four readers start after the newest snapshot while batches are published as fast as possible.
#[test]
fn a_snapshot_and_the_batches_after_its_cursor_have_no_gap_and_no_duplicate() {
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
                .map(|_| scope.spawn(|| (0..ROUNDS).map(|_| read_after_a_snapshot(&handle)).sum::<u64>()))
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
fn read_after_a_snapshot(handle: &ObservationHandle<Tally>) -> u64 {
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

const INSTANCE: &str = "0f8e1a2b3c4d5e6f708192a3b4c5d6e7";

/// What one process records, and the next one resumes from.
#[tokio::test(start_paused = true)]
async fn of_an_earlier_process_it_starts_with_the_exact_count_and_the_rebuild() {
    let app = App::new();
    app.then(Call::Poll, (1..=10).map(|n| Act::Ok(vec![n, 0])));
    let start = Instant::now();
    let earlier = app.start(each_second()).await;
    let mut cursors = Vec::new();
    for n in 0..=8 {
        at(start, n * 1_000 + 500).await;
        cursors.push(earlier.handle().latest_snapshot().unwrap().cursor.to_string());
    }
    let recorded = Resume::from(&*earlier.handle().latest_snapshot().unwrap()).to_string();
    at(start, 9_500).await;
    let beyond = earlier.handle().latest_snapshot().unwrap().cursor;
    let _ = earlier.stop().await;

    // All that is handed over is text.
    let resume: Resume = recorded.parse().unwrap();
    assert_eq!((resume.cycle, resume.event_count), (8, 16));
    let app = App::new();
    app.then(Call::Poll, (11..=20).map(|n| Act::Ok(vec![n])));
    let start = Instant::now();
    let config = ObservationConfig { history_limit: 4, resume: Some(resume), ..each_second() };
    let runtime = app.start(config).await;
    let handle = runtime.handle();
    let first = handle.latest_snapshot().unwrap();
    assert_eq!((first.generation, first.cycle, first.event_count), (2, 9, 16));
    assert_eq!((first.cursor.instance(), first.cursor.seq()), (resume.cursor.instance(), 8));
    assert_eq!(handle.history(), []);
    assert_eq!(runtime.control().poll_now().await, Ok(10));
    at(start, 3_500).await;
    let newest = handle.latest_snapshot().unwrap();
    assert_eq!((newest.cycle, newest.event_count, newest.cursor.seq()), (13, 20, 12));

    for (after, cursor) in (0_u64..).zip(&cursors) {
        let mut batches = handle.subscribe_from(cursor.parse().unwrap()).unwrap();
        if after < 8 {
            let Some(Err(RecvError::Lagged { missed, resume })) = batches.try_recv() else {
                panic!("{cursor}")
            };
            assert_eq!((missed, resume.seq()), (8 - after, 8), "{cursor}");
        }
        assert_eq!(batches.try_recv(), Some(Err(RecvError::Rebuilt { generation: 2 })), "{cursor}");
        for n in 0..4 {
            let batch = batches.try_recv().unwrap().unwrap();
            assert_eq!(
                (batch.generation, batch.seq, batch.cycle, &batch.events[..]),
                (2, 8 + n, 10 + n, &[11 + n][..])
            );
        }
        assert!(batches.try_recv().is_none(), "{cursor}");
    }
    // Beyond what was recorded: also now that as many batches were published again.
    assert_eq!(beyond.seq(), 9);
    let refused = handle.subscribe_from(beyond).map(|_| ());
    assert_eq!(refused, Err(CursorError::Future { seq: 9, published: 8 }));
    // What its own history has dropped is counted too, after the rebuild: wherever a reader stands is a valid cursor.
    at(start, 4_500).await;
    for (after, cursor) in (0_u64..).zip(&cursors) {
        let mut batches = handle.subscribe_from(cursor.parse().unwrap()).unwrap();
        let mut read = Vec::new();
        loop {
            let stands = batches.cursor();
            let again = handle.subscribe_from(stands.to_string().parse().unwrap());
            let same = again.unwrap_or_else(|error| panic!("{stands}: {error}")).try_recv();
            let item = batches.try_recv();
            assert_eq!(same, item, "{stands}");
            match item {
                Some(Err(RecvError::Lagged { missed, resume })) => {
                    assert_eq!(resume, batches.cursor());
                    read.push((missed, resume.generation(), resume.seq()));
                }
                Some(Err(RecvError::Rebuilt { generation })) => {
                    read.push((0, generation, batches.cursor().seq()));
                }
                Some(Ok(_)) => {}
                other => break assert_eq!(other, None),
            }
        }
        let missed = (after < 8).then_some((8 - after, 1, 8));
        assert_eq!(read, missed.into_iter().chain([(0, 2, 8), (1, 2, 9)]).collect::<Vec<_>>(), "{cursor}");
    }
}

/// The marks of a runtime that resumes begin where its batches do.
#[tokio::test(start_paused = true)]
async fn a_wait_from_before_the_first_cycle_of_a_resumed_runtime_has_missed_nothing() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![7])]);
    let resume: Resume = format!("{INSTANCE}.3.1729.5000.2210").parse().unwrap();
    let config = ObservationConfig { resume: Some(resume), ..each_second() };
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, config).unwrap();
    let handle = runtime.handle();
    let status = handle.status();
    assert_eq!((status.generation, status.cycle, handle.subscribe().cursor().seq()), (4, 5001, 1729));
    let mark = handle.mark();
    handle.event("seven", |event| *event == 7).within(Duration::from_secs(3)).await.unwrap();
    let met =
        handle.event("seven", |event| *event == 7).after(mark).within(Duration::from_secs(3)).await.unwrap();
    assert_eq!((met.batch.seq, met.batch.cycle), (1729, 5002));
    let eight = handle.event("eight", |event| *event == 8).after(mark).within(Duration::from_secs(1));
    assert_eq!(
        eight.await.unwrap_err().outcome(),
        watchkeeper::wait::UnmetOutcome::NotMet,
        "it has missed nothing"
    );
}

/// Where it is wrong, and how.
#[test]
fn an_invalid_text_is_refused_with_the_place() {
    use PositionProblem::{Followed, Missing, NotDecimal, NotHexadecimal, TooLarge};
    let cases = [
        (String::new(), 0, "instance", Missing),
        (INSTANCE[..31].to_owned(), 31, "instance", NotHexadecimal),
        (format!("{INSTANCE}0.1.2"), 32, "instance", NotHexadecimal),
        (INSTANCE.to_uppercase(), 1, "instance", NotHexadecimal),
        (format!(" {INSTANCE}.1.2"), 0, "instance", NotHexadecimal),
        (INSTANCE.to_owned(), 32, "generation", Missing),
        (format!("{INSTANCE}."), 33, "generation", Missing),
        (format!("{INSTANCE}..2"), 33, "generation", Missing),
        (format!("{INSTANCE}.01.2"), 33, "generation", NotDecimal),
        (format!("{INSTANCE}.+1.2"), 33, "generation", NotDecimal),
        (format!("{INSTANCE}.1.2 "), 36, "seq", NotDecimal),
        (format!("{INSTANCE}.1.\u{664}"), 35, "seq", NotDecimal),
        (format!("{INSTANCE}.18446744073709551616.2"), 33, "generation", TooLarge),
        (format!("{INSTANCE}.1.{}", "9".repeat(1_000_000)), 35, "seq", TooLarge),
        (format!("{INSTANCE}.1.2."), 36, "seq", Followed),
        (format!("{INSTANCE}.1.2.3.4"), 36, "seq", Followed),
    ];
    for (text, place, field, problem) in cases {
        let error = text.parse::<Cursor>().unwrap_err();
        assert_eq!((error.at(), error.field(), error.problem()), (place, field, problem), "{error}");
        assert!(error.to_string().len() < 200, "{error}");
    }
    let short = format!("{INSTANCE}.1.2.3").parse::<Resume>().unwrap_err();
    assert_eq!((short.at(), short.field(), short.problem()), (38, "event count", Missing));
    assert!(
        short.to_string().contains("not a resume point: at byte 38: the event count is missing"),
        "{short}"
    );
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..12_u64, Just(u64::MAX)]
}

proptest! {
    #[test]
    fn its_text_goes_there_and_back(instance: u128, numbers in [number(), number(), number(), number()]) {
        let [generation, seq, cycle, events] = numbers;
        let text = format!("{instance:032x}.{generation}.{seq}");
        let cursor: Cursor = text.parse().unwrap();
        prop_assert_eq!((cursor.instance(), cursor.generation(), cursor.seq()), (instance, generation, seq));
        prop_assert_eq!(cursor.to_string(), &text[..]);
        prop_assert!(text.len() <= 74);
        let resume: Resume = format!("{text}.{cycle}.{events}").parse().unwrap();
        prop_assert_eq!((resume.cursor, resume.cycle, resume.event_count), (cursor, cycle, events));
        prop_assert_eq!(resume.to_string().parse(), Ok(resume));
        prop_assert!(resume.to_string().len() <= 116);
    }

    /// Parsing never panics, and accepts a cursor's own text only.
    #[test]
    fn any_text_is_refused_or_is_the_text_of_its_cursor(
        text in prop_oneof![any::<String>(), "[0-9a-f]{30,33}[.x][0-9]{0,21}[.][0-9]{0,3}[.é]?[0-9]{0,2}"],
    ) {
        match text.parse::<Cursor>() {
            Ok(cursor) => prop_assert_eq!(cursor.to_string(), &text[..]),
            Err(error) => prop_assert!(error.at() <= text.len() && text.is_char_boundary(error.at()), "{error}"),
        }
        if let Ok(resume) = text.parse::<Resume>() {
            prop_assert_eq!(resume.to_string(), &text[..]);
        }
    }
}
