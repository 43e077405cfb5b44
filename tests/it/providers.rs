//! A running runtime follows its provider, of any kind.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use tokio::sync::Notify;
use tokio::time::Instant;
use watchkeeper::source::{SharedSources, source_fn};
use watchkeeper::{
    BoxedSourceProvider, DynError, ObservationConfig, ObservationControl, ObservationRuntime, ObservedSource,
    Observer, SourceProvider, StaticSourceProvider, async_trait,
};

use crate::common::threads::poll_once;
use crate::common::{at, each_second};

/// Shows what it is given.
struct Sees;

type Set = Vec<ObservedSource<u32>>;

#[async_trait]
impl Observer for Sees {
    type Source = u32;
    type State = Set;
    type Snapshot = Set;
    type Event = ();

    async fn init(&self, sources: &[ObservedSource<u32>]) -> Result<Set, DynError> {
        Ok(sources.to_vec())
    }

    async fn poll(&self, sources: &[ObservedSource<u32>], seen: &mut Set) -> Result<Vec<()>, DynError> {
        *seen = sources.to_vec();
        Ok(Vec::new())
    }

    fn snapshot(&self, seen: &Set) -> Set {
        seen.clone()
    }
}

fn set(sources: &[(&str, u32)]) -> Set {
    sources.iter().map(|(name, source)| ObservedSource::new(*name, *source)).collect()
}

const BEFORE: &[(&str, u32)] = &[("a", 1), ("b", 2)];
const AFTER: &[(&str, u32)] = &[("c", 3), ("a", 4)];

/// Cycles 0 and 1 see `BEFORE`; cycle 2, after the change, what is expected then.
async fn check(
    kind: &str,
    provider: impl SourceProvider<u32>,
    change: impl FnOnce(),
    expected: &[(&str, u32)],
) {
    let start = Instant::now();
    let runtime = ObservationRuntime::start(provider, Sees, each_second()).await.unwrap();
    let seen = || runtime.handle().latest_snapshot().unwrap();
    assert_eq!(seen().value, set(BEFORE), "{kind}");
    at(start, 1_500).await;
    change();
    assert_eq!((seen().cycle, &seen().value), (1, &set(BEFORE)), "{kind}: not before the next cycle");
    at(start, 2_500).await;
    assert_eq!((seen().cycle, &seen().value), (2, &set(expected)), "{kind}");
    assert_eq!(seen().source_count, 2, "{kind}");
    let names: Vec<&str> = expected.iter().map(|(name, _)| *name).collect();
    assert_eq!(runtime.handle().status().source_names.join(" "), names.join(" "), "{kind}");
}

#[tokio::test(start_paused = true)]
async fn what_never_changes_is_always_seen() {
    check("static", StaticSourceProvider::new(set(BEFORE)), || {}, BEFORE).await;
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_replaced_by_hand_is_seen_by_the_next_cycle() {
    let shared = SharedSources::new(set(BEFORE));
    check("shared", shared.clone(), || drop(shared.replace(set(AFTER))), AFTER).await;
    let shared = SharedSources::new(set(BEFORE));
    let one_by_one = || {
        assert_eq!(shared.insert("c", 3), None);
        assert_eq!(shared.remove("b"), Some(2));
        assert_eq!(shared.remove("b"), None);
        assert_eq!(shared.insert("a", 4), Some(1));
    };
    check("shared, one by one", shared.clone(), one_by_one, &[("a", 4), ("c", 3)]).await;
    assert_eq!(shared.replace(Vec::new()), set(&[("a", 4), ("c", 3)]));
    assert_eq!(shared.get(), []);
}

#[tokio::test(start_paused = true)]
async fn a_closure_is_called_in_every_cycle() {
    let now = Arc::new(Mutex::new(set(BEFORE)));
    let provider = source_fn({
        let now = Arc::clone(&now);
        move || {
            let now = Arc::clone(&now);
            async move { Ok::<_, DynError>(now.lock().unwrap().clone()) }
        }
    });
    check("closure", provider, || *now.lock().unwrap() = set(AFTER), AFTER).await;
    check("async closure", source_fn(async || Ok::<_, DynError>(set(BEFORE))), || {}, BEFORE).await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_in_a_box_or_an_arc_is_the_provider() {
    let shared = || SharedSources::new(set(BEFORE));
    let now = shared();
    let boxed: BoxedSourceProvider<u32> = Box::new(now.clone());
    check("boxed", boxed, || drop(now.replace(set(AFTER))), AFTER).await;
    let now = shared();
    check("box", Box::new(now.clone()), || drop(now.replace(set(AFTER))), AFTER).await;
    let now = shared();
    check("arc", Arc::new(now.clone()), || drop(now.replace(set(AFTER))), AFTER).await;
    let now = shared();
    let dynamic: Arc<dyn SourceProvider<u32>> = Arc::new(now.clone());
    check("arc of any", dynamic, || drop(now.replace(set(AFTER))), AFTER).await;
}

#[tokio::test(start_paused = true)]
async fn arrays_and_vecs_of_names_and_sources_are_providers() {
    let pairs = || [("a", 1), ("b", 2)];
    check("array of pairs", pairs(), || {}, BEFORE).await;
    check("pairs", pairs().to_vec(), || {}, BEFORE).await;
    check("named by Strings", pairs().map(|(name, source)| (name.to_owned(), source)), || {}, BEFORE).await;
    let shared = pairs().map(|(name, source)| (Arc::<str>::from(name), source));
    check("named by Arcs", shared.to_vec(), || {}, BEFORE).await;
    check("sources", set(BEFORE), || {}, BEFORE).await;
    let sources = pairs().map(|(name, source)| ObservedSource::new(name.to_owned(), source));
    check("array of sources", sources.clone(), || {}, BEFORE).await;
    check("in an arc", Arc::new(sources), || {}, BEFORE).await;
    let boxed: BoxedSourceProvider<u32> = Box::new(pairs());
    check("boxed", boxed, || {}, BEFORE).await;
}

/// The error of a provider may be of any type that turns into a `DynError`.
#[tokio::test(start_paused = true)]
async fn a_function_may_have_its_own_error_type() {
    async fn refused() -> std::io::Result<Set> {
        Err(std::io::Error::other("no registry"))
    }
    let error = ObservationRuntime::start(source_fn(refused), Sees, each_second()).await.unwrap_err();
    assert!(format!("{error:?}").ends_with("no registry"), "{error:?}");
    async fn named() -> Result<Set, String> {
        Ok(set(BEFORE))
    }
    check("its error is a String", source_fn(named), || {}, BEFORE).await;
}

/// Counts its calls, and returns what the test sets.
#[derive(Clone, Default)]
struct Counted {
    calls: Arc<AtomicU64>,
    revision: Arc<AtomicU64>,
    fails: Arc<AtomicU64>,
}

const NO_REVISION: u64 = u64::MAX;

#[async_trait]
impl SourceProvider<u32> for Counted {
    async fn sources(&self) -> Result<Set, DynError> {
        self.calls.fetch_add(1, Relaxed);
        let fails = self.fails.load(Relaxed) > 0;
        if fails { Err("no set".into()) } else { Ok(set(BEFORE)) }
    }

    fn revision(&self) -> Option<u64> {
        let revision = self.revision.load(Relaxed);
        assert_ne!(revision, NO_REVISION, "nobody knows");
        Some(revision)
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_whose_revision_is_known_is_not_fetched_again() {
    let provider = Counted::default();
    let runtime = ObservationRuntime::start(provider.clone(), Sees, each_second()).await.unwrap();
    // (the revision, whether a fetch fails, how many fetches two cycles take)
    let steps = [(0, false, 0), (1, false, 1), (1, false, 0), (2, true, 2), (2, false, 1), (2, false, 0)];
    for (revision, fails, fetches) in steps {
        let before = provider.calls.load(Relaxed);
        provider.revision.store(revision, Relaxed);
        provider.fails.store(u64::from(fails), Relaxed);
        for _ in 0..2 {
            assert_eq!(runtime.poll_now_and_wait().await.is_err(), fails, "revision {revision}");
        }
        assert_eq!(provider.calls.load(Relaxed) - before, fetches, "revision {revision}, fails: {fails}");
    }
    let before = provider.calls.load(Relaxed);
    provider.revision.store(NO_REVISION, Relaxed);
    for _ in 0..3 {
        assert!(runtime.poll_now_and_wait().await.is_ok(), "a revision that panics is one that is not known");
    }
    assert_eq!(provider.calls.load(Relaxed) - before, 3);
}

/// What is sent from inside a poll, before it yields.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Comes {
    Wake,
    Pause,
    Resume,
}

struct Yields {
    comes: Comes,
    wake: Arc<Notify>,
    control: Arc<OnceLock<ObservationControl>>,
    other: Arc<Notify>,
    turns: Arc<AtomicU64>,
    others_ran: Arc<AtomicU64>,
}

#[async_trait]
impl Observer for Yields {
    type Source = u32;
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<u32>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<u32>], (): &mut ()) -> Result<Vec<()>, DynError> {
        let before = self.turns.load(Relaxed);
        self.other.notify_one();
        let control = self.control.get().unwrap();
        match self.comes {
            Comes::Wake => self.wake.notify_one(),
            Comes::Pause => assert!(poll_once(control.pause()).is_pending()),
            Comes::Resume => assert!(poll_once(control.resume()).is_pending()),
        }
        tokio::task::yield_now().await;
        self.others_ran.fetch_add(u64::from(self.turns.load(Relaxed) > before), Relaxed);
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

/// A wake or a control used to resume the poll at once, so that others had no turn.
#[tokio::test(start_paused = true)]
async fn a_poll_that_yields_while_a_wake_or_control_waits_has_yielded() {
    for comes in [Comes::Pause, Comes::Resume, Comes::Wake] {
        let (wake, other) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (turns, others_ran) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (called, counted) = (Arc::clone(&other), Arc::clone(&turns));
        let task = tokio::spawn(async move {
            loop {
                called.notified().await;
                counted.fetch_add(1, Relaxed);
            }
        });
        tokio::task::yield_now().await;
        let config = ObservationConfig { wake: Some(Arc::clone(&wake)), ..each_second() };
        let control = Arc::default();
        let observer = Yields {
            comes,
            wake,
            control: Arc::clone(&control),
            other,
            turns,
            others_ran: Arc::clone(&others_ran),
        };
        let runtime = ObservationRuntime::start([("a", 1)], observer, config).await.unwrap();
        control.set(runtime.control()).unwrap();
        for _ in 0..3 {
            runtime.poll_now_and_wait().await.unwrap();
        }
        assert!(others_ran.load(Relaxed) >= 3, "{comes:?}");
        assert_eq!(runtime.handle().status().paused, comes == Comes::Pause, "{comes:?} was taken");
        task.abort();
    }
}
