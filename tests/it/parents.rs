//! Cancelling the parent of a runtime or of a group is a requested stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use tokio::runtime::Handle;
use tokio::time::Instant;
use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::{CancellationToken, PollNowError, StopOutcome, StopReason};
use watchkeeper::wait::{Inconclusive, UnmetOutcome};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, SourceProvider,
    async_trait, observe, until,
};

use crate::common::threads::{Flavour, Gate, block_on, executor};
use crate::common::{Act, App, Call, each_second, ms};

fn child_of(parent: &CancellationToken) -> ObservationConfig {
    ObservationConfig { parent: Some(parent.clone()), ..each_second() }
}

#[tokio::test(start_paused = true)]
async fn cancelling_it_is_a_requested_stop_also_while_a_poll_hangs() {
    for acts in [vec![], vec![Act::Hang]] {
        let (parent, app) = (CancellationToken::new(), App::new());
        app.then(Call::Poll, acts);
        let runtime = app.start(child_of(&parent)).await;
        tokio::time::sleep(ms(1_500)).await;
        parent.cancel();
        assert_eq!(runtime.handle().stopped().await, StopReason::Requested);
        assert_eq!(runtime.stop().await, StopOutcome::Stopped);
        assert_eq!((app.running(), Handle::current().metrics().num_alive_tasks()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_already_asks_nothing_of_the_app() {
    let (parent, app) = (CancellationToken::new(), App::new());
    parent.cancel();
    let error = ObservationRuntime::start(app.clone(), app.clone(), child_of(&parent)).await.unwrap_err();
    assert!(matches!(error, ObservationRuntimeError::Ended { reason: StopReason::Requested }), "{error}");
    assert!(error.to_string().contains("a `parent` that is not cancelled"), "{error}");
    let config = child_of(&parent);
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), config).unwrap();
    assert_eq!(runtime.handle().stopped().await, StopReason::Requested);
    assert!(matches!(runtime.poll_now_and_wait().await, Err(PollNowError::NotTaken(_))));
    assert_eq!((app.calls(Call::Sources), app.calls(Call::Init)), (0, 0));
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
}

/// Records that it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicBool>);

#[async_trait]
impl SourceProvider<()> for Asked {
    async fn sources(&self) -> Result<Vec<ObservedSource<()>>, DynError> {
        self.0.store(true, Relaxed);
        Ok(Vec::new())
    }

    fn revision(&self) -> Option<u64> {
        self.0.store(true, Relaxed);
        None
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_is_cancelled_already_asks_for_no_revision() {
    let (parent, asked) = (CancellationToken::new(), Asked::default());
    parent.cancel();
    let runtime =
        ObservationRuntime::start_in_background(asked.clone(), App::new(), child_of(&parent)).unwrap();
    assert_eq!(runtime.handle().stopped().await, StopReason::Requested);
    assert!(!asked.0.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_the_child_leaves_the_parent_and_nothing_stays_registered() {
    let (parent, app) = (CancellationToken::new(), App::new());
    let one = app.start(child_of(&parent)).await;
    let other = app.start(child_of(&parent.child_token())).await;
    assert_eq!(one.stop().await, StopOutcome::Stopped);
    assert!(!parent.is_cancelled());
    tokio::time::sleep(ms(2_500)).await;
    assert_eq!(other.handle().stop_reason(), None);
    parent.cancel();
    assert_eq!(other.handle().stopped().await, StopReason::Requested);
}

#[tokio::test(start_paused = true)]
async fn the_shortest_ways_in_take_a_parent_too() {
    async fn square(node: ObservedSource<u64>) -> Result<u64, DynError> {
        Ok(node.source * node.source)
    }
    let parent = CancellationToken::new();
    let runtime = observe(child_of(&parent), [("n1", 3)], square).await.unwrap();
    let snapshot = runtime.handle().latest_snapshot().unwrap();
    assert_eq!(snapshot.value.answer("n1"), Some(&9));
    parent.cancel();
    assert_eq!(runtime.handle().stopped().await, StopReason::Requested);
    let error = observe(child_of(&parent), [("n1", 3)], square).await.unwrap_err();
    assert!(matches!(error, ObservationRuntimeError::Ended { reason: StopReason::Requested }), "{error}");
}

/// Records that it was dropped.
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Also while its condition is asked: that future is dropped.
#[tokio::test(start_paused = true)]
async fn an_until_that_is_cancelled_says_so_and_drops_its_condition() {
    let cancelled = UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason: StopReason::Requested });
    for hangs in [false, true] {
        let (parent, dropped, began) =
            (CancellationToken::new(), Arc::<AtomicBool>::default(), Instant::now());
        let condition = || async {
            let _dropped = Dropped(Arc::clone(&dropped));
            if hangs {
                std::future::pending::<()>().await;
            }
            Err::<(), _>("not ready")
        };
        let waiting = until("it is ready", condition).with_parent(parent.clone()).within(ms(60_000));
        let (unmet, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(ms(1_050)).await;
            parent.cancel();
        });
        let unmet = unmet.unwrap_err();
        assert_eq!((unmet.outcome(), began.elapsed()), (cancelled, ms(1_050)), "{unmet}");
        assert_eq!(unmet.reason(), (!hangs).then_some("not ready"));
        assert!(dropped.load(Relaxed));
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
        // A second one is not asked at all.
        let asked = AtomicBool::new(false);
        let never = || async { asked.store(true, Relaxed) };
        let unmet = until("it is asked", || async {
            never().await;
            true
        })
        .with_parent(parent)
        .within(ms(60_000))
        .await
        .unwrap_err();
        assert_eq!((unmet.outcome(), asked.load(Relaxed)), (cancelled, false), "{unmet}");
    }
}

/// No turn of the executor is needed to ask for the stop: its deadline runs from the cancellation.
#[test]
fn it_stops_a_runtime_whose_thread_is_blocked() {
    let its = executor(Flavour::MultiThread);
    let (parent, app, gate) = (CancellationToken::new(), App::new(), Gate::default());
    app.then(Call::Poll, [Act::Held(gate.clone(), Box::new(Act::Ok(Vec::new())))]);
    let config = ObservationConfig { interval: ms(10), stop_timeout: ms(50), ..child_of(&parent) };
    let runtime = its.block_on(app.start(config));
    gate.wait_until_reached();
    parent.cancel();
    assert_eq!(block_on(runtime.handle().stopped()), StopReason::Requested);
    assert_eq!(block_on(runtime.stop()), StopOutcome::Detached);
    gate.open();
}

#[tokio::test(start_paused = true)]
async fn a_group_stops_its_members_and_those_that_are_added_afterwards() {
    let parent = CancellationToken::new();
    let group = ObservationGroup::with_parent(parent.clone());
    let app = App::new();
    for name in ["a", "b"] {
        group.add_as(name, app.start(each_second()).await).unwrap();
    }
    tokio::time::sleep(ms(1_500)).await;
    assert!(group.statuses().iter().all(|status| !status.freshness.is_stale()));
    parent.cancel();
    let late = app.start(each_second()).await;
    let stopped = late.handle();
    group.add_as("late", late).unwrap();
    assert_eq!(stopped.stopped().await, StopReason::Requested);
    for (name, outcome) in group.stop_all().await {
        assert_eq!(outcome, StopOutcome::Stopped, "{name}");
    }
    let reasons: Vec<_> = group.statuses().into_iter().map(|status| status.state.to_string()).collect();
    assert_eq!(reasons.len(), 3);
    assert!(reasons.iter().all(|state| state.contains("requested")), "{reasons:?}");
}
