//! How far the observer is behind a fast chain whose node answers slowly, on a paused clock: the figures are the same
//! on every machine.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider, async_trait};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{
    Block, ChainConfig, ChainObserver, ChainSource, ChainView, Detail, Hash, Header, Height, Start,
};

use crate::catch_up::Nothing;
use crate::yes_or_no;

/// How long an answer takes: half of it on the way to the node, which then reads its chain.
const ANSWER: Duration = Duration::from_millis(300);
const BLOCK: Duration = Duration::from_millis(100);
/// How long each chain is observed, and how much of the beginning is not counted.
const OBSERVED: Duration = Duration::from_secs(270);
const WARM_UP: Duration = Duration::from_secs(30);
/// How often the delay is read.
const SAMPLE: Duration = Duration::from_millis(10);

/// How long after a block was made it is known, by what of it is known.
#[derive(Default)]
struct Delays {
    heads: Vec<Duration>,
    headers: Vec<Duration>,
    bodies: Vec<Duration>,
}

pub(crate) fn behind_a_fast_chain(intervals: &[Duration]) {
    for &interval in intervals {
        let delays = on_paused_clock(observed(interval));
        let near = 2 * ANSWER + interval;
        let rows = [("heads", delays.heads, near), ("headers", delays.headers, near)];
        for (what, delays, goal) in rows.into_iter().chain([("bodies", delays.bodies, 5 * ANSWER)]) {
            row(interval, what, delays, goal);
        }
    }
}

fn row(interval: Duration, what: &str, mut delays: Vec<Duration>, goal: Duration) {
    let last = delays.last().copied().unwrap_or_default();
    delays.sort_unstable();
    let at = |share: usize| delays[(delays.len() * share / 100).min(delays.len() - 1)];
    let met = yes_or_no(at(50) < goal);
    println!("| {interval:?} | {what} | {:?} | {:?} | {last:?} | under {goal:?} | {met} |", at(50), at(99));
}

async fn observed(interval: Duration) -> Delays {
    let chain = Growing { began: Instant::now(), first: 1_000 };
    let config = ChainConfig { start: Start::Recent(16), ..ChainConfig::every(interval) };
    let runtime = observe(chain.clone(), config, interval).await;
    let handle = runtime.handle();
    let mut delays = Delays::default();
    sleep(WARM_UP).await;
    while chain.began.elapsed() < OBSERVED {
        sleep(SAMPLE).await;
        let seen = handle.latest_snapshot().unwrap();
        let delay = |height: Option<Height>| chain.since_the_block_after(height.unwrap_or_default());
        let view: &ChainView = &seen.value;
        delays.heads.push(delay(view.node("n1").and_then(|node| node.head).map(|head| head.height)));
        let linked = view.graph.as_ref().and_then(|graph| graph.tips().map(|tip| tip.height).max());
        delays.headers.push(delay(linked));
        delays.bodies.push(delay(view.tip.map(|tip| tip.height)));
    }
    let _ = runtime.stop().await;
    delays
}

/// Blocks a second in a catch-up, by the number of requests in flight.
pub(crate) fn catch_up_by_requests(counts: &[usize]) {
    const BACKLOG: Height = 3_000;
    for &requests in counts {
        let taken = on_paused_clock(async {
            let chain = Growing { began: Instant::now(), first: BACKLOG };
            let interval = Duration::from_millis(250);
            let every = ChainConfig::every(interval);
            let config = ChainConfig { start: Start::Genesis, requests_per_node: requests, ..every };
            let began = Instant::now();
            let runtime = observe(chain, config, interval).await;
            let there = |view: &ChainView| view.tip.is_some_and(|tip| tip.height >= BACKLOG);
            let wait = runtime.handle().eventually("it is there", there).or_now();
            let met = wait.within(Duration::from_secs(10 * 60 * 60)).await;
            let taken = began.elapsed();
            let _ = runtime.stop().await;
            met.map(|_| taken)
        });
        match taken {
            Ok(taken) => {
                let rate = BACKLOG as f64 / taken.as_secs_f64();
                let most = requests as f64 / ANSWER.as_secs_f64();
                println!("| {requests} | {rate:.0} | {:.0} % |", rate / most * 100.0);
            }
            Err(_) => println!("| {requests} | never | |"),
        }
    }
}

type Runtime = ObservationRuntime<ChainObserver<Growing>>;

async fn observe(chain: Growing, config: ChainConfig, interval: Duration) -> Runtime {
    let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(chain))]);
    let timing = ObservationConfig { interval, ..Default::default() };
    ObservationRuntime::start(nodes, ChainObserver::new(config), timing).await.unwrap()
}

fn on_paused_clock<V>(work: impl Future<Output = V>) -> V {
    let clock =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    clock.block_on(work)
}

/// A node whose chain grows by a block every [`BLOCK`].
#[derive(Clone)]
struct Growing {
    began: Instant,
    /// The height at the beginning.
    first: Height,
}

impl Growing {
    fn height(&self) -> Height {
        self.first + Height::try_from(self.began.elapsed().as_millis() / BLOCK.as_millis()).unwrap()
    }

    /// How long the block after this height has been there.
    fn since_the_block_after(&self, height: Height) -> Duration {
        let made = u32::try_from((height + 1).saturating_sub(self.first)).unwrap() * BLOCK;
        self.began.elapsed().saturating_sub(made)
    }

    async fn answer<V>(&self, answer: impl FnOnce(Height) -> V) -> Result<V, ChainError> {
        sleep(ANSWER / 2).await;
        let answer = answer(self.height());
        sleep(ANSWER / 2).await;
        Ok(answer)
    }
}

/// The height is written into the hash.
fn header(height: Height) -> Header {
    let hash = |height: Height| {
        let mut bytes = [1; 32];
        bytes[..8].copy_from_slice(&height.to_be_bytes());
        Hash(bytes)
    };
    Header { hash: hash(height), parent: hash(height.wrapping_sub(1)), height, work: 1, time: height / 10 }
}

fn height_of(hash: Hash) -> Height {
    Height::from_be_bytes(std::array::from_fn(|nth| hash.0[nth]))
}

#[async_trait]
impl ChainClient for Growing {
    type Transaction = Nothing;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        self.answer(|_| ChainIdentity { id: "fast".to_owned(), genesis: header(0).hash }).await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.answer(header).await
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.answer(|height| Some(header(height.saturating_sub(64)))).await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.answer(|height| Some(header(height_of(hash))).filter(|header| header.height <= height)).await
    }

    async fn header_at(&self, asked: Height) -> Result<Option<Header>, ChainError> {
        self.answer(|height| Some(header(asked)).filter(|header| header.height <= height)).await
    }

    async fn block(&self, hash: Hash, _: Detail) -> Result<Option<Block<Nothing>>, ChainError> {
        let header = self.header(hash).await?;
        Ok(header.map(|header| Block::new(header, Vec::new())))
    }
}
