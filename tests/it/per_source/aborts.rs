//! No probe outlives what began it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant;
use watchkeeper::per_source::{PerSourceSnapshot, PerSourceState, SourceEvent};
use watchkeeper::runtime::StopOutcome;
use watchkeeper::subscription::RecvError;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource,
    StaticSourceProvider, async_trait,
};

use super::{Probes, SECOND, Says, cycle, sources, start};
use crate::common::{each_second, ms, status_when};

async fn three_in_flight() -> (super::Observed, Probes) {
    let probes = Probes::new();
    for name in ["a", "b", "c"] {
        probes.set(name, Says::Hang);
    }
    let (runtime, _) = start(&["a", "b", "c", "d"], probes.observer().probe_timeout(100 * SECOND)).await;
    cycle(&runtime, 2).await;
    assert_eq!(probes.in_flight(), 3);
    (runtime, probes)
}

#[tokio::test(start_paused = true)]
async fn a_stop_aborts_them_at_once() {
    let (runtime, probes) = three_in_flight().await;
    let stopped_at = Instant::now();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    probes.are_gone().await;
    assert_eq!(Instant::now(), stopped_at);
}

#[tokio::test(start_paused = true)]
async fn a_drop_aborts_them_at_once() {
    let (runtime, probes) = three_in_flight().await;
    let dropped_at = Instant::now();
    drop(runtime);
    probes.are_gone().await;
    assert_eq!(Instant::now(), dropped_at);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_while_it_collects_aborts_them_at_once() {
    let probes = Probes::new();
    probes.set("a", Says::Hang);
    let begin = Instant::now();
    let provider = StaticSourceProvider::new(sources(&["a", "b"]));
    let starting = ObservationRuntime::start(provider, probes.observer(), each_second());
    assert!(tokio::time::timeout(ms(200), starting).await.is_err(), "it collects for half a second");
    probes.are_gone().await;
    assert_eq!(begin.elapsed(), ms(200));
}

/// An observer built on `PerSource`, with a bug in its own poll.
struct BuiltOnOne {
    nodes: PerSource<u32, u32>,
    bug: Arc<AtomicBool>,
}

#[async_trait]
impl Observer for BuiltOnOne {
    type Source = u32;
    type State = PerSourceState<u32>;
    type Snapshot = PerSourceSnapshot<u32>;
    type Event = SourceEvent<u32>;

    fn configured(&mut self, config: &ObservationConfig) {
        self.nodes.configured(config);
    }

    async fn init(&self, set: &[ObservedSource<u32>]) -> Result<Self::State, DynError> {
        self.nodes.init(set).await
    }

    async fn poll(
        &self,
        set: &[ObservedSource<u32>],
        state: &mut Self::State,
    ) -> Result<Vec<Self::Event>, DynError> {
        assert!(!self.bug.swap(false, Ordering::Relaxed), "a bug in the app");
        self.nodes.poll(set, state).await
    }

    fn snapshot(&self, state: &Self::State) -> Self::Snapshot {
        self.nodes.snapshot(state)
    }
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_aborts_those_of_the_old_generation_and_begins_new_ones() {
    let probes = Probes::new();
    probes.set("a", Says::Hang).set("b", Says::Hang);
    let bug = Arc::new(AtomicBool::new(false));
    let observer = BuiltOnOne { nodes: probes.observer().probe_timeout(100 * SECOND), bug: Arc::clone(&bug) };
    let set = StaticSourceProvider::new(sources(&["a", "b"]));
    let runtime = ObservationRuntime::start(set, observer, each_second()).await.unwrap();
    let mut subscription = runtime.handle().subscribe();
    cycle(&runtime, 1).await;

    bug.store(true, Ordering::Relaxed);
    let failed = status_when(&runtime, |status| status.last_error.is_some()).await;
    let failure = failed.last_error.unwrap();
    assert_eq!((failure.cycle, &*failure.message), (2, "panicked: a bug in the app"));
    probes.are_gone().await;
    assert_eq!(Instant::now(), failure.observed_at);

    let rebuilt = cycle(&runtime, 3).await;
    assert_eq!((rebuilt.generation, probes.in_flight()), (2, 2));
    assert_eq!(subscription.recv().await.unwrap_err(), RecvError::Rebuilt { generation: 2 });
}
