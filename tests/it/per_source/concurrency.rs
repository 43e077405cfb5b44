//! Never more probes at once than allowed, and the source that waited longest goes first.

use tokio::time::Instant;

use super::{Probes, SECOND, Says, cycle, sources_of, start};
use crate::common::ms;
use crate::common::threads::{Flavour, executor};

#[tokio::test(start_paused = true)]
async fn never_more_probes_run_at_once_than_allowed() {
    // (sources, allowed, what they do, the most that were seen)
    let cases = [
        (20, 1, Says::Value(1), 1),
        (20, 7, Says::After(ms(30), 1), 7),
        (20, 7, Says::After(ms(1_700), 1), 7),
        (20, 7, Says::Hang, 7),
        (20, 7, Says::Error("no"), 7),
        (20, 7, Says::Panic("no"), 7),
        (5, 7, Says::Hang, 5),
    ];
    for (count, allowed, says, most) in cases {
        let probes = Probes::new();
        let names: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
        for name in &names {
            probes.set(name, says.clone());
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let observer = probes.observer().concurrency(allowed).probe_timeout(ms(2_300));
        let (runtime, _) = start(&names, observer).await;
        cycle(&runtime, 12).await;
        assert_eq!(probes.most(), most, "{count} sources that do {says:?}, {allowed} allowed");
        assert_eq!(probes.most_of_one(), 1, "{says:?}");
    }
}

// The probes of what was replaced are aborted in the same cycle that begins the new ones.
#[tokio::test(start_paused = true)]
async fn an_aborted_probe_counts_until_it_is_gone() {
    let probes = Probes::new();
    for name in ["a", "b", "c"] {
        probes.set(name, Says::Hang);
    }
    let observer = probes.observer().concurrency(3).identity(|version| *version);
    let (runtime, set) = start(&["a", "b", "c"], observer).await;
    for n in 1..=10 {
        set.replace(sources_of(n, &["a", "b", "c"]));
        cycle(&runtime, n.into()).await;
        assert_eq!(probes.in_flight(), 3, "in cycle {n}");
    }
    assert_eq!(probes.most(), 3);
}

//  0    .4   .8   1    1.4  1.8  2    2.4
//  |-a--|-c--|    |-e--|-a--|    |-c--|-e--
//  |-b--|-d--|    |-f--|-b--|    |-d--|-f--
#[tokio::test(start_paused = true)]
async fn the_source_that_waited_longest_goes_first() {
    let probes = Probes::new();
    let names = ["a", "b", "c", "d", "e", "f"];
    for name in names {
        probes.set(name, Says::After(ms(400), 1));
    }
    let begin = Instant::now();
    let (runtime, _) = start(&names, probes.observer().concurrency(2)).await;
    cycle(&runtime, 3).await;
    assert_eq!(
        probes.begun_since(begin),
        "a@0 b@0 c@400 d@400 e@1000 f@1000 a@1400 b@1400 c@2000 d@2000 e@2400 f@2400 a@3000 b@3000 c@3400 d@3400"
    );
}

//  0    1    2   2.7  3    4    5   5.7  6
//  |-h--------------x |-h--------------x |-h---
//  |-i--------------x |-i--------------x |-i---
//                     abc                abc
#[tokio::test(start_paused = true)]
async fn no_source_starves_once_hanging_probes_free_their_slots() {
    let probes = Probes::new();
    probes.set("h", Says::Hang).set("i", Says::Hang);
    let begin = Instant::now();
    let observer = probes.observer().concurrency(2).probe_timeout(ms(2_700));
    let (runtime, _) = start(&["h", "i", "a", "b", "c"], observer).await;
    for n in 0..=6 {
        let snapshot = cycle(&runtime, n).await;
        let answered = snapshot.value.iter().filter(|source| source.value.is_some()).count();
        assert_eq!(answered, if n < 3 { 0 } else { 3 }, "in cycle {n}");
        // Sources that wait for a slot get as much time as those that are waited for.
        assert_eq!(snapshot.elapsed, SECOND / 2, "in cycle {n}");
    }
    assert_eq!(
        probes.begun_since(begin),
        "h@0 i@0 a@3000 b@3000 c@3000 h@3000 i@3000 a@6000 b@6000 c@6000 h@6000 i@6000"
    );
}

// On real threads a probe may be in the midst of its work when it is aborted.
#[test]
fn on_real_threads_as_well() {
    let executor = executor(Flavour::MultiThread);
    let probes = Probes::new();
    let names: Vec<String> = (0..20).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        probes.set(name, if n % 2 == 0 { Says::Hang } else { Says::After(ms(1), 1) });
    }
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    executor.block_on(async {
        let observer = probes.observer().concurrency(4).collect_for(ms(2)).identity(|version| *version);
        let (runtime, set) = start(&names, observer).await;
        for n in 1..=100 {
            set.replace(sources_of(n, &names));
            runtime.poll_now_and_wait().await.unwrap();
        }
        let _ = runtime.stop().await;
        probes.are_gone().await;
    });
    assert_eq!(probes.most(), 4);
}
