//! A thousand sources, of which ten hang for ever: the others are not affected, and nothing piles up.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, PerSource, StaticSourceProvider};

use super::{Probes, SECOND, Says, cycle, sources};
use crate::common::{each_second, ms};

/// `count` sources; each answers in every cycle, but every hundredth hangs, and every two hundredth has
/// answered once before that.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("s{n:03}")).collect()
}

//  probes of the 990:  |.   |.   |.   |.   |.   |.
//  probes of the ten:  |==================|x    |====   (time-out after 4.7 s, seen by cycle 5)
//  collects for:       |==| |    |    |    |    |==|
//                      0    1    2    3    4    5 s
#[tokio::test(start_paused = true)]
async fn ten_of_a_thousand_hang_and_the_others_keep_the_interval_and_are_fresh_in_every_cycle() {
    let probes = Probes::new();
    let names = names(1000);
    for (n, name) in names.iter().enumerate() {
        probes.set(name, if n % 100 == 0 { Says::Hang } else { Says::Count });
    }
    for name in names.iter().step_by(200) {
        probes.set(name, Says::Value(1));
    }
    let start = Instant::now();
    let refreshed = Arc::new(Mutex::new(Vec::new()));
    let provider = source_fn({
        let (refreshed, names) = (Arc::clone(&refreshed), names.clone());
        move || {
            refreshed.lock().unwrap().push(Instant::now());
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let set = sources(&names);
            async move { Ok::<_, DynError>(set) }
        }
    });
    let observer = probes.observer().concurrency(1000).probe_timeout(ms(4_700));
    let runtime = ObservationRuntime::start(provider, observer, each_second()).await.unwrap();
    // Five hang from now on, and five have never done anything else.
    for name in names.iter().step_by(200) {
        probes.set(name, Says::Hang);
    }

    for n in 0..=30 {
        let snapshot = cycle(&runtime, n).await;
        let now = Instant::now();
        let fresh = snapshot.value.fresh(now).filter(|(_, value)| u64::from(***value) == n + 1).count();
        assert_eq!(fresh, if n == 0 { 995 } else { 990 }, "answers of cycle {n}");
        for (at, name) in names.iter().enumerate().step_by(100) {
            let freshness = snapshot.value.get(name).unwrap().freshness(now);
            let (hung, answered_once) = (n > 0, at % 200 == 0);
            assert_eq!(freshness.never_succeeded(), !answered_once, "{name} in cycle {n}");
            assert_eq!(freshness.is_stale(), hung && answered_once && n >= 3, "{name} in cycle {n}");
        }
    }
    let refreshed = refreshed.lock().unwrap().clone();
    let grid: Vec<Instant> = (0..=30).map(|n| start + SECOND * n).collect();
    assert_eq!(refreshed, grid, "every cycle began at its tick");
    assert_eq!(runtime.handle().status().missed_ticks, 0);
    assert!(runtime.handle().failures().is_empty());
    assert_eq!(probes.most_of_one(), 1);
}

/// Counts those that live.
#[derive(Debug)]
struct Tracked(u32, Arc<AtomicUsize>);

impl Tracked {
    fn new(value: u32, live: Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        Self(value, live)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.1.fetch_sub(1, Ordering::Relaxed);
    }
}

impl PartialEq for Tracked {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_thousand_cycles_no_more_is_kept_than_after_twenty() {
    let probes = Probes::new();
    let names = names(100);
    for (n, name) in names.iter().enumerate() {
        probes.set(name, if n % 10 == 0 { Says::Hang } else { Says::Count });
    }
    let live = Arc::new(AtomicUsize::new(0));
    let observer = PerSource::new({
        let (probes, live) = (probes.clone(), Arc::clone(&live));
        move |source| {
            let (answer, live) = (probes.probe(source), Arc::clone(&live));
            async move { answer.await.map(|value| Tracked::new(value, live)) }
        }
    });
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let config = ObservationConfig { history_limit: 4, ..each_second() };
    let provider = StaticSourceProvider::new(sources(&names));
    let runtime =
        ObservationRuntime::start(provider, observer.probe_timeout(ms(4_700)), config).await.unwrap();

    for n in 0..=1000 {
        let snapshot = cycle(&runtime, n).await;
        assert_eq!(snapshot.value.len(), 100);
        if n < 20 {
            continue;
        }
        // Of 90 sources the newest value, and the old one of each batch that is kept.
        assert_eq!(live.load(Ordering::Relaxed), 90 * (1 + 4), "in cycle {n}");
        let history = runtime.handle().history();
        let events: Vec<usize> = history.iter().map(|batch| batch.events.len()).collect();
        assert_eq!(events, [90; 4], "in cycle {n}: a hanging source emits its failure once");
        assert!(probes.in_flight() <= 10, "in cycle {n}");
    }
    assert_eq!(probes.most_of_one(), 1);
    assert_eq!(runtime.handle().status().missed_ticks, 0);
}
