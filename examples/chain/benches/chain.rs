//! What the graph costs at a million headers, beside the plain way: a map of headers, walked by parents.
//!
//! `cargo bench -p watchkeeper-chain --bench chain` prints one table; every 20th block has a rival.

#![expect(clippy::cast_precision_loss, reason = "figures are rounded before anybody reads them")]
#![allow(clippy::unwrap_used, reason = "a bench")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider, async_trait};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{
    Block, ChainConfig, ChainObserver, ChainSource, Graph, Hash, Header, Height, OnBranch, Start, Transaction,
};

const HEADERS: u64 = 1_000_000;
const RIVAL_EVERY: u64 = 20;

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("figures are taken from optimised code only: cargo bench -p watchkeeper-chain");
        return;
    }
    println!("| what | plain | graph | goal |\n|---|---|---|---|");
    let before = resident_bytes();
    let began = Instant::now();
    let graph = ingest_graph();
    let graph_rate = HEADERS as f64 / began.elapsed().as_secs_f64();
    let graph_bytes = resident_bytes().saturating_sub(before);
    let before = resident_bytes();
    let began = Instant::now();
    let plain: Plain = headers().map(|header| (header.hash, header)).collect();
    let plain_rate = HEADERS as f64 / began.elapsed().as_secs_f64();
    let plain_bytes = resident_bytes().saturating_sub(before);
    row("ingest", &per_second(plain_rate), &per_second(graph_rate), "200 k/s");
    let each = |bytes: u64| format!("{} B", bytes / HEADERS);
    row("memory a header", &each(plain_bytes), &each(graph_bytes), "under 200 B");
    let all = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    row("memory in all", &all(plain_bytes), &all(graph_bytes), "under 250 MB");
    questions(&graph, &plain);
    snapshots(graph, plain);
    catch_up();
}

type Plain = HashMap<Hash, Header>;

fn questions(graph: &Graph, plain: &Plain) {
    let (tip, rival) = (hash(HEADERS - 1), hash(HEADERS - RIVAL_EVERY));
    let top = plain[&tip].height;
    let mut random = fastrand::Rng::with_seed(7);
    let mut height = || random.u64(0..=top);

    let walked = time_each(|| walk(plain, tip, height()).hash);
    let found = time_each(|| graph.ancestor_at(&tip, height()).unwrap().hash);
    row("ancestor at any height", &time(walked), &time(found), "under 2 us");

    let mut random = fastrand::Rng::with_seed(8);
    let mut block = || hash(random.u64(0..HEADERS));
    let walked = time_each(|| {
        let block = plain[&block()];
        walk(plain, tip, block.height).hash == block.hash
    });
    let found = time_each(|| graph.is_on_branch(&block(), &tip) == OnBranch::Yes);
    row("is any block on the branch", &time(walked), &time(found), "under 2 us");

    let mut random = fastrand::Rng::with_seed(9);
    let mut near = || hash(HEADERS - 1 - random.u64(0..1_000));
    let walked = time_each(|| {
        let block = plain[&near()];
        walk(plain, tip, block.height).hash == block.hash
    });
    let found = time_each(|| graph.is_on_branch(&near(), &tip) == OnBranch::Yes);
    row("is one of the last 1,000 on it", &time(walked), &time(found), "under 2 us");

    let walked = time_each(|| meet(plain, rival, tip).hash);
    let found = time_each(|| graph.common_ancestor(&rival, &tip).unwrap().hash);
    row("common ancestor of two tips near each other", &time(walked), &time(found), "under 2 us");

    let mut random = fastrand::Rng::with_seed(10);
    let mut old = || hash(random.u64(0..HEADERS / RIVAL_EVERY) * RIVAL_EVERY);
    let walked = time_each(|| meet(plain, old(), tip).hash);
    let found = time_each(|| graph.common_ancestor(&old(), &tip).unwrap().hash);
    row("common ancestor with any old rival", &time(walked), &time(found), "under 2 us");
}

/// A cycle that publishes a snapshot and takes one more header.
fn snapshots(mut graph: Graph, mut plain: Plain) {
    let mut next = plain[&hash(HEADERS - 1)];
    let mut grow = |nth: u64| {
        next = Header { hash: hash(HEADERS + nth), parent: next.hash, height: next.height + 1, ..next };
        next
    };
    let (mut kept, mut nth) = (plain.clone(), 0);
    let copied = time_each(|| {
        nth += 1;
        let header = grow(nth);
        plain.insert(header.hash, header);
        kept.clone_from(&plain);
        kept.len()
    });
    let mut next = graph.get(&hash(HEADERS - 1)).unwrap();
    let (mut kept, mut nth) = (graph.clone(), 0);
    let shared = time_each(|| {
        nth += 1;
        next = Header { hash: hash(HEADERS + nth), parent: next.hash, height: next.height + 1, ..next };
        graph.insert(next).unwrap();
        kept = graph.clone();
        kept.len()
    });
    row("one header more, and a snapshot", &time(copied), &time(shared), "");
}

fn ingest_graph() -> Graph {
    let mut headers = headers();
    let mut graph = Graph::new(headers.next().unwrap());
    for header in headers {
        graph.insert(header).unwrap();
    }
    graph
}

/// From genesis through the whole observer, over a node whose answers cost nothing.
fn catch_up() {
    const BLOCKS: usize = 50_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let branch: Vec<Header> = headers()
            .filter(|header| header.time % RIVAL_EVERY != 0 || header.time == 0)
            .take(BLOCKS)
            .collect();
        let goal = branch[BLOCKS - 1].height;
        let by_hash = branch.iter().map(|header| (header.hash, *header)).collect();
        let node = Swift(Arc::new((branch, by_hash)));
        let interval = Duration::from_millis(20);
        let config = ChainConfig {
            start: Start::Genesis,
            collect_for: Duration::from_secs(1),
            block_window: 1024,
            backfill: 2048,
            requests_per_node: 64,
            ..ChainConfig::every(interval)
        };
        let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(node))]);
        let timing = ObservationConfig { interval, ..Default::default() };
        let began = Instant::now();
        let runtime = ObservationRuntime::start(nodes, ChainObserver::new(config), timing).await.unwrap();
        let there = runtime
            .handle()
            .eventually("it is there", move |view| view.tip.is_some_and(|tip| tip.height == goal));
        there.or_now().within(Duration::from_secs(100)).await.unwrap();
        let rate = goal as f64 / began.elapsed().as_secs_f64();
        row("catch-up through the observer, blocks", "", &per_second(rate), "");
    });
}

/// A node that has all headers at hand, and blocks without transactions.
#[derive(Clone)]
struct Swift(Arc<(Vec<Header>, Plain)>);

#[derive(Clone, Debug, PartialEq)]
struct Nothing;

impl Transaction for Nothing {
    fn id(&self) -> Hash {
        hash(0)
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

#[async_trait]
impl ChainClient for Swift {
    type Transaction = Nothing;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        Ok(ChainIdentity { id: "bench".to_owned(), genesis: self.0.0[0].hash })
    }

    async fn head(&self) -> Result<Header, ChainError> {
        Ok(self.0.0[self.0.0.len() - 1])
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        Ok(None)
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        Ok(self.0.1.get(&hash).copied())
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        Ok(usize::try_from(height).ok().and_then(|place| self.0.0.get(place)).copied())
    }

    async fn block(&self, hash: Hash) -> Result<Option<Block<Nothing>>, ChainError> {
        let header = self.0.1.get(&hash).copied();
        Ok(header.map(|header| Block { header, transactions: Vec::new() }))
    }
}

/// One branch, off which every 20th header is a side step that nobody follows.
fn headers() -> impl Iterator<Item = Header> {
    let (mut parent, mut height) = (hash(u64::MAX), 0);
    (0..HEADERS).map(move |nth| {
        let header = Header { hash: hash(nth), parent, height, work: 1, time: nth };
        if nth % RIVAL_EVERY != 0 || nth == 0 {
            (parent, height) = (header.hash, height + 1);
        }
        header
    })
}

/// Spread as hashes are.
fn hash(nth: u64) -> Hash {
    let mut random = fastrand::Rng::with_seed(nth);
    let words: [u64; 4] = std::array::from_fn(|_| random.u64(..));
    Hash(std::array::from_fn(|byte| words[byte / 8].to_le_bytes()[byte % 8]))
}

fn walk(plain: &Plain, tip: Hash, height: Height) -> Header {
    let mut block = plain[&tip];
    while block.height > height {
        block = plain[&block.parent];
    }
    block
}

fn meet(plain: &Plain, one: Hash, other: Hash) -> Header {
    let (mut one, mut other) = (plain[&one], plain[&other]);
    while one.hash != other.hash {
        if one.height >= other.height {
            one = plain[&one.parent];
        } else {
            other = plain[&other.parent];
        }
    }
    one
}

/// The median of the times of single calls, which are taken for half a second.
fn time_each<T>(mut work: impl FnMut() -> T) -> Duration {
    let mut taken = Vec::new();
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(500) || taken.len() < 3 {
        // A short call is shorter than the clock's own cost: several are taken as one.
        let runs = if taken.first().is_none_or(|first| *first > Duration::from_micros(100)) { 1 } else { 64 };
        let start = Instant::now();
        for _ in 0..runs {
            black_box(work());
        }
        taken.push(start.elapsed() / runs);
    }
    taken.sort_unstable();
    taken[taken.len() / 2]
}

fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

fn row(what: &str, plain: &str, graph: &str, goal: &str) {
    println!("| {what} | {plain} | {graph} | {goal} |");
}

fn per_second(rate: f64) -> String {
    format!("{:.0} k/s", rate / 1e3)
}

fn time(taken: Duration) -> String {
    format!("{taken:.2?}")
}
