//! What is recorded, and what is lost.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedFailure, FeedSuccess};
use watchkeeper::runtime::{Cause, StopReason};
use watchkeeper::subscription::{RecvError, TapError, TapLimits};
use watchkeeper::{DynError, ObservationFailureStage as Stage};
use watchkeeper_journal::run::{Replay, RunClock, RunError, RunFormat, RunJournal, SerdeFormat};
use watchkeeper_journal::{Journal, JournalView, ReadFrom};

use super::app::{Act, App, Seen, config, ms, run};
use crate::common;

fn in_memory<F: RunFormat<App>>(format: F) -> RunJournal<App, F> {
    RunJournal::of(Journal::in_memory(common::config()).unwrap(), "run", format)
}

fn bodies(view: &JournalView) -> Vec<Value> {
    let records = view.reader(ReadFrom::Oldest).unwrap().map(|item| item.unwrap().record().unwrap());
    records.map(|record| record.parse().unwrap()).collect()
}

fn live() -> Feed<App> {
    Feed::live(&config(), None).unwrap()
}

fn publish(feed: &mut Feed<App>, cycle: u64, events: Vec<u64>) {
    let now = Instant::now();
    let value = Seen { polls: cycle, names: vec!["n1".to_owned()] };
    let success = FeedSuccess { cycle, generation: 1, began: now, is_polled: true, value, events };
    feed.success(now, success).unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_records_have_everything_that_was_published() {
    let journal = in_memory(SerdeFormat);
    let running = run(Instant::now(), vec![(1_900, Act::Fail(200))], config());
    let recording = journal.record(&running.runtime.handle(), &config()).unwrap();
    tokio::time::sleep(ms(1_250)).await;
    running.act(Act::Join("n3")).await;
    tokio::time::sleep(ms(1_000)).await;
    let _ = running.runtime.stop().await;
    let health = recording.finished().await;
    assert!(health.is_ok() && health.is_over && health.problem.is_none());

    let records = bodies(&journal.journal().view());
    assert_eq!(health.recorded, records.len() as u64);
    let kinds: Vec<&str> = records.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    let poll = ["transition", "transition", "success"];
    let expected: Vec<&str> =
        [&["start", "sources", "success"][..], &poll, &poll, &["transition", "sources", "success"]]
            .concat()
            .into_iter()
            .chain(["transition", "transition", "failure", "stop"])
            .collect();
    assert_eq!(kinds, expected);
    let numbers: Vec<u64> = records.iter().map(|record| record["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..records.len() as u64).collect::<Vec<_>>());
    let settings = json!({ "interval_ns": 500_000_000, "stale_after_ns": 1_500_000_000, "history_limit": 4 });
    assert_eq!(records[0]["run"], settings);
    let batch = records.iter().find(|record| !record["success"]["events"].is_null()).unwrap();
    assert_eq!(batch["success"]["events"], json!([3, 4]));
    assert_eq!(batch["success"]["value"], json!({ "polls": 3, "names": ["n1", "n2", "n3"] }));
    assert_eq!(
        (&batch["event_count"], &batch["state"], &batch["at"]),
        (&json!(2), &json!("idle"), &json!(1_500_000_000))
    );
    let failure = &records[records.len() - 2]["failure"];
    assert_eq!(
        (&failure["stage"], &failure["cause"], &failure["message"]),
        (&json!("poll"), &json!("error"), &json!("down"))
    );
    assert_eq!(records.last().unwrap()["state"], json!({ "stopped": { "reason": "requested" } }));
    assert!(records[0]["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(start_paused = true)]
async fn what_the_tap_has_lost_is_an_exact_gap() {
    let journal = in_memory(SerdeFormat);
    let mut feed = live();
    let limits = TapLimits { records: 2, ..TapLimits::default() };
    let recording = journal.record_with(&feed.handle(), &config(), limits).unwrap();
    tokio::task::yield_now().await;
    // Nothing else gets a turn meanwhile: 2 records fit, 8 are lost.
    for cycle in 0..10 {
        publish(&mut feed, cycle, vec![10 * cycle, 10 * cycle + 1]);
    }
    let mut health = recording.watch_health();
    let lost = health.wait_for(|health| health.lost > 0).await.unwrap().clone();
    assert_eq!((lost.lost, lost.is_ok()), (8, false));
    assert!(lost.problem.unwrap().contains("slower than the observation"));
    publish(&mut feed, 10, vec![100]);
    feed.stop(Instant::now(), StopReason::Requested).unwrap();
    assert_eq!(recording.finished().await.recorded, 5);

    let records = bodies(&journal.journal().view());
    let lost = &records[3]["lost"];
    assert_eq!(
        (&lost["publications"], &lost["batches"], &lost["events"]),
        (&json!(8), &json!(8), &json!(16))
    );
    // A replay has the same gap.
    let mut replay: Replay<App, _> = Replay::of(&journal.journal().view(), SerdeFormat).unwrap();
    let (mut batches, mut tap) = (replay.handle().subscribe(), replay.handle().tap(TapLimits::default()));
    replay.play().await.unwrap();
    let mut items = Vec::new();
    loop {
        match batches.recv().await {
            Ok(batch) => items.push(batch.events.clone()),
            Err(RecvError::Lagged { missed, .. }) => items.push(vec![missed]),
            Err(other) => {
                assert!(matches!(other, RecvError::Closed(StopReason::Requested)), "{other}");
                break;
            }
        }
    }
    assert_eq!(items, [vec![0, 1], vec![10, 11], vec![8], vec![100]]);
    let lost = std::iter::from_fn(|| tap.try_recv()).find_map(Result::err).unwrap();
    let TapError::Lost { first, last } = lost else { panic!("{lost}") };
    assert_eq!(last - first + 1, 8);
}

/// Fails for one value, panics for another, and writes a third at length.
struct Fragile;

impl RunFormat<App> for Fragile {
    fn write_snapshot(&self, value: &Seen, clock: &RunClock) -> Result<Value, DynError> {
        match value.polls {
            2 => Err("two is refused".into()),
            3 => panic!("three"),
            4 => Ok(Value::String("x".repeat(2_000_000))),
            _ => RunFormat::<App>::write_snapshot(&SerdeFormat, value, clock),
        }
    }

    fn read_snapshot(&self, value: Value, clock: &RunClock) -> Result<Seen, DynError> {
        RunFormat::<App>::read_snapshot(&SerdeFormat, value, clock)
    }

    fn write_event(&self, event: &u64, _: &RunClock) -> Result<Value, DynError> {
        Ok(json!(event))
    }

    fn read_event(&self, event: Value, clock: &RunClock) -> Result<u64, DynError> {
        RunFormat::<App>::read_event(&SerdeFormat, event, clock)
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_a_gap_and_the_rest_goes_on() {
    let journal = in_memory(Fragile);
    let mut feed = live();
    let recording = journal.record(&feed.handle(), &config()).unwrap();
    let mut health = recording.watch_health();
    for (cycle, problem) in
        [(1, None), (2, Some("two is refused")), (3, Some("panicked")), (4, Some("2000")), (5, None)]
    {
        publish(&mut feed, cycle, vec![cycle]);
        let before = health.borrow().lost + health.borrow().recorded;
        let after = health.wait_for(|health| health.lost + health.recorded > before).await.unwrap().clone();
        if let Some(problem) = problem {
            assert!(after.problem.unwrap().contains(problem));
        }
        tokio::task::yield_now().await;
    }
    drop(feed);
    let health = recording.finished().await;
    assert_eq!(health.lost, 3);
    let mut replay: Replay<App, _> = Replay::of(&journal.journal().view(), SerdeFormat).unwrap();
    let mut batches = replay.handle().subscribe();
    replay.play().await.unwrap();
    assert_eq!(batches.recv().await.unwrap().events, [1]);
    assert!(matches!(batches.recv().await, Err(RecvError::Lagged { missed: 3, .. })));
    assert_eq!(batches.recv().await.unwrap().events, [5]);
}

#[tokio::test(start_paused = true)]
async fn a_recording_may_begin_late_and_begins_with_what_is_known() {
    let mut feed = live();
    publish(&mut feed, 0, vec![1, 2]);
    tokio::time::advance(ms(700)).await;
    let now = Instant::now();
    let (stage, cause) = (Stage::Poll, Cause::TimedOut);
    let failure =
        FeedFailure { cycle: 1, began: now - ms(100), stage, cause, message: "slow".into(), rebuild: false };
    feed.failure(now, failure).unwrap();
    tokio::time::advance(ms(300)).await;
    let journal = in_memory(SerdeFormat);
    let recording = journal.record(&feed.handle(), &config()).unwrap();
    publish(&mut feed, 2, vec![3]);
    drop(feed);
    assert!(recording.finished().await.is_ok());

    let mut replay: Replay<App, _> = Replay::of(&journal.journal().view(), SerdeFormat).unwrap();
    let handle = replay.handle();
    assert!(replay.step().unwrap());
    let snapshot = handle.latest_snapshot().unwrap();
    assert_eq!((snapshot.cycle, snapshot.event_count, snapshot.value.polls), (0, 2, 0));
    assert_eq!(replay.now().duration_since(snapshot.observed_at), Duration::from_secs(1));
    let error = handle.last_error().unwrap();
    assert_eq!((error.cycle, error.message.as_str(), error.cause), (1, "slow", Cause::TimedOut));
    assert!(replay.step().unwrap());
    assert_eq!(handle.latest_snapshot().unwrap().event_count, 3);
    replay.play().await.unwrap();
    assert_eq!(handle.stop_reason(), Some(StopReason::Dropped));
}

#[tokio::test(start_paused = true)]
async fn a_recording_without_an_owner_goes_on_and_a_closed_journal_is_reported() {
    let journal = in_memory(SerdeFormat);
    let mut feed = live();
    drop(journal.record(&feed.handle(), &config()).unwrap());
    publish(&mut feed, 0, vec![]);
    drop(feed);
    while !bodies(&journal.journal().view()).iter().any(|record| record["kind"] == "stop") {
        tokio::task::yield_now().await;
    }
    let mut feed = live();
    // The first one is over once its last answer has come.
    let recording = loop {
        match journal.record(&feed.handle(), &config()) {
            Ok(recording) => break recording,
            Err(RunError::InProgress) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(matches!(journal.record(&feed.handle(), &config()), Err(RunError::InProgress)));
    assert!(matches!(journal.resume().await, Err(RunError::InProgress)));
    let mut health = recording.watch_health();
    let _ = health.wait_for(|health| health.recorded == 1).await.unwrap();
    journal.close().await.unwrap();
    publish(&mut feed, 0, vec![]);
    let lost = health.wait_for(|health| health.lost == 1).await.unwrap().clone();
    assert!(lost.problem.unwrap().contains("the journal is closed"));
}
