//! What a snapshot shows, and what two snapshots share.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::{Probes, SECOND, Says, cycle, emitted, sources, start, values};
use crate::common::ms;

#[tokio::test(start_paused = true)]
async fn the_first_answers_are_in_cycle_0_and_their_events_in_the_first_poll() {
    let probes = Probes::new();
    probes.set("b", Says::Error("no"));
    let (runtime, _) = start(&["a", "b"], probes.observer()).await;
    let first = cycle(&runtime, 0).await;
    assert_eq!(values(&first.value), "a=1 b=-");
    assert!(runtime.handle().history().is_empty());

    let mut after_the_first = runtime.handle().subscribe_from(first.cursor).unwrap();
    cycle(&runtime, 1).await;
    assert_eq!(emitted(&mut after_the_first), ["a appeared: 1", "b failed: no"]);
    cycle(&runtime, 2).await;
    assert!(emitted(&mut after_the_first).is_empty(), "once");
}

#[tokio::test(start_paused = true)]
async fn two_snapshots_share_every_value_that_did_not_change() {
    let probes = Probes::new();
    probes.set("changes", Says::Count);
    let (runtime, set) = start(&["a", "changes", "b"], probes.observer()).await;
    let one = cycle(&runtime, 0).await;
    let two = cycle(&runtime, 1).await;
    // Another set, in another order.
    set.replace(sources(&["b", "new", "a", "changes"]));
    let three = cycle(&runtime, 2).await;
    for (n, later) in [(1, &two), (2, &three)] {
        for (name, shared) in [("a", true), ("b", true), ("changes", false)] {
            let [before, after] = [&one, later].map(|snapshot| snapshot.value.get(name).unwrap());
            let same = Arc::ptr_eq(before.value.unwrap(), after.value.unwrap());
            assert_eq!(same, shared, "{name} in cycle {n}");
            assert!(Arc::ptr_eq(before.name, after.name), "the name of {name} in cycle {n}");
        }
    }
    let copy = three.value.clone();
    assert!(Arc::ptr_eq(
        copy.get("new").unwrap().value.unwrap(),
        three.value.get("new").unwrap().value.unwrap()
    ));
    assert_eq!(values(&one.value), "a=1 changes=1 b=1", "an old snapshot stays as it was");
}

#[tokio::test(start_paused = true)]
async fn an_event_carries_the_value_that_the_snapshots_hold() {
    let probes = Probes::new();
    probes.set("a", Says::Count);
    let (runtime, _) = start(&["a"], probes.observer()).await;
    let mut snapshots = Vec::new();
    for n in 0..=2 {
        snapshots.push(cycle(&runtime, n).await);
    }
    let in_snapshot = |n: usize| Arc::clone(snapshots[n].value.get("a").unwrap().value.unwrap());
    let history = runtime.handle().history();
    let Some(watchkeeper::per_source::SourceEvent::Changed { old, new, .. }) = history[1].events.last()
    else {
        panic!("{history:?}");
    };
    assert!(Arc::ptr_eq(old, &in_snapshot(1)) && Arc::ptr_eq(new, &in_snapshot(2)));
}

#[tokio::test(start_paused = true)]
async fn sources_are_found_by_name_and_listed_in_the_providers_order() {
    let probes = Probes::new();
    probes.set("silent", Says::Error("no"));
    let (runtime, set) = start(&["z", "silent", "a"], probes.observer()).await;
    let snapshot = cycle(&runtime, 0).await;
    let value = &snapshot.value;
    assert_eq!((value.len(), value.iter().len(), value.is_empty()), (3, 3, false));
    assert_eq!(values(value), "z=1 silent=- a=1");
    let fresh: Vec<&str> = value.fresh(Instant::now()).map(|(name, _)| &**name).collect();
    assert_eq!(fresh, ["z", "a"]);
    assert_eq!(&**value.get("a").unwrap().name, "a");
    assert!(value.get("nobody").is_none());
    let shown = "{z: 1, silent: no value (silent has never answered; 1 consecutive failure, last 0.0 s ago: no), a: 1}";
    assert_eq!(format!("{value:?}"), shown);

    set.replace(sources(&["a", "z"]));
    assert_eq!(values(&cycle(&runtime, 1).await.value), "a=1 z=1");
    set.replace(Vec::new());
    let none = cycle(&runtime, 2).await;
    assert!(none.value.is_empty() && none.value.get("a").is_none());
    assert_eq!((none.value.fresh(Instant::now()).count(), none.elapsed), (0, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn a_source_is_fresh_or_stale_or_was_never_seen() {
    let probes = Probes::new();
    probes.set("slow", Says::After(ms(400), 1)).set("silent", Says::Hang);
    let began = Instant::now();
    let observer = probes.observer().stale_after(2 * SECOND);
    let (runtime, _) = start(&["quick", "slow", "silent"], observer).await;
    let snapshot = cycle(&runtime, 0).await;
    // (source, age in ms, [fresh, stale, never])
    let cases = [
        ("quick", 0, [true, false, false]),
        ("quick", 1_999, [true, false, false]),
        ("quick", 2_000, [false, true, false]),
        // The time its answer took comes on top.
        ("slow", 2_399, [true, false, false]),
        ("slow", 2_400, [false, true, false]),
        ("silent", 0, [false, false, true]),
        ("silent", 100_000, [false, false, true]),
    ];
    for (name, age, expected) in cases {
        let source = snapshot.value.get(name).unwrap();
        let now = began + ms(age);
        let freshness = source.freshness(now);
        let shown = [freshness.is_fresh(), freshness.is_stale(), freshness.never_succeeded()];
        assert_eq!(shown, expected, "{name} after {age} ms");
        assert_eq!(source.fresh_value(now).is_some(), expected[0], "{name} after {age} ms");
        assert_eq!(freshness.age(), (!expected[2]).then_some(ms(age)), "{name}");
    }
    assert!(runtime.handle().freshness().is_fresh(), "a fresh runtime means that the loop ran");
}

// The larger of 2 s and three intervals.
#[tokio::test(start_paused = true)]
async fn by_default_a_source_is_stale_after_three_intervals_but_not_before_two_seconds() {
    for (interval, stale_after) in [(ms(100), 2 * SECOND), (SECOND, 3 * SECOND), (10 * SECOND, 30 * SECOND)] {
        let probe = |_: watchkeeper::ObservedSource<u32>| async { Ok::<_, watchkeeper::DynError>(1) };
        let runtime = watchkeeper::observe(interval, [("a", 0)], probe).await.unwrap();
        let freshness = cycle(&runtime, 0).await.value.get("a").unwrap().freshness(Instant::now());
        assert_eq!(freshness.stale_after(), stale_after);
    }
}
