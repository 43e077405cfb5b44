//! App code that blocks its thread is abandoned at the stop's deadline: the answer is `Detached`, and
//! what that code does later is not published.

use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use watchkeeper::runtime::{ControlError, ObservationStatus, State, StopOutcome, StopReason};
use watchkeeper::subscription::RecvError;
use watchkeeper::wait::WatchError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, Observer,
    StaticSourceProvider, async_trait,
};

use crate::common::threads::{Flavour, Gate, block_on, executor, poll_once};
use crate::common::{Act, App, Call, ms};

const ENDED: State = State::Stopped { reason: StopReason::Requested };

/// Only cycles that are asked for.
fn by_hand() -> ObservationConfig {
    ObservationConfig {
        interval: Duration::from_secs(3600),
        stop_timeout: ms(50),
        ..ObservationConfig::default()
    }
}

//   cycle 1: events [7]   cycle 2 ──── blocks its thread ─────────────┐ does something
//                          pause? ... stop? ... 50 ms ... Detached     └ and it is not published
#[test]
fn what_it_does_later_is_not_published() {
    let calls = [Call::Sources, Call::Poll];
    let acts = [Act::Ok(vec![8, 9]), Act::Err("late"), Act::Panic("late"), Act::slow(1)];
    for call in calls {
        for act in &acts {
            check(call, act.clone());
        }
    }
}

fn check(call: Call, act: Act) {
    let name = format!("{call:?}, then {act:?}");
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    if call == Call::Sources {
        app.then(call, [Act::Ok(vec![]), Act::Ok(vec![])]);
    }
    app.then(Call::Poll, [Act::Ok(vec![7])]).then(call, [Act::Held(gate.clone(), Box::new(act))]);
    let runtime = executor.block_on(app.start(by_hand()));
    let (handle, control) = (runtime.handle(), runtime.control());
    let mut batches = handle.subscribe();
    let mut watch = handle.watch();
    block_on(control.poll_now()).unwrap();
    assert_eq!(block_on(batches.recv()).unwrap().events, [7], "{name}");
    block_on(control.poll_now()).unwrap();
    gate.wait_until_reached();

    let mut pending = Box::pin(control.pause());
    let asked = pending.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    assert_eq!(asked, Poll::Pending, "{name}");
    let began = Instant::now();
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached, "{name}");
    assert!(began.elapsed() >= ms(50), "{name}: not before the deadline");
    assert_eq!(block_on(pending), Err(ControlError::Stopped { reason: StopReason::Requested }), "{name}");

    let before = seen(&handle);
    assert_eq!(handle.state(), ENDED, "{name}");
    assert_eq!(handle.latest_snapshot().unwrap().cycle, 1, "{name}");
    gate.open();
    drop(executor); // Waits for the thread that was blocked.
    assert_eq!(app.running(), 0, "{name}");
    assert_eq!(seen(&handle), before, "{name}");
    assert_eq!(block_on(batches.recv()), Err(RecvError::Closed(StopReason::Requested)), "{name}");
    assert_eq!(watch.status().state, ENDED, "{name}");
    assert_eq!(block_on(watch.changed()).unwrap_err(), WatchError::Closed(StopReason::Requested), "{name}");
}

/// Everything a handle can show, except ages.
fn seen(handle: &ObservationHandle<App>) -> String {
    let ObservationStatus { state, since, cycle, snapshot, last_error, .. } = handle.status();
    let (history, failures) = (handle.history(), handle.failures());
    format!("{state:?} {since:?} {cycle} {snapshot:?} {last_error:?} {history:?} {failures:?}")
}

#[test]
fn a_stop_is_not_detached_when_the_thread_comes_back_in_time() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![7])))]);
    let config = ObservationConfig { stop_timeout: Duration::from_secs(3600), ..by_hand() };
    let runtime = executor.block_on(app.start(config));
    block_on(runtime.control().poll_now()).unwrap();
    gate.wait_until_reached();
    assert_eq!(runtime.handle().state(), State::Polling);
    assert!(poll_once(runtime.stop()).is_pending());
    gate.open();
    assert_eq!(block_on(runtime.stop()), StopOutcome::Stopped);
    // The stop comes before the outcome of the work in flight.
    assert_eq!(runtime.handle().latest_snapshot().unwrap().cycle, 0);
    assert!(runtime.handle().history().is_empty());
}

/// The runtime is dropped and nobody waits for the stop: the end is published when the thread is back.
#[test]
fn dropped_meanwhile_it_publishes_its_end_and_nothing_else() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![7])))]);
    let runtime = executor.block_on(app.start(by_hand()));
    let handle = runtime.handle();
    let mut batches = handle.subscribe();
    block_on(runtime.control().poll_now()).unwrap();
    gate.wait_until_reached();

    drop(runtime);
    gate.open();
    assert_eq!(block_on(batches.recv()), Err(RecvError::Closed(StopReason::Dropped)));
    assert_eq!(handle.state(), State::Stopped { reason: StopReason::Dropped });
    assert_eq!(handle.latest_snapshot().unwrap().cycle, 0);
}

/// Nobody waits for the stop, and the thread never comes back: the deadline still holds.
#[test]
fn dropped_meanwhile_its_end_is_published_at_the_deadline() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    let runtime = executor.block_on(app.start(by_hand()));
    let control = runtime.control();
    let mut batches = runtime.handle().subscribe();
    block_on(control.poll_now()).unwrap();
    gate.wait_until_reached();

    let began = Instant::now();
    drop(runtime);
    assert_eq!(block_on(batches.recv()), Err(RecvError::Closed(StopReason::Dropped)));
    assert!(began.elapsed() >= ms(50));
    assert_eq!(app.running(), 1, "its thread is still blocked");
    assert_eq!(block_on(control.stop()), StopOutcome::Detached);
    gate.open();
}

/// The worker that a tick wakes is the one that drives the timers of the executor.
#[test]
fn the_deadline_holds_while_the_executor_s_own_timers_stand_still() {
    for flavour in [Flavour::MultiThread, Flavour::CurrentThread] {
        let executor = executor(flavour);
        let gate = Gate::default();
        let app = App::new();
        app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
        let config = ObservationConfig { interval: ms(1), ..by_hand() };
        let runtime = executor.block_on(app.start(config));
        let driving = std::thread::spawn({
            let mut watch = runtime.handle().watch();
            move || executor.block_on(watch.wait_for(|_| false)).map(|_| ())
        });
        gate.wait_until_reached();
        assert_eq!(block_on(runtime.stop()), StopOutcome::Detached, "{flavour:?}");
        gate.open();
        assert_eq!(driving.join().unwrap(), Err(WatchError::Closed(StopReason::Requested)), "{flavour:?}");
    }
}

/// Its snapshots look at the runtime when they are dropped.
struct Late {
    gate: Gate,
    handle: Arc<OnceLock<ObservationHandle<Late>>>,
}

struct Nosy {
    handle: Arc<OnceLock<ObservationHandle<Late>>>,
}

impl Drop for Nosy {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.get() {
            let _ = (handle.status(), handle.history(), handle.failures());
        }
    }
}

#[async_trait]
impl Observer for Late {
    type Source = ();
    type State = ();
    type Snapshot = Nosy;
    type Event = Nosy;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<Nosy>, DynError> {
        self.gate.pass();
        Ok(vec![Nosy { handle: Arc::clone(&self.handle) }])
    }

    fn snapshot(&self, (): &()) -> Nosy {
        Nosy { handle: Arc::clone(&self.handle) }
    }
}

#[test]
fn what_is_not_published_is_dropped_outside_of_every_lock() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let slot = Arc::new(OnceLock::new());
    let observer = Late { gate: gate.clone(), handle: Arc::clone(&slot) };
    let sources = StaticSourceProvider::new(vec![]);
    let runtime = executor.block_on(ObservationRuntime::start(sources, observer, by_hand())).unwrap();
    assert!(slot.set(runtime.handle()).is_ok());
    block_on(runtime.control().poll_now()).unwrap();
    gate.wait_until_reached();
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached);
    gate.open();
    drop(executor); // Under a lock it would never come back.
    assert_eq!(runtime.handle().state(), ENDED);
}
