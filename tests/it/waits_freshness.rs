//! Data that stays fresh, and data that turns stale, to the millisecond.

use std::task::Poll;

use tokio::time::Instant;
use watchkeeper::runtime::StopReason;
use watchkeeper::wait::{Inconclusive, UnmetOutcome};
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

/// Data is stale at an age of 3 s.
fn stale_after_three() -> ObservationConfig {
    ObservationConfig { stale_after: Some(ms(3_000)), ..each_second() }
}

//   0 s     1 s    2 s     3 s                 4 s     5 s
//   init    ok     hangs                       stale
#[tokio::test(start_paused = true)]
async fn data_turns_stale_by_itself_while_a_poll_hangs() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![]), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(stale_after_three()).await;
    let handle = runtime.handle();
    at(start, 2_500).await;
    let (stale, stays, in_time, late) = tokio::join!(
        async { (handle.becomes_stale().within(ms(10_000)).await, start.elapsed()) },
        async { (handle.stays_fresh().during(ms(10_000)).await, start.elapsed()) },
        handle.stays_fresh().during(ms(1_499)),
        handle.becomes_stale().within(ms(1_499)),
    );
    let (status, when) = (stale.0.unwrap(), stale.1);
    assert_eq!((when, status.freshness.age()), (ms(4_000), Some(ms(3_000))));
    assert!(status.freshness.is_stale());
    let (unmet, when) = (stays.0.unwrap_err(), stays.1);
    assert_eq!((unmet.outcome(), when), (UnmetOutcome::Violated, ms(4_000)));
    assert_eq!(unmet.first_violation(), None, "no cycle did it: time did");
    let report = unmet.to_string();
    let expected = "violated: \"the data stays fresh\" during 10s\n  first violation at +1.500s\n  judged 0;";
    assert!(report.starts_with(expected), "{report}");
    assert!(report.contains("\n  freshness: stale from +1.500s\n"), "{report}");
    assert!(in_time.unwrap().freshness.is_fresh());
    assert_eq!(late.unwrap_err().outcome(), UnmetOutcome::NotMet, "it was fresh all the time");
}

#[tokio::test(start_paused = true)]
async fn stale_data_is_reported_at_once() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(stale_after_three()).await;
    let handle = runtime.handle();
    // At 3 s sharp it is stale.
    for millis in [3_000, 3_001] {
        at(start, millis).await;
        let Poll::Ready(Ok(status)) = poll_once(handle.becomes_stale().within(ms(1))) else {
            panic!("at once, at {millis} ms");
        };
        assert_eq!(status.freshness.age(), Some(ms(millis)));
        let Poll::Ready(Err(unmet)) = poll_once(handle.stays_fresh().during(ms(1))) else {
            panic!("at once, at {millis} ms");
        };
        assert_eq!(unmet.outcome(), UnmetOutcome::Violated);
        assert!(unmet.to_string().contains("first violation at +0.000s"), "{unmet}");
    }
}

//   0 s    1 s ........... 3 s - 1 ms    4 s: at the very end of its time
//   init   a slow poll     renewed       a slow poll ends with it
#[tokio::test(start_paused = true)]
async fn data_that_is_renewed_just_in_time_stays_fresh() {
    // (how slow the poll is; when the data turned stale)
    for (slow, stale) in [(1_999, None), (2_000, Some(3_000)), (2_001, Some(3_000))] {
        let app = App::new();
        app.then(Call::Poll, [Act::slow(slow)]);
        let start = Instant::now();
        let runtime = app.start(stale_after_three()).await;
        let handle = runtime.handle();
        let (stays, becomes) = tokio::join!(handle.stays_fresh().during(ms(10_500)), async {
            (handle.becomes_stale().within(ms(10_500)).await, start.elapsed())
        },);
        match stale {
            None => {
                assert_eq!(stays.unwrap().cycle, 9, "slow by {slow} ms");
                assert_eq!(becomes.0.unwrap_err().outcome(), UnmetOutcome::NotMet, "slow by {slow} ms");
            }
            Some(millis) => {
                assert_eq!(stays.unwrap_err().outcome(), UnmetOutcome::Violated, "slow by {slow} ms");
                assert_eq!((becomes.0.unwrap().cycle, becomes.1), (1, ms(millis)), "slow by {slow} ms");
            }
        }
    }
}

/// No cycle has to succeed inside the window: the data was fresh.
#[tokio::test(start_paused = true)]
async fn a_window_without_a_cycle_can_be_judged() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 200).await;
    let (stays, becomes) =
        tokio::join!(handle.stays_fresh().during(ms(500)), handle.becomes_stale().within(ms(500)));
    assert_eq!(stays.unwrap().cycle, 0);
    let unmet = becomes.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (UnmetOutcome::NotMet, 0));
}

#[tokio::test(start_paused = true)]
async fn a_paused_runtime_turns_stale() {
    let start = Instant::now();
    let runtime = App::new().start(stale_after_three()).await;
    let handle = runtime.handle();
    at(start, 1_500).await;
    runtime.control().pause().await.unwrap();
    let status = handle.becomes_stale().within(ms(10_000)).await.unwrap();
    assert_eq!((status.paused, start.elapsed()), (true, ms(4_000)));
    runtime.control().resume().await.unwrap();
    let unmet = handle.stays_fresh().during(ms(3_000)).await.unwrap_err();
    assert_eq!((unmet.outcome(), start.elapsed()), (UnmetOutcome::Violated, ms(4_000)), "not renewed yet");
    at(start, 5_500).await;
    assert_eq!(handle.stays_fresh().during(ms(2_900)).await.unwrap().cycle, 5);
}

#[tokio::test(start_paused = true)]
async fn without_a_success_there_is_nothing_to_be_stale_or_fresh() {
    // (paused at; why it is inconclusive)
    for (paused, why) in [(None, Inconclusive::NothingObserved), (Some(500), Inconclusive::Paused)] {
        let app = App::new();
        app.then(Call::Init, (0..9).map(|_| Act::Err("down")));
        let start = Instant::now();
        let runtime = ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
        let handle = runtime.handle();
        let (stays, becomes) = (handle.stays_fresh(), handle.becomes_stale());
        let waits = async { tokio::join!(stays.during(ms(4_500)), becomes.within(ms(4_500))) };
        let pause = async {
            if let Some(millis) = paused {
                at(start, millis).await;
                runtime.control().pause().await.unwrap();
            }
        };
        let ((stays, becomes), ()) = tokio::join!(waits, pause);
        let expected = UnmetOutcome::Inconclusive(why);
        assert_eq!(stays.unwrap_err().outcome(), expected, "paused at {paused:?}");
        assert_eq!(becomes.unwrap_err().outcome(), expected, "paused at {paused:?}");
    }
}

//   0 s      1.5 s        2 s
//   made     the limit    cycle 0 comes, 2 s old: it turns stale then, not before
#[tokio::test(start_paused = true)]
async fn data_that_is_stale_when_it_comes_turns_stale_then() {
    let app = App::new();
    app.then(Call::Init, [Act::slow(2_000)]);
    let start = Instant::now();
    let config = ObservationConfig { stale_after: Some(ms(1_500)), ..each_second() };
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, config).unwrap();
    let handle = runtime.handle();
    let (becomes, stays) = tokio::join!(
        async { (handle.becomes_stale().within(ms(9_000)).await.unwrap(), start.elapsed()) },
        async { (handle.stays_fresh().during(ms(9_000)).await.unwrap_err(), start.elapsed()) },
    );
    assert_eq!((becomes.0.freshness.age(), becomes.1), (Some(ms(2_000)), ms(2_000)));
    assert_eq!((stays.0.outcome(), stays.1), (UnmetOutcome::Violated, ms(2_000)));
    let report = stays.0.to_string();
    assert!(report.contains("first violation at +2.000s"), "{report}");
    assert!(report.contains("freshness: stale from +2.000s"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_runtime_leaves_it_open() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    at(start, 500).await;
    let (becomes, stays) = (handle.becomes_stale().within(ms(9_000)), handle.stays_fresh().during(ms(9_000)));
    drop(runtime);
    let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason: StopReason::Dropped });
    assert_eq!(becomes.await.unwrap_err().outcome(), stopped);
    assert_eq!(stays.await.unwrap_err().outcome(), stopped);
    assert_eq!(start.elapsed(), ms(500));
    at(start, 5_000).await;
    assert!(handle.becomes_stale().within(ms(1)).await.is_ok(), "what an ended runtime left is stale by now");
}

/// The last status before publications were missed does not show what came after.
#[tokio::test(start_paused = true)]
async fn a_wait_that_fell_behind_cannot_say_that_it_stayed_fresh() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().stays_fresh().during(ms(400_200));
    at(start, 400_100).await;
    let unmet = wait.await.unwrap_err();
    assert!(
        matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::FellBehind { .. })),
        "{unmet}"
    );
}

/// What was missed in between may have renewed the data.
#[tokio::test(start_paused = true)]
async fn publications_that_were_missed_leave_open_whether_the_data_turned_stale() {
    let start = Instant::now();
    let runtime = App::new().start(stale_after_three()).await;
    let handle = runtime.handle();
    let mut becomes = handle.becomes_stale().within(ms(400_200));
    let mut stays = handle.stays_fresh().during(ms(400_200));
    // 1,024 publications are queued within some 340 s; later ones are missed. Then the queue is emptied, and
    // what is published next comes after the gap.
    at(start, 390_100).await;
    assert!(poll_once(&mut becomes).is_pending());
    assert!(poll_once(&mut stays).is_pending());
    at(start, 395_100).await;
    let fell_behind =
        |outcome| matches!(outcome, UnmetOutcome::Inconclusive(Inconclusive::FellBehind { .. }));
    let (becomes, stays) = (becomes.await.map(|_| ()).unwrap_err(), stays.await.map(|_| ()).unwrap_err());
    assert!(fell_behind(becomes.outcome()), "{becomes}");
    assert!(fell_behind(stays.outcome()), "{stays}");
}
