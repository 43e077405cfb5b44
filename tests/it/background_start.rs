//! A start in the background keeps trying; handle and control are there from the beginning.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::State;
use watchkeeper::{ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime};

use crate::common::{Act, App, Call, View, at, each_second, ms};

fn start(app: &App) -> ObservationRuntime<App> {
    ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn handle_and_control_are_there_before_anything_ran() {
    let app = App::new();
    let runtime = start(&app);
    let (handle, control) = (runtime.handle(), runtime.control());
    let status = handle.status();

    assert_eq!(app.calls(Call::Sources), 0);
    assert_eq!((status.state, status.cycle, status.generation), (State::Starting, 0, 1));
    assert!(status.snapshot.is_none() && status.last_error.is_none() && !status.paused);
    assert!(status.source_names.is_empty() && handle.history().is_empty() && handle.failures().is_empty());
    assert!(status.freshness.never_succeeded() && status.freshness.age().is_none());

    control.pause().await.unwrap();
    assert!(handle.status().paused);
    assert_eq!(app.calls(Call::Init), 1, "a cycle in flight goes on");
}

//    0 s              1 s             2 s                  3 s
//    no sources       no state        state, cycle 2       a poll
#[tokio::test(start_paused = true)]
async fn it_tries_until_there_is_a_first_success() {
    let app = App::new();
    app.then(Call::Sources, [Act::Err("no sources")]).then(Call::Init, [Act::Err("no state")]);
    let began = Instant::now();
    let runtime = start(&app);
    let handle = runtime.handle();

    for (millis, stage, consecutive) in [(500, Stage::SourceRefresh, 1), (1500, Stage::Init, 2)] {
        at(began, millis).await;
        let status = handle.status();
        assert_eq!(status.state, State::Failed { stage, consecutive, rebuild: true }, "at {millis} ms");
        assert!(status.freshness.never_succeeded() && status.snapshot.is_none(), "at {millis} ms");
    }

    at(began, 2500).await;
    let status = handle.status();
    assert_eq!((status.state, status.cycle, status.generation), (State::Idle, 2, 1));
    assert_eq!(status.last_error, None);
    let snapshot = status.snapshot.unwrap();
    assert_eq!((snapshot.cycle, snapshot.generation), (2, 1), "failed cycles make no generations");
    assert_eq!(snapshot.observed_at, began + ms(2000));

    let failures: Vec<_> = handle.failures().iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        ["cycle 0 failed in source refresh: no sources", "cycle 1 failed in init: no state"],
        "failures are kept"
    );

    at(began, 3500).await;
    assert_eq!(handle.latest_snapshot().unwrap().value, View { polls: 1, sources: vec!["a".into()] });
    assert_eq!(app.times(Call::Init, began), [1000, 2000]);
}

#[tokio::test(start_paused = true)]
async fn a_wait_from_before_the_first_cycle_sees_it() {
    let app = App::new();
    let config = ObservationConfig { interval: Duration::from_secs(3600), ..each_second() };
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), config).unwrap();
    let handle = runtime.handle();
    let before = handle.mark();
    let wait = handle.eventually("cycle 0", |_| true).within(Duration::from_secs(60));
    assert_eq!(wait.await.unwrap().cycle, 0);
    let wait = handle.eventually("cycle 0", |_| true).after(before).within(Duration::from_secs(60));
    assert_eq!(wait.await.unwrap().cycle, 0, "it began after the mark");
}
