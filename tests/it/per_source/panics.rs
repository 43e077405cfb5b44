//! Every function of the app may panic: that costs one source one probe, and never the state.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use watchkeeper::per_source::SourceEvent;
use watchkeeper::runtime::Cause;
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, Observer, PerSource};

use super::cycle;
use crate::common::{each_second, ms};

/// Where the app's bug is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    Clone,
    Identity,
    HashOfTheIdentity,
    Compare,
    DropOfTheSameAnswer,
}

/// What `"bad"` does while the bug is there.
#[derive(Debug, Default)]
struct Switch {
    on: AtomicBool,
    met: AtomicUsize,
}

impl Switch {
    fn meet(&self, bug: Bug, here: Bug) {
        if bug == here && self.on.load(Relaxed) {
            self.met.fetch_add(1, Relaxed);
            panic!("a bug in the app");
        }
    }
}

#[derive(Debug)]
struct Thing {
    bug: Option<Bug>,
    switch: Arc<Switch>,
}

impl Thing {
    fn meet(&self, here: Bug) {
        if let Some(bug) = self.bug {
            self.switch.meet(bug, here);
        }
    }
}

impl Clone for Thing {
    fn clone(&self) -> Self {
        self.meet(Bug::Clone);
        Self { bug: self.bug, switch: Arc::clone(&self.switch) }
    }
}

impl Hash for Thing {
    fn hash<H: Hasher>(&self, _: &mut H) {
        self.meet(Bug::HashOfTheIdentity);
    }
}

/// Always the same answer.
#[derive(Debug)]
struct Answer(Thing);

impl PartialEq for Answer {
    fn eq(&self, _: &Self) -> bool {
        self.0.meet(Bug::Compare);
        true
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.0.meet(Bug::DropOfTheSameAnswer);
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_one_source_s_code_is_its_failed_probe_and_no_more() {
    for bug in [Bug::Clone, Bug::Identity, Bug::HashOfTheIdentity, Bug::Compare, Bug::DropOfTheSameAnswer] {
        let switch = Arc::new(Switch::default());
        // Other providers clone the sources themselves.
        let set = source_fn({
            let switch = Arc::clone(&switch);
            move || {
                let thing = |bug| Thing { bug, switch: Arc::clone(&switch) };
                let bad = ObservedSource::new("bad", thing(Some(bug)));
                let good = ObservedSource::new("good", thing(None));
                async { Ok::<_, DynError>(vec![bad, good]) }
            }
        });
        let observer = PerSource::new(|source: ObservedSource<Thing>| async move {
            Ok::<_, DynError>(Answer(source.source))
        });
        let observer = observer.identity(|thing: &Thing| {
            thing.meet(Bug::Identity);
            Thing { bug: thing.bug, switch: Arc::clone(&thing.switch) }
        });
        let runtime = ObservationRuntime::start(set, observer, each_second()).await.unwrap();
        cycle(&runtime, 1).await;
        switch.on.store(true, Relaxed);
        for n in 2..=3 {
            let snapshot = cycle(&runtime, n).await;
            assert_eq!(snapshot.generation, 1, "{bug:?}");
            let [bad, good] = ["bad", "good"].map(|name| snapshot.value.get(name).unwrap());
            assert_eq!(bad.facts.consecutive_failures, n - 1, "{bug:?}");
            assert_eq!(bad.facts.in_flight_since, None, "{bug:?}");
            let failure = bad.facts.last_failure.as_ref().unwrap();
            assert_eq!(
                (failure.cause, &*failure.message),
                (Cause::Panicked, "panicked: a bug in the app"),
                "{bug:?}"
            );
            assert!(bad.value.is_some(), "{bug:?}: its last answer is kept");
            assert_eq!((good.facts.answers, good.is_failing()), (n + 1, false), "{bug:?}");
        }
        assert_eq!(switch.met.load(Relaxed), 2, "{bug:?}");
        switch.on.store(false, Relaxed);
        let healed = cycle(&runtime, 4).await;
        assert!(!healed.value.get("bad").unwrap().is_failing(), "{bug:?}");
        assert!(runtime.handle().failures().is_empty(), "{bug:?}");
    }
}

/// Its destructor panics, as soon as the fuse is lit.
#[derive(Debug)]
struct Bomb {
    fuse: Arc<AtomicBool>,
    exploded: Arc<AtomicUsize>,
    unequal: bool,
}

impl PartialEq for Bomb {
    fn eq(&self, _: &Self) -> bool {
        !self.unequal
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.fuse.load(Relaxed) {
            self.exploded.fetch_add(1, Relaxed);
            panic!("boom");
        }
    }
}

fn bombs(unequal: bool) -> (PerSource<u32, Bomb>, Arc<AtomicBool>, Arc<AtomicUsize>) {
    let (fuse, exploded) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let of_probes = (Arc::clone(&fuse), Arc::clone(&exploded));
    let observer = PerSource::new(move |source: ObservedSource<u32>| {
        let (fuse, exploded) = of_probes.clone();
        async move {
            if source.name.starts_with("hangs") {
                std::future::pending::<()>().await;
            }
            Ok::<_, DynError>(Bomb { fuse, exploded, unequal })
        }
    });
    (observer, fuse, exploded)
}

// Each of these aborted the process: a second destructor panicked while the first one's panic unwound.
#[tokio::test(start_paused = true)]
async fn values_whose_destructors_all_panic_are_dropped_with_snapshot_and_state() {
    let set = super::sources(&["a", "b", "c", "d"]);
    let (observer, fuse, exploded) = bombs(false);
    let observer = super::by_hand(observer);
    let state = observer.init(&set).await.unwrap();
    let snapshot = observer.snapshot(&state);
    fuse.store(true, Relaxed);
    drop(state);
    assert_eq!(exploded.load(Relaxed), 0, "the snapshot has them");
    drop(snapshot);
    assert_eq!(exploded.load(Relaxed), 4);
}

#[tokio::test(start_paused = true)]
async fn events_that_wait_in_the_state_are_dropped_one_by_one() {
    let set = super::sources(&["a", "b", "c", "d"]);
    let (observer, fuse, exploded) = bombs(true);
    let observer = super::by_hand(observer);
    let mut state = observer.init(&set).await.unwrap();
    for n in 1..=3 {
        // One is new and hangs, so that the poll collects until it is cut off.
        let hangs = format!("hangs {n}");
        let set = super::sources(&["a", "b", "c", "d", &hangs]);
        let limit = ms(400 / 3_u64.pow(n));
        assert!(tokio::time::timeout(limit, observer.poll(&set, &mut state)).await.is_err());
    }
    fuse.store(true, Relaxed);
    drop(state);
    assert_eq!(exploded.load(Relaxed), 2 * 4, "the last two answers of each; the others were folded away");
}

/// A source that is replaced and one that leaves take values along, whose last copies go with their events.
#[tokio::test(start_paused = true)]
async fn the_values_of_sources_that_leave_cost_nothing_but_themselves() {
    let (observer, fuse, exploded) = bombs(false);
    let observer = super::by_hand(observer.identity(|version| *version));
    let mut state = observer.init(&super::sources(&["a", "b", "c"])).await.unwrap();
    let _ = observer.poll(&super::sources(&["a", "b", "c"]), &mut state).await.unwrap();
    let set = super::sources_of(1, &["a"]);
    let events = observer.poll(&set, &mut state).await.unwrap();
    assert_eq!(events.len(), 4);
    fuse.store(true, Relaxed);
    let mut held: Vec<SourceEvent<Bomb>> = events;
    while let Some(event) = held.pop() {
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(event)));
    }
    assert_eq!(exploded.load(Relaxed), 3, "of a, b and c, and not the one a has now");
    drop(state);
    assert_eq!(exploded.load(Relaxed), 4);
}
