//! How long a cycle collects, and what becomes of answers that come later.

use tokio::time::Instant;

use super::{Probes, SECOND, Says, cycle, emitted, start, values};
use crate::common::ms;

#[tokio::test(start_paused = true)]
async fn a_cycle_ends_with_the_last_probe_it_began_or_when_it_has_collected_long_enough() {
    // (what three sources do, how long cycles 0, 1 and 2 take)
    let after = |millis| Says::After(ms(millis), 1);
    let cases = [
        ([after(10), after(70), after(20)], [70, 70, 70]),
        ([Says::Value(1), Says::Value(1), Says::Value(1)], [0, 0, 0]),
        // What hangs is waited for by the cycle that began it, and by no other.
        ([after(10), after(70), Says::Hang], [300, 70, 70]),
        ([after(10), after(299), after(301)], [300, 300, 300]),
        // Begun by cycle 0, it ends in the midst of cycle 2, which has no reason to wait for it.
        ([after(10), after(70), after(2_040)], [300, 70, 70]),
        ([Says::Error("no"), Says::Panic("no"), after(30)], [30, 30, 30]),
    ];
    for (says, elapsed) in cases {
        let probes = Probes::new();
        for (name, says) in ["a", "b", "c"].into_iter().zip(says.clone()) {
            probes.set(name, says);
        }
        let start_at = Instant::now();
        let (runtime, _) = start(&["a", "b", "c"], probes.observer().collect_for(ms(300))).await;
        for (n, elapsed) in (0..).zip(elapsed) {
            let snapshot = cycle(&runtime, n).await;
            let expected = (start_at + n_seconds(n) + ms(elapsed), ms(elapsed));
            assert_eq!((snapshot.observed_at, snapshot.elapsed), expected, "cycle {n} with {says:?}");
        }
    }
}

fn n_seconds(n: u64) -> std::time::Duration {
    ms(1_000 * n)
}

#[tokio::test(start_paused = true)]
async fn half_the_interval_is_the_default() {
    let probes = Probes::new();
    probes.set("a", Says::Hang);
    let (runtime, _) = start(&["a"], probes.observer()).await;
    assert_eq!(cycle(&runtime, 0).await.elapsed, SECOND / 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_while_a_later_cycle_collects_is_in_its_snapshot() {
    let probes = Probes::new();
    probes.set("slow", Says::After(ms(1_100), 7)).set("b", Says::After(ms(200), 1));
    let (runtime, _) = start(&["slow", "b"], probes.observer()).await;
    assert_eq!(values(&cycle(&runtime, 0).await.value), "slow=- b=1");
    assert_eq!(values(&cycle(&runtime, 1).await.value), "slow=7 b=1");
}

//  |=================================== 7.3 s ==|
//  0    1    2    3    4    5    6    7     8: collected, and probed again
#[tokio::test(start_paused = true)]
async fn an_answer_after_many_cycles_is_collected_and_is_as_old_as_its_probe() {
    let probes = Probes::new();
    probes.set("slow", Says::After(ms(7_300), 7));
    let begin = Instant::now();
    let (runtime, _) = start(&["slow"], probes.observer().probe_timeout(60 * SECOND)).await;
    let mut subscription = runtime.handle().subscribe();

    for n in 0..=7 {
        let snapshot = cycle(&runtime, n).await;
        let slow = snapshot.value.get("slow").unwrap();
        assert!(slow.freshness(Instant::now()).never_succeeded(), "in cycle {n}");
        assert_eq!((slow.facts.in_flight_since, slow.facts.answers), (Some(begin), 0), "in cycle {n}");
    }
    let snapshot = cycle(&runtime, 8).await;
    let slow = snapshot.value.get("slow").unwrap();
    assert_eq!(emitted(&mut subscription), ["slow appeared: 7"]);
    assert_eq!(slow.facts.last_success, Some(begin));
    assert_eq!(slow.facts.last_elapsed, Some(ms(7_300)));
    assert_eq!(slow.facts.changed_at, Some(begin + ms(7_300)));
    assert_eq!(slow.facts.answers, 1);

    // Three intervals beside the 7.3 s that the answer took.
    let stale_at = begin + ms(10_300);
    let freshness = slow.freshness(snapshot.observed_at);
    assert_eq!(freshness.age(), Some(snapshot.observed_at - begin));
    assert!(slow.freshness(stale_at - ms(1)).is_fresh());
    assert!(slow.freshness(stale_at).is_stale());
}

//  collects for:  |==|    |==|    |==|
//  probes:        |=====| |=====| |=====|
//                 0       1       2 s
#[tokio::test(start_paused = true)]
async fn a_source_that_answers_between_two_cycles_is_probed_in_every_cycle() {
    let probes = Probes::new();
    probes.set("a", Says::After(ms(700), 1));
    let begin = Instant::now();
    let (runtime, _) = start(&["a"], probes.observer()).await;
    for n in 1..=3 {
        let snapshot = cycle(&runtime, n).await;
        let a = snapshot.value.get("a").unwrap();
        assert_eq!(a.facts.answers, n, "in cycle {n}");
        assert_eq!(a.facts.last_success, Some(begin + n_seconds(n - 1)), "in cycle {n}");
    }
    assert_eq!(probes.begun_since(begin), "a@0 a@1000 a@2000 a@3000");
}
