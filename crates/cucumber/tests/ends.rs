//! How a scenario's observers end when its end is not clean.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource, StateKind,
    StaticSourceProvider, async_trait,
};
use watchkeeper_cucumber::{Observers, StepError};

/// Its poll blocks the thread until it is let go.
struct Blocking {
    release: Mutex<Receiver<()>>,
}

#[async_trait]
impl Observer for Blocking {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        // Whoever holds the sender lets go by dropping it.
        let _ = self.release.lock().map(|release| release.recv());
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_its_thread_is_named() {
    let (hold, release) = channel();
    let config =
        ObservationConfig { stop_timeout: Duration::from_millis(50), ..ObservationConfig::default() };
    let blocking = Blocking { release: Mutex::new(release) };
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(Vec::new()), blocking, config).await.unwrap();
    let (handle, control) = (runtime.handle(), runtime.control());
    let polls = handle.reaches(StateKind::Polling).within(Duration::from_secs(30));
    control.poll_now().await.unwrap();
    polls.await.unwrap();

    let mut observers = Observers::new();
    observers.add("raft", runtime).unwrap();
    let unfinished = observers.finish().await.unwrap_err();
    assert_eq!(unfinished.detached, [Arc::from("raft")]);
    assert_eq!(
        unfinished.to_string(),
        "these observers were stopped and left code running that blocks its thread: raft; move that into \
         spawn_blocking"
    );
    drop(hold);
}

#[tokio::test(start_paused = true)]
async fn an_invariant_that_panics_leaves_no_observer_running() {
    let sources = vec![ObservedSource::new("n1", ())];
    let observer = PerSource::new(Duration::from_secs(1), |_| async { Ok(1) });
    let provider = StaticSourceProvider::new(sources);
    let runtime = ObservationRuntime::start(provider, observer, ObservationConfig::default()).await.unwrap();
    let handle = runtime.handle();
    let mut observers = Observers::new();
    observers.hold(handle.invariant("it can be judged", |_| panic!("it cannot")));
    observers.add("raft", runtime).unwrap();
    handle.eventually("it was judged", |_| true).within(Duration::from_secs(5)).await.unwrap();

    let unfinished = observers.finish().await.unwrap_err().to_string();
    assert!(unfinished.contains("app code panicked: it cannot"), "{unfinished}");
    assert_eq!(handle.state().kind(), StateKind::Stopped);
}

#[tokio::test(start_paused = true)]
async fn the_end_may_come_twice() {
    let mut observers = Observers::new();
    observers.finish().await.unwrap();
    observers.finish().await.unwrap();
    assert!(observers.handle("raft").is_err());
}

#[tokio::test]
async fn what_an_error_says_is_bounded_and_escaped_and_its_debug_is_the_same() {
    let many: Vec<Arc<str>> = (0..10_000).map(|n| Arc::from(format!("node\n{n}\u{1b}[2J"))).collect();
    let long = "a\n\u{1b}[2J".repeat(100_000);
    let duration = |given: &str| watchkeeper_cucumber::parse_duration(given).unwrap_err();
    let errors = [
        Observers::new().handle(&long).unwrap_err(),
        StepError::UnknownObserver { name: "rift".to_owned(), known: many },
        duration(&long),
        duration(&format!("5 {}", "x".repeat(1_000_000))),
        StepError::Count { given: "9".repeat(1_000_000), what: "events", least: 1 },
        StepError::UnknownState { name: long.clone() },
        StepError::UnknownCondition { name: long.clone() },
        StepError::NoJson { observer: long.clone() },
        StepError::Detached { observer: long },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.len() < 2_000, "{} bytes: {text}", text.len());
        assert!(!text.contains(['\n', '\u{1b}']), "{text}");
        assert_eq!(format!("{error:?}"), text);
    }
}
