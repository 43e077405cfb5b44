//! A watch conflates, wakes when data turns stale by itself, once for each turning, and ends with
//! the reason.

use tokio::time::{Instant, timeout};
use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{ObservationStatus, State, StateKind, StopReason};
use watchkeeper::wait::{Watch, WatchError};

use crate::common::threads::poll_once;
use crate::common::{Act, App, Call, at, each_second, ms};

/// The next change, which must come at exactly `millis` after `start`.
async fn change_at(watch: &mut Watch<App>, start: Instant, millis: u128) -> ObservationStatus<App> {
    let status = watch.changed().await.unwrap();
    assert_eq!(start.elapsed().as_millis(), millis);
    status
}

/// Nothing changes until `millis` after `start`.
async fn silent_until(watch: &mut Watch<App>, start: Instant, millis: u64) {
    let rest = (start + ms(millis)) - Instant::now();
    if let Ok(status) = timeout(rest, watch.changed()).await {
        panic!("at {:?}: {status:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn it_shows_the_newest_status_and_no_earlier_one() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut watch = runtime.handle().watch();
    assert!(poll_once(watch.changed()).is_pending(), "what was there when it was made is no news");

    at(start, 5_500).await;
    let status = change_at(&mut watch, start, 5_500).await;
    assert_eq!((status.cycle, status.state), (5, State::Idle));
    assert!(poll_once(watch.changed()).is_pending(), "reported once");
    at(start, 6_500).await;
    assert_eq!(watch.status().cycle, 6);
    assert!(poll_once(watch.changed()).is_pending(), "what was read is no news");
}

//   0 s      1 s            3 s                  11 s          12 s
//   success  poll hangs ... stale by itself ...  timed out     rebuilt: fresh
#[tokio::test(start_paused = true)]
async fn it_wakes_once_when_data_turns_stale_while_a_poll_hangs() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut watch = runtime.handle().watch();

    assert_eq!(change_at(&mut watch, start, 1_000).await.state, State::Polling);
    let stale = change_at(&mut watch, start, 3_000).await;
    assert_eq!(stale.state, State::Polling);
    assert!(stale.freshness.is_stale());
    silent_until(&mut watch, start, 10_999).await;
    let failed = change_at(&mut watch, start, 11_000).await;
    assert_eq!(failed.state.kind(), StateKind::Failed);
    assert!(failed.freshness.is_stale());
    let fresh = watch.wait_for(|status| status.freshness.is_fresh()).await.unwrap();
    assert_eq!((fresh.cycle, fresh.state, start.elapsed()), (2, State::Idle, ms(12_000)));
}

//   0 s      1 s      1.5 s    4 s                20 s     21 s     21.5 s   24 s
//   success  success  pause    stale by itself    resume   success  pause    stale again
#[tokio::test(start_paused = true)]
async fn it_wakes_once_for_each_turning_while_paused() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let (mut watch, control) = (runtime.handle().watch(), runtime.control());
    for round in [0, 20_000] {
        at(start, round + 1_500).await;
        control.pause().await.unwrap();
        assert!(watch.status().paused);
        let stale = change_at(&mut watch, start, u128::from(round) + 4_000).await;
        assert!(stale.paused && stale.freshness.is_stale() && stale.state == State::Idle);
        silent_until(&mut watch, start, round + 20_000).await;
        control.resume().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_staleness_that_was_seen_in_the_status_is_not_reported_again() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut watch = runtime.handle().watch();
    at(start, 5_000).await;
    assert!(watch.status().freshness.is_stale());
    silent_until(&mut watch, start, 10_999).await;
}

#[tokio::test(start_paused = true)]
async fn a_success_that_is_stale_when_it_comes_turns_only_once() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(400), Act::Hang]);
    let config = ObservationConfig { stale_after: Some(ms(300)), ..each_second() };
    let start = Instant::now();
    let runtime = app.start(config).await;
    let mut watch = runtime.handle().watch();
    assert!(change_at(&mut watch, start, 300).await.freshness.is_stale());
    assert_eq!(change_at(&mut watch, start, 1_000).await.state, State::Polling);
    let late = change_at(&mut watch, start, 1_400).await;
    assert_eq!((late.state, late.freshness.is_stale()), (State::Idle, true));
    silent_until(&mut watch, start, 1_999).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_is_woken_while_data_stays_fresh() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut watch = runtime.handle().watch();
    let never = watch.wait_for(|status| !status.freshness.is_fresh());
    assert!(timeout(ms(60_500), never).await.is_err());
    assert_eq!(start.elapsed(), ms(60_500));
}

#[tokio::test(start_paused = true)]
async fn before_the_first_success_nothing_turns_stale() {
    let app = App::new();
    app.then(Call::Init, [Act::Hang]);
    let start = Instant::now();
    let runtime =
        watchkeeper::ObservationRuntime::start_in_background(app.clone(), app, each_second()).unwrap();
    at(start, 1).await;
    let mut watch = runtime.handle().watch();
    assert!(watch.status().freshness.never_succeeded());
    silent_until(&mut watch, start, 9_999).await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_nobody_waited_for_is_not_lost() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut watch = runtime.handle().watch();
    at(start, 1_500).await;
    // Given up while it waits for the data to turn stale, which then happens unwatched.
    assert_eq!(change_at(&mut watch, start, 1_500).await.state, State::Polling);
    assert!(poll_once(watch.changed()).is_pending());
    at(start, 5_000).await;
    assert!(change_at(&mut watch, start, 5_000).await.freshness.is_stale());
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_the_reason_while_the_handle_lives() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let mut watch = handle.watch();
    tokio::time::sleep(ms(5_000)).await;
    let _ = runtime.stop().await;
    let last = watch.changed().await.unwrap();
    assert_eq!(last.state, State::Stopped { reason: StopReason::Requested });
    assert_eq!(watch.changed().await.unwrap_err(), WatchError::Closed(StopReason::Requested));
    tokio::time::sleep(ms(60_000)).await;
    assert_eq!(watch.changed().await.unwrap_err(), WatchError::Closed(StopReason::Requested));
}
