//! For any history of the sources, the events fold to the values of the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tokio::time::{Instant, sleep_until, timeout};
use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::runtime::StateKind;
use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, Observer};

use super::{Probes, Says};
use crate::common::{each_second, ms, status_when};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// One source in one cycle: which thing has the name, and what a probe of it does. The two
/// things have different answers: one below ten, the other above.
type InTheSet = (u32, Says);

/// What is there in one cycle; `None` for a source that is not in the set.
type Step = [Option<InTheSet>; 4];

fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        6 => (0..3_u32).prop_map(Says::Value),
        2 => Just(Says::Error("no")),
        1 => Just(Says::Panic("a bug")),
        1 => Just(Says::PanicInTheCall("another bug")),
        1 => Just(Says::Hang),
        // From within the cycle that begins it up to four cycles later.
        4 => (1..40_u64, 0..3_u32).prop_map(|(tenths, value)| Says::After(ms(100 * tenths + 50), value)),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let source = prop_oneof![1 => Just(None), 4 => ((0..2_u32), says()).prop_map(Some)];
    prop::collection::vec([source.clone(), source.clone(), source.clone(), source], 1..12)
}

/// What the events add up to, and that each fits those before it.
#[derive(Default)]
struct Replay {
    values: BTreeMap<String, u32>,
    failing: BTreeSet<String>,
}

impl Replay {
    fn take(&mut self, event: &SourceEvent<u32>) {
        let name = event.source().to_string();
        match event {
            SourceEvent::Appeared { value, .. } => {
                assert_eq!(self.values.insert(name, **value), None, "{event:?}");
            }
            SourceEvent::Changed { old, new, .. } => {
                assert_ne!(old, new);
                assert_eq!(self.values.insert(name, **new), Some(**old), "{event:?}");
            }
            SourceEvent::Failed { .. } => {
                assert!(self.failing.insert(name), "{event:?}");
            }
            SourceEvent::Recovered { failures, .. } => {
                assert!(self.failing.remove(&name), "{event:?}");
                assert!(*failures > 0);
            }
            SourceEvent::Replaced { last, .. } | SourceEvent::Vanished { last, .. } => {
                self.failing.remove(&name);
                assert_eq!(self.values.remove(&name), last.as_deref().copied(), "{event:?}");
            }
            _ => unreachable!("{event:?}"),
        }
    }

    fn agrees_with(&self, snapshot: &PerSourceSnapshot<u32>, versions: &BTreeMap<String, u32>, n: u64) {
        let shown = snapshot.iter().filter_map(|source| {
            let failing = self.failing.contains(&**source.name);
            assert_eq!(source.is_failing(), failing, "{} in cycle {n}", source.name);
            source.value.map(|value| (source.name.to_string(), **value))
        });
        let shown: BTreeMap<String, u32> = shown.collect();
        for (name, value) in &shown {
            assert_eq!(value / 10, versions[name], "{name} in cycle {n} shows another's answer");
        }
        assert_eq!(shown, self.values, "in cycle {n}");
    }

    fn take_all(&mut self, subscription: &mut Subscription<SourceEvent<u32>>) {
        while let Some(batch) = subscription.try_recv() {
            batch.unwrap().events.iter().for_each(|event| self.take(event));
        }
    }
}

fn arrange(step: &Step, probes: &Probes) -> Vec<ObservedSource<u32>> {
    let mut set = Vec::new();
    for (name, source) in NAMES.iter().zip(step) {
        if let Some((version, says)) = source {
            let says = match says {
                Says::Value(value) => Says::Value(value + 10 * version),
                Says::After(time, value) => Says::After(*time, value + 10 * version),
                says => says.clone(),
            };
            probes.set(name, says);
            set.push(ObservedSource::new(*name, *version));
        }
    }
    set
}

async fn check(steps: &[Step], concurrency: usize, poll_timeout: u64) {
    let probes = Probes::new();
    let set = SharedSources::new(arrange(&steps[0], &probes));
    let config = ObservationConfig { poll_timeout: ms(poll_timeout), ..each_second() };
    let observer = probes.observer().concurrency(concurrency).probe_timeout(ms(3_320));
    let observer = observer.identity(|version| *version);
    let runtime = ObservationRuntime::start(set.clone(), observer, config).await.unwrap();
    let mut subscription = runtime.handle().subscribe();
    let mut replay = Replay::default();
    // Two more cycles: the events that are left come with the first one that succeeds.
    for n in 1..steps.len() + 2 {
        let mut next = arrange(steps.get(n).unwrap_or(&steps[steps.len() - 1]), &probes);
        let by = n % next.len().max(1);
        next.rotate_left(by); // their order plays no part
        let versions: BTreeMap<String, u32> =
            next.iter().map(|source| (source.name.clone(), source.source)).collect();
        set.replace(next);
        let n = n as u64;
        let ended = |kind| matches!(kind, StateKind::Idle | StateKind::Failed);
        let status = status_when(&runtime, |status| status.cycle == n && ended(status.state.kind())).await;
        replay.take_all(&mut subscription);
        let snapshot = status.snapshot.unwrap();
        assert_eq!(snapshot.generation, 1);
        if snapshot.cycle < n {
            continue; // it was interrupted
        }
        replay.agrees_with(&snapshot.value, &versions, n);
    }
    assert!(probes.most() <= concurrency, "{} probes at once", probes.most());
}

/// Polls that an observer around `PerSource` gives up after some milliseconds, or sees to their end.
async fn check_given_up(steps: &[(Step, Option<u64>)], concurrency: usize) {
    let probes = Probes::new();
    let observer = probes.observer().concurrency(concurrency).probe_timeout(ms(3_320));
    let observer = super::by_hand(observer.identity(|version| *version));
    let began = Instant::now();
    let mut state = observer.init(&arrange(&steps[0].0, &probes)).await.unwrap();
    let mut replay = Replay::default();
    for (n, (step, given_up)) in (1..).zip(steps.iter().chain([&(steps[steps.len() - 1].0.clone(), None)])) {
        sleep_until(began + ms(1_000 * n)).await;
        let set = arrange(step, &probes);
        let versions = set.iter().map(|source| (source.name.clone(), source.source)).collect();
        let limit = ms(given_up.unwrap_or(10_000));
        let Ok(events) = timeout(limit, observer.poll(&set, &mut state)).await else { continue };
        events.unwrap().iter().for_each(|event| replay.take(event));
        replay.agrees_with(&observer.snapshot(&state), &versions, n);
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_events_fold_to_the_values_of_the_snapshot(
        steps in steps(),
        concurrency in 1..6_usize,
        // Below 500 ms a poll may be cut off while it collects.
        poll_timeout in prop_oneof![Just(220_u64), Just(10_000)],
    ) {
        paused().block_on(check(&steps, concurrency, poll_timeout));
    }

    #[test]
    fn they_do_whenever_polls_are_given_up(
        steps in steps(),
        // The longest first: one that collects for less than the others had is not given up.
        mut limits in prop::collection::vec(prop::option::weighted(0.8, 0..600_u64), 12),
        concurrency in 1..6_usize,
    ) {
        limits.sort_by_key(|limit| std::cmp::Reverse(limit.unwrap_or(300)));
        let steps: Vec<_> = steps.into_iter().zip(limits).collect();
        paused().block_on(check_given_up(&steps, concurrency));
    }
}
