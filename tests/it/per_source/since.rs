//! What was asked before a wait or its mark does not meet it, though a cycle that began later still shows it.

use std::pin::Pin;

use tokio::time::Instant;
use watchkeeper::group::AnyHandle;
use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::source::SharedSources;
use watchkeeper::wait::{Inconclusive, Mark, UnmetOutcome};
use watchkeeper::{ObservationConfig, ObservationHandle, ObservationRuntime, Observer, PerSource};

use super::{Observed, Probes, Says, sources, start};
use crate::common::{at, each_second, ms};

type Nodes = PerSource<u32, u32>;
type Handle = ObservationHandle<Nodes>;
type Ended = Result<(), UnmetOutcome>;
type Waiting = Pin<Box<dyn Future<Output = Ended>>>;

/// Awaits it, from the mark if there is one.
macro_rules! ended {
    ($wait:expr, $mark:expr, $window:ident, $millis:expr) => {{
        let wait = $wait;
        let wait = match $mark {
            Some(mark) => wait.after(mark),
            None => wait,
        };
        let wait = wait.$window(ms($millis));
        Box::pin(async move { wait.await.map(|_| ()).map_err(|unmet| unmet.outcome()) }) as Waiting
    }};
}

fn value(seen: &PerSourceSnapshot<u32>, name: &str) -> Option<u32> {
    seen.get(name)?.value.map(|value| **value)
}

fn erased(handle: &Handle) -> AnyHandle {
    #[cfg(feature = "json")]
    return AnyHandle::with_json("nodes", handle, |seen| serde_json::json!({ "n1": value(seen, "n1") }));
    #[cfg(not(feature = "json"))]
    AnyHandle::new("nodes", handle)
}

//   0 s        1 s        1.6 s     2 s            3 s            3.8 s
//   n1: 1      1          mark      hangs          hangs
//   n2: 1      1                    1              1              the end
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_start_meets_no_operator() {
    type Make = fn(&Handle, &AnyHandle, Option<Mark>) -> Waiting;
    let operators: Vec<(&str, Make)> = vec![
        ("eventually", |nodes, _, mark| {
            ended!(nodes.eventually("1", |seen| value(seen, "n1") == Some(1)), mark, within, 2_200)
        }),
        ("eventually, on facts", |nodes, _, mark| {
            let answered =
                |seen: &PerSourceSnapshot<u32>| seen.get("n1").unwrap().facts.last_success.is_some();
            ended!(nodes.eventually("answered", answered), mark, within, 2_200)
        }),
        ("eventually, on those that answer", |nodes, _, mark| {
            ended!(nodes.eventually("2", |seen| seen.answering().count() == 2), mark, within, 2_200)
        }),
        ("eventually_some", |nodes, _, mark| {
            ended!(nodes.eventually_some("a value", |seen| value(seen, "n1")), mark, within, 2_200)
        }),
        ("all_sources", |nodes, _, mark| ended!(nodes.all_sources("1", |_| true), mark, within, 2_200)),
        ("at_least_sources", |nodes, _, mark| {
            ended!(nodes.at_least_sources(2, "1", |_| true), mark, within, 2_200)
        }),
        ("source_fresh", |nodes, _, mark| ended!(nodes.source_fresh("n1"), mark, within, 2_200)),
        ("stable_for", |nodes, _, mark| {
            ended!(nodes.stable_for("1", ms(200), |seen| value(seen, "n1")), mark, within, 2_200)
        }),
        ("erased, by its type", |_, any, mark| {
            let value = |seen: watchkeeper::group::AnySnapshot<'_>| value(seen.value()?, "n1");
            ended!(any.eventually("1", move |seen| value(seen) == Some(1)), mark, within, 2_200)
        }),
        ("erased, by its health", |_, any, mark| {
            let answered = |seen: watchkeeper::group::AnySnapshot<'_>| {
                seen.source_health("n1").is_some_and(|health| health.facts.last_success.is_some())
            };
            ended!(any.eventually("answered", answered), mark, within, 2_200)
        }),
        ("erased, eventually_some", |_, any, mark| {
            let value = |seen: watchkeeper::group::AnySnapshot<'_>| value(seen.value()?, "n1");
            ended!(any.eventually_some("a value", value), mark, within, 2_200)
        }),
        ("erased, source_fresh", |_, any, mark| ended!(any.source_fresh("n1"), mark, within, 2_200)),
        #[cfg(feature = "json")]
        ("erased, as JSON", |_, any, mark| {
            let one = |seen: watchkeeper::group::AnySnapshot<'_>| {
                seen.to_json().and_then(|json| json.pointer("/n1").cloned()) == Some(serde_json::json!(1))
            };
            ended!(any.eventually("1", one), mark, within, 2_200)
        }),
    ];
    for (name, make) in operators {
        for marked in [false, true] {
            let probes = Probes::new();
            let began = Instant::now();
            let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
            let handle = runtime.handle();
            at(began, 1_500).await;
            probes.set("n1", Says::Hang);
            at(began, 1_600).await;
            let mark = marked.then(|| handle.mark());
            let ended = make(&handle, &erased(&handle), mark).await;
            assert_eq!(ended, Err(UnmetOutcome::NotMet), "{name}, marked: {marked}");
            assert_eq!(began.elapsed(), ms(3_800), "{name}");
            let seen = handle.latest_snapshot().unwrap();
            assert!(seen.value.get("n1").unwrap().freshness(Instant::now()).is_fresh(), "its old answer is");
        }
    }
}

/// What is not known is no violation either, nor a value that stays the same.
#[tokio::test(start_paused = true)]
async fn an_answer_from_before_the_start_violates_nothing() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    let handle = runtime.handle();
    at(began, 1_500).await;
    probes.set("n1", Says::Hang).set("n2", Says::Value(2));
    at(began, 1_600).await;
    let any = erased(&handle);
    let says_1 =
        |seen: &PerSourceSnapshot<u32>| seen.iter().any(|source| source.value.is_some_and(|v| **v == 1));
    let invariant = handle.invariant("none says 1", move |seen| !says_1(seen));
    let erased = any.invariant("none says 1", move |seen| !seen.value().is_some_and(says_1));
    handle.never("one says 1", says_1).during(ms(2_200)).await.unwrap();
    assert_eq!(invariant.finish().await.unwrap().judged, 2, "n2 has answered, n1 is silent");
    assert_eq!(erased.finish().await.unwrap().judged, 2);
}

//   0 s   1 s       1.25 s   2 s ...  7 s                        7.5 s
//   1     refuses   mark     hangs    has failed: asked at 2 s   reported
#[tokio::test(start_paused = true)]
async fn a_failure_from_before_the_mark_does_not_make_a_source_failing() {
    let cases: [(&str, fn(&Handle, Mark) -> Waiting); 4] = [
        ("source_failing", |nodes, mark| ended!(nodes.source_failing("n1"), Some(mark), within, 9_000)),
        ("a predicate", |nodes, mark| {
            let failing = |seen: &PerSourceSnapshot<u32>| seen.get("n1").unwrap().is_failing();
            ended!(nodes.eventually("failing", failing), Some(mark), within, 9_000)
        }),
        ("erased", |nodes, mark| ended!(erased(nodes).source_failing("n1"), Some(mark), within, 9_000)),
        ("the last failure", |nodes, mark| {
            let failed = |seen: &PerSourceSnapshot<u32>| seen.get("n1").unwrap().facts.last_failure.is_some();
            ended!(nodes.eventually("failed", failed), Some(mark), within, 9_000)
        }),
    ];
    for (name, make) in cases {
        let probes = Probes::new();
        let began = Instant::now();
        let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
        probes.set("n1", Says::Error("refused"));
        at(began, 1_250).await;
        probes.set("n1", Says::Hang);
        let mark = runtime.handle().mark();
        make(&runtime.handle(), mark).await.unwrap();
        assert_eq!(began.elapsed(), ms(7_500), "{name}");
    }
}

//   0 s   1 s ......... 1.6 s         2 s
//   1     asked, mark at 1.5 s, 2     collects 2, asks: 3
#[tokio::test(start_paused = true)]
async fn an_event_that_was_asked_for_before_the_mark_does_not_count() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1"], probes.observer()).await;
    let handle = runtime.handle();
    probes.set("n1", Says::After(ms(600), 2));
    at(began, 1_500).await;
    let mark = handle.mark();
    probes.set("n1", Says::Value(3));
    let changed = |event: &SourceEvent<u32>| matches!(event, SourceEvent::Changed { .. });
    let is_3 = |event: &SourceEvent<u32>| matches!(event, SourceEvent::Changed { new, .. } if **new == 3);
    // One of them waits from before; the other looks into the history.
    let waits = handle.event("a change", changed).after(mark).within(ms(3_000)).await.unwrap();
    assert!(is_3(waits.event()), "{:?}", waits.event());
    at(began, 2_500).await;
    let later = handle.event("a change", changed).after(mark).within(ms(3_000)).await.unwrap();
    assert_eq!((later.batch.cycle, is_3(later.event())), (2, true), "{:?}", later.event());
    let erased = erased(&handle);
    let is_2 = |event: &dyn std::any::Any| {
        let event: &SourceEvent<u32> = event.downcast_ref().unwrap();
        matches!(event, SourceEvent::Changed { new, .. } if **new == 2)
    };
    let unmet = erased.event("2", is_2).after(mark).within(ms(3_000)).await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::NotMet);
    let unmet = handle.event("2", |event| !changed(event)).after(mark).within(ms(3_000)).await.unwrap_err();
    assert!(unmet.to_string().contains("\n  events: 1, the last:\n    cycle 2: n1: 2 -> 3"), "{unmet}");
}

/// The paused clock stands still between two lines of a test: what was asked at the very moment of the mark was
/// asked before it, unless a cycle that counts began then too.
#[tokio::test(start_paused = true)]
async fn what_was_asked_at_the_moment_of_the_mark_was_asked_before_it() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1"], probes.observer()).await;
    let handle = runtime.handle();
    probes.set("n1", Says::Hang);
    let (after, made) = (handle.source_fresh("n1").after(handle.mark()), handle.source_fresh("n1"));
    let (after, made) = tokio::join!(after.within(ms(2_500)), made.within(ms(2_500)));
    assert_eq!([after, made].map(|ended| ended.unwrap_err().outcome()), [UnmetOutcome::NotMet; 2]);

    at(began, 7_500).await;
    probes.set("n1", Says::Value(2));
    let mark = handle.mark();
    runtime.control().poll_now().await.unwrap();
    let met = handle.all_sources("2", |value| *value == 2).after(mark).within(ms(10)).await;
    assert!(met.is_err(), "one probe is in flight still: {met:?}");
    at(began, 11_500).await;
    let mark = handle.mark();
    runtime.control().poll_now().await.unwrap();
    handle.all_sources("2", |value| *value == 2).after(mark).within(ms(10)).await.unwrap();
    assert_eq!(began.elapsed(), ms(11_500), "asked and answered at the moment of the mark");
}

async fn marked_while_one_is_silent() -> (Observed, Probes, Instant) {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    at(began, 500).await;
    probes.set("n2", Says::Hang);
    at(began, 1_600).await;
    (runtime, probes, began)
}

//   1 s        1.6 s   2 s                   3 s
//   n2 hangs   made    silent for 0.4 s      for 1.4 s: as long as a cycle waits, 0.5 s
#[tokio::test(start_paused = true)]
async fn nothing_is_judged_before_each_source_has_answered_or_was_silent() {
    let (runtime, _, began) = marked_while_one_is_silent().await;
    let handle = runtime.handle();
    let mut judged = Vec::new();
    let invariant = handle.invariant("any", |_| true);
    let wait = handle.always("any", |seen| {
        judged.push((value(seen, "n1"), value(seen, "n2")));
        true
    });
    wait.during(ms(2_800)).await.unwrap();
    assert_eq!((judged, began.elapsed()), (vec![(Some(1), None); 2], ms(4_400)));
    assert_eq!(invariant.finish().await.unwrap().judged, 2);
    // Or with the present snapshot, of any age.
    let now = handle.always("n2 has a value", |seen| value(seen, "n2").is_some()).or_now().during(ms(100));
    assert_eq!(now.await.unwrap().cycle, 4);
}

/// Each source answers, and one is added later: that one was not there before either.
#[tokio::test(start_paused = true)]
async fn a_source_that_joins_later_holds_nothing_back() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, set) = start(&["n1"], probes.observer().concurrency(1)).await;
    let handle = runtime.handle();
    at(began, 500).await;
    let wait = handle.never("there are two", |seen| seen.len() == 2).during(ms(5_000));
    at(began, 1_500).await;
    probes.set("n1", Says::Hang);
    set.insert("n2", 0);
    let unmet = wait.await.unwrap_err();
    assert_eq!((unmet.outcome(), began.elapsed()), (UnmetOutcome::Violated, ms(2_500)));
}

/// One probe at a time, and that one hangs: the other source is never asked.
#[tokio::test(start_paused = true)]
async fn sources_that_are_never_asked_leave_it_open_and_are_named() {
    let probes = Probes::new();
    probes.set("n1", Says::Hang);
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2", "n3"], probes.observer().concurrency(1)).await;
    let handle = runtime.handle();
    at(began, 500).await;
    let invariant = handle.invariant("any", |_| true);
    let (always, never, stable) = tokio::join!(
        handle.always("any", |_| true).during(ms(3_000)),
        handle.never("none", |_| false).during(ms(3_000)),
        handle.stable_for("same", ms(1_000), |_| Some(())).within(ms(3_000)),
    );
    let unmet =
        [always.unwrap_err(), never.unwrap_err(), stable.unwrap_err(), invariant.finish().await.unwrap_err()];
    for unmet in unmet {
        let open = UnmetOutcome::Inconclusive(Inconclusive::SourcesNotAsked);
        assert_eq!((unmet.outcome(), unmet.judged()), (open, 0), "{unmet}");
        let report = unmet.to_string();
        let expected = "\n  neither an answer nor a failure that was asked since the start: n2, n3";
        assert!(report.contains(expected), "{report}");
    }
    // A part is enough here.
    handle.eventually("three", |seen| seen.len() == 3).within(ms(1_500)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_report_shows_was_asked_since_the_start() {
    let (runtime, ..) = marked_while_one_is_silent().await;
    let unmet = runtime.handle().eventually("the impossible", |_| false).within(ms(2_000)).await.unwrap_err();
    let report = unmet.to_string();
    let expected = "of cycle 3:\n    {\n        n1: 1,\n        \
                    n2: no value,\n    }\n";
    assert!(report.contains(expected), "{report}");
    // What is known of the sources is reported in full.
    assert!(
        report.contains("\n    n2 is stale: last answer 3.6 s ago; probe in flight for 2.6 s"),
        "{report}"
    );
    let changes = "\n  changes\n    +1.400s n2: 1 -> 1 (stale)\n  freshness";
    assert!(report.contains(changes), "its value is what it was: {report}");
}

/// What was asked before and came since has changed, though it does not count.
#[tokio::test(start_paused = true)]
async fn a_report_shows_what_has_changed_and_not_what_counts() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    probes.set("n2", Says::After(ms(800), 2));
    at(began, 1_600).await;
    probes.set("n1", Says::Value(3)).set("n2", Says::Hang);
    let unmet = runtime.handle().eventually("the impossible", |_| false).within(ms(2_000)).await.unwrap_err();
    let report = unmet.to_string();
    let expected = "\n  changes\n    +0.900s n1: 1 -> 3\n    +0.900s n2: 1 -> 2\n  freshness";
    assert!(report.contains(expected), "{report}");
    assert!(report.contains("        n2: no value,\n"), "{report}");
}

//   0 s      1 s        1.2 s      1.5 s   2 s
//   a, gone  gone left  cut off    mark    published with the next cycle
#[tokio::test(start_paused = true)]
async fn a_leaving_that_was_found_before_the_mark_does_not_meet_an_event() {
    let probes = Probes::new();
    let began = Instant::now();
    let set = SharedSources::new(sources(&["gone", "h"]));
    let config = ObservationConfig { poll_timeout: ms(200), ..each_second() };
    let runtime = ObservationRuntime::start(set.clone(), probes.observer(), config).await.unwrap();
    let handle = runtime.handle();
    probes.set("h", Says::Hang);
    set.remove("gone");
    at(began, 1_500).await;
    let mark = handle.mark();
    let left = |event: &SourceEvent<u32>| matches!(event, SourceEvent::Vanished { .. });
    let unmet = handle.event("left", left).after(mark).within(ms(2_000)).await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::NotMet, "{unmet}");
    let history = handle.history();
    let all = history.iter().flat_map(|batch| &batch.events);
    let found: Vec<_> = all.filter(|event| left(event)).map(|event| event.asked_at() - began).collect();
    assert_eq!(found, [ms(1_000)], "by the poll that was cut off");
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_of_which_all_was_asked_since_is_not_taken_apart() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    at(began, 1_500).await;
    let seen = runtime.handle().latest_snapshot().unwrap();
    assert!(Nodes::asked_since(&seen.value, began + ms(1_000)).is_none(), "asked at that very moment");
    let later = Nodes::asked_since(&seen.value, began + ms(1_001)).unwrap();
    assert_eq!((later.len(), later.answering().count(), value(&later, "n1")), (2, 0, None));
    assert!(Nodes::asked_since(&later, began + ms(5_000)).is_none(), "there is nothing left to take out");
    let met = runtime.handle().eventually("any", |_| true).within(ms(2_000)).await.unwrap();
    let published = runtime.handle().latest_snapshot().unwrap();
    assert!(std::sync::Arc::ptr_eq(&met, &published), "the published one");
}

/// That a source is stale is a fact of now, whenever it was asked.
#[tokio::test(start_paused = true)]
async fn a_source_that_fell_silent_before_the_mark_is_stale() {
    let (runtime, _, began) = marked_while_one_is_silent().await;
    let handle = runtime.handle();
    let mark = handle.mark();
    handle.source_stale("n2").after(mark).within(ms(9_000)).await.unwrap();
    assert_eq!(began.elapsed(), ms(3_000), "its last answer was asked at 0 s");
}
