//! A running runtime follows its provider, of whatever kind it is.

use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use watchkeeper::{
    BoxedSourceProvider, DynError, ObservationRuntime, ObservedSource, Observer, SharedSources,
    SourceProvider, StaticSourceProvider, async_trait, source_fn,
};

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

/// Cycles 0 and 1 see `BEFORE`; cycle 2, behind the change, what is expected then.
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
async fn a_provider_behind_a_box_or_an_arc_is_the_provider() {
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
    check("behind an arc", Arc::new(sources), || {}, BEFORE).await;
    let boxed: BoxedSourceProvider<u32> = Box::new(pairs());
    check("boxed", boxed, || {}, BEFORE).await;
}

/// The error of a provider may be of any type that turns into a `DynError`.
#[tokio::test(start_paused = true)]
async fn a_function_has_an_error_of_its_own() {
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
