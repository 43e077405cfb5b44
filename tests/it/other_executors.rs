//! Nothing needs to be awaited on the executor that runs the observation: a plain thread will do.

use std::time::Duration;

use watchkeeper::ObservationConfig;
use watchkeeper::runtime::{StateKind, StopOutcome, StopReason};
use watchkeeper::wait::{UnmetOutcome, WatchError};

use crate::common::threads::{Flavour, block_on, executor};
use crate::common::{Act, App, Call, ms};

const WINDOW: Duration = Duration::from_secs(60);

fn often() -> ObservationConfig {
    ObservationConfig { interval: ms(1), ..ObservationConfig::default() }
}

#[test]
fn controls_readers_and_waits_on_a_plain_thread() {
    let executor = executor(Flavour::MultiThread);
    let app = App::new();
    app.then(Call::Poll, (1..=3).map(|n| Act::Ok(vec![n])));
    let by_hand = ObservationConfig { interval: WINDOW, ..often() };
    let runtime = {
        let _entered = executor.enter();
        block_on(app.start(by_hand))
    };
    assert!(tokio::runtime::Handle::try_current().is_err());
    let (handle, control) = (runtime.handle(), runtime.control());

    let mut batches = handle.subscribe();
    for n in 1..=3 {
        assert_eq!(block_on(control.poll_now()), Ok(n));
        assert_eq!(block_on(batches.recv()).unwrap().events, [n]);
    }
    let wait = handle.eventually("four polls", |seen| seen.polls == 4).within(WINDOW);
    assert_eq!(block_on(control.poll_now()), Ok(4));
    assert_eq!(block_on(wait).unwrap().cycle, 4);
    let mut watch = handle.watch();
    block_on(control.pause()).unwrap();
    assert!(block_on(watch.changed()).unwrap().paused);
    block_on(control.resume()).unwrap();
    assert_eq!(block_on(control.stop()), StopOutcome::Stopped);
    assert_eq!(block_on(handle.watch().changed()).unwrap_err(), WatchError::Closed(StopReason::Requested));
}

#[test]
fn a_window_and_staleness_end_on_a_plain_thread() {
    let executor = executor(Flavour::MultiThread);
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let config = ObservationConfig { stale_after: Some(ms(50)), ..often() };
    let runtime = executor.block_on(app.start(config));
    let handle = runtime.handle();

    let mut watch = handle.watch();
    let stale = block_on(watch.wait_for(|status| status.freshness.is_stale())).unwrap();
    assert!(stale.freshness.age().unwrap() >= ms(50));
    let unmet = block_on(handle.eventually("the impossible", |_| false).within(ms(20))).unwrap_err();
    assert!(matches!(unmet.outcome(), UnmetOutcome::Inconclusive(_)), "{unmet}");
}

#[test]
fn on_another_tokio_executor() {
    let (its, other) = (executor(Flavour::MultiThread), executor(Flavour::CurrentThread));
    let app = App::new();
    let runtime = its.block_on(app.start(often()));
    let handle = runtime.handle();
    other.block_on(async {
        handle.eventually("three polls", |seen| seen.polls >= 3).within(WINDOW).await.unwrap();
        handle.reaches(StateKind::Polling).within(WINDOW).await.unwrap();
        assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    });
}
