//! Subscriptions of erased handles, whose batches are JSON.
#![cfg(feature = "json")]

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use watchkeeper::ObservationConfig;
use watchkeeper::group::{AnyHandle, AnySnapshot, JsonEvent, JsonSubscriptionError, ObservationGroup};
use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{Cursor, CursorError, RecvError};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, View, at, each_second};

const HUGE: u64 = 1_000;
const PANICS: u64 = 1_001;
const FAILS: u64 = 1_002;
const LARGE: u64 = 1_003;

fn view(seen: &View) -> Value {
    json!({ "polls": seen.polls })
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as the handle calls it")]
fn event(event: &u64) -> serde_json::Result<Value> {
    match *event {
        HUGE => Ok(json!("x".repeat(10_000_000))),
        LARGE => Ok(json!("x".repeat(60_000))),
        PANICS => panic!("no such\nevent"),
        // A JSON map cannot have such keys.
        FAILS => serde_json::to_value(BTreeMap::from([(vec![1], 1)])),
        plain => Ok(json!({ "n": plain })),
    }
}

fn cursor(snapshot: AnySnapshot<'_>) -> Cursor {
    snapshot.cursor()
}

fn erased(runtime: &watchkeeper::ObservationRuntime<App>) -> AnyHandle {
    AnyHandle::with_json_events("app", &runtime.handle(), view, event)
}

#[tokio::test(start_paused = true)]
async fn each_batch_comes_once_and_every_other_item_has_a_form_too() {
    let app = App::new();
    let polls =
        [Act::Ok(vec![1, 2]), Act::Panic("lost"), Act::Ok(vec![]), Act::Ok(vec![3]), Act::Ok(vec![4])];
    app.then(Call::Poll, polls);
    let start = Instant::now();
    let group = ObservationGroup::new();
    let runtime = app.start(ObservationConfig { history_limit: 2, ..each_second() }).await;
    let control = runtime.control();
    group.add_with_json_events("app", runtime, view, event).unwrap();
    let handle = group.handle("app").unwrap();
    let first = handle.look(cursor).unwrap();
    let mut batches = handle.subscribe_json().unwrap();
    let mut pinned = Box::pin(batches.recv());
    assert!(poll_once(pinned.as_mut()).is_pending());
    drop(pinned);
    let instance = format!("{:032x}", first.instance());
    let batch = batches.recv().await.unwrap();
    assert_eq!(
        (batch.events.len(), batch.cursor, batch.observed_at - start),
        (2, batches.cursor(), each_second().interval)
    );
    let mut shown = batch.to_json();
    let time = shown["system_time"].take();
    assert!(time.as_str().unwrap().ends_with('Z') && time.as_str().unwrap().len() == 24, "{time}");
    let expected = json!({
        "type": "batch", "generation": 1, "seq": 0, "cycle": 1, "cursor": format!("{instance}.1.1"),
        "system_time": null, "source_count": 1, "events": [{"value": {"n": 1}}, {"value": {"n": 2}}],
        "events_not_shown": 0,
    });
    assert_eq!(shown, expected);
    at(start, 6_500).await;
    let _ = control.stop().await;
    assert_eq!(batches.recv().await.unwrap_err().to_json(), json!({ "type": "rebuilt", "generation": 2 }));
    for (n, seq) in [(3, 1), (4, 2)] {
        let batch = batches.recv().await.unwrap();
        assert_eq!((batch.seq, &batch.events[..]), (seq, &[JsonEvent::Value(json!({ "n": n }))][..]));
    }
    let closed = json!({ "type": "closed", "reason": "stop was requested" });
    for _ in 0..2 {
        assert_eq!(batches.recv().await.unwrap_err().to_json(), closed, "it is reported again");
        assert_eq!(batches.try_recv(), Some(Err(RecvError::Closed(StopReason::Requested))));
    }
    let over = Pin::new(&mut batches).poll_next(&mut Context::from_waker(Waker::noop()));
    assert_eq!(over, Poll::Ready(None));

    // From before the first batch: one was dropped.
    let mut batches = handle.subscribe_json_from(first.to_string().parse().unwrap()).unwrap();
    let lagged = json!({ "type": "lagged", "missed": 1, "resume": format!("{instance}.1.1") });
    assert_eq!(batches.try_recv().unwrap().unwrap_err().to_json(), lagged);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_shown_costs_the_others_nothing() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1, HUGE, PANICS, FAILS, 2]), Act::Ok(vec![3])]);
    let runtime = app.start(each_second()).await;
    let mut batches = erased(&runtime).subscribe_json().unwrap();
    let batch = batches.recv().await.unwrap();
    let shown = batch.to_json();
    assert_eq!(shown["events"][0], json!({ "value": { "n": 1 } }));
    assert_eq!(shown["events"][1], json!({ "error": "too_large" }));
    assert_eq!(shown["events"][2], json!({ "error": "failed", "message": "panicked: no such\\nevent" }));
    assert_eq!(shown["events"][3], json!({ "error": "failed", "message": "key must be a string" }));
    assert_eq!(shown["events"][4], json!({ "value": { "n": 2 } }));
    assert_eq!(batches.recv().await.unwrap().events, [JsonEvent::Value(json!({ "n": 3 }))]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_bounded_and_counts_the_events_that_it_does_not_show() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![LARGE; 100]), Act::Ok((0..300_000).collect())]);
    let runtime = app.start(each_second()).await;
    let mut batches = erased(&runtime).subscribe_json().unwrap();
    for count in [100, 300_000] {
        let batch = batches.recv().await.unwrap();
        assert_eq!(batch.events.len() + batch.events_not_shown, count);
        assert!(batch.events.len() >= 17 && batch.events_not_shown > 0, "{}", batch.events.len());
        let bytes = batch.to_json().to_string().len();
        assert!((700_000..1_200_000).contains(&bytes), "{bytes} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_way_or_with_a_foreign_cursor_there_is_a_typed_answer() {
    let (one, other) = (App::new().start(each_second()).await, App::new().start(each_second()).await);
    let mute = [AnyHandle::new("mute", &one.handle()), AnyHandle::with_json("mute", &one.handle(), view)];
    for handle in mute {
        let error = handle.subscribe_json().map(|_| ()).unwrap_err();
        assert_eq!(error, JsonSubscriptionError::NoEventJson);
        assert!(error.to_string().contains("with_json_events"), "{error}");
    }
    let cursor = other.handle().subscribe().cursor();
    let refused = erased(&one).subscribe_json_from(cursor).map(|_| ());
    assert_eq!(refused, Err(JsonSubscriptionError::Cursor(CursorError::Foreign)));
    assert!(format!("{:?}", refused.unwrap_err()).contains("from another runtime"));
}
