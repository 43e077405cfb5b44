//! When tokio shuts down under a runtime, its end is published with the reason, also to readers
//! on other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};
use std::thread;
use std::time::Duration;

use tokio::runtime::Runtime;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use watchkeeper::runtime::{ControlError, State, StateKind, StopOutcome, StopReason};
use watchkeeper::subscription::RecvError;
use watchkeeper::wait::{Inconclusive, UnmetOutcome, WatchError};
use watchkeeper::{ObservationHandle, ObservationRuntime};

use crate::common::threads::{Flavour, block_on, executor};
use crate::common::{Act, App, Call, each_second};

const SHUTDOWN: State = State::Stopped { reason: StopReason::Shutdown };
const FLAVOURS: [Flavour; 2] = [Flavour::CurrentThread, Flavour::MultiThread];
const WINDOW: Duration = Duration::from_secs(3600);

type ShutDown = fn(Runtime);
const HOW: [(&str, ShutDown); 4] = [
    ("drop", drop),
    ("shutdown_background", Runtime::shutdown_background),
    ("shutdown_timeout", |executor| executor.shutdown_timeout(WINDOW)),
    ("shutdown_timeout of zero", |executor| executor.shutdown_timeout(Duration::ZERO)),
];

#[test]
fn at_work_and_idle_on_each_kind_of_executor() {
    for flavour in FLAVOURS {
        for (how, shut_down) in HOW {
            for call in [None, Some(Call::Sources), Some(Call::Init), Some(Call::Poll)] {
                check(&format!("{flavour:?}, {how}, hanging in {call:?}"), flavour, shut_down, call);
            }
        }
    }
}

fn check(name: &str, flavour: Flavour, shut_down: ShutDown, hangs: Option<Call>) {
    let executor = executor(flavour);
    let app = App::new();
    if let Some(call) = hangs {
        app.then(call, [Act::Hang]);
    }
    let runtime = {
        let _entered = executor.enter();
        ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap()
    };
    let (handle, control) = (runtime.handle(), runtime.control());
    executor.block_on(async {
        if hangs.is_none_or(|call| call == Call::Poll) {
            let mut watch = handle.watch();
            watch.wait_for(|status| status.snapshot.is_some()).await.unwrap();
            control.poll_now().await.unwrap();
            let until = if hangs.is_some() { StateKind::Polling } else { StateKind::Idle };
            watch.wait_for(|status| status.cycle == 1 && status.state.kind() == until).await.unwrap();
        } else {
            control.resume().await.unwrap(); // It has begun.
        }
    });
    // Each kind of reader, on its own thread.
    let watching = wait({
        let mut watch = handle.watch();
        async move { watch.wait_for(|_| false).await.map(|_| ()) }
    });
    let reading = wait({
        let mut batches = handle.subscribe();
        async move { batches.recv().await.map(|_| ()) }
    });
    let waiting = handle.eventually("the impossible", |_| false).within(WINDOW);
    let waiting = wait(async move { waiting.await.map(|_| ()).map_err(|unmet| unmet.outcome()) });

    shut_down(executor);

    assert_eq!(watching.join().unwrap(), Err(WatchError::Closed(StopReason::Shutdown)), "{name}");
    assert_eq!(reading.join().unwrap(), Err(RecvError::Closed(StopReason::Shutdown)), "{name}");
    let stopped = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason: StopReason::Shutdown });
    assert_eq!(waiting.join().unwrap(), Err(stopped), "{name}");
    assert_eq!(app.running(), 0, "{name}: the work was dropped");
    let dead = ControlError::Dead { reason: StopReason::Shutdown };
    assert_eq!(block_on(control.pause()), Err(dead), "{name}");
    assert_eq!(block_on(control.resume()), Err(dead), "{name}");
    assert_eq!(block_on(control.poll_now()), Err(dead), "{name}");
    assert_eq!(block_on(runtime.stop()), StopOutcome::Stopped, "{name}");
    is_over(name, &handle);
}

fn wait<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> thread::JoinHandle<T> {
    thread::spawn(move || block_on(future))
}

/// Everything that a handle offers still answers.
fn is_over(name: &str, handle: &ObservationHandle<App>) {
    assert_eq!(handle.state(), SHUTDOWN, "{name}");
    assert_eq!(handle.status().state, SHUTDOWN, "{name}");
    let _ = (handle.freshness(), handle.history(), handle.failures(), handle.mark());
    assert_eq!(
        block_on(handle.watch().changed()).unwrap_err(),
        WatchError::Closed(StopReason::Shutdown),
        "{name}"
    );
    let closed = block_on(handle.subscribe().recv());
    assert_eq!(closed, Err(RecvError::Closed(StopReason::Shutdown)), "{name}");
    block_on(handle.reaches(StateKind::Stopped).within(WINDOW)).unwrap();
    block_on(handle.eventually("anything", |_| true).within(WINDOW)).unwrap_err();
}

#[test]
fn before_the_task_first_ran() {
    for (how, shut_down) in HOW {
        let executor = executor(Flavour::CurrentThread);
        let app = App::new();
        let runtime = {
            let _entered = executor.enter();
            ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap()
        };
        shut_down(executor);
        assert_eq!(app.calls(Call::Sources), 0, "{how}: it never ran");
        is_over(how, &runtime.handle());
        let dead = ControlError::Dead { reason: StopReason::Shutdown };
        assert_eq!(block_on(runtime.control().poll_now()), Err(dead), "{how}");
        assert_eq!(block_on(runtime.stop()), StopOutcome::Stopped, "{how}");
    }
}

#[test]
fn on_an_executor_that_has_shut_down_already() {
    let executor = executor(Flavour::CurrentThread);
    let entered = executor.handle().clone();
    drop(executor);
    let _entered = entered.enter();
    let app = App::new();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    is_over("started too late", &runtime.handle());
}

#[test]
fn a_stop_that_was_asked_for_before_keeps_its_reason() {
    let executor = executor(Flavour::CurrentThread);
    let app = App::new();
    let runtime = executor.block_on(app.start(each_second()));
    let handle = runtime.handle();
    drop(runtime); // Nobody runs the executor any more: the driver cannot see it.
    drop(executor);
    assert_eq!(handle.stop_reason(), Some(StopReason::Dropped));
}

/// A subscriber of traces is foreign code too; one that panics takes the driver down, and no more.
#[test]
fn a_driver_that_panics_is_reported_as_dead() {
    struct Bomb(Arc<AtomicBool>);
    impl Subscriber for Bomb {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }
        fn event(&self, _: &Event<'_>) {
            assert!(!self.0.load(Relaxed), "a subscriber that panics");
        }
        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }
    let panics = Arc::new(AtomicBool::new(false));
    let _listening = tracing::subscriber::set_default(Bomb(Arc::clone(&panics)));
    let executor = executor(Flavour::CurrentThread);
    let app = App::new();
    let runtime = executor.block_on(app.start(each_second()));
    let (handle, control) = (runtime.handle(), runtime.control());
    let mut batches = handle.subscribe();

    panics.store(true, Relaxed);
    let dead = Err(ControlError::Dead { reason: StopReason::Died });
    assert_eq!(executor.block_on(control.poll_now()), dead);
    assert_eq!(executor.block_on(batches.recv()), Err(RecvError::Closed(StopReason::Died)));
    assert_eq!(executor.block_on(control.poll_now()), dead);
    assert_eq!(handle.state(), State::Stopped { reason: StopReason::Died });
    assert_eq!(executor.block_on(runtime.stop()), StopOutcome::Stopped);
}

#[test]
fn a_wait_whose_waker_panics_harms_nobody_else() {
    struct Bomb;
    impl Wake for Bomb {
        fn wake(self: Arc<Self>) {
            panic!("a waker that panics");
        }
    }
    let executor = executor(Flavour::CurrentThread);
    let app = App::new();
    let runtime = executor.block_on(app.start(each_second()));
    let handle = runtime.handle();
    let mut bad = Box::pin(handle.eventually("anything", |_| false).within(WINDOW));
    let bomb = Waker::from(Arc::new(Bomb));
    assert!(bad.as_mut().poll(&mut Context::from_waker(&bomb)).is_pending());
    let good = handle.eventually("cycle 1", |view| view.polls == 1).within(WINDOW);
    assert_eq!(executor.block_on(good).unwrap().cycle, 1);
    assert!(handle.stop_reason().is_none());
}

/// The timers of an executor that has shut down panic when they are polled: no caller may see that.
#[test]
fn a_wait_that_is_first_polled_after_it_is_over() {
    for (how, shut_down) in HOW {
        let executor = executor(Flavour::CurrentThread);
        let app = App::new();
        let runtime = executor.block_on(app.start(each_second()));
        let handle = runtime.handle();
        let wait = handle.eventually("anything", |_| true).within(WINDOW);
        let mut watch = handle.watch();
        let mut changed = Box::pin(watch.changed());
        assert!(changed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        shut_down(executor);
        let unmet = block_on(wait).unwrap_err();
        assert!(matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::Stopped { .. })), "{how}");
        assert_eq!(block_on(changed).unwrap().state, SHUTDOWN, "{how}");
    }
}
