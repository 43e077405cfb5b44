//! Polling now, and waiting for the outcome of that very cycle.

use std::error::Error;

use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::{Cause, PollNowError, State, StopReason};
use watchkeeper::{ObservationConfig, ObservationRuntime};

use crate::common::{Act, App, Call, each_second, ms};

#[tokio::test(start_paused = true)]
async fn it_returns_the_snapshot_or_the_failure_of_the_very_cycle_it_starts() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    app.then(Call::Poll, [Act::Ok(vec![1]), Act::Err("down"), Act::Panic("bug"), Act::Hang]);
    let began = tokio::time::Instant::now();
    let snapshot = runtime.poll_now_and_wait().await.unwrap();
    assert_eq!((snapshot.cycle, snapshot.value.polls, began.elapsed()), (1, 1, ms(0)));
    for (cycle, cause, text) in
        [(2, Cause::Error, "down"), (3, Cause::Panicked, "bug"), (4, Cause::TimedOut, "timed out")]
    {
        // A panic loses the state: the next cycle is an init, which succeeds, and the poll is the one after it.
        if cycle == 4 {
            assert_eq!(runtime.poll_now_and_wait().await.unwrap().cycle, 4);
        }
        let error = runtime.poll_now_and_wait().await.unwrap_err();
        let PollNowError::Failed(failure) = &error else { panic!("{error}") };
        assert_eq!((failure.cycle, failure.cause), (if cycle == 4 { 5 } else { cycle }, cause));
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.source().is_none(), "the text is whole");
    }
}

/// For any observer: the control does it, and a group has controls too.
#[tokio::test(start_paused = true)]
async fn a_control_waits_for_its_cycle_and_returns_its_number() {
    let app = App::new();
    let group = ObservationGroup::new();
    group.add_as("app", app.start(each_second()).await).unwrap();
    let (control, handle) = (group.control("app").unwrap(), group.handle("app").unwrap());
    app.then(Call::Poll, [Act::slow(300), Act::Err("down"), Act::Hang]);
    let began = tokio::time::Instant::now();
    assert_eq!((control.poll_now_and_wait().await.unwrap(), began.elapsed()), (1, ms(300)));
    assert_eq!((handle.status().cycle, handle.status().state), (1, State::Idle));
    let error = control.poll_now_and_wait().await.unwrap_err();
    assert!(matches!(&error, PollNowError::Failed(failure) if failure.cycle == 2), "{error}");
    let (ended, _) = tokio::join!(control.poll_now_and_wait(), group.stop_all());
    let taken = matches!(ended, Err(PollNowError::Ended { reason: StopReason::Requested }));
    assert!(taken || matches!(ended, Err(PollNowError::NotTaken(_))), "{ended:?}");
    assert!(matches!(control.poll_now_and_wait().await, Err(PollNowError::NotTaken(_))));
}

#[tokio::test(start_paused = true)]
async fn it_is_the_cycle_after_the_one_in_flight() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    app.then(Call::Poll, [Act::slow(300), Act::Err("the second")]);
    let (first, after) = tokio::join!(runtime.poll_now_and_wait(), async {
        tokio::time::sleep(ms(100)).await;
        runtime.poll_now_and_wait().await
    });
    assert_eq!(first.unwrap().cycle, 1);
    let Err(PollNowError::Failed(failure)) = after else { panic!("{after:?}") };
    assert_eq!((failure.cycle, &*failure.message), (2, "the second"));
}

#[tokio::test(start_paused = true)]
async fn a_runtime_that_ends_meanwhile_says_so() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    app.then(Call::Poll, [Act::Hang]);
    let (ended, _) = tokio::join!(runtime.poll_now_and_wait(), async {
        tokio::time::sleep(ms(100)).await;
        runtime.stop().await
    });
    let reason = StopReason::Requested;
    assert!(matches!(&ended, Err(PollNowError::Ended { reason: why }) if *why == reason), "{ended:?}");
    assert!(matches!(runtime.poll_now_and_wait().await, Err(PollNowError::NotTaken(_))));
}

/// Cycles without a pause: the requested one is found among all the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_exact_beside_cycles_that_never_rest() {
    let app = App::new();
    let config = ObservationConfig { interval: std::time::Duration::from_nanos(1), ..each_second() };
    let runtime = ObservationRuntime::start(app.clone(), app, config).await.unwrap();
    let mut last = 0;
    for _ in 0..200 {
        match runtime.poll_now_and_wait().await {
            Ok(snapshot) => {
                assert!(snapshot.cycle > last);
                last = snapshot.cycle;
            }
            Err(PollNowError::FellBehind { missed }) => assert!(missed > 0),
            Err(error) => panic!("{error}"),
        }
    }
}
