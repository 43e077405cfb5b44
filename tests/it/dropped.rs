//! Dropping the runtime asks for its stop, inside and outside of a tokio context; handles that
//! outlive it report the reason.

use watchkeeper::ObservationRuntime;
use watchkeeper::runtime::{ControlError, State, StopOutcome, StopReason};
use watchkeeper::subscription::RecvError;
use watchkeeper::wait::WatchError;

use crate::common::threads::{Flavour, block_on, executor};
use crate::common::{Act, App, Call, each_second, ms};

const DROPPED: State = State::Stopped { reason: StopReason::Dropped };

#[tokio::test(start_paused = true)]
async fn inside_its_context_work_in_flight_is_dropped_and_every_reader_is_notified() {
    let app = App::new();
    app.then(Call::Poll, [Act::Hang]);
    let runtime = app.start(each_second()).await;
    let (handle, control) = (runtime.handle(), runtime.control());
    let (mut watch, mut batches) = (handle.watch(), handle.subscribe());
    tokio::time::sleep(ms(1_500)).await;
    assert_eq!(app.running(), 1);

    drop(runtime);
    assert_eq!(batches.recv().await, Err(RecvError::Closed(StopReason::Dropped)));
    assert_eq!(watch.changed().await.unwrap().state, DROPPED);
    assert_eq!(watch.changed().await.unwrap_err(), WatchError::Closed(StopReason::Dropped));
    assert_eq!(control.pause().await, Err(ControlError::Stopped { reason: StopReason::Dropped }));
    assert_eq!(control.stop().await, StopOutcome::Stopped);
    assert_eq!(app.running(), 0);
}

/// On a plain thread, with the executor running elsewhere, and with nobody driving the executor yet.
#[test]
fn outside_of_any_context() {
    for flavour in [Flavour::CurrentThread, Flavour::MultiThread] {
        let executor = executor(flavour);
        let app = App::new();
        let runtime = executor.block_on(app.start(each_second()));
        let (handle, control) = (runtime.handle(), runtime.control());
        assert!(tokio::runtime::Handle::try_current().is_err());
        std::thread::spawn(move || drop(runtime)).join().unwrap();
        assert_eq!(executor.block_on(control.stop()), StopOutcome::Stopped, "{flavour:?}");
        assert_eq!(handle.state(), DROPPED, "{flavour:?}");
    }
}

#[test]
fn inside_of_another_executor() {
    let (its, other) = (executor(Flavour::MultiThread), executor(Flavour::CurrentThread));
    let app = App::new();
    let runtime = its.block_on(app.start(each_second()));
    let mut watch = runtime.handle().watch();
    other.block_on(async { drop(runtime) });
    block_on(watch.wait_for(|_| false)).map(|_| ()).unwrap_err();
    assert_eq!(watch.status().state, DROPPED);
}

#[test]
fn after_the_end_of_its_executor() {
    let executor = executor(Flavour::CurrentThread);
    let app = App::new();
    let runtime = executor.block_on(app.start(each_second()));
    drop(executor);
    let handle = runtime.handle();
    drop(runtime);
    assert_eq!(handle.stop_reason(), Some(StopReason::Shutdown), "the first reason counts");
}

#[tokio::test(start_paused = true)]
async fn after_its_own_stop_it_changes_nothing() {
    let app = App::new();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let _ = runtime.stop().await;
    drop(runtime);
    tokio::time::sleep(ms(10_000)).await;
    assert_eq!(handle.stop_reason(), Some(StopReason::Requested));
}

#[tokio::test(start_paused = true)]
async fn before_it_has_begun() {
    let app = App::new();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    let mut batches = runtime.handle().subscribe();
    drop(runtime);
    assert_eq!(batches.recv().await, Err(RecvError::Closed(StopReason::Dropped)));
    assert_eq!(app.calls(Call::Sources), 0);
}
