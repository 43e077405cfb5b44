//! Nodes with miners of their own, and what an observer tells of them.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationSnapshot, ObservedSource, Observer};
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::projection::View;
use watchkeeper_chain::{
    Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, ChainView, Header, Start,
};
use watchkeeper_chain_bitcoin::{
    BitcoinClient, BitcoinTransaction, Coin, Key, Mined, Miner, NodeError, RegtestNode, Spend,
};
use watchkeeper_process::RunDirectory;

/// The longest that a cycle waits for answers, which come in milliseconds.
const SOON: Duration = Duration::from_secs(10);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_hours(1);

pub(crate) type Event = ChainEvent<BitcoinTransaction>;

/// A node in a directory of its own. What a killed test leaves of these, the next test removes.
pub(crate) struct BranchPosition {
    pub(crate) node: RegtestNode,
    pub(crate) client: BitcoinClient,
    pub(crate) key: Key,
    pub(crate) directory: RunDirectory,
    miner: Miner,
}

impl BranchPosition {
    /// Whose blocks pay `owner`.
    pub(crate) async fn of(owner: &str) -> Self {
        let directory = RunDirectory::new("watchkeeper-bitcoin-").unwrap();
        let node = RegtestNode::open(directory.path()).await.unwrap();
        let key = Key::named(owner);
        Self { client: node.client(), miner: Miner::new(&key), node, key, directory }
    }

    pub(crate) async fn head(&self) -> Header {
        self.client.head().await.unwrap()
    }

    pub(crate) async fn block(&self, header: &Header) -> Block<BitcoinTransaction> {
        self.client.block(header.hash).await.unwrap().unwrap()
    }

    /// Makes a block and submits it.
    pub(crate) async fn mine(&mut self, parent: &Header, spends: &[Spend]) -> Mined {
        let mined = self.make(parent, spends);
        self.node.submit(&mined.block).await.unwrap();
        mined
    }

    pub(crate) fn make(&mut self, parent: &Header, spends: &[Spend]) -> Mined {
        self.miner.mine(parent, spends).unwrap()
    }

    /// Makes this many blocks on `parent` and submits them.
    pub(crate) async fn extend(&mut self, parent: &Header, blocks: usize) -> Vec<Mined> {
        let mut parent = *parent;
        let mut made = Vec::new();
        for _ in 0..blocks {
            let mined = self.mine(&parent, &[]).await;
            parent = mined.header;
            made.push(mined);
        }
        made
    }

    /// Mines until the reward of the first block can be spent in the next one, which is at height 101.
    pub(crate) async fn mature(&mut self) -> (Header, Coin) {
        let made = self.extend(&self.head().await, 100).await;
        (made[99].header, made[0].reward.clone())
    }

    /// Takes blocks that another node has.
    pub(crate) async fn take(&self, made: &[Mined]) {
        for mined in made {
            self.node.submit(&mined.block).await.unwrap();
        }
    }

    /// Why a block is not taken.
    pub(crate) async fn rejected(&self, mined: &Mined) -> NodeError {
        self.node.submit(&mined.block).await.unwrap_err()
    }
}

/// A snapshot that shows a chain.
pub(crate) trait Shows {
    fn chain(&self) -> &ChainView;
}

impl Shows for ChainView {
    fn chain(&self) -> &ChainView {
        self
    }
}

impl<V> Shows for View<ChainView, V> {
    fn chain(&self) -> &ChainView {
        &self.chain
    }
}

/// An observer of some nodes, whose cycles begin when it is asked.
pub(crate) struct Watched<O: Observer> {
    pub(crate) runtime: ObservationRuntime<O>,
    told: Subscription<Event>,
}

impl Watched<ChainObserver<BitcoinClient>> {
    pub(crate) async fn start(start: Start, places: &[(&str, &BranchPosition)]) -> Self {
        Self::with(observer(start), places).await
    }
}

/// Its cycles end when all questions are answered.
pub(crate) fn observer(start: Start) -> ChainObserver<BitcoinClient> {
    ChainObserver::new(ChainConfig { start, collect_for: SOON, ..ChainConfig::every(NEVER) })
}

impl<O> Watched<O>
where
    O: Observer<Source = ChainSource<BitcoinClient>, Event = Event, Snapshot: Shows>,
{
    pub(crate) async fn with(observer: O, places: &[(&str, &BranchPosition)]) -> Self {
        let source = |(name, place): &(&str, &BranchPosition)| {
            ObservedSource::new(*name, ChainSource::local(place.client.clone()))
        };
        let sources = SharedSources::new(places.iter().map(source).collect());
        let timing = ObservationConfig { interval: NEVER, poll_timeout: 4 * SOON, ..Default::default() };
        let runtime = ObservationRuntime::start(sources, observer, timing).await.unwrap();
        let told = runtime.handle().subscribe();
        Self { runtime, told }
    }

    /// What is seen in a cycle that begins now.
    pub(crate) async fn cycle(&self) -> Arc<ObservationSnapshot<O::Snapshot>> {
        self.runtime.poll_now_and_wait().await.unwrap()
    }

    /// What is told once the tip is this block; what is told on the way is what it is for.
    pub(crate) async fn told_up_to(&mut self, tip: &Header) -> Vec<Event> {
        let mut told = Vec::new();
        loop {
            let seen = self.cycle().await;
            told.extend(self.heard());
            if seen.value.chain().tip == Some(*tip) {
                return told;
            }
        }
    }

    /// What was told since the last call, after one more cycle.
    pub(crate) async fn told(&mut self) -> Vec<Event> {
        self.cycle().await;
        self.heard()
    }

    fn heard(&mut self) -> Vec<Event> {
        let batches = std::iter::from_fn(|| self.told.try_recv()).map(Result::unwrap);
        batches.flat_map(|batch| batch.events.clone()).collect()
    }
}

pub(crate) fn coins(value: u64) -> Amount {
    Amount::from_int_btc(value)
}

pub(crate) fn headers(made: &[Mined]) -> Vec<Header> {
    made.iter().map(|mined| mined.header).collect()
}

/// The same, highest first, as events tell the blocks that left.
pub(crate) fn downwards(made: &[Mined]) -> Vec<Header> {
    made.iter().rev().map(|mined| mined.header).collect()
}

/// The one event there is, which must be a reorg: what left, what joined, and where.
pub(crate) fn reorg(told: &[Event]) -> (Vec<Header>, Vec<Header>, Header) {
    let [ChainEvent::Reorged { old, new, ancestor }] = told else { panic!("no single reorg: {told:?}") };
    (old.clone(), new.iter().map(|block| block.header).collect(), *ancestor)
}
