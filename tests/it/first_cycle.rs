//! `start` returns when cycle 0 has been published.

use watchkeeper::State;

use crate::common::{App, Call, each_second};

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
