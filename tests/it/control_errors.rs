//! A control that cannot be taken changes nothing and returns the reason: too many waiting, stopped, or dead.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::time::Instant;
use watchkeeper::ObservationControl;
use watchkeeper::runtime::{ControlError, StopOutcome, StopReason};

use crate::common::{Act, App, Call, at, each_second};

type Taken<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControlError>> + Send + 'a>>;

fn poll_once<T>(future: &mut Taken<'_, T>) -> Poll<Result<T, ControlError>> {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn every_control(control: &ObservationControl) -> [Result<(), ControlError>; 3] {
    [control.pause().await, control.resume().await, control.poll_now().await.map(|_| ())]
}

#[tokio::test(start_paused = true)]
async fn the_seventeenth_that_waits_is_refused_and_can_be_tried_again() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    let control = runtime.control();
    let mut waiting: Vec<Taken<'_, ()>> = (0..16).map(|_| Box::pin(control.resume()) as _).collect();
    for resume in &mut waiting {
        assert!(poll_once(resume).is_pending(), "the driver had no turn yet");
    }
    let full = ControlError::Full { capacity: 16 };
    assert_eq!(every_control(&control).await, [Err(full); 3]);
    assert_eq!(full.to_string(), "16 controls are queued: await the earlier ones, then try again");

    for resume in waiting {
        assert_eq!(resume.await, Ok(()));
    }
    assert!(!runtime.handle().status().paused, "what was refused was not taken");
    assert_eq!(runtime.handle().status().cycle, 0);
    assert_eq!(every_control(&control).await, [Ok(()); 3]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_runtime_says_why_it_stopped() {
    let runtime = App::new().start(each_second()).await;
    let control = runtime.control();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    let requested = ControlError::Stopped { reason: StopReason::Requested };
    assert_eq!(every_control(&control).await, [Err(requested); 3]);
    assert_eq!(requested.to_string(), "the runtime has stopped (stop was requested): start another one");

    let runtime = App::new().start(each_second()).await;
    let control = runtime.control();
    drop(runtime);
    let dropped = ControlError::Stopped { reason: StopReason::Dropped };
    assert_eq!(every_control(&control).await, [Err(dropped); 3]);
}

#[test]
fn a_dead_runtime_is_another_error() {
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let runtime = executor.block_on(App::new().start(each_second()));
    let control = runtime.control();
    let mut sent: Taken<'_, ()> = Box::pin(control.pause());
    assert!(poll_once(&mut sent).is_pending());
    drop(executor);

    let dead = ControlError::Dead { reason: StopReason::Shutdown };
    let another = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert_eq!(another.block_on(sent), Err(dead), "one that was waiting");
    assert_eq!(another.block_on(every_control(&control)), [Err(dead); 3]);
    assert_eq!(dead.to_string(), "the runtime is dead (the executor shut down): start another one");
    assert_eq!(another.block_on(runtime.stop()), StopOutcome::Stopped);
}

/// The stop takes precedence over controls that were sent before it.
#[tokio::test(start_paused = true)]
async fn a_control_that_a_stop_overtakes_is_refused() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    let control = runtime.control();
    at(began, 1500).await;
    let mut sent: Taken<'_, u64> = Box::pin(control.poll_now());
    assert!(poll_once(&mut sent).is_pending());
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(sent.await, Err(ControlError::Stopped { reason: StopReason::Requested }));
    assert_eq!(app.calls(Call::Sources), 2, "it has started nothing");
}
