//! Two destructors that panic in one drop abort a process. So everything that the library holds of an app is dropped
//! value by value: each panic is logged, and costs the other values nothing.

use std::future::pending;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;
use tokio::time::Instant;
use watchkeeper::runtime::{State, StateKind, StopOutcome, StopReason, Transactional};
use watchkeeper::source::{Duplicates, SharedSources};
use watchkeeper::subscription::Cursor;
use watchkeeper::{
    BoxedSourceProvider, DynError, ObservationConfig, ObservationControl, ObservationHandle,
    ObservationRuntime, ObservationRuntimeError, ObservedSource, Observer, PerSource, SourceProvider,
    StaticSourceProvider, async_trait,
};

use crate::common::threads::{Flavour, executor, poll_once};
use crate::common::{at, each_second, ms};

/// What became of the bombs of one test.
#[derive(Clone, Default)]
struct Range(Arc<Counts>);

#[derive(Default)]
struct Counts {
    harmless: AtomicBool,
    exploded: AtomicUsize,
    /// Dropped while another panic unwound: exploding there aborts the process.
    fatal: AtomicUsize,
}

/// Its destructor panics, and so does that of its copies.
#[derive(Clone)]
struct Bomb(Range);

impl Drop for Bomb {
    fn drop(&mut self) {
        let Counts { harmless, exploded, fatal } = &*self.0.0;
        if harmless.load(Relaxed) {
        } else if std::thread::panicking() {
            fatal.fetch_add(1, Relaxed);
        } else {
            exploded.fetch_add(1, Relaxed);
            panic!("boom");
        }
    }
}

impl Range {
    fn bomb(&self) -> Bomb {
        Bomb(self.clone())
    }

    fn two(&self) -> Vec<Bomb> {
        vec![self.bomb(), self.bomb()]
    }

    /// How many have exploded since this was last asked; none of them during the panic of another.
    fn exploded(&self, when: &str) -> usize {
        assert_eq!(self.0.fatal.swap(0, Relaxed), 0, "{when}: the process would have been aborted");
        self.0.exploded.swap(0, Relaxed)
    }

    /// What is dropped from now on is the test's own.
    fn close(&self) {
        self.0.harmless.store(true, Relaxed);
    }
}

/// What a poll does beside returning two events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Return,
    Hang,
    /// Asks for the stop, whose outcome takes precedence over its own.
    Stop,
}

/// Provider and observer whose sources, events, state and snapshots are bombs.
struct App {
    range: Range,
    names: &'static [&'static str],
    then: Then,
    control: Arc<Mutex<Option<ObservationControl>>>,
    _bomb: Bomb,
}

impl App {
    fn new(range: &Range) -> Self {
        let (range, bomb) = (range.clone(), range.bomb());
        Self { range, names: &["a", "b"], then: Then::Return, control: Arc::default(), _bomb: bomb }
    }
}

#[async_trait]
impl SourceProvider<Bomb> for App {
    async fn sources(&self) -> Result<Vec<ObservedSource<Bomb>>, DynError> {
        Ok(self.names.iter().map(|name| ObservedSource::new(*name, self.range.bomb())).collect())
    }
}

#[async_trait]
impl Observer for App {
    type Source = Bomb;
    type State = Bomb;
    type Snapshot = Bomb;
    type Event = Bomb;

    async fn init(&self, _: &[ObservedSource<Bomb>]) -> Result<Bomb, DynError> {
        Ok(self.range.bomb())
    }

    async fn poll(&self, _: &[ObservedSource<Bomb>], _: &mut Bomb) -> Result<Vec<Bomb>, DynError> {
        match self.then {
            Then::Return => {}
            Then::Hang => {
                let _bomb = self.range.bomb();
                pending::<()>().await;
            }
            Then::Stop => {
                let control = self.control.lock().unwrap().clone().unwrap();
                let _ = poll_once(control.stop());
            }
        }
        Ok(self.range.two())
    }

    fn snapshot(&self, _: &Bomb) -> Bomb {
        self.range.bomb()
    }
}

fn config() -> ObservationConfig {
    ObservationConfig { history_limit: 1, poll_timeout: ms(200), ..each_second() }
}

async fn start(provider: App, observer: App, config: ObservationConfig) -> ObservationRuntime<App> {
    let control = Arc::clone(&observer.control);
    let runtime = ObservationRuntime::start(provider, observer, config).await.unwrap();
    *control.lock().unwrap() = Some(runtime.control());
    runtime
}

#[tokio::test(start_paused = true)]
async fn what_a_cycle_replaces() {
    let range = Range::default();
    let began = Instant::now();
    let runtime = start(App::new(&range), App::new(&range), config()).await;
    at(began, 1_500).await;
    assert_eq!(range.exploded("cycle 1"), 3, "two sources and a snapshot");
    at(began, 2_500).await;
    assert_eq!(range.exploded("cycle 2"), 5, "two sources, a snapshot and two events");
    assert_eq!(runtime.handle().status().cycle, 2);
    range.close();
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_left_out_of_a_set() {
    for duplicates in [Duplicates::KeepFirst, Duplicates::Refuse] {
        let range = Range::default();
        let provider = App { names: &["a", "b", "a", "b", ""], ..App::new(&range) };
        let config = ObservationConfig { duplicates, ..config() };
        let runtime = ObservationRuntime::start_in_background(provider, App::new(&range), config).unwrap();
        tokio::time::sleep(ms(500)).await;
        let (dropped, state) = match duplicates {
            Duplicates::KeepFirst => (3, StateKind::Idle),
            Duplicates::Refuse => (5, StateKind::Failed),
        };
        assert_eq!(range.exploded("the set"), dropped, "{duplicates:?}");
        assert_eq!(runtime.handle().state().kind(), state, "{duplicates:?}");
        range.close();
    }
}

#[tokio::test(start_paused = true)]
async fn all_that_a_stopped_runtime_held() {
    // (what the poll does, how many explode: always state, two sources, provider and observer; in the others the
    // first set as well)
    for (then, dropped) in [(Then::Return, 5), (Then::Hang, 2 + 6), (Then::Stop, 2 + 8)] {
        let range = Range::default();
        let began = Instant::now();
        let observer = App { then, ..App::new(&range) };
        let runtime = start(App::new(&range), observer, config()).await;
        let handle = runtime.handle();
        at(began, 900).await;
        runtime.control().pause().await.unwrap();
        assert_eq!(range.exploded("before"), 0, "{then:?}");
        if then != Then::Return {
            runtime.control().poll_now().await.unwrap();
            tokio::time::sleep(ms(50)).await;
            let state = if then == Then::Hang { StateKind::Polling } else { StateKind::Stopped };
            assert_eq!(handle.state().kind(), state, "{then:?}");
        }
        assert_eq!(runtime.stop().await, StopOutcome::Stopped, "{then:?}");
        assert_eq!(range.exploded("the end"), dropped, "{then:?}");
        assert_eq!(handle.stop_reason(), Some(StopReason::Requested), "{then:?}");
        assert_eq!(Handle::current().metrics().num_alive_tasks(), 0, "{then:?}");
        range.close();
    }
}

/// An array or a `Vec` is the provider itself. A config that is refused drops it as the end does.
#[tokio::test(start_paused = true)]
async fn the_sources_of_an_array_or_a_vec() {
    async fn check<P: SourceProvider<Bomb>>(make: fn(&Range) -> P) {
        // Two sources and the observer; where it ran, a copy of the set, the state and its snapshot as well.
        for (interval, dropped) in [(ms(0), 2 + 1), (ms(1_000), 2 + 1 + 2 + 2)] {
            let range = Range::default();
            let config = ObservationConfig { interval, ..config() };
            let started = ObservationRuntime::start_in_background(make(&range), App::new(&range), config);
            if let Ok(runtime) = started {
                tokio::time::sleep(ms(500)).await;
                assert_eq!(runtime.stop().await, StopOutcome::Stopped);
            }
            assert_eq!(range.exploded("the end"), dropped, "{}", std::any::type_name::<P>());
            range.close();
        }
    }
    check(|range| ["a", "b"].map(|name| (name, range.bomb()))).await;
    check(|range| ["a", "b"].map(|name| ObservedSource::new(name, range.bomb()))).await;
    check(|range| Vec::from(["a", "b"].map(|name| (name, range.bomb())))).await;
    check(|range| Vec::from(["a", "b"].map(|name| ObservedSource::new(name, range.bomb())))).await;
    // With its type erased, as scenarios have it, and erased twice.
    check(|range| -> BoxedSourceProvider<Bomb> { Box::new(["a", "b"].map(|name| (name, range.bomb()))) })
        .await;
    check(|range| -> BoxedSourceProvider<Bomb> {
        let erased: BoxedSourceProvider<Bomb> =
            Box::new(Vec::from(["a", "b"].map(|name| ObservedSource::new(name, range.bomb()))));
        Box::new(erased)
    })
    .await;
    // Shared, and shared twice.
    check(|range| Arc::new(["a", "b"].map(|name| (name, range.bomb())))).await;
    check(|range| Arc::new(Vec::from(["a", "b"].map(|name| ObservedSource::new(name, range.bomb()))))).await;
    check(|range| -> Arc<dyn SourceProvider<Bomb>> {
        Arc::new(Box::new(Arc::new(Vec::from(["a", "b"].map(|name| (name, range.bomb()))))))
    })
    .await;
}

/// It answers with a bomb, another one each time.
fn armed(range: &Range) -> PerSource<u64, Answer> {
    let range = range.clone();
    PerSource::new(move |_| {
        let answer = Answer(range.bomb());
        async { Ok::<_, DynError>(answer) }
    })
}

#[derive(Clone)]
struct Answer(#[allow(dead_code, reason = "it is dropped, which is the point")] Bomb);

impl PartialEq for Answer {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

/// An event of a change shows two answers. Of these the new one is in the snapshot as well, so that no event is the
/// last to hold both.
#[tokio::test(start_paused = true)]
async fn the_answers_that_events_show() {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Last {
        Runtime,
        Handle,
        Snapshot,
    }
    let all = [Last::Runtime, Last::Handle, Last::Snapshot];
    for (last, history_limit) in all.into_iter().flat_map(|last| [(last, 1), (last, 3)]) {
        let range = Range::default();
        let began = Instant::now();
        let config = ObservationConfig { history_limit, ..each_second() };
        let runtime =
            ObservationRuntime::start([("n1", 1_u64), ("n2", 2)], armed(&range), config).await.unwrap();
        let handle = runtime.handle();
        let mut subscription = handle.subscribe();
        at(began, 4_500).await;
        let snapshot = handle.latest_snapshot();
        let _ = subscription.recv().await;
        drop(subscription);
        assert_eq!(runtime.stop().await, StopOutcome::Stopped);
        type Held = Option<Box<dyn std::any::Any>>;
        let mut held: [(Last, Held); 3] = [
            (Last::Runtime, Some(Box::new(runtime))),
            (Last::Handle, Some(Box::new(handle))),
            (Last::Snapshot, Some(Box::new(snapshot))),
        ];
        held.sort_by_key(|(what, _)| *what == last);
        for (_, held) in &mut held {
            // What the test drops itself panics in the test, one value at a time.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(held.take())));
        }
        assert!(range.exploded(&format!("{last:?} goes last, {history_limit}")) >= 2);
        range.close();
    }
}

#[test]
fn all_that_an_executor_drops_when_it_shuts_down() {
    // Idle, or while a poll hangs: state, two sources, provider and observer; and the poll.
    for (then, dropped) in [(Then::Return, 5), (Then::Hang, 6)] {
        let executor = executor(Flavour::CurrentThread);
        let range = Range::default();
        let observer = App { then, ..App::new(&range) };
        let config = ObservationConfig { poll_timeout: ms(3_600_000), ..config() };
        let runtime = executor.block_on(start(App::new(&range), observer, config));
        let handle = runtime.handle();
        if then == Then::Hang {
            executor.block_on(async {
                runtime.control().poll_now().await.unwrap();
                handle.watch().wait_for(|status| status.state == State::Polling).await.map(drop).unwrap();
            });
        }
        let _ = range.exploded("before");
        drop(executor);
        assert_eq!(range.exploded("the end"), dropped, "{then:?}");
        assert_eq!(handle.stop_reason(), Some(StopReason::Shutdown), "{then:?}");
        range.close();
    }
}

/// Drops what it holds.
type Reader = Box<dyn FnOnce()>;
type Read = fn(ObservationHandle<App>, Cursor) -> Reader;

/// Each begins to hold after cycle 2 and drops what it holds after the runtime was dropped. The runtime ends in cycle 4
/// and keeps two batches.
#[tokio::test(start_paused = true)]
async fn what_only_readers_still_hold() {
    let readers: [(&str, usize, Read); 4] = [
        ("a handle: a snapshot and the history", 5, |handle, _| Box::new(move || drop(handle))),
        ("a batch, and what the handle held beside it", 5, |handle, _| {
            Box::new(move || {
                let batch = handle.history().pop();
                drop(handle);
                drop(batch);
            })
        }),
        ("a subscription: the history and a batch that was displaced", 6, |handle, first| {
            let mut batches = handle.subscribe_from(first).unwrap();
            let read = batches.try_recv();
            assert_eq!(read.unwrap().unwrap().seq, 0);
            Box::new(move || drop(batches))
        }),
        ("a wait: the snapshots of cycles 2 to 4, and the history", 7, |handle, _| {
            let wait = handle.eventually("never", |_| false).show(|_| String::new()).within(ms(60_000));
            Box::new(move || drop(wait))
        }),
    ];
    for (name, dropped, reader) in readers {
        let range = Range::default();
        let began = Instant::now();
        let config = ObservationConfig { history_limit: 2, ..config() };
        let runtime = start(App::new(&range), App::new(&range), config).await;
        let first = runtime.handle().latest_snapshot().unwrap().cursor;
        at(began, 2_500).await;
        let let_go = reader(runtime.handle(), first);
        at(began, 4_500).await;
        let _ = runtime.stop().await;
        drop(runtime);
        let _ = range.exploded(name);
        let_go();
        assert_eq!(range.exploded(name), dropped, "{name}");
        range.close();
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_refused_start_was_given() {
    let range = Range::default();
    let config = ObservationConfig { interval: ms(0), ..config() };
    let refused = ObservationRuntime::start(App::new(&range), App::new(&range), config.clone()).await;
    assert!(matches!(refused, Err(ObservationRuntimeError::InvalidInterval { .. })));
    let refused = ObservationRuntime::start_in_background(App::new(&range), App::new(&range), config);
    assert!(matches!(refused, Err(ObservationRuntimeError::InvalidInterval { .. })));
    assert_eq!(range.exploded("refused"), 4);
    range.close();
}

#[tokio::test(start_paused = true)]
async fn what_the_providers_of_the_library_hold() {
    let range = Range::default();
    let set = || ["a", "b"].map(|name| ObservedSource::new(name, range.bomb())).into();
    drop(StaticSourceProvider::new(set()));
    assert_eq!(range.exploded("static"), 2);
    drop(SharedSources::new(set()));
    assert_eq!(range.exploded("shared"), 2);

    let sources = StaticSourceProvider::new(set());
    let runtime = ObservationRuntime::start(sources, App::new(&range), config()).await.unwrap();
    tokio::time::sleep(ms(500)).await;
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(range.exploded("run"), 6, "state, sources, observer, and the provider's own");
    range.close();
}

/// Where the copy of a set panics, the part that was copied is dropped.
#[tokio::test(start_paused = true)]
async fn what_was_copied_before_a_copy_panicked() {
    struct Part(Range, bool);
    impl Clone for Part {
        fn clone(&self) -> Self {
            assert!(self.1, "it cannot be copied");
            Self(self.0.clone(), true)
        }
    }
    impl Drop for Part {
        fn drop(&mut self) {
            // Here it is dropped by the copy's own panic, where an explosion must go no further.
            self.0.0.exploded.fetch_add(1, Relaxed);
            assert!(self.0.0.harmless.load(Relaxed), "boom");
        }
    }
    let range = Range::default();
    let set = || {
        let parts = [("a", true), ("b", true), ("c", false)];
        parts.map(|(name, copies)| ObservedSource::new(name, Part(range.clone(), copies))).into()
    };
    let (fixed, shared) = (StaticSourceProvider::new(set()), SharedSources::new(set()));
    let copies: [Box<dyn SourceProvider<Part>>; 2] = [Box::new(fixed), Box::new(shared)];
    for provider in copies {
        let copying = tokio::spawn(async move { drop(provider.sources().await) });
        let panic = copying.await.unwrap_err().into_panic();
        assert_eq!(panic.downcast_ref::<&str>(), Some(&"it cannot be copied"));
    }
    assert_eq!(range.exploded("copies"), 2 * (2 + 3), "two copies, and the provider's three");
    range.close();
}

#[tokio::test(start_paused = true)]
async fn what_a_transactional_observer_holds() {
    let range = Range::default();
    let began = Instant::now();
    let observer = Transactional::new(App { then: Then::Hang, ..App::new(&range) });
    let runtime = ObservationRuntime::start(App::new(&range), observer, config()).await.unwrap();
    let handle = runtime.handle();
    at(began, 1_500).await;
    assert_eq!(range.exploded("cut off"), 4, "two sources, the poll and the copy");
    let status = handle.status();
    assert_eq!(status.last_error.unwrap().message, "timed out after 200ms");
    at(began, 3_500).await;
    assert_eq!(handle.status().generation, 1, "the state was kept");
    let _ = range.exploded("more of the same");
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(range.exploded("the end"), 5);
    range.close();
}

/// A closure of the app that holds a bomb.
fn holds<T>(range: &Range, inner: T) -> (Bomb, T) {
    (range.bomb(), inner)
}

#[tokio::test(start_paused = true)]
async fn closures_that_are_dropped_together() {
    let range = Range::default();
    // A probe and an identity.
    let (probe, identity) = (holds(&range, ()), holds(&range, ()));
    let observer = PerSource::new(move |_: ObservedSource<u64>| {
        let _probe = &probe;
        async { Ok::<_, DynError>(0) }
    })
    .identity(move |source| {
        let _identity = &identity;
        *source
    });
    let runtime = ObservationRuntime::start([("n1", 1)], observer, each_second()).await.unwrap();
    let handle = runtime.handle();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    assert_eq!(range.exploded("a probe and an identity"), 2);

    // A wait's projection, and its last value.
    let runtime =
        ObservationRuntime::start([("n1", 1)], PerSource::new(|_| async { Ok::<_, DynError>(0) }), config());
    let runtime = runtime.await.unwrap();
    struct Equal(Bomb);
    impl PartialEq for Equal {
        fn eq(&self, other: &Self) -> bool {
            Arc::ptr_eq(&self.0.0.0, &other.0.0.0)
        }
    }
    let held = range.bomb();
    let value = range.clone();
    let wait = runtime.handle().stable_for("the same", ms(2_000), move |_| {
        let _held = &held;
        Some(Equal(value.bomb()))
    });
    wait.within(ms(9_000)).await.unwrap();
    assert!(range.exploded("a projection and its value") >= 2);

    #[cfg(feature = "json")]
    {
        let (snapshot, event) = (range.bomb(), range.bomb());
        let erased = watchkeeper::group::AnyHandle::with_json_events(
            "n1",
            &handle,
            move |_| {
                let _snapshot = &snapshot;
                serde_json::Value::Null
            },
            move |_| {
                let _event = &event;
                Ok(serde_json::Value::Null)
            },
        );
        drop(erased);
        assert_eq!(range.exploded("two ways to show JSON"), 2);
    }
    drop((handle, runtime));
    range.close();
}
