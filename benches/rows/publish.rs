//! What a cycle costs whose observer has much to publish.

use std::collections::HashMap;
use std::sync::Arc;

use rpds::HashTrieMapSync;
use watchkeeper::{DynError, ObservedSource, Observer, async_trait};

use super::laps::{Laps, seconds_per_cycle};
use super::{Entry, Side, entries, only_source};
use crate::measure::{Medians, Row, Table, Unit, alternate};

pub(crate) fn measure(table: &mut Table) {
    let tenfold = |publish: Medians| publish.ratio >= 10.0;
    records(table, "10k records, 1 % changed", (10_000, 100), (9, 60), "10 times faster", tenfold);
    records(table, "100k records, 1 % changed", (100_000, 1_000), (5, 10), "10 times faster", tenfold);
    let fivefold = |publish: Medians| publish.ratio >= 5.0;
    records(table, "1M records, 1 % changed", (1_000_000, 10_000), (3, 2), "5 times faster", fivefold);
    let few_micros = |publish: Medians| publish.new < 10e-6;
    records(table, "100k records, one changed", (100_000, 1), (5, 10), "under 10 us", few_micros);
    flat(table);
}

/// What an app knows of one of its things.
#[derive(Clone)]
#[expect(dead_code, reason = "a record is carried, and nobody here looks inside")]
struct Record {
    name: String,
    address: String,
    owner: String,
    status: String,
    note: String,
    numbers: [u64; 5],
}

impl Record {
    fn new(key: u64, version: u64) -> Self {
        Self {
            name: format!("record-{key}"),
            address: format!("10.0.0.{}:{key}", key % 256),
            owner: format!("owner-{}", key % 1_000),
            status: format!("version {version}"),
            note: format!("the note of record {key} in version {version}"),
            numbers: [key, version, key ^ version, key + version, key.wrapping_mul(version)],
        }
    }
}

type Delta = Vec<(u64, Arc<Record>)>;

/// The deltas that are fed in turn, prepared so that only applying them is measured. The keys of one
/// are spread over the key space.
struct Feed(Vec<Delta>);

impl Feed {
    fn new(size: u64, changed: u64) -> Arc<Self> {
        // A large prime: its multiples visit every key.
        const STRIDE: u64 = 7_919;
        let delta = |version: u64| {
            let keys = (0..changed).map(|nth| (version * changed + nth) * STRIDE % size);
            keys.map(|key| (key, Arc::new(Record::new(key, version)))).collect()
        };
        Arc::new(Self((1..=5).map(delta).collect()))
    }

    fn delta(&self, poll: u64) -> &Delta {
        &self.0[poll as usize % self.0.len()]
    }
}

/// Keeps its records as the old loop's snapshot has them.
struct Deep {
    laps: Laps,
    feed: Arc<Feed>,
    size: u64,
}

#[async_trait]
impl Observer for Deep {
    type Source = ();
    type State = HashMap<u64, Record>;
    type Snapshot = HashMap<u64, Record>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Self::State, DynError> {
        Ok((0..self.size).map(|key| (key, Record::new(key, 0))).collect())
    }

    async fn poll(&self, _: &[ObservedSource<()>], records: &mut Self::State) -> Result<Vec<()>, DynError> {
        for (key, record) in self.feed.delta(self.laps.lap().await) {
            records.insert(*key, Record::clone(record));
        }
        Ok(Vec::new())
    }

    fn snapshot(&self, records: &Self::State) -> Self::Snapshot {
        records.clone()
    }
}

/// Keeps its records in a persistent map: two snapshots share what did not change.
struct Persistent {
    laps: Laps,
    feed: Arc<Feed>,
    size: u64,
}

#[async_trait]
impl Observer for Persistent {
    type Source = ();
    type State = HashTrieMapSync<u64, Arc<Record>>;
    type Snapshot = HashTrieMapSync<u64, Arc<Record>>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Self::State, DynError> {
        Ok((0..self.size).map(|key| (key, Arc::new(Record::new(key, 0)))).collect())
    }

    async fn poll(&self, _: &[ObservedSource<()>], records: &mut Self::State) -> Result<Vec<()>, DynError> {
        for (key, record) in self.feed.delta(self.laps.lap().await) {
            records.insert_mut(*key, Arc::clone(record));
        }
        Ok(Vec::new())
    }

    fn snapshot(&self, records: &Self::State) -> Self::Snapshot {
        records.clone()
    }
}

fn records(
    table: &mut Table,
    what: &str,
    (size, changed): (u64, u64),
    (times, cycles): (usize, u64),
    goal: &str,
    met: impl Fn(Medians) -> bool,
) {
    let feed = Feed::new(size, changed);
    // The cheaper a cycle, the more of them.
    let new_cycles = (1_000_000 / changed).clamp(20, 2_000);
    let publish = alternate(
        times,
        || {
            let observer = |laps| Deep { laps, feed: Arc::clone(&feed), size };
            seconds_per_cycle(Side::Old, only_source(), (1, cycles), observer)
        },
        || {
            let observer = |laps| Persistent { laps, feed: Arc::clone(&feed), size };
            seconds_per_cycle(Side::New, only_source(), (5, new_cycles), observer)
        },
    );
    table.add(Row::compare(format!("publish {what}"), Unit::Seconds, &publish, goal, met));
}

/// An app whose snapshot is its own flat `Vec`.
struct Flat {
    laps: Laps,
    size: usize,
}

#[async_trait]
impl Observer for Flat {
    type Source = ();
    type State = Vec<Entry>;
    type Snapshot = Vec<Entry>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Vec<Entry>, DynError> {
        Ok(entries(self.size))
    }

    async fn poll(&self, _: &[ObservedSource<()>], known: &mut Vec<Entry>) -> Result<Vec<()>, DynError> {
        let poll = self.laps.lap().await;
        let at = poll as usize % self.size;
        known[at] = [poll; 5];
        Ok(Vec::new())
    }

    fn snapshot(&self, known: &Vec<Entry>) -> Vec<Entry> {
        known.clone()
    }
}

fn flat(table: &mut Table) {
    let run = |side| seconds_per_cycle(side, only_source(), (2, 12), |laps| Flat { laps, size: 1_000_000 });
    let publish = alternate(9, || run(Side::Old), || run(Side::New));
    let what = "publish an app's own flat Vec, 1M entries";
    let met = |publish: Medians| publish.ratio >= 0.9;
    table.add(Row::compare(what, Unit::Seconds, &publish, "at least 0.9 times as fast", met));
}
