//! Without a tokio runtime nothing starts, and the error says what to do.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use watchkeeper::runtime::State;
use watchkeeper::{ObservationRuntime, ObservationRuntimeError};

use crate::common::{App, Call, each_second};

#[test]
fn both_ways_to_start_are_refused() {
    let app = App::new();
    let background =
        ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap_err();
    let mut start = pin!(ObservationRuntime::start(app.clone(), app.clone(), each_second()));
    let Poll::Ready(Err(fast)) = start.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("it has nothing to wait for")
    };

    for error in [fast, background] {
        assert!(matches!(error, ObservationRuntimeError::NoTokioRuntime), "unexpected: {error:?}");
        assert!(error.to_string().contains("enter its handle first"), "{error}");
    }
    assert_eq!(app.calls(Call::Sources), 0);
}

#[test]
fn a_handle_that_was_entered_is_enough() {
    let executor =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let app = App::new();
    let runtime = {
        let _entered = executor.enter();
        ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap()
    };
    let idle = runtime.handle().reaches(State::Idle).or_now().within(Duration::from_secs(1));
    assert_eq!(executor.block_on(idle).unwrap().cycle, 0);
}
