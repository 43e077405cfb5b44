//! Waits for one source by its name, and for the answers of several.

use std::pin::Pin;
use std::task::Poll;

use tokio::time::Instant;
use watchkeeper::wait::{Inconclusive, Unmet, UnmetOutcome, WaitBuilder};

use super::{Observed, Probes, Says, sources, start};
use crate::common::threads::poll_once;
use crate::common::{at, ms};

/// Two sources that answer 1, observed since `Instant`.
async fn two(probes: &Probes) -> (Observed, watchkeeper::source::SharedSources<u32>, Instant) {
    let began = Instant::now();
    let (runtime, set) = start(&["n1", "n2"], probes.observer()).await;
    (runtime, set, began)
}

/// Which cycle met it.
type Ended = Pin<Box<dyn Future<Output = Result<u64, Unmet>>>>;

/// Less than the five seconds after which a hanging probe has failed.
fn ended<T: 'static>(
    wait: WaitBuilder<'static, watchkeeper::PerSource<u32, u32>, T>,
    cycle: fn(&T) -> u64,
) -> Ended {
    Box::pin(async move { wait.within(ms(4_000)).await.map(|met| cycle(&met)) })
}

//   0 s      1 s       2 s       3 s
//   answer   refuses   refuses   answers        failing at 1 s
//   answer   hangs     hangs     hangs          stale at 3 s: its answer is 3 s old
//   answer   gone                               vanished at 1 s
#[tokio::test(start_paused = true)]
async fn each_wish_is_met_by_the_first_cycle_that_shows_it() {
    type Change = fn(&Probes, &watchkeeper::source::SharedSources<u32>);
    type Wish = fn(&Observed) -> Ended;
    let none: Change = |_, _| {};
    let refuses: Change = |probes, _| _ = probes.set("n2", Says::Error("refused"));
    let hangs: Change = |probes, _| _ = probes.set("n2", Says::Hang);
    let leaves: Change = |_, set| _ = set.remove("n2");
    let joins: Change = |_, set| _ = set.insert("n3", 0);
    let fresh: Wish = |runtime| ended(runtime.handle().source_fresh("n2"), |met| met.cycle);
    let stale: Wish = |runtime| ended(runtime.handle().source_stale("n2"), |met| met.cycle);
    let failing: Wish = |runtime| ended(runtime.handle().source_failing("n2"), |met| met.cycle);
    let vanished: Wish = |runtime| ended(runtime.handle().source_vanished("n2"), |met| met.cycle);
    let third: Wish = |runtime| ended(runtime.handle().source_fresh("n3"), |met| met.cycle);
    // (what changes at 0.5 s, what is waited for; the cycle that meets it and when)
    let cases = [
        ("it answers", none, fresh, Some((1, 1_000))),
        ("it answers and is not stale", none, stale, None),
        ("it answers and is not failing", none, failing, None),
        ("it answers and is in the set", none, vanished, None),
        ("it refuses, and its last answer is from before", refuses, fresh, None),
        ("it refuses", refuses, failing, Some((1, 1_000))),
        ("it refuses long enough", refuses, stale, Some((3, 3_000))),
        ("it hangs, and its last answer is from before", hangs, fresh, None),
        ("it hangs, which is no failure yet", hangs, failing, None),
        ("it hangs long enough", hangs, stale, Some((3, 3_000))),
        ("it has left", leaves, vanished, Some((1, 1_000))),
        ("it has left and is not fresh", leaves, fresh, None),
        ("it has left and is not stale", leaves, stale, None),
        ("another joins", joins, third, Some((1, 1_000))),
        ("another never joins", none, third, None),
    ];
    for (name, change, wish, expected) in cases {
        let probes = Probes::new();
        let (runtime, set, began) = two(&probes).await;
        at(began, 500).await;
        change(&probes, &set);
        let ended = wish(&runtime).await;
        let ended = ended.map(|cycle| (cycle, began.elapsed().as_millis())).map_err(|unmet| unmet.outcome());
        assert_eq!(ended, expected.ok_or(UnmetOutcome::NotMet), "{name}");
    }
}

/// Fresh again once it answers, stale no more.
#[tokio::test(start_paused = true)]
async fn a_source_that_comes_back() {
    let probes = Probes::new();
    let (runtime, _, began) = two(&probes).await;
    let handle = runtime.handle();
    probes.set("n2", Says::Error("refused"));
    handle.source_stale("n2").within(ms(10_000)).await.unwrap();
    assert_eq!(began.elapsed(), ms(3_000));
    at(began, 5_500).await;
    probes.set("n2", Says::Value(2));
    handle.source_fresh("n2").within(ms(10_000)).await.unwrap();
    assert_eq!(began.elapsed(), ms(6_000));
    let unmet = handle.source_failing("n2").within(ms(2_500)).await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (UnmetOutcome::NotMet, 2));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_had_left_before_the_wait() {
    let probes = Probes::new();
    let (runtime, set, began) = two(&probes).await;
    let handle = runtime.handle();
    let mark = handle.mark();
    set.remove("n2");
    at(began, 1_500).await;
    for wait in [handle.source_vanished("n2").or_now(), handle.source_vanished("n2").after(mark)] {
        let Poll::Ready(Ok(met)) = poll_once(wait.within(ms(1_000))) else { panic!("at once") };
        assert_eq!(met.cycle, 1);
    }
    let met = handle.source_vanished("n2").within(ms(1_000)).await.unwrap();
    assert_eq!((met.cycle, began.elapsed()), (2, ms(2_000)), "by default a cycle that begins after the wait");
    set.insert("n2", 0);
    at(began, 3_500).await;
    let unmet = handle.source_vanished("n2").or_now().within(ms(1_200)).await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::NotMet, "it is back");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_reported_with_the_known_ones() {
    let probes = Probes::new();
    let (runtime, set, _) = two(&probes).await;
    let handle = runtime.handle();
    let (vanished, fresh) = tokio::join!(
        handle.source_vanished("n9").within(ms(2_500)),
        handle.source_fresh("n9").within(ms(2_500))
    );
    for (unmet, wish) in [(vanished.unwrap_err(), "has vanished"), (fresh.unwrap_err(), "is fresh")] {
        let report = unmet.to_string();
        let expected = format!(
            "not met in time: \"source \\\"n9\\\" {wish}\" within 2.5s\n  \
             no source is called \"n9\"; the sources are n1, n2\n  judged 2;"
        );
        assert!(report.starts_with(&expected), "{report}");
    }
    set.replace(sources(&[]));
    let report = handle.source_fresh("n9").within(ms(2_500)).await.unwrap_err().to_string();
    assert!(report.contains("\n  no source is called \"n9\": there are none\n"), "{report}");
}

//   0.5 s      1 s             1.2 s         1.3 s
//   n3 joins   it is probed    made          it answers
#[tokio::test(start_paused = true)]
async fn a_source_that_is_probed_for_the_first_time_is_waited_for() {
    let probes = Probes::new();
    let (runtime, set, began) = two(&probes).await;
    let handle = runtime.handle();
    probes.set("n3", Says::After(ms(300), 3));
    set.insert("n3", 0);
    at(began, 1_200).await;
    assert_eq!(handle.status().source_names.len(), 3, "it has joined, and the snapshot does not know it");
    let met = handle.source_fresh("n3").or_now().within(ms(5_000)).await.unwrap();
    assert_eq!((met.cycle, began.elapsed()), (1, ms(1_300)));
}

/// Nothing was judged: what there is is shown as a predicate would have seen it.
#[tokio::test(start_paused = true)]
async fn a_report_shows_no_answer_of_before_the_wait() {
    let probes = Probes::new();
    let (runtime, _, began) = two(&probes).await;
    at(began, 500).await;
    let handle = runtime.handle();
    let shown = |snapshot: &watchkeeper::per_source::PerSourceSnapshot<u32>| super::values(snapshot);
    let (wait, all) = tokio::join!(
        handle.all_sources("all", |_| true).show(shown).within(ms(200)),
        handle.all_sources("all", |_| false).or_now().show(shown).within(ms(200)),
    );
    let (wait, all) = (wait.unwrap_err().to_string(), all.unwrap_err().to_string());
    assert!(wait.contains("the last snapshot, of cycle 0:\n    n1=- n2=-\n"), "{wait}");
    assert!(all.contains("the last snapshot, of cycle 0:\n    n1=1 n2=1\n"), "{all}");
}

/// The snapshot knows of no source that there is.
#[tokio::test(start_paused = true)]
async fn a_source_that_replaces_all_others_is_waited_for() {
    let probes = Probes::new();
    let (runtime, set, began) = two(&probes).await;
    let handle = runtime.handle();
    at(began, 1_500).await;
    probes.set("n3", Says::After(ms(300), 3));
    set.replace(sources(&["n3"]));
    at(began, 2_200).await;
    let met = handle.source_fresh("n3").or_now().within(ms(5_000)).await.unwrap();
    assert_eq!((met.cycle, began.elapsed()), (2, ms(2_300)));
}

/// The loop runs and its data is fresh: what is stale are sources.
#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_not_taken_at_its_last_word() {
    let probes = Probes::new();
    let (runtime, _, began) = two(&probes).await;
    let handle = runtime.handle();
    let one = |value: &u32| *value == 1;
    handle.all_sources("all say 1", one).within(ms(1_500)).await.unwrap();
    assert_eq!(began.elapsed(), ms(1_000));
    probes.set("n2", Says::Hang);
    at(began, 4_500).await;
    let (all, two, any, some) = tokio::join!(
        handle.all_sources("all say 1", one).within(ms(4_000)),
        handle.at_least_sources(2, "two say 1", one).within(ms(4_000)),
        handle.any_source("one says 1", one).within(ms(4_000)),
        handle.at_least_sources(1, "one says 1", one).within(ms(4_000)),
    );
    assert_eq!(all.unwrap_err().outcome(), UnmetOutcome::NotMet);
    assert_eq!(two.unwrap_err().outcome(), UnmetOutcome::NotMet);
    assert_eq!((any.unwrap().cycle, some.unwrap().cycle), (5, 5));
    assert!(handle.freshness().is_fresh());
    probes.set("n2", Says::Value(1));
    handle.all_sources("all say 1", one).within(ms(4_000)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_many_sources_are_enough() {
    // (what n1, n2 and n3 say; whether all, any and at least two say 1)
    let refuses = || Says::Error("refused");
    let cases = [
        ([Says::Value(1), Says::Value(1), Says::Value(1)], [true, true, true]),
        ([Says::Value(1), Says::Value(1), Says::Value(2)], [false, true, true]),
        ([Says::Value(1), Says::Value(1), refuses()], [false, true, true]),
        ([Says::Value(1), refuses(), Says::Value(2)], [false, true, false]),
        ([refuses(), Says::Value(3), Says::Value(2)], [false, false, false]),
        ([refuses(), refuses(), refuses()], [false, false, false]),
    ];
    for (says, expected) in cases {
        let probes = Probes::new();
        let name = format!("{says:?}");
        for (source, says) in ["n1", "n2", "n3"].into_iter().zip(says) {
            probes.set(source, says);
        }
        let (runtime, _) = start(&["n1", "n2", "n3"], probes.observer()).await;
        let handle = runtime.handle();
        let one = |value: &u32| *value == 1;
        let (all, any, two) = tokio::join!(
            handle.all_sources("all", one).or_now().within(ms(2_500)),
            handle.any_source("any", one).or_now().within(ms(2_500)),
            handle.at_least_sources(2, "two", one).or_now().within(ms(2_500)),
        );
        assert_eq!([all.is_ok(), any.is_ok(), two.is_ok()], expected, "{name}");
    }
}

/// There must be a source: over an empty set every condition on all would hold.
#[tokio::test(start_paused = true)]
async fn an_empty_set_meets_no_wait_for_all() {
    let probes = Probes::new();
    let (runtime, set) = start(&[], probes.observer()).await;
    let handle = runtime.handle();
    let unmet = handle.all_sources("all", |_| true).or_now().within(ms(2_500)).await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (UnmetOutcome::NotMet, 3));
    set.insert("n1", 0);
    assert_eq!(handle.all_sources("all", |_| true).within(ms(2_500)).await.unwrap().value.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_runtime_ends_waits_for_sources() {
    let probes = Probes::new();
    let (runtime, _, _) = two(&probes).await;
    let wait = runtime.handle().source_stale("n1").within(ms(60_000));
    let _ = runtime.stop().await;
    let outcome = wait.await.unwrap_err().outcome();
    assert!(matches!(outcome, UnmetOutcome::Inconclusive(Inconclusive::Stopped { .. })), "{outcome}");
}
