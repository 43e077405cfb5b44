//! `PerSource`, one behaviour a file; here is what they share: a scripted probe.

mod aborts;
mod answering;
mod collecting;
mod concurrency;
mod explained;
mod failures;
mod interrupted;
mod interval;
mod logs;
mod membership;
mod panics;
mod replay;
mod settings;
mod since;
mod slow_app;
mod snapshots;
mod waits;

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use watchkeeper::per_source::{PerSourceSnapshot, SourceEvent};
use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{DynError, ObservationRuntime, ObservationSnapshot, ObservedSource, Observer, PerSource};

use crate::common::{each_second, status_when};

const SECOND: Duration = Duration::from_secs(1);

/// What every probe of one source does, until a test changes it.
#[derive(Clone, Debug)]
enum Says {
    Value(u32),
    /// Answers how many probes of it there were.
    Count,
    /// Answers after a while.
    After(Duration, u32),
    Error(&'static str),
    Panic(&'static str),
    /// Panics before there is a future.
    PanicInTheCall(&'static str),
    Hang,
}

/// A scripted probe that counts; clones share the script.
///
/// A probe is in flight from the call until its future is dropped.
#[derive(Clone)]
struct Probes {
    script: Arc<Mutex<Script>>,
    in_flight: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
struct Script {
    says: HashMap<String, Says>,
    /// By name: how many probes there were, and how many are in flight.
    counts: HashMap<String, (u32, usize)>,
    begun: Vec<(Instant, String)>,
    in_flight: usize,
    most: usize,
    most_of_one: usize,
}

impl Script {
    fn begin(&mut self, name: &str) -> Says {
        self.begun.push((Instant::now(), name.to_owned()));
        let (count, of_one) = self.counts.entry(name.to_owned()).or_default();
        (*count, *of_one, self.in_flight) = (*count + 1, *of_one + 1, self.in_flight + 1);
        self.most = self.most.max(self.in_flight);
        self.most_of_one = self.most_of_one.max(*of_one);
        match self.says.get(name) {
            None => Says::Value(1),
            Some(Says::Count) => Says::Value(*count),
            Some(says) => says.clone(),
        }
    }
}

struct InFlight {
    probes: Probes,
    name: String,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut script = self.probes.script.lock().unwrap();
        script.in_flight -= 1;
        script.counts.get_mut(&self.name).unwrap().1 -= 1;
        self.probes.in_flight.send_replace(script.in_flight);
    }
}

impl Probes {
    /// Each source answers 1 until a test changes it.
    fn new() -> Self {
        Self { script: Arc::default(), in_flight: Arc::new(watch::Sender::new(0)) }
    }

    fn set(&self, name: &str, says: Says) -> &Self {
        self.script.lock().unwrap().says.insert(name.to_owned(), says);
        self
    }

    /// Every probe that began since the last call, as `name@milliseconds`.
    fn begun_since(&self, start: Instant) -> String {
        let begun = std::mem::take(&mut self.script.lock().unwrap().begun);
        let begun = begun.iter().map(|(at, name)| format!("{name}@{}", (*at - start).as_millis()));
        begun.collect::<Vec<_>>().join(" ")
    }

    fn in_flight(&self) -> usize {
        self.script.lock().unwrap().in_flight
    }

    /// The most that were ever in flight at once.
    fn most(&self) -> usize {
        self.script.lock().unwrap().most
    }

    /// The most that were ever in flight at once under one name.
    fn most_of_one(&self) -> usize {
        self.script.lock().unwrap().most_of_one
    }

    /// Waits until nothing is in flight.
    async fn are_gone(&self) {
        let mut in_flight = self.in_flight.subscribe();
        timeout(100 * SECOND, in_flight.wait_for(|count| *count == 0)).await.unwrap().unwrap();
    }

    /// The probe. The source itself makes no difference.
    fn probe<S>(&self, source: ObservedSource<S>) -> impl Future<Output = Result<u32, DynError>> + use<S> {
        let says = self.script.lock().unwrap().begin(&source.name);
        let guard = InFlight { probes: self.clone(), name: source.name };
        if let Says::PanicInTheCall(message) = says {
            panic!("{message}");
        }
        async move {
            let _guard = guard;
            match says {
                Says::Value(value) => Ok(value),
                Says::After(time, value) => {
                    tokio::time::sleep(time).await;
                    Ok(value)
                }
                Says::Error(message) => Err(message.into()),
                Says::Panic(message) => panic!("{message}"),
                Says::Hang => pending().await,
                Says::Count | Says::PanicInTheCall(_) => unreachable!("handled above"),
            }
        }
    }

    /// The observer, for a runtime that ticks each second.
    fn observer(&self) -> PerSource<u32, u32> {
        let probes = self.clone();
        PerSource::new(move |source| probes.probe(source))
    }
}

/// One that no runtime configures.
fn by_hand<O: Observer>(mut observer: O) -> O {
    observer.configured(&each_second());
    observer
}

fn sources(names: &[&str]) -> Vec<ObservedSource<u32>> {
    sources_of(0, names)
}

/// Other things of the same names, for an observer that distinguishes them.
fn sources_of(version: u32, names: &[&str]) -> Vec<ObservedSource<u32>> {
    names.iter().map(|name| ObservedSource::new(*name, version)).collect()
}

type Observed = ObservationRuntime<PerSource<u32, u32>>;

async fn start(names: &[&str], observer: PerSource<u32, u32>) -> (Observed, SharedSources<u32>) {
    let set = SharedSources::new(sources(names));
    let runtime = ObservationRuntime::start(set.clone(), observer, each_second()).await.unwrap();
    (runtime, set)
}

/// Waits for the snapshot of cycle `n`, and returns at the instant of its publication.
async fn cycle<O: Observer>(
    runtime: &ObservationRuntime<O>,
    n: u64,
) -> Arc<ObservationSnapshot<O::Snapshot>> {
    let reached = |snapshot: &Arc<ObservationSnapshot<_>>| snapshot.cycle >= n;
    let status = status_when(runtime, |status| status.snapshot.as_ref().is_some_and(reached)).await;
    let snapshot = status.snapshot.unwrap();
    assert_eq!(snapshot.cycle, n);
    snapshot
}

/// The events that were emitted since the last call, in words.
fn emitted(subscription: &mut Subscription<SourceEvent<u32>>) -> Vec<String> {
    let batches = std::iter::from_fn(|| subscription.try_recv()).map(Result::unwrap);
    batches.flat_map(|batch| batch.events.iter().map(in_words).collect::<Vec<_>>()).collect()
}

fn in_words(event: &SourceEvent<u32>) -> String {
    match event {
        SourceEvent::Appeared { source, value, .. } => format!("{source} appeared: {value}"),
        SourceEvent::Changed { source, old, new, .. } => format!("{source} changed: {old} to {new}"),
        SourceEvent::Failed { source, failure } => format!("{source} failed: {failure}"),
        SourceEvent::Recovered { source, failures, .. } => format!("{source} recovered: {failures}"),
        SourceEvent::Replaced { source, last, .. } => format!("{source} replaced: {last:?}"),
        SourceEvent::Vanished { source, last, .. } => format!("{source} vanished: {last:?}"),
        _ => unreachable!("{event:?}"),
    }
}

/// What is known of each source: its value, or `-`.
fn values(snapshot: &PerSourceSnapshot<u32>) -> String {
    let shown = snapshot.iter().map(|source| match source.value {
        Some(value) => format!("{}={value}", source.name),
        None => format!("{}=-", source.name),
    });
    shown.collect::<Vec<_>>().join(" ")
}
