//! A destructor of the app that panics is a failure or a line in the log, never a dead task.

use std::error::Error;
use std::fmt;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use watchkeeper::runtime::{Cause, State, StopOutcome, StopReason};
use watchkeeper::source::Duplicates;
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime, ObservedSource,
    Observer, SourceProvider, async_trait,
};

use crate::common::stateless::stateless;
use crate::common::{at, ms};

/// What becomes of the bombs of one test.
#[derive(Default)]
struct Range {
    closed: AtomicBool,
    exploded: AtomicUsize,
    /// Dropped by the unwinding of another panic, where exploding would abort the process.
    unwound: AtomicUsize,
}

/// Its destructor panics.
struct Bomb(Arc<Range>);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0.closed.load(Relaxed) {
        } else if std::thread::panicking() {
            self.0.unwound.fetch_add(1, Relaxed);
        } else {
            self.0.exploded.fetch_add(1, Relaxed);
            panic!("boom");
        }
    }
}

/// What holds a bomb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Nothing,
    RefreshFuture,
    RefusedSources,
    Sources,
    InitFuture,
    InitState,
    PollFuture,
    PollError,
    ErrorText,
    ErrorCause,
    PanicValue,
    StateOfAPanic,
    StateOfATimeOut,
    StateAndSnapshotPanics,
    EventsAndSnapshotPanics,
    Snapshots,
    Events,
}

#[derive(Clone)]
struct App {
    holds: Holds,
    /// The cycle in which it goes wrong.
    fails: u64,
    cycle: Arc<AtomicU64>,
    range: Arc<Range>,
}

type Held = Option<Bomb>;

impl App {
    fn new(holds: Holds, fails: u64) -> Self {
        Self { holds, fails, cycle: Arc::new(AtomicU64::new(u64::MAX)), range: Arc::default() }
    }

    /// A bomb, if these hold one.
    fn held(&self, holders: &[Holds]) -> Held {
        holders.contains(&self.holds).then(|| Bomb(Arc::clone(&self.range)))
    }

    /// Whether it goes wrong now, and in this place.
    fn fails(&self, holders: &[Holds]) -> bool {
        self.cycle.load(Relaxed) == self.fails && holders.contains(&self.holds)
    }

    async fn hang(&self) {
        let _bomb = Bomb(Arc::clone(&self.range));
        pending::<()>().await;
    }
}

struct Explosive {
    bomb: Bomb,
    text: &'static str,
}

impl fmt::Debug for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text)
    }
}

impl fmt::Display for Explosive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert_ne!(self.text, "panics as text", "no text");
        f.write_str(self.text)
    }
}

impl Error for Explosive {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        assert_ne!(self.text, "panics as a cause", "no cause");
        assert!(!self.bomb.0.closed.load(Relaxed));
        None
    }
}

/// Counts the errors that the library logs.
#[derive(Clone, Default)]
struct Errors(Arc<AtomicUsize>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("watchkeeper")
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Relaxed);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[async_trait]
impl SourceProvider<Held> for App {
    async fn sources(&self) -> Result<Vec<ObservedSource<Held>>, DynError> {
        self.cycle.store(self.cycle.load(Relaxed).wrapping_add(1), Relaxed);
        if self.fails(&[Holds::RefreshFuture]) {
            self.hang().await;
        }
        let mut set = vec![ObservedSource::new("a", self.held(&[Holds::Sources]))];
        if self.fails(&[Holds::RefusedSources]) {
            set.push(ObservedSource::new("a", self.held(&[Holds::RefusedSources])));
        }
        Ok(set)
    }
}

#[async_trait]
impl Observer for App {
    type Source = Held;
    type State = Held;
    type Snapshot = Held;
    type Event = Held;

    async fn init(&self, _: &[ObservedSource<Held>]) -> Result<Held, DynError> {
        if self.fails(&[Holds::InitFuture]) {
            self.hang().await;
        }
        Ok(self.held(&[
            Holds::InitState,
            Holds::StateOfAPanic,
            Holds::StateOfATimeOut,
            Holds::StateAndSnapshotPanics,
        ]))
    }

    async fn poll(&self, _: &[ObservedSource<Held>], _: &mut Held) -> Result<Vec<Held>, DynError> {
        let explosive = |text| Box::new(Explosive { bomb: Bomb(Arc::clone(&self.range)), text });
        if self.cycle.load(Relaxed) == self.fails {
            match self.holds {
                Holds::PollFuture => self.hang().await,
                Holds::PollError => return Err(explosive("down")),
                Holds::ErrorText => return Err(explosive("panics as text")),
                Holds::ErrorCause => return Err(explosive("panics as a cause")),
                Holds::PanicValue => std::panic::panic_any(Bomb(Arc::clone(&self.range))),
                Holds::StateOfAPanic => panic!("poll"),
                Holds::StateOfATimeOut => pending().await,
                _ => {}
            }
        }
        Ok(vec![self.held(&[Holds::Events, Holds::EventsAndSnapshotPanics])])
    }

    fn snapshot(&self, _: &Held) -> Held {
        let panicking = [Holds::InitState, Holds::StateAndSnapshotPanics, Holds::EventsAndSnapshotPanics];
        assert!(!self.fails(&panicking), "snapshot");
        self.held(&[Holds::Snapshots])
    }
}

fn config() -> ObservationConfig {
    ObservationConfig {
        history_limit: 1,
        refresh_timeout: ms(200),
        init_timeout: ms(200),
        poll_timeout: ms(200),
        duplicates: Duplicates::Refuse,
        ..ObservationConfig::default()
    }
}

#[rustfmt::skip]
#[tokio::test(start_paused = true)]
async fn every_destructor_that_panics_is_survived() {
    use Cause::{Error, Panicked, TimedOut};
    use Stage::{Init, Poll, SourceRefresh};
    let twice = r#"two sources are named "a": give every source a name of its own"#;
    let cut_off = "panicked: timed out after 200ms, then its destructor panicked: boom";
    // (what holds a bomb, the cycle that goes wrong and how, errors logged until then)
    let cases = [
        (Holds::RefreshFuture,           2, Some((SourceRefresh, Panicked, cut_off)), 0),
        (Holds::RefusedSources,          2, Some((SourceRefresh, Error, twice)), 1),
        (Holds::Sources,                 2, None, 2),
        (Holds::InitFuture,              0, Some((Init, Panicked, cut_off)), 0),
        (Holds::InitState,               0, Some((Init, Panicked, "panicked: snapshot")), 1),
        (Holds::PollFuture,              2, Some((Poll, Panicked, cut_off)), 0),
        (Holds::PollError,               2, Some((Poll, Error, "down")), 1),
        (Holds::ErrorText,               2, Some((Poll, Error, "an error whose text panicked: assertion `left != right` failed: no text")), 1),
        (Holds::ErrorCause,              2, Some((Poll, Error, "an error whose text panicked: assertion `left != right` failed: no cause")), 1),
        (Holds::PanicValue,              2, Some((Poll, Panicked, "panicked: a value that is no text")), 0),
        (Holds::StateOfAPanic,           2, Some((Poll, Panicked, "panicked: poll; dropping its state panicked as well: boom")), 0),
        (Holds::StateOfATimeOut,         2, Some((Poll, TimedOut, "timed out after 200ms; dropping its state panicked as well: boom")), 0),
        (Holds::StateAndSnapshotPanics,  2, Some((Poll, Panicked, "panicked: snapshot; dropping its state panicked as well: boom")), 0),
        (Holds::EventsAndSnapshotPanics, 2, Some((Poll, Panicked, "panicked: snapshot")), 1),
        (Holds::Snapshots,               2, None, 2),
        (Holds::Events,                  2, None, 1),
    ];
    for (holds, fails, failure, logged) in cases {
        check(holds, fails, failure, logged).await;
    }
}

async fn check(holds: Holds, fails: u64, failure: Option<(Stage, Cause, &str)>, logged: usize) {
    let errors = Errors::default();
    let _listening = tracing::subscriber::set_default(errors.clone());
    let app = App::new(holds, fails);
    let range = Arc::clone(&app.range);
    let began = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app, config()).unwrap();
    let handle = runtime.handle();

    at(began, fails * 1000 + 500).await;
    let last = handle.last_error();
    let last = last.as_ref().map(|last| (last.stage, last.cause, last.message.lines().next().unwrap()));
    assert_eq!(last, failure, "{holds:?}");
    assert_eq!(handle.status().cycle, fails, "{holds:?}");
    assert_eq!(errors.0.load(Relaxed), logged, "{holds:?}");
    assert_eq!(range.unwound.load(Relaxed), 0, "{holds:?}: this would have aborted the process");
    assert!(range.exploded.load(Relaxed) > 0, "{holds:?}: nothing exploded");

    at(began, fails * 1000 + 1500).await;
    let status = handle.status();
    assert_eq!((status.state, status.cycle), (State::Idle, fails + 1), "{holds:?}: the next cycle runs");

    assert_eq!(runtime.stop().await, StopOutcome::Stopped, "{holds:?}");
    assert_eq!(handle.stop_reason(), Some(StopReason::Requested), "{holds:?}");
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{holds:?}");
    assert_eq!(range.unwound.load(Relaxed), 0, "{holds:?}: nor does the end");
    // What handles still hold, they drop.
    range.closed.store(true, Relaxed);
}

/// Everything that a runtime owns, each with its own bomb.
#[tokio::test(start_paused = true)]
async fn a_stop_survives_the_destructors_of_all_that_it_drops() {
    struct Owner {
        app: App,
        _bomb: Bomb,
    }

    #[async_trait]
    impl SourceProvider<Bomb> for Owner {
        async fn sources(&self) -> Result<Vec<ObservedSource<Bomb>>, DynError> {
            Ok(vec![ObservedSource::new("a", Bomb(Arc::clone(&self.app.range)))])
        }
    }

    #[async_trait]
    impl Observer for Owner {
        type Source = Bomb;
        type State = Bomb;
        type Snapshot = ();
        type Event = ();

        async fn init(&self, _: &[ObservedSource<Bomb>]) -> Result<Bomb, DynError> {
            Ok(Bomb(Arc::clone(&self.app.range)))
        }

        async fn poll(&self, _: &[ObservedSource<Bomb>], _: &mut Bomb) -> Result<Vec<()>, DynError> {
            self.app.hang().await;
            Ok(Vec::new())
        }

        fn snapshot(&self, _: &Bomb) {}
    }

    let app = App::new(Holds::Nothing, 0);
    let range = Arc::clone(&app.range);
    let owner = || Owner { app: app.clone(), _bomb: Bomb(Arc::clone(&range)) };
    let began = Instant::now();
    let runtime = ObservationRuntime::start(owner(), owner(), ObservationConfig::default()).await.unwrap();
    at(began, 1500).await;
    assert_eq!(range.exploded.load(Relaxed), 1, "the source set of cycle 0 was replaced");

    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(range.exploded.load(Relaxed), 6, "the poll, the state, the sources, provider and observer");
    assert_eq!(range.unwound.load(Relaxed), 0);
    assert_eq!(Handle::current().metrics().num_alive_tasks(), 0);
}

/// Two values of the app in one set, in one call: the second panic would abort the process.
#[tokio::test(start_paused = true)]
async fn two_sources_of_a_shared_set_and_a_refused_provider_and_observer_may_panic() {
    struct Sharp;
    impl Drop for Sharp {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    let set = vec![ObservedSource::new("a", Sharp), ObservedSource::new("b", Sharp)];
    drop(watchkeeper::source::SharedSources::new(set));
    let config = ObservationConfig { interval: ms(0), ..Default::default() };
    let (held, also_held) = (Sharp, Sharp);
    let provider = watchkeeper::source::source_fn(move || {
        let _held = &held;
        ready(Ok::<_, DynError>(Vec::<ObservedSource<()>>::new()))
    });
    let observer = stateless(move || {
        let _held = &also_held;
        ready(Ok(()))
    });
    let refused = ObservationRuntime::start(provider, observer, config).await;
    assert!(refused.is_err());
}
