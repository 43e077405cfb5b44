//! A start that fails says why, tries nothing twice, and leaves no task.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use watchkeeper::runtime::StopReason;
use watchkeeper::source::{Duplicates, SourceSetError};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, SourceProvider,
    async_trait,
};

use crate::common::{Act, App, Call, each_second, ms};

#[derive(Debug, PartialEq, Eq)]
struct Refused {
    port: u16,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "port {} refused", self.port)
    }
}

impl Error for Refused {}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

async fn fails(app: &App, config: ObservationConfig) -> ObservationRuntimeError {
    let error = ObservationRuntime::start(app.clone(), app.clone(), config).await.unwrap_err();
    assert_eq!(tasks(), 0, "{error}");
    error
}

#[tokio::test(start_paused = true)]
async fn every_failure_of_the_first_cycle_is_reported_by_stage_and_leaves_no_task() {
    use Call::{Init, Snapshot, Sources};
    let config =
        ObservationConfig { refresh_timeout: ms(300), init_timeout: ms(700), ..ObservationConfig::default() };
    // (the call, what it does; the text of the error's source, after so many ms)
    let cases = [
        (Sources, Act::Err("down"), "down", 0),
        (Sources, Act::Hang, "timed out after 300ms", 300),
        (Sources, Act::Panic("boom"), "panicked: boom", 0),
        (Init, Act::Err("down"), "down", 0),
        (Init, Act::Hang, "timed out after 700ms", 700),
        (Init, Act::Panic("boom"), "panicked: boom", 0),
        (Snapshot, Act::Panic("boom"), "panicked: boom", 0),
    ];
    for (call, act, text, millis) in cases {
        let name = format!("{call:?}: {act:?}");
        let app = App::new();
        app.then(call, [act]);
        let began = Instant::now();
        let error = fails(&app, config.clone()).await;

        assert_eq!(began.elapsed(), ms(millis), "{name}");
        assert_eq!(error.source().unwrap().to_string(), text, "{name}");
        let (of_refresh, inits) = match error {
            ObservationRuntimeError::SourceRefresh { .. } => (true, 0),
            ObservationRuntimeError::ObserverInit { .. } => (false, 1),
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(of_refresh, call == Sources, "{name}");
        assert_eq!([Sources, Init].map(|call| app.calls(call)), [1, inits], "{name}: nothing is retried");
    }
}

#[tokio::test(start_paused = true)]
async fn the_app_s_own_error_is_kept_as_the_source() {
    for call in [Call::Sources, Call::Init] {
        let app = App::new();
        app.then(call, [Act::Fail(|| Box::new(Refused { port: 8001 }))]);
        let error = fails(&app, each_second()).await;
        let source = error.source().unwrap().downcast_ref::<Refused>();
        assert_eq!(source, Some(&Refused { port: 8001 }), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_set_that_is_refused_is_a_typed_source_too() {
    let app = App::new();
    app.set(&["a", "b", "b"]);
    let config = ObservationConfig { duplicates: Duplicates::Refuse, ..each_second() };
    let error = fails(&app, config).await;
    assert_eq!(
        error.source().unwrap().downcast_ref::<SourceSetError>(),
        Some(&SourceSetError::DuplicateName { name: "b".into() })
    );
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_midway_leaves_no_task() {
    for call in [Call::Sources, Call::Init] {
        let app = App::new();
        app.then(call, [Act::Hang]);
        let start = ObservationRuntime::start(app.clone(), app.clone(), each_second());
        assert!(timeout(ms(500), start).await.is_err(), "{call:?}");
        tokio::time::sleep(ms(1)).await;
        assert_eq!((app.calls(call), tasks()), (1, 0), "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_start_that_is_dropped_before_or_after_its_first_cycle_leaves_no_task() {
    let app = App::new();
    drop(ObservationRuntime::start(app.clone(), app.clone(), each_second()));
    assert_eq!((app.calls(Call::Sources), tasks()), (0, 0), "never polled");

    {
        let mut start = pin!(ObservationRuntime::start(app.clone(), app.clone(), each_second()));
        assert!(poll_once(start.as_mut()).is_pending());
        // Nobody asks whether it has started.
        tokio::time::sleep(ms(1)).await;
        assert_eq!((app.calls(Call::Init), tasks()), (1, 1));
    }
    tokio::time::sleep(ms(1)).await;
    assert_eq!(tasks(), 0);
    tokio::time::sleep(ms(5000)).await;
    assert_eq!(app.calls(Call::Sources), 1, "no cycle follows");
}

#[test]
fn a_start_whose_executor_goes_away_says_so() {
    let executor = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let app = App::new();
    let mut start = pin!(ObservationRuntime::start(app.clone(), app.clone(), each_second()));
    {
        let _entered = executor.enter();
        assert!(poll_once(start.as_mut()).is_pending());
    }
    executor.shutdown_timeout(Duration::ZERO);
    let Poll::Ready(Err(error)) = poll_once(start.as_mut()) else { panic!("it has ended") };
    assert!(
        matches!(error, ObservationRuntimeError::Ended { reason: StopReason::Shutdown }),
        "unexpected: {error:?}"
    );
}

/// The runtime's first cycle is published before `start` returns, also when both run in parallel.
#[test]
fn a_start_that_returns_has_published_on_every_thread() {
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    for round in 0..2_000 {
        let app = App::new();
        let runtime = executor.block_on(app.start(each_second()));
        assert!(runtime.handle().latest_snapshot().is_some(), "round {round}");
    }
}

/// Its destructor is slow.
struct Slow {
    app: App,
    gone: Arc<AtomicBool>,
}

impl Drop for Slow {
    fn drop(&mut self) {
        std::thread::sleep(ms(20));
        self.gone.store(true, Ordering::SeqCst);
    }
}

#[async_trait]
impl SourceProvider<()> for Slow {
    async fn sources(&self) -> Result<Vec<ObservedSource<()>>, DynError> {
        self.app.sources().await
    }
}

#[test]
fn a_start_that_returns_an_error_has_dropped_everything_on_every_thread() {
    let executor =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let (app, gone) = (App::new(), Arc::<AtomicBool>::default());
    app.then(Call::Init, [Act::Err("down")]);
    let provider = Slow { app: app.clone(), gone: Arc::clone(&gone) };
    let start = ObservationRuntime::start(provider, app, each_second());
    assert!(executor.block_on(start).is_err());
    assert!(gone.load(Ordering::SeqCst), "the provider is still there");
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}
