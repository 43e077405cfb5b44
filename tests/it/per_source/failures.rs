//! A failed probe is a fact about its source, emitted once for consecutive failures.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::SharedSources;
use watchkeeper::{DynError, ObservationRuntime, ObservedSource, PerSource};

use super::{Probes, Says, cycle, emitted, in_words, sources, start};
use crate::common::{each_second, ms};

#[tokio::test(start_paused = true)]
async fn every_way_to_fail_is_a_fact_with_its_cause_and_message() {
    let cases = [
        (Says::Error("refused"), Cause::Error, "refused", 0),
        (Says::Panic("a bug"), Cause::Panicked, "panicked: a bug", 0),
        (Says::PanicInTheCall("another bug"), Cause::Panicked, "panicked: another bug", 0),
        (Says::Hang, Cause::TimedOut, "no answer within 400ms", 400),
        (Says::After(ms(401), 1), Cause::TimedOut, "no answer within 400ms", 400),
    ];
    for (says, cause, message, elapsed) in cases {
        let probes = Probes::new();
        probes.set("a", says.clone());
        let began = Instant::now();
        let (runtime, _) = start(&["a", "b"], probes.observer().probe_timeout(ms(400))).await;
        let snapshot = cycle(&runtime, 0).await;
        let a = snapshot.value.get("a").unwrap();
        let failure = a.facts.last_failure.as_ref().unwrap();
        assert_eq!((failure.cause, &*failure.message), (cause, message), "{says:?}");
        assert_eq!((failure.at, failure.elapsed), (began + ms(elapsed), ms(elapsed)), "{says:?}");
        assert_eq!((a.facts.consecutive_failures, a.facts.in_flight_since), (1, None), "{says:?}");
        assert!(a.is_failing() && !snapshot.value.get("b").unwrap().is_failing(), "{says:?}");
        assert!(runtime.handle().failures().is_empty(), "no cycle has failed");
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot reach the node")]
struct Outer {
    source: Middle,
}

#[derive(Debug, thiserror::Error)]
#[error("the request failed")]
struct Middle {
    source: std::io::Error,
}

#[tokio::test(start_paused = true)]
async fn an_error_is_emitted_with_all_its_causes() {
    let observer = PerSource::new(|_: ObservedSource<u32>| async {
        let source = Middle { source: std::io::Error::other("connection reset") };
        Err::<u32, DynError>(Outer { source }.into())
    });
    let (runtime, _) = start(&["a"], observer).await;
    let batch = {
        let mut subscription = runtime.handle().subscribe();
        subscription.recv().await.unwrap()
    };
    let words: Vec<String> = batch.events.iter().map(in_words).collect();
    assert_eq!(words, ["a failed: cannot reach the node: the request failed: connection reset"]);
}

#[tokio::test(start_paused = true)]
async fn consecutive_failures_emit_one_event_when_they_begin_and_one_when_they_end_before_any_change() {
    let probes = Probes::new();
    let (runtime, _) = start(&["a"], probes.observer()).await;
    let mut subscription = runtime.handle().subscribe();
    // (what it does, what is emitted, consecutive failures, the last failure)
    let cycles: [(Says, &[&str], u64, &str); 9] = [
        (Says::Value(1), &["a appeared: 1"], 0, ""),
        (Says::Error("one"), &["a failed: one"], 1, "one"),
        (Says::Panic("two"), &[], 2, "panicked: two"),
        (Says::Error("three"), &[], 3, "three"),
        (Says::Value(1), &["a recovered: 3"], 0, "three"),
        (Says::Error("four"), &["a failed: four"], 1, "four"),
        (Says::Value(2), &["a recovered: 1", "a changed: 1 to 2"], 0, "four"),
        (Says::Value(2), &[], 0, "four"),
        (Says::Value(3), &["a changed: 2 to 3"], 0, "four"),
    ];
    for (n, (says, expected, consecutive, last)) in (1..).zip(cycles) {
        probes.set("a", says);
        let snapshot = cycle(&runtime, n).await;
        assert_eq!(emitted(&mut subscription), expected, "in cycle {n}");
        let a = snapshot.value.get("a").unwrap();
        assert_eq!(a.facts.consecutive_failures, consecutive, "in cycle {n}");
        let last_failure = a.facts.last_failure.as_ref().map_or("", |failure| &failure.message);
        assert_eq!(last_failure, last, "in cycle {n}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_keeps_its_value_and_grows_stale() {
    let probes = Probes::new();
    let (runtime, _) = start(&["a"], probes.observer().stale_after(ms(1_500))).await;
    probes.set("a", Says::Error("no"));
    for (n, stale) in [(1, false), (2, true)] {
        let snapshot = cycle(&runtime, n).await;
        let a = snapshot.value.get("a").unwrap();
        assert_eq!(a.value.map(|value| **value), Some(1));
        assert_eq!(a.freshness(Instant::now()).is_stale(), stale, "in cycle {n}");
        assert_eq!(a.fresh_value(Instant::now()).is_none(), stale, "in cycle {n}");
    }
}

/// Its destructor is a bug.
struct Trap;

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("in a destructor");
    }
}

/// An error whose text or destructor is a bug.
struct TrapError {
    in_its_text: bool,
    _trap: Option<Trap>,
}

impl fmt::Display for TrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.in_its_text, "in its text");
        f.write_str("an error")
    }
}

impl fmt::Debug for TrapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TrapError")
    }
}

impl std::error::Error for TrapError {}

#[derive(Clone, Copy, Debug)]
enum Bug {
    DestructorAfterAnswer,
    DestructorAfterError,
    DestructorAfterTimeout,
    DestructorOfTheError,
    TextOfTheError,
}

async fn with_a_bug(bug: Bug) -> Result<u32, DynError> {
    let in_its_text = matches!(bug, Bug::TextOfTheError);
    let _trap = match bug {
        Bug::DestructorAfterAnswer | Bug::DestructorAfterError | Bug::DestructorAfterTimeout => Some(Trap),
        Bug::DestructorOfTheError => {
            return Err(TrapError { in_its_text, _trap: Some(Trap) }.into());
        }
        Bug::TextOfTheError => None,
    };
    match bug {
        Bug::DestructorAfterAnswer => Ok(1),
        Bug::DestructorAfterTimeout => std::future::pending().await,
        _ => Err(TrapError { in_its_text, _trap: None }.into()),
    }
}

// Each is one failed probe: the cycle does not wait for it, and the next cycle probes again.
#[tokio::test(start_paused = true)]
async fn a_panic_in_a_destructor_or_in_the_text_of_an_error_is_a_failed_probe() {
    let cases = [
        (Bug::DestructorAfterAnswer, "in a destructor"),
        (Bug::DestructorAfterError, "in a destructor"),
        (Bug::DestructorAfterTimeout, "in a destructor"),
        (Bug::DestructorOfTheError, "in a destructor"),
        (Bug::TextOfTheError, "in its text"),
    ];
    for (bug, message) in cases {
        let begun = Arc::new(AtomicU32::new(0));
        let observer = PerSource::new({
            let begun = Arc::clone(&begun);
            move |_: ObservedSource<u32>| {
                begun.fetch_add(1, Ordering::Relaxed);
                with_a_bug(bug)
            }
        });
        let set = SharedSources::new(sources(&["a"]));
        let observer = observer.probe_timeout(ms(100));
        let runtime = ObservationRuntime::start(set, observer, each_second()).await.unwrap();
        for n in 0..3 {
            let snapshot = cycle(&runtime, n).await;
            let facts = snapshot.value.get("a").unwrap().facts;
            let waited = if matches!(bug, Bug::DestructorAfterTimeout) { ms(100) } else { Duration::ZERO };
            assert_eq!(snapshot.elapsed, waited, "{bug:?}, cycle {n}");
            assert_eq!(
                (facts.consecutive_failures, facts.in_flight_since),
                (n + 1, None),
                "{bug:?}, cycle {n}"
            );
            let failure = facts.last_failure.as_ref().unwrap();
            assert_eq!(failure.cause, Cause::Panicked, "{bug:?}");
            assert!(failure.message.contains(message), "{bug:?}: {failure}");
        }
        assert_eq!(begun.load(Ordering::Relaxed), 3, "{bug:?}");
        assert!(runtime.handle().failures().is_empty(), "{bug:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_probe_whose_destructor_panics_emits_nothing() {
    let observer = PerSource::new(|source: ObservedSource<u32>| async move {
        if source.name == "a" { with_a_bug(Bug::DestructorAfterTimeout).await } else { Ok(1) }
    });
    let (runtime, set) = start(&["a", "b"], observer).await;
    let mut subscription = runtime.handle().subscribe();
    set.remove("a");
    assert_eq!(cycle(&runtime, 3).await.generation, 1);
    assert_eq!(emitted(&mut subscription), ["b appeared: 1", "a vanished: None"]);
    assert!(runtime.handle().failures().is_empty());
}
