//! After its end a runtime publishes nothing, and every reader gets the reason.

use std::sync::Arc;

use tokio::sync::Notify;
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{ControlError, State, StateKind, StopReason};
use watchkeeper::subscription::RecvError;
use watchkeeper::wait::{UnmetOutcome, WatchError};

use crate::common::{Act, App, Call, each_second, ms};

const ENDED: State = State::Stopped { reason: StopReason::Requested };

#[tokio::test(start_paused = true)]
async fn nothing_moves_any_more() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Err("down")]);
    let wake = Arc::new(Notify::new());
    let config = ObservationConfig { wake: Some(Arc::clone(&wake)), ..each_second() };
    let runtime = app.start(config).await;
    let (handle, control) = (runtime.handle(), runtime.control());
    tokio::time::sleep(ms(2_500)).await;
    let _ = runtime.stop().await;

    let before = handle.status();
    let calls = [Call::Sources, Call::Init, Call::Poll, Call::Snapshot].map(|call| app.calls(call));
    wake.notify_one();
    let gone = Err(ControlError::Stopped { reason: StopReason::Requested });
    assert_eq!(control.pause().await, gone);
    assert_eq!(control.resume().await, gone);
    assert_eq!(control.poll_now().await.map(|_| ()), gone);
    tokio::time::sleep(ms(60_000)).await;

    let after = handle.status();
    assert_eq!((after.state, after.since, after.cycle, after.paused), (ENDED, before.since, 2, false));
    assert_eq!((after.snapshot, after.last_error), (before.snapshot, before.last_error));
    assert_eq!((handle.history().len(), handle.failures().len()), (1, 1), "what was known stays known");
    assert!(handle.freshness().is_stale(), "only its age grows");
    assert_eq!([Call::Sources, Call::Init, Call::Poll, Call::Snapshot].map(|call| app.calls(call)), calls);
}

#[tokio::test(start_paused = true)]
async fn readers_get_what_was_published_before_and_then_the_reason_again_and_again() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Ok(vec![2])]);
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let (mut batches, mut watch) = (handle.subscribe(), handle.watch());
    tokio::time::sleep(ms(2_500)).await;
    let _ = runtime.stop().await;

    assert_eq!(batches.recv().await.unwrap().events, [1]);
    assert_eq!(batches.recv().await.unwrap().events, [2]);
    assert_eq!(watch.changed().await.unwrap().state, ENDED);
    for _ in 0..2 {
        assert_eq!(batches.recv().await, Err(RecvError::Closed(StopReason::Requested)));
        assert_eq!(batches.try_recv(), Some(Err(RecvError::Closed(StopReason::Requested))));
        assert_eq!(watch.changed().await.unwrap_err(), WatchError::Closed(StopReason::Requested));
    }
    // A later reader gets the same.
    assert_eq!(handle.subscribe().recv().await, Err(RecvError::Closed(StopReason::Requested)));
    let mut late = handle.watch();
    assert_eq!(late.changed().await.unwrap_err(), WatchError::Closed(StopReason::Requested));
    assert_eq!(late.wait_for(|status| status.state == ENDED).await.unwrap().state, ENDED);
    assert_eq!(late.wait_for(|_| false).await.unwrap_err(), WatchError::Closed(StopReason::Requested));
    assert_eq!(handle.reaches(StateKind::Stopped).within(ms(1)).await.unwrap().state, ENDED);
    let unmet = handle.eventually("anything", |_| true).within(ms(1)).await.unwrap_err();
    assert!(matches!(unmet.outcome(), UnmetOutcome::Inconclusive(_)), "{unmet}");
}

#[tokio::test(start_paused = true)]
async fn a_cursor_taken_before_the_end_still_reads_what_is_left() {
    let app = App::new();
    app.then(Call::Poll, (1..=3).map(|n| Act::Ok(vec![n])));
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    tokio::time::sleep(ms(1_500)).await;
    let cursor = handle.latest_snapshot().unwrap().cursor;
    tokio::time::sleep(ms(2_000)).await;
    let _ = runtime.stop().await;
    let mut batches = handle.subscribe_from(cursor).unwrap();
    assert_eq!(batches.recv().await.unwrap().events, [2]);
    assert_eq!(batches.recv().await.unwrap().events, [3]);
    assert_eq!(batches.recv().await, Err(RecvError::Closed(StopReason::Requested)));
}
