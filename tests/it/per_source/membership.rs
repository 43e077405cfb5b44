//! Sources that join, leave, come back, or are replaced by another thing of the same name.

use tokio::time::Instant;

use super::{Probes, SECOND, Says, cycle, emitted, sources, start, values};
use crate::common::ms;

#[tokio::test(start_paused = true)]
async fn one_that_joins_appears_and_one_that_leaves_takes_its_value_along() {
    let probes = Probes::new();
    probes.set("a", Says::Value(1)).set("b", Says::Value(2)).set("never", Says::Error("no"));
    let (runtime, set) = start(&["a", "never"], probes.observer()).await;
    let mut subscription = runtime.handle().subscribe();
    cycle(&runtime, 1).await;
    assert_eq!(emitted(&mut subscription), ["a appeared: 1", "never failed: no"]);

    set.insert("b", 0);
    assert_eq!(values(&cycle(&runtime, 2).await.value), "a=1 never=- b=2");
    assert_eq!(emitted(&mut subscription), ["b appeared: 2"]);

    set.replace(sources(&["b"]));
    assert_eq!(values(&cycle(&runtime, 3).await.value), "b=2");
    assert_eq!(emitted(&mut subscription), ["a vanished: Some(1)", "never vanished: None"]);
}

//  a's probe:      |==========..   is aborted
//  a's probe:      |======|        has ended, and nobody has collected it yet
//  a:         in            |out          |in
//             0    1        |    2        |    3
#[tokio::test(start_paused = true)]
async fn one_that_leaves_while_its_probe_is_in_flight_is_not_heard_again_until_it_is_back() {
    for late in [Says::Hang, Says::After(ms(1_600), 7), Says::After(ms(700), 7)] {
        let probes = Probes::new();
        let (runtime, set) = start(&["a", "b"], probes.observer()).await;
        let mut subscription = runtime.handle().subscribe();
        probes.set("a", late.clone());
        cycle(&runtime, 1).await;
        let _ = emitted(&mut subscription);

        tokio::time::sleep(ms(300)).await;
        set.remove("a");
        assert_eq!(values(&cycle(&runtime, 2).await.value), "b=1", "{late:?}");
        assert_eq!(emitted(&mut subscription), ["a vanished: Some(1)"], "{late:?}");
        probes.are_gone().await;
        assert_eq!(
            Instant::now(),
            runtime.handle().latest_snapshot().unwrap().observed_at,
            "aborted at once"
        );

        probes.set("a", Says::Value(9));
        set.insert("a", 0);
        let back = cycle(&runtime, 3).await;
        assert_eq!(values(&back.value), "b=1 a=9", "{late:?}");
        assert_eq!(back.value.get("a").unwrap().facts.answers, 1, "it starts over");
        cycle(&runtime, 6).await;
        assert_eq!(emitted(&mut subscription), ["a appeared: 9"], "{late:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_while_it_fails_counts_failures_from_one_when_it_is_back() {
    let probes = Probes::new();
    probes.set("a", Says::Error("no"));
    let (runtime, set) = start(&["a"], probes.observer()).await;
    let mut subscription = runtime.handle().subscribe();
    cycle(&runtime, 2).await;
    set.remove("a");
    cycle(&runtime, 3).await;
    set.insert("a", 0);
    let back = cycle(&runtime, 4).await;
    assert_eq!(emitted(&mut subscription), ["a failed: no", "a vanished: None", "a failed: no"]);
    assert_eq!(back.value.get("a").unwrap().facts.consecutive_failures, 1);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_one_is_forgotten_with_its_value_and_its_probe() {
    for late in [Says::Hang, Says::After(ms(1_600), 7), Says::After(ms(700), 7)] {
        let probes = Probes::new();
        let observer = probes.observer().probe_timeout(60 * SECOND).identity(|version| *version);
        let (runtime, set) = start(&["a", "b"], observer).await;
        let mut subscription = runtime.handle().subscribe();
        probes.set("a", late.clone());
        cycle(&runtime, 1).await;
        let _ = emitted(&mut subscription);

        tokio::time::sleep(ms(300)).await;
        probes.set("a", Says::After(ms(100), 9));
        set.insert("a", 2);
        let snapshot = cycle(&runtime, 2).await;
        assert_eq!(values(&snapshot.value), "a=9 b=1", "{late:?}");
        assert_eq!(emitted(&mut subscription), ["a replaced: Some(1)", "a appeared: 9"], "{late:?}");
        let facts = snapshot.value.get("a").unwrap().facts;
        assert_eq!((facts.answers, facts.last_elapsed), (1, Some(ms(100))), "it starts over");
        assert_eq!(probes.in_flight(), 0, "{late:?}: the old probe was aborted");
    }
}

#[tokio::test(start_paused = true)]
async fn until_it_answers_a_replaced_one_has_no_value() {
    let probes = Probes::new();
    let (runtime, set) = start(&["a"], probes.observer().identity(|version| *version)).await;
    let mut subscription = runtime.handle().subscribe();
    cycle(&runtime, 1).await;

    probes.set("a", Says::Error("no"));
    set.insert("a", 1);
    let snapshot = cycle(&runtime, 2).await;
    let a = snapshot.value.get("a").unwrap();
    assert!(a.value.is_none() && a.freshness(Instant::now()).never_succeeded());
    // Once more, before it has ever answered.
    set.insert("a", 2);
    cycle(&runtime, 3).await;
    let expected =
        ["a appeared: 1", "a replaced: Some(1)", "a failed: no", "a replaced: None", "a failed: no"];
    assert_eq!(emitted(&mut subscription), expected);
}

#[tokio::test(start_paused = true)]
async fn without_an_identity_the_name_alone_identifies_it() {
    let probes = Probes::new();
    probes.set("a", Says::After(ms(1_200), 3));
    let (runtime, set) = start(&["a"], probes.observer()).await;
    let mut subscription = runtime.handle().subscribe();
    set.insert("a", 1);
    cycle(&runtime, 2).await;
    assert_eq!(emitted(&mut subscription), ["a appeared: 3"], "the probe in flight was kept");
}

/// An answer knows where its source was when it was asked.
#[tokio::test(start_paused = true)]
async fn an_answer_finds_its_source_where_the_set_has_moved_it() {
    // (the set before, and after the probe of "slow" has begun)
    let cases: [(&[&str], &[&str]); 4] = [
        (&["a", "slow"], &["slow"]),
        (&["slow", "a"], &["a", "slow"]),
        (&["slow"], &["a", "b", "slow"]),
        (&["a", "b", "slow"], &["slow", "b"]),
    ];
    for (before, after) in cases {
        let probes = Probes::new();
        for name in ["a", "b"] {
            probes.set(name, Says::Value(1));
        }
        probes.set("slow", Says::After(ms(1_700), 7));
        let (runtime, set) = start(before, probes.observer()).await;
        set.replace(sources(after));
        cycle(&runtime, 3).await;
        let snapshot = runtime.handle().latest_snapshot().unwrap();
        let shown = snapshot.value.get("slow").unwrap().value.map(|value| **value);
        assert_eq!(shown, Some(7), "{before:?} to {after:?}");
    }
}
