//! Reading and publishing, compared with the store of kube-rs' reflector, with the same objects, in one run.
//!
//! `cargo bench -p watchkeeper-deploy --features k8s --bench reflector` measures it and prints one table. `benches/README.md`
//! at the top of the repository explains each row.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures are rounded to three digits before anybody reads them"
)]

#[expect(dead_code, unused_imports, reason = "some of it is for the other figures")]
#[path = "../../../benches/measure/mod.rs"]
mod measure;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::runtime::reflector::store::{Store, Writer};
use kube::runtime::reflector::{ObjectRef, store};
use kube::runtime::watcher::Event;
use measure::{Row, Table, Unit, alternate, cpu_time, time_each};
use rpds::HashTrieMapSync;
use tokio::sync::{Notify, oneshot};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

const NAMESPACE: &str = "bench";
/// Longer than any measurement: nothing ticks.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// About how long one measurement of a read takes.
const READ: Duration = Duration::from_millis(20);

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!(
            "figures are taken from optimised code only: cargo bench -p watchkeeper-deploy --features k8s"
        );
        return;
    }
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let executor = executor.expect("the system gives one more executor");
    let mut table = Table::new("reflector store");
    for (count, name) in [(10_000, "10k"), (100_000, "100k")] {
        executor.block_on(reads(&mut table, count, name));
        for (changed, what) in [(1, "one changed"), (count / 100, "1 % changed")] {
            let what = format!("publish {name} objects, {what}");
            let publish = alternate(
                9,
                || store_publishes(count, changed),
                || executor.block_on(runtime_publishes(count, changed)),
            );
            table.add(Row::compare(what, Unit::Seconds, &publish, "reported", |_| true));
        }
    }
    table.print();
}

fn name(nth: usize) -> String {
    format!("object-{nth}")
}

fn object(nth: usize, version: usize) -> ConfigMap {
    let labels = ["app", "tier", "owner"].map(|label| (label.to_owned(), format!("{label}-{}", nth % 100)));
    let data = (0..5).map(|entry| (format!("key-{entry}"), format!("value {entry} of version {version}")));
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name(nth)),
            namespace: Some(NAMESPACE.to_owned()),
            resource_version: Some(version.to_string()),
            labels: Some(BTreeMap::from(labels)),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        ..ConfigMap::default()
    }
}

/// The deltas in turn, prepared so that only applying them is measured. The objects of one are spread over the set.
fn deltas(count: usize, changed: usize) -> Vec<Vec<ConfigMap>> {
    // A prime: its multiples visit every object.
    const STRIDE: usize = 7_919;
    let delta = |version: usize| {
        let nths = (0..changed).map(|nth| (version * changed + nth) * STRIDE % count);
        nths.map(|nth| object(nth, version)).collect()
    };
    (1..=5).map(delta).collect()
}

fn filled(count: usize) -> (Store<ConfigMap>, Writer<ConfigMap>) {
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&Event::Init);
    for nth in 0..count {
        writer.apply_watcher_event(&Event::InitApply(object(nth, 0)));
    }
    writer.apply_watcher_event(&Event::InitDone);
    (reader, writer)
}

/// The CPU seconds that a store takes for one delta.
fn store_publishes(count: usize, changed: usize) -> f64 {
    let (_reader, mut writer) = filled(count);
    let events: Vec<Vec<_>> = deltas(count, changed)
        .into_iter()
        .map(|delta| delta.into_iter().map(Event::Apply).collect())
        .collect();
    let mut turn = events.iter().cycle();
    let rounds = rounds(changed);
    let began = cpu_time();
    for event in turn.by_ref().take(rounds).flatten() {
        writer.apply_watcher_event(event);
    }
    cpu_time().saturating_sub(began).as_secs_f64() / rounds as f64
}

/// How often one measurement applies a delta.
const fn rounds(changed: usize) -> usize {
    if changed == 1 { 20_000 } else { 20_000 / changed + 10 }
}

type Objects = HashTrieMapSync<String, Arc<ConfigMap>>;

/// Applies one delta with each poll; two snapshots share what did not change.
struct Fed {
    count: usize,
    deltas: Vec<Vec<ConfigMap>>,
    polls: AtomicU64,
    rounds: u64,
    wake: Arc<Notify>,
    began: Mutex<Duration>,
    done: Mutex<Option<oneshot::Sender<f64>>>,
}

#[async_trait]
impl Observer for Fed {
    type Source = ();
    type State = Objects;
    type Snapshot = Objects;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Objects, DynError> {
        Ok((0..self.count).map(|nth| (name(nth), Arc::new(object(nth, 0)))).collect())
    }

    async fn poll(&self, _: &[ObservedSource<()>], objects: &mut Objects) -> Result<Vec<()>, DynError> {
        let poll = self.polls.fetch_add(1, Ordering::Relaxed);
        if poll == 0 {
            *self.began.lock().expect("nothing panics") = cpu_time();
        }
        if poll == self.rounds {
            let took = cpu_time().saturating_sub(*self.began.lock().expect("nothing panics"));
            let done = self.done.lock().expect("nothing panics").take();
            let _ = done.map(|done| done.send(took.as_secs_f64() / self.rounds as f64));
            std::future::pending::<()>().await;
        }
        self.wake.notify_one();
        // As much as the store does: a name and a copy for each.
        for object in &self.deltas[usize::try_from(poll).unwrap_or(0) % self.deltas.len()] {
            let name = object.metadata.name.clone().unwrap_or_default();
            objects.insert_mut(name, Arc::new(object.clone()));
        }
        Ok(Vec::new())
    }

    fn snapshot(&self, objects: &Objects) -> Objects {
        objects.clone()
    }
}

async fn start(
    count: usize,
    changed: usize,
) -> (ObservationRuntime<Fed>, oneshot::Receiver<f64>, Arc<Notify>) {
    let (done, took) = oneshot::channel();
    let wake = Arc::new(Notify::new());
    let config = ObservationConfig {
        interval: NEVER,
        wake: Some(Arc::clone(&wake)),
        min_gap: Duration::from_nanos(1),
        ..ObservationConfig::default()
    };
    let observer = Fed {
        count,
        deltas: deltas(count, changed),
        polls: AtomicU64::new(0),
        rounds: rounds(changed) as u64,
        wake: Arc::clone(&wake),
        began: Mutex::default(),
        done: Mutex::new(Some(done)),
    };
    let sources = StaticSourceProvider::new(vec![ObservedSource::new("cluster", ())]);
    let runtime = ObservationRuntime::start(sources, observer, config).await;
    (runtime.expect("its first cycle succeeds"), took, wake)
}

/// The CPU seconds that a cycle takes for one delta, all of the cycle included.
async fn runtime_publishes(count: usize, changed: usize) -> f64 {
    let (runtime, took, wake) = start(count, changed).await;
    wake.notify_one();
    let took = took.await.expect("the last poll says it");
    let _ = runtime.stop().await;
    took
}

async fn reads(table: &mut Table, count: usize, shown: &str) {
    let (store, _writer) = filled(count);
    let (runtime, _took, _wake) = start(count, 1).await;
    let handle = runtime.handle();
    let all =
        alternate(21, || time_each(READ, || store.state()), || time_each(READ, || handle.latest_snapshot()));
    let what = format!("take a consistent view of {shown} objects");
    table.add(Row::compare(what, Unit::Seconds, &all, "reported", |_| true));
    let versions = |objects: &mut dyn Iterator<Item = &Arc<ConfigMap>>| -> usize {
        objects.filter_map(|object| object.metadata.resource_version.as_ref()).map(String::len).sum()
    };
    let of_store = || versions(&mut store.state().iter());
    let of_runtime = || {
        let snapshot = handle.latest_snapshot().expect("its first cycle has succeeded");
        versions(&mut snapshot.value.values())
    };
    assert_eq!(of_store(), of_runtime(), "both know the same");
    let visit = alternate(21, || time_each(READ, of_store), || time_each(READ, of_runtime));
    let what = format!("take it and visit all of {shown} objects");
    table.add(Row::compare(what, Unit::Seconds, &visit, "reported", |_| true));
    let key = ObjectRef::<ConfigMap>::new(&name(count / 2)).within(NAMESPACE);
    let own_name = name(count / 2);
    let found = || {
        let snapshot = handle.latest_snapshot().expect("its first cycle has succeeded");
        snapshot.value.get(&own_name).map(Arc::clone)
    };
    assert!(store.get(black_box(&key)).is_some() && found().is_some(), "both know it");
    let one = alternate(21, || time_each(READ, || store.get(black_box(&key))), || time_each(READ, found));
    table
        .add(Row::compare(format!("read one of {shown} objects"), Unit::Seconds, &one, "reported", |_| true));
    let _ = runtime.stop().await;
}
