//! `start` returns when cycle 0 has been published.

use watchkeeper::ObservationRuntime;
use watchkeeper::runtime::{State, StopOutcome};

use crate::common::{Act, App, Call, each_second, ms};

#[tokio::test(start_paused = true)]
async fn cycle_0_is_one_refresh_and_one_init() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    let status = runtime.handle().status();

    assert_eq!([Call::Sources, Call::Init, Call::Poll].map(|call| app.calls(call)), [1, 1, 0]);
    assert_eq!((status.state, status.cycle, status.generation), (State::Idle, 0, 1));
    assert_eq!(status.source_names.join(" "), "a");
    let snapshot = status.snapshot.unwrap();
    assert_eq!((snapshot.cycle, snapshot.generation, snapshot.source_count), (0, 1, 1));
    assert!(status.freshness.is_fresh());
    assert!(runtime.handle().history().is_empty(), "init finds no events");
}

/// Its future has been dropped by then; without the control nobody could wait for the end.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_is_stopped_and_awaited_by_its_control() {
    for call in [Call::Sources, Call::Init] {
        let app = App::new();
        app.then(call, [Act::Hang]);
        let (control, starting) =
            ObservationRuntime::start_with_control(app.clone(), app.clone(), each_second()).unwrap();
        assert!(tokio::time::timeout(ms(50), starting).await.is_err());
        assert_eq!(app.running(), 1, "its task has not turned yet");
        assert_eq!(control.stop().await, StopOutcome::Stopped);
        assert_eq!(app.running(), 0);
    }
}
