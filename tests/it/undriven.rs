//! An executor that nobody drives, and one whose thread is blocked: waits and calls still end, and report
//! why. Under a paused clock nothing is ended.

use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use watchkeeper::runtime::{ControlError, StateKind, StopOutcome};
use watchkeeper::wait::{Inconclusive, Unmet, UnmetOutcome, WatchError};
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservationRuntimeError, PerSource,
    StaticSourceProvider,
};

use crate::common::threads::{Flavour, Gate, Opens, block_on, executor};
use crate::common::{Act, App, Call, each_second, ms};

/// Longer than anything here takes to end.
const NEVER: Duration = Duration::from_secs(30);

/// A runtime whose executor nobody drives any more.
fn undriven(config: ObservationConfig) -> (Runtime, App, ObservationRuntime<App>) {
    let executor = executor(Flavour::CurrentThread);
    let app = App::new();
    let runtime = executor.block_on(app.start(config));
    (executor, app, runtime)
}

/// Runs `future` on a separate thread, outside of tokio.
fn on_a_thread<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> mpsc::Receiver<T> {
    let (sender, outcome) = mpsc::channel();
    thread::spawn(move || sender.send(block_on(future)));
    outcome
}

fn ended<T>(outcome: &mpsc::Receiver<T>) -> T {
    outcome.recv_timeout(NEVER).expect("it ends")
}

fn names_the_cause(unmet: &Unmet, name: &str) {
    let UnmetOutcome::Inconclusive(Inconclusive::NotDriven { no_turn_for }) = unmet.outcome() else {
        panic!("{name}: {unmet}");
    };
    assert!(no_turn_for >= ms(1_000), "{name}: {unmet}");
    let report = unmet.to_string();
    assert!(report.contains("gave it no turn for ") && report.contains("`block_on`"), "{name}: {report}");
}

#[test]
fn every_wait_ends_shortly_after_its_window() {
    let (_executor, _, runtime) = undriven(each_second());
    let handle = runtime.handle();
    let erased = watchkeeper::group::AnyHandle::new("app", &handle);
    let window = ms(300);
    let waits = [
        ("eventually", on_a_thread(unmet(handle.eventually("x", |_| false).within(window)))),
        ("or_now", on_a_thread(unmet(handle.eventually("x", |_| false).or_now().within(window)))),
        ("always", on_a_thread(unmet(handle.always("x", |_| true).during(window)))),
        ("never", on_a_thread(unmet(handle.never("x", |_| false).during(window)))),
        ("stable_for", on_a_thread(unmet(handle.stable_for("x", ms(100), |_| Some(1)).within(window)))),
        ("event", on_a_thread(unmet(handle.event("x", |_| true).within(window)))),
        ("reaches", on_a_thread(unmet(handle.reaches(StateKind::Failed).within(window)))),
        ("erased", on_a_thread(unmet(erased.eventually("x", |_| false).within(window)))),
    ];
    for (name, outcome) in waits {
        names_the_cause(&ended(&outcome), name);
    }
}

async fn unmet<T>(wait: impl Future<Output = Result<T, Unmet>>) -> Unmet {
    wait.await.map(|_| ()).unwrap_err()
}

/// Earlier publications count: it held, and the data is fresh at the end.
#[test]
fn waits_that_hold_by_earlier_publications_still_hold() {
    let (_executor, _, runtime) = undriven(each_second());
    let handle = runtime.handle();
    let held = on_a_thread(handle.always("known", |_| true).or_now().during(ms(300)));
    let fresh = on_a_thread(handle.stays_fresh().during(ms(300)));
    let stale = on_a_thread(handle.becomes_stale().within(ms(60_000)));
    assert!(ended(&held).is_ok());
    assert!(ended(&fresh).is_ok());
    assert!(ended(&stale).unwrap().freshness.is_stale(), "data turns stale by the clock alone");
}

/// Another future polls the wait just when its window is over, or only then for the first time.
#[test]
fn a_wait_that_is_polled_by_others_names_the_cause_as_well() {
    let (_executor, _, runtime) = undriven(each_second());
    let handle = runtime.handle();
    let beside = handle.eventually("beside a clock", |_| false).within(ms(300));
    let late = handle.eventually("awaited late", |_| false).within(ms(1));
    let (beside, late) = (unmet(beside), unmet(late));
    let outcome = on_a_thread(async {
        let other = executor(Flavour::CurrentThread);
        other.block_on(async {
            let mut ticks = tokio::time::interval(ms(20));
            let mut beside = pin!(beside);
            let beside = loop {
                tokio::select! {
                    unmet = &mut beside => break unmet,
                    _ = ticks.tick() => {}
                }
            };
            (beside, late.await)
        })
    });
    let (beside, late) = ended(&outcome);
    names_the_cause(&beside, "beside");
    names_the_cause(&late, "late");
}

/// Not before it has lasted a second: until then it may be a busy machine.
#[test]
fn a_pending_wait_explains_that_nothing_moves() {
    let (_undriven, _, runtime) = undriven(each_second());
    let driven = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    let held = driven.block_on(app.start(ObservationConfig { interval: ms(1), ..each_second() }));
    gate.wait_until_reached();
    let _open = Opens(gate);
    for (runtime, stands) in
        [(&runtime, "; the executor gave no turn for "), (&held, "; the observation had no turn for ")]
    {
        let mut wait = pin!(runtime.handle().eventually("x", |_| false).within(NEVER));
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let began = Instant::now();
        let long = loop {
            let explained = wait.explain();
            if let Some((_, long)) = explained.split_once(stands) {
                break long.split_once(" s: ").expect("seconds, and why").0.parse::<f64>().unwrap();
            }
            assert!(began.elapsed() < NEVER, "{explained}");
            thread::yield_now();
        };
        assert!(long >= 1.0, "{stands}{long} s");
    }
}

#[test]
fn calls_without_a_window_end_after_some_seconds() {
    let (_executor, app, runtime) = undriven(each_second());
    let (handle, control) = (runtime.handle(), runtime.control());
    let invariant = handle.invariant("never watched", |_| true);
    let never_violated = handle.invariant("never watched", |_| true);

    let change = |handle: &ObservationHandle<App>| {
        let mut watch = handle.watch();
        on_a_thread(async move {
            let turned = watch.changed().await.map(|status| status.freshness.is_stale());
            (turned, watch.changed().await.map(|_| ()))
        })
    };
    let changed = change(&handle);
    let waited_for = on_a_thread({
        let mut watch = handle.watch();
        async move { watch.wait_for(|status| status.cycle == 9).await.map(|_| ()) }
    });
    let polled = on_a_thread({
        let control = control.clone();
        async move { control.poll_now().await }
    });
    let paused = on_a_thread(async move { control.pause().await });
    let finished = on_a_thread(async { invariant.finish().await.unwrap_err() });
    let violated = on_a_thread(async move { never_violated.violated().await });
    let started = thread::spawn(|| {
        let executor = executor(Flavour::CurrentThread);
        let _entered = executor.enter();
        let app = App::new();
        block_on(ObservationRuntime::start(app.clone(), app, each_second())).map(|_| ())
    });

    let (turned, changed) = ended(&changed);
    assert_eq!(turned, Ok(true), "turning stale is news");
    assert!(matches!(changed, Err(WatchError::NotDriven { .. })), "{changed:?}");
    assert!(matches!(ended(&waited_for), Err(WatchError::NotDriven { .. })));
    let polled = ended(&polled);
    assert!(matches!(polled, Err(ControlError::NotDriven { .. })), "{polled:?}");
    let error = polled.unwrap_err().to_string();
    assert!(error.contains("gave it no turn for ") && error.contains("`block_on`"), "{error}");
    assert!(matches!(ended(&paused), Err(ControlError::NotDriven { .. })));
    names_the_cause(&ended(&finished), "finish");
    names_the_cause(&ended(&violated), "violated");
    let started = started.join().unwrap();
    assert!(matches!(started, Err(ObservationRuntimeError::NotDriven { .. })), "{started:?}");
    assert_eq!(app.calls(Call::Poll), 0, "nothing ran");
}

/// A control that was given up is still there, and what was ended harms nothing.
#[test]
fn everything_continues_when_the_executor_is_driven_again() {
    let (executor, app, runtime) = undriven(each_second());
    let (handle, control) = (runtime.handle(), runtime.control());
    let answered = on_a_thread(async move { control.pause().await });
    assert!(matches!(ended(&answered), Err(ControlError::NotDriven { .. })));
    let mut watch = handle.watch();
    executor.block_on(watch.wait_for(|status| status.paused)).unwrap();
    executor.block_on(runtime.control().resume()).unwrap();
    let before = app.calls(Call::Poll) as u64;
    let wait = handle.eventually("more polls", |seen| seen.polls > before).within(NEVER);
    executor.block_on(wait).unwrap();
}

#[test]
fn a_stop_is_detached_at_its_deadline() {
    let config = ObservationConfig { stop_timeout: ms(50), ..each_second() };
    let (_executor, _, runtime) = undriven(config);
    let outcome = on_a_thread(async move { runtime.stop().await });
    assert_eq!(ended(&outcome), StopOutcome::Detached);
}

/// Nobody drives it either, and its clock stands still: real time means nothing.
#[test]
fn under_a_paused_clock_nothing_is_ended() {
    let executor = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let runtime = executor.block_on(App::new().start(each_second()));
    let handle = runtime.handle();
    let wait = on_a_thread(unmet(handle.eventually("anything", |_| true).within(ms(100))));
    let control = runtime.control();
    let polled = on_a_thread(async move { control.poll_now().await });
    let changed = on_a_thread({
        let mut watch = handle.watch();
        async move { watch.changed().await.map(|status| status.cycle) }
    });
    // On a running clock each of them would have ended.
    assert_eq!(polled.recv_timeout(ms(6_500)), Err(mpsc::RecvTimeoutError::Timeout));
    assert_eq!(wait.try_recv().map(|_| ()), Err(mpsc::TryRecvError::Empty));
    assert_eq!(changed.try_recv(), Err(mpsc::TryRecvError::Empty));
    // It is driven again: cycle 1 was asked for before the window ends.
    executor.block_on(async { tokio::time::sleep(ms(10)).await });
    assert_eq!(ended(&polled), Ok(1));
    assert_eq!(ended(&changed), Ok(1));
}

/// The clock was set on past its end, and stands still again.
#[test]
fn under_a_paused_clock_a_wait_whose_window_is_over_ends() {
    let executor = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let runtime = executor.block_on(App::new().start(each_second()));
    let wait = runtime.handle().eventually("anything", |_| false).within(ms(100));
    executor.block_on(tokio::time::advance(ms(500)));
    let unmet = ended(&on_a_thread(unmet(wait)));
    assert_eq!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::NothingObserved), "{unmet}");
}

//   a thread that drives the executor | a probe blocks it ................. | goes on
//   a plain thread                    | wait, 300 ms ... ended at 1.3 s      |
#[test]
fn a_blocked_thread_ends_waits_on_other_threads() {
    let executor = executor(Flavour::CurrentThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    // By hand: no cycle blocks the thread that starts the runtime.
    let by_hand = ObservationConfig { interval: Duration::from_secs(3600), ..each_second() };
    let runtime = executor.block_on(app.start(by_hand));
    let handle = runtime.handle();
    let (over, until_over) = tokio::sync::oneshot::channel::<()>();
    let driving = thread::spawn(move || executor.block_on(until_over));
    block_on(runtime.control().poll_now()).unwrap();
    gate.wait_until_reached();
    let outcome = on_a_thread(unmet(handle.eventually("x", |_| true).within(ms(300))));
    names_the_cause(&ended(&outcome), "blocked");
    gate.open();
    block_on(handle.eventually("it goes on", |seen| seen.polls == 1).or_now().within(NEVER)).unwrap();
    over.send(()).unwrap();
    driving.join().unwrap().unwrap();
}

/// Its executor has another thread, and gives turns.
#[test]
fn a_call_that_needs_the_driver_ends_while_a_poll_blocks_it() {
    let executor = executor(Flavour::MultiThread);
    let gate = Gate::default();
    let app = App::new();
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
    let runtime = executor.block_on(app.start(ObservationConfig { interval: ms(1), ..each_second() }));
    gate.wait_until_reached();
    let _open = Opens(gate);
    let control = runtime.control();
    let outcome = on_a_thread(async move { control.pause().await });
    assert!(matches!(ended(&outcome), Err(ControlError::NotDriven { .. })));
}

/// Blocks its thread, as a synchronous call does.
fn block() {
    thread::sleep(ms(2_200));
}

/// The wait runs on the executor that was blocked: it judges as usual, and its report notes it.
#[test]
fn a_probe_that_blocks_the_only_thread_is_noted() {
    let its = executor(Flavour::CurrentThread);
    let nodes = StaticSourceProvider::new(vec![watchkeeper::ObservedSource::new("n1", ())]);
    let observer = PerSource::new(|_| async {
        block();
        Ok::<_, watchkeeper::DynError>(1)
    });
    let config = ObservationConfig { interval: ms(100), ..each_second() };
    let unmet = its.block_on(async {
        let runtime = ObservationRuntime::start_in_background(nodes, observer, config).unwrap();
        let handle = runtime.handle();
        handle.all_sources("answers 2", |value| *value == 2).within(ms(1_500)).await.unwrap_err()
    });
    let report = unmet.to_string();
    assert!(
        !matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::NotDriven { .. })),
        "{report}"
    );
    let noted = "the executor gave no turn for ";
    assert!(
        report.contains(noted) && report.contains("s: a probe blocks its thread, or another task does"),
        "{report}"
    );
    assert!(report.contains("spawn_blocking"), "{report}");
}

#[test]
fn a_poll_that_blocks_its_thread_is_noted() {
    for flavour in [Flavour::CurrentThread, Flavour::MultiThread] {
        let its = executor(flavour);
        let app = App::new();
        let gate = Gate::default();
        app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(vec![])))]);
        let opener = thread::spawn(move || {
            gate.wait_until_reached();
            block();
            gate.open();
        });
        let (wait, invariant) = its.block_on(async {
            let runtime = app.start(ObservationConfig { interval: ms(400), ..each_second() }).await;
            let handle = runtime.handle();
            let invariant = handle.invariant("never", |_| false);
            let wait = handle.eventually("nothing", |_| false).within(ms(2_000));
            (wait.await.unwrap_err(), invariant.finish().await.unwrap_err())
        });
        opener.join().unwrap();
        let noted = match flavour {
            Flavour::CurrentThread => "the executor gave no turn for ",
            Flavour::MultiThread => "the observation had no turn for ",
        };
        for report in [wait.to_string(), invariant.to_string()] {
            assert!(report.contains(noted) && report.contains("s: a probe blocks its thread"), "{report}");
        }
    }
}

#[test]
fn a_predicate_that_blocks_its_thread_is_noted() {
    let (its, other) = (executor(Flavour::MultiThread), executor(Flavour::CurrentThread));
    let config = || ObservationConfig { interval: ms(900), ..each_second() };
    let slow = |_: &crate::common::View| {
        block();
        false
    };
    // On the thread of its runtime, and on another one.
    let same = other.block_on(async {
        let runtime = App::new().start(config()).await;
        runtime.handle().eventually("slowly", slow).within(ms(2_000)).await.unwrap_err().to_string()
    });
    assert!(same.contains("the executor gave no turn for ") && same.contains("a predicate blocks"), "{same}");
    let runtime = its.block_on(App::new().start(ObservationConfig { interval: ms(60_000), ..config() }));
    let control = runtime.control();
    its.spawn(async move {
        tokio::time::sleep(ms(300)).await;
        control.poll_now().await.unwrap();
    });
    let wait = runtime.handle().eventually("slowly", slow).within(ms(2_000));
    let apart = block_on(wait).unwrap_err().to_string();
    assert!(apart.contains("a predicate blocked its thread for "), "{apart}");
    // It blocked past the end of the window: the wait ends at that end nevertheless.
    assert!(apart.contains("+2.000s idle, cycle 1"), "{apart}");
    // An invariant that holds notes that nothing was judged meanwhile.
    let held = other.block_on(async {
        let runtime = App::new().start(config()).await;
        let mut blocks = true;
        let invariant = runtime.handle().invariant("slowly", move |_| {
            if std::mem::take(&mut blocks) {
                block();
            }
            true
        });
        runtime.handle().eventually("a cycle", |_| true).within(ms(9_000)).await.unwrap();
        tokio::time::sleep(ms(50)).await;
        invariant.finish().await.unwrap()
    });
    let note = held.note.unwrap();
    assert!(note.contains("the executor gave no turn for ") && note.contains("a predicate blocks"), "{note}");
}
