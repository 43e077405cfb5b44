//! Freshness is computed when it is read, and counts from when the successful work began.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{Act, App, Call, at, each_second, ms};

//   1 s                1.1 s           1.5 s
//   cycle 1: refresh   poll ...        published
#[tokio::test(start_paused = true)]
async fn its_age_counts_from_when_the_work_began() {
    let app = App::new();
    app.then(Call::Sources, [Act::Ok(vec![]), Act::slow(100)]).then(Call::Poll, [Act::slow(400), Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();

    at(start, 1_499).await;
    assert_eq!(handle.freshness().age(), Some(ms(1_499)), "still cycle 0's");
    at(start, 1_501).await;
    let freshness = handle.freshness();
    assert_eq!(freshness.last_success(), Some(start + ms(1_000)));
    assert_eq!(freshness.age(), Some(ms(501)));
    let snapshot = handle.latest_snapshot().unwrap();
    assert_eq!((snapshot.observed_at, snapshot.elapsed), (start + ms(1_500), ms(500)));
    // It grows with nothing published: the next poll hangs.
    at(start, 4_000).await;
    assert_eq!(handle.freshness().age(), Some(ms(3_000)));
    assert_eq!(freshness.age(), Some(ms(501)), "what was read does not change");
}

#[tokio::test(start_paused = true)]
async fn the_limit_is_two_seconds_or_three_intervals_and_the_last_cycle() {
    // (interval, explicit, how long cycle 1 takes; the limit before it, and after it)
    let cases = [
        (1_000, None, 0, 3_000, 3_000),
        (1_000, None, 500, 3_000, 3_500),
        (250, None, 0, 2_000, 2_000),
        (250, None, 1_300, 2_000, 2_050),
        (666, None, 0, 2_000, 2_000),
        (667, None, 0, 2_001, 2_001),
        (1_000, Some(5_000), 500, 5_000, 5_000),
        (1_000, Some(100), 0, 100, 100),
        (60_000, None, 0, 180_000, 180_000),
    ];
    for case in cases {
        let (interval, explicit, slow, before, after) = case;
        let app = App::new();
        app.then(Call::Poll, [Act::slow(slow)]);
        let config = ObservationConfig {
            interval: ms(interval),
            stale_after: explicit.map(ms),
            ..ObservationConfig::default()
        };
        let start = Instant::now();
        let runtime = app.start(config).await;
        let handle = runtime.handle();
        assert_eq!(handle.freshness().stale_after(), ms(before), "{case:?}");
        let second = handle.watch().wait_for(|status| status.snapshot.as_ref().unwrap().cycle == 1).await;
        assert_eq!(second.unwrap().freshness.stale_after(), ms(after), "{case:?}");

        // To the moment.
        runtime.control().pause().await.unwrap();
        at(start, interval + after - 1).await;
        assert!(handle.freshness().is_fresh(), "{case:?}");
        at(start, interval + after).await;
        assert!(handle.freshness().is_stale(), "{case:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn before_the_first_success_there_is_no_freshness() {
    let app = App::new();
    app.then(Call::Init, [Act::Err("down"), Act::Err("down")]);
    let start = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    let handle = runtime.handle();
    at(start, 1_500).await;
    let freshness = handle.freshness();
    assert_eq!((freshness.age(), freshness.last_success()), (None, None));
    assert!(freshness.never_succeeded() && !freshness.is_fresh() && !freshness.is_stale());
    at(start, 2_500).await;
    assert_eq!(handle.freshness().age(), Some(ms(500)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_does_not_renew_it_and_the_next_success_does() {
    let app = App::new();
    app.then(Call::Poll, (0..4).map(|_| Act::Err("down")));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    // (at, age, fresh): four failed cycles, then one that succeeds.
    for (millis, age, fresh) in [
        (1_500, 1_500, true),
        (2_999, 2_999, true),
        (3_000, 3_000, false),
        (4_500, 4_500, false),
        (5_500, 500, true),
    ] {
        at(start, millis).await;
        let freshness = handle.freshness();
        assert_eq!((freshness.age(), freshness.is_fresh()), (Some(ms(age)), fresh), "at {millis} ms");
        assert_eq!(handle.status().freshness, freshness, "at {millis} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_growing_while_paused() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    runtime.control().pause().await.unwrap();
    at(start, 2_999).await;
    assert!(runtime.handle().freshness().is_fresh());
    at(start, 3_000).await;
    assert!(runtime.handle().freshness().is_stale());
}

/// A thread outside of tokio does not know of the paused clock; the handle does.
#[tokio::test(start_paused = true)]
async fn a_plain_thread_reads_the_runtime_s_clock() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    runtime.control().pause().await.unwrap();
    let handle = runtime.handle();
    for hours in [0, 1, 20] {
        at(start, hours * 3_600_000 + 7).await;
        let expected = Duration::from_secs(hours * 3600) + ms(7);
        let read = std::thread::spawn({
            let handle = handle.clone();
            move || {
                (
                    handle.freshness().age(),
                    handle.status().freshness.age(),
                    handle.watch().status().freshness.age(),
                )
            }
        });
        assert_eq!(read.join().unwrap(), (Some(expected), Some(expected), Some(expected)), "{hours} h");
    }
}
