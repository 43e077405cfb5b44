//! Five thousand sources whose code is slow: the collecting time is kept, others run in between, and nobody
//! starves.

use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance};
use watchkeeper::runtime::StopOutcome;
use watchkeeper::source::source_fn;
use watchkeeper::{
    DynError, ObservationConfig, ObservationControl, ObservationRuntime, ObservedSource, PerSource,
    StaticSourceProvider,
};

use super::cycle;
use crate::common::ms;
use crate::common::threads::{Flavour, executor};

const SOURCES: usize = 5_000;
const INTERVAL: Duration = ms(250);
const COLLECTS: Duration = ms(125);

/// What one call of the app costs.
const COST: Duration = Duration::from_micros(100);

/// The most that is done between two readings of the clock.
const SLICE: Duration = ms(7);

/// The app's code "blocks": the clock moves on as soon as others may run.
#[derive(Debug)]
struct Slow {
    micros: AtomicU64,
    paid: Notify,
}

impl Slow {
    fn new() -> (Arc<Self>, JoinHandle<()>) {
        let slow = Arc::new(Self { micros: AtomicU64::new(0), paid: Notify::new() });
        let clock = tokio::spawn({
            let slow = Arc::clone(&slow);
            async move {
                loop {
                    slow.paid.notified().await;
                    advance(Duration::from_micros(slow.micros.swap(0, Relaxed))).await;
                }
            }
        });
        (slow, clock)
    }

    fn pay(&self) {
        self.micros.fetch_add(u64::try_from(COST.as_micros()).unwrap(), Relaxed);
        self.paid.notify_one();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Clone,
    Identity,
    Call,
    Compare,
}

#[derive(Debug)]
struct Thing(Where, Arc<Slow>);

impl Clone for Thing {
    fn clone(&self) -> Self {
        if self.0 == Where::Clone {
            self.1.pay();
        }
        Self(self.0, Arc::clone(&self.1))
    }
}

impl Hash for Thing {
    fn hash<H: Hasher>(&self, _: &mut H) {
        if self.0 == Where::Identity {
            self.1.pay();
        }
    }
}

impl PartialEq for Thing {
    fn eq(&self, _: &Self) -> bool {
        if self.0 == Where::Compare {
            self.1.pay();
        }
        true
    }
}

fn names() -> Vec<String> {
    (0..SOURCES).map(|n| format!("s{n}")).collect()
}

// Of 5,000 sources a cycle has time for some 1,250: each has its turn in every fifth cycle at least.
#[tokio::test(start_paused = true)]
async fn a_cycle_keeps_its_collecting_time_and_no_source_starves() {
    for slow_in in [Where::Clone, Where::Identity, Where::Call, Where::Compare] {
        let (slow, clock) = Slow::new();
        // A static provider would clone each source itself.
        let provider = source_fn({
            let slow = Arc::clone(&slow);
            move || {
                let thing = |name: &String| ObservedSource::new(name, Thing(slow_in, Arc::clone(&slow)));
                let things: Vec<_> = names().iter().map(thing).collect();
                async { Ok::<_, DynError>(things) }
            }
        });
        let observer = PerSource::new(move |source: ObservedSource<Thing>| {
            if slow_in == Where::Call {
                source.source.1.pay();
            }
            async move { Ok::<_, DynError>(source.source) }
        });
        let observer = observer.identity(|thing: &Thing| Thing(thing.0, Arc::clone(&thing.1)));
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let runtime = ObservationRuntime::start(provider, observer, config).await.unwrap();
        for n in 0..=20 {
            let snapshot = cycle(&runtime, n).await;
            assert!(snapshot.elapsed <= COLLECTS + SLICE, "{slow_in:?}, cycle {n}: {:?}", snapshot.elapsed);
            if n % 10 == 0 && n > 0 {
                let answers: Vec<u64> = snapshot.value.iter().map(|source| source.facts.answers).collect();
                let (least, most) = (*answers.iter().min().unwrap(), *answers.iter().max().unwrap());
                assert!(least >= n / 5 && most <= least + 2, "{slow_in:?}, cycle {n}: {least} to {most}");
            }
        }
        assert_eq!(runtime.handle().status().missed_ticks, 0, "{slow_in:?}");
        let _ = runtime.stop().await;
        clock.abort();
    }
}

// A control that comes while probes are begun is answered before many more are.
#[tokio::test(start_paused = true)]
async fn a_stop_and_a_pause_are_answered_while_probes_are_begun() {
    for pauses in [true, false] {
        let begun = Arc::new(AtomicUsize::new(0));
        let (asks, asked) = oneshot::channel::<ObservationControl>();
        let (asks, asked) = (Mutex::new(Some(asks)), Mutex::new(Some(asked)));
        let answered_at = Arc::new(AtomicUsize::new(0));
        let observer = PerSource::new({
            let (begun, answered_at) = (Arc::clone(&begun), Arc::clone(&answered_at));
            move |_: ObservedSource<u32>| {
                // In the first poll.
                if begun.fetch_add(1, Relaxed) == SOURCES + 1_000 {
                    let (begun, answered_at) = (Arc::clone(&begun), Arc::clone(&answered_at));
                    let asked = asked.lock().unwrap().take().unwrap();
                    tokio::spawn(async move {
                        let control: ObservationControl = asked.await.unwrap();
                        if pauses {
                            control.pause().await.unwrap();
                        } else {
                            assert_eq!(control.stop().await, StopOutcome::Stopped);
                        }
                        answered_at.store(begun.load(Relaxed), Relaxed);
                    });
                }
                async { Ok::<_, DynError>(1) }
            }
        });
        let observer = observer.concurrency(SOURCES);
        let names = names();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let provider = StaticSourceProvider::new(super::sources(&names));
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let runtime = ObservationRuntime::start(provider, observer, config).await.unwrap();
        let _ = asks.lock().unwrap().take().unwrap().send(runtime.control());
        tokio::time::sleep(2 * INTERVAL).await;
        let after = answered_at.load(Relaxed).checked_sub(SOURCES + 1_000).expect("it was answered");
        assert!(after <= 200, "pauses: {pauses}, {after} more probes were begun before the answer");
    }
}

// On the real clock: what takes longer than a slice is followed by a yield at once.
#[test]
fn one_call_that_blocks_is_one_call_for_which_a_stop_waits() {
    executor(Flavour::CurrentThread).block_on(async {
        let begun = Arc::new(AtomicUsize::new(0));
        let observer = PerSource::new({
            let begun = Arc::clone(&begun);
            move |_: ObservedSource<u32>| {
                begun.fetch_add(1, Relaxed);
                std::thread::sleep(ms(3));
                async { Ok::<_, DynError>(1) }
            }
        });
        let observer = observer.collect_for(Duration::from_secs(60));
        let names = names();
        let names: Vec<&str> = names.iter().map(String::as_str).take(1_000).collect();
        let provider = StaticSourceProvider::new(super::sources(&names));
        let config = ObservationConfig { interval: ms(20), ..ObservationConfig::default() };
        let runtime = ObservationRuntime::start_in_background(provider, observer, config).unwrap();
        while begun.load(Relaxed) < 10 {
            tokio::task::yield_now().await;
        }
        let asked_at = begun.load(Relaxed);
        assert_eq!(runtime.stop().await, StopOutcome::Stopped);
        assert!(begun.load(Relaxed) <= asked_at + 2, "{asked_at} and then {begun:?}");
    });
}

#[tokio::test(start_paused = true)]
async fn a_cycle_without_any_time_still_continues_with_the_next_sources() {
    let (slow, clock) = Slow::new();
    let observer = PerSource::new({
        let slow = Arc::clone(&slow);
        move |_: ObservedSource<u32>| {
            slow.pay();
            async { Ok::<_, DynError>(1) }
        }
    });
    let observer = observer.collect_for(Duration::from_nanos(1));
    let names = names();
    let names: Vec<&str> = names.iter().map(String::as_str).take(200).collect();
    let provider = StaticSourceProvider::new(super::sources(&names));
    let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
    let began = Instant::now();
    let runtime = ObservationRuntime::start(provider, observer, config).await.unwrap();
    let snapshot = cycle(&runtime, 20).await;
    assert!(snapshot.value.iter().all(|source| source.value.is_some()));
    assert!(began.elapsed() < INTERVAL * 21);
    clock.abort();
}
