//! The interval is set once: the observer gets the config when its runtime starts.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchkeeper::per_source::{PerSourceError, PerSourceSnapshot, PerSourceState, SourceEvent};
use watchkeeper::runtime::Transactional;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, Observer,
    PerSource, async_trait,
};

use crate::common::ms;

async fn one(_: ObservedSource<u8>) -> Result<u8, DynError> {
    Ok(1)
}

/// Wraps a `PerSource`, and forwards the config or keeps it back.
struct Wraps {
    inner: PerSource<u8, u8>,
    forwards: bool,
}

#[async_trait]
impl Observer for Wraps {
    type Source = u8;
    type State = PerSourceState<u8>;
    type Snapshot = PerSourceSnapshot<u8>;
    type Event = SourceEvent<u8>;

    fn configured(&mut self, config: &ObservationConfig) {
        if self.forwards {
            self.inner.configured(config);
        }
    }

    async fn init(&self, set: &[ObservedSource<u8>]) -> Result<Self::State, DynError> {
        self.inner.init(set).await
    }

    async fn poll(
        &self,
        set: &[ObservedSource<u8>],
        state: &mut Self::State,
    ) -> Result<Vec<SourceEvent<u8>>, DynError> {
        self.inner.poll(set, state).await
    }

    fn snapshot(&self, state: &Self::State) -> Self::Snapshot {
        self.inner.snapshot(state)
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrapper_that_keeps_the_config_back_is_named() {
    let wraps = |forwards| Wraps { inner: PerSource::new(one), forwards };
    let config = ObservationConfig::default;
    let error = ObservationRuntime::start([("a", 1_u8)], wraps(false), config()).await.unwrap_err();
    let ObservationRuntimeError::ObserverInit { source } = &error else { panic!("{error}") };
    assert_eq!(source.downcast_ref(), Some(&PerSourceError::NotConfigured));
    assert!(source.to_string().contains("must forward `Observer::configured`"), "{source}");
    let runtime = ObservationRuntime::start([("a", 1_u8)], wraps(true), config()).await.unwrap();
    assert_eq!(runtime.handle().latest_snapshot().unwrap().value.answer("a"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn the_defaults_of_per_source_are_derived_from_the_runtimes_interval() {
    for (interval, stale_after) in [(ms(100), ms(2_000)), (ms(1_000), ms(3_000)), (ms(20_000), ms(60_000))] {
        let runtime = watchkeeper::observe(interval, [("a", 1_u8)], one).await.unwrap();
        let snapshot = runtime.handle().latest_snapshot().unwrap();
        let health = snapshot.value.get("a").unwrap().health();
        assert_eq!(health.stale_after, stale_after, "{interval:?}");
    }
}

/// Records its calls in order, and panics where the test asks for it.
#[derive(Clone, Default)]
struct Asked {
    panics_in: &'static str,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Asked {
    fn note(&self, what: &'static str, with: &str) {
        self.asked.lock().unwrap().push(format!("{what}{with}"));
        assert_ne!(self.panics_in, what, "a bug\nin {what}");
    }
}

#[async_trait]
impl Observer for Asked {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    fn configured(&mut self, config: &ObservationConfig) {
        self.note("configured", &format!(" every {:?}", config.interval));
    }

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        self.note("init", "");
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}

    fn poll_is_cancel_safe(&self) -> bool {
        self.note("poll_is_cancel_safe", "");
        true
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_cycle_is_an_error_of_the_start_and_leaves_no_task() {
    for method in ["configured", "poll_is_cancel_safe"] {
        let observer = || Asked { panics_in: method, ..Asked::default() };
        let config = ObservationConfig::default;
        let ended = [
            ObservationRuntime::start([("a", ())], observer(), config()).await.map(drop),
            ObservationRuntime::start_with_control([("a", ())], observer(), config()).map(drop),
            ObservationRuntime::start_in_background([("a", ())], observer(), config()).map(drop),
        ];
        for (n, error) in ended.into_iter().map(Result::unwrap_err).enumerate() {
            let is =
                matches!(error, ObservationRuntimeError::ObserverPanicked { method: at, .. } if at == method);
            assert!(is, "{method}, {n}: {error:?}");
            let text = error.to_string();
            assert!(text.contains("a bug") && !text.contains('\n') && text.len() < 2_000, "{text}");
        }
        assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_transactional_observer_forwards_it() {
    let observer = Asked::default();
    let asked = Arc::clone(&observer.asked);
    let config = ObservationConfig { interval: ms(250), ..ObservationConfig::default() };
    let runtime = ObservationRuntime::start([("a", ())], Transactional::new(observer), config).await.unwrap();
    assert_eq!(asked.lock().unwrap()[0], "configured every 250ms");
    let _ = runtime.stop().await;
}

#[tokio::test(start_paused = true)]
async fn it_is_called_once_before_everything_else_and_never_with_a_config_that_is_refused() {
    let observer = Asked::default();
    let asked = Arc::clone(&observer.asked);
    let config = |millis| ObservationConfig { interval: ms(millis), ..ObservationConfig::default() };
    ObservationRuntime::start([("a", ())], observer.clone(), config(0)).await.unwrap_err();
    assert_eq!(*asked.lock().unwrap(), [""; 0]);
    let runtime = ObservationRuntime::start([("a", ())], observer, config(250)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(*asked.lock().unwrap(), ["configured every 250ms", "poll_is_cancel_safe", "init"]);
    let _ = runtime.stop().await;
}
