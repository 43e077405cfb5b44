//! A poll that was cut off costs the state, unless the observer says that it can be interrupted.

use tokio::time::Instant;
use watchkeeper::runtime::{Cause, State, StateKind};
use watchkeeper::{
    ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime, StaticSourceProvider,
};

use crate::common::stateless::stateless;
use crate::common::{Act, App, Call, at, each_second, ms};

//    0 s      1 s      2 s         3 s
//    init     poll     cut off     poll, or init again
#[tokio::test(start_paused = true)]
async fn a_cut_off_poll_keeps_or_costs_the_state() {
    let (timed_out, panicked, error) = (Cause::TimedOut, Cause::Panicked, Cause::Error);
    // (interruptible, what the poll does, cause, polls its state has seen in the end, generation)
    let cases = [
        (false, Act::Hang, timed_out, 0, 2),
        (true, Act::Hang, timed_out, 2, 1),
        (false, Act::Panic("boom").after(100), panicked, 0, 2),
        (true, Act::Panic("boom").after(100), panicked, 0, 2),
        (false, Act::Err("down"), error, 2, 1),
        (true, Act::Err("down"), error, 2, 1),
    ];
    for (interruptible, act, cause, polls, generation) in cases {
        let name = format!("{act:?}, interruptible: {interruptible}");
        let app = if interruptible { App::new().interruptible() } else { App::new() };
        app.then(Call::Poll, [Act::Ok(Vec::new()), act]);
        let began = Instant::now();
        let runtime = app.start(ObservationConfig { poll_timeout: ms(300), ..each_second() }).await;
        let handle = runtime.handle();

        at(began, 2500).await;
        let failed = State::Failed { stage: Stage::Poll, consecutive: 1, rebuild: generation == 2 };
        assert_eq!(handle.state(), failed, "{name}");
        assert_eq!(handle.last_error().unwrap().cause, cause, "{name}");

        at(began, 3500).await;
        let snapshot = handle.latest_snapshot().unwrap();
        assert_eq!((snapshot.cycle, snapshot.value.polls), (3, polls), "{name}");
        assert_eq!(snapshot.generation, generation, "{name}");
    }
}

/// A time-out of the refresh does not touch the state.
#[tokio::test(start_paused = true)]
async fn a_cut_off_refresh_never_costs_the_state() {
    let app = App::new();
    app.then(Call::Sources, [Act::Ok(Vec::new()), Act::Hang]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { refresh_timeout: ms(300), ..each_second() }).await;
    at(began, 2500).await;
    let snapshot = runtime.handle().latest_snapshot().unwrap();
    assert_eq!((snapshot.value.polls, snapshot.generation, app.calls(Call::Init)), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn work_is_cut_off_at_its_own_deadline_and_not_before() {
    let app = App::new();
    app.then(Call::Poll, [Act::slow(299), Act::slow(301)]);
    let began = Instant::now();
    let runtime = app.start(ObservationConfig { poll_timeout: ms(300), ..each_second() }).await;
    let handle = runtime.handle();
    at(began, 1500).await;
    assert_eq!((handle.state(), handle.latest_snapshot().unwrap().elapsed), (State::Idle, ms(299)));
    at(began, 2500).await;
    let failure = handle.last_error().unwrap();
    assert_eq!((failure.cause, failure.elapsed), (Cause::TimedOut, ms(300)));
}

/// Work that is never idle has used up tokio's budget whenever the deadline is checked.
#[tokio::test]
async fn a_poll_that_is_busy_for_ever_is_cut_off_too() {
    let busy = || async {
        loop {
            tokio::task::consume_budget().await;
        }
    };
    let config = ObservationConfig { interval: ms(10), poll_timeout: ms(20), ..ObservationConfig::default() };
    let sources = StaticSourceProvider::<()>::new(Vec::new());
    let runtime = ObservationRuntime::start(sources, stateless(busy), config).await.unwrap();
    let failed = runtime.handle().reaches(StateKind::Failed).within(ms(5000));
    let failure = failed.await.unwrap().last_error.unwrap();
    assert_eq!(failure.message, "timed out after 20ms");
}
