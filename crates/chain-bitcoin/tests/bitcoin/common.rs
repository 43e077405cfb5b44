//! Nodes with their own miners, and observers of them.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::Amount;
use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationSnapshot, ObservedSource, Observer};
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::projection::View;
use watchkeeper_chain::{
    Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, ChainView, Detail, Header, Start,
};
use watchkeeper_chain_bitcoin::{
    BitcoinClient, BitcoinTransaction, Coin, Key, Mined, Miner, NodeError, RegtestNode, Spend,
};
use watchkeeper_process::RunDirectory;

/// The longest time that a cycle waits for answers, which take milliseconds.
const SOON: Duration = Duration::from_secs(10);
/// Longer than any test takes.
const NEVER: Duration = Duration::from_hours(1);

pub(crate) type Event = ChainEvent<BitcoinTransaction>;

/// A node with its own miner and directory. The next test removes the directories of a killed test.
pub(crate) struct MiningNode {
    pub(crate) node: RegtestNode,
    pub(crate) client: BitcoinClient,
    pub(crate) key: Key,
    pub(crate) directory: RunDirectory,
    miner: Miner,
}

impl MiningNode {
    /// A node whose blocks pay `owner`.
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
        self.client.block(header.hash, Detail::Results).await.unwrap().unwrap()
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

    /// Submits blocks that another node has made.
    pub(crate) async fn take(&self, made: &[Mined]) {
        for mined in made {
            self.node.submit(&mined.block).await.unwrap();
        }
    }

    /// The error with which a block is rejected.
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

/// A runtime whose cycles begin when a test asks for one.
pub(crate) struct Watched<O: Observer> {
    pub(crate) runtime: ObservationRuntime<O>,
    subscription: Subscription<Event>,
}

impl Watched<ChainObserver<BitcoinClient>> {
    pub(crate) async fn start(start: Start, nodes: &[(&str, &MiningNode)]) -> Self {
        Self::with(observer(start), nodes).await
    }
}

/// An observer whose cycles end when all requests are answered.
pub(crate) fn observer(start: Start) -> ChainObserver<BitcoinClient> {
    ChainObserver::new(ChainConfig {
        start,
        collect_for: SOON,
        lighter_after: 1,
        ..ChainConfig::every(NEVER)
    })
}

impl<O> Watched<O>
where
    O: Observer<Source = ChainSource<BitcoinClient>, Event = Event, Snapshot: Shows>,
{
    pub(crate) async fn with(observer: O, nodes: &[(&str, &MiningNode)]) -> Self {
        let source = |(name, miner): &(&str, &MiningNode)| {
            ObservedSource::new(*name, ChainSource::local(miner.client.clone()))
        };
        let sources = SharedSources::new(nodes.iter().map(source).collect());
        let timing = ObservationConfig { interval: NEVER, poll_timeout: 4 * SOON, ..Default::default() };
        let runtime = ObservationRuntime::start(sources, observer, timing).await.unwrap();
        let subscription = runtime.handle().subscribe();
        Self { runtime, subscription }
    }

    /// The snapshot of a cycle that begins now.
    pub(crate) async fn cycle(&self) -> Arc<ObservationSnapshot<O::Snapshot>> {
        self.runtime.poll_now_and_wait().await.unwrap()
    }

    /// Runs cycles until the tip is this block, and returns their events.
    pub(crate) async fn events_until(&mut self, tip: &Header) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let seen = self.cycle().await;
            events.extend(self.emitted());
            if seen.value.chain().tip == Some(*tip) {
                return events;
            }
        }
    }

    /// Runs a cycle and returns the events since the last call.
    pub(crate) async fn events(&mut self) -> Vec<Event> {
        self.cycle().await;
        self.emitted()
    }

    fn emitted(&mut self) -> Vec<Event> {
        let batches = std::iter::from_fn(|| self.subscription.try_recv()).map(Result::unwrap);
        batches.flat_map(|batch| batch.events.clone()).collect()
    }
}

pub(crate) fn coins(value: u64) -> Amount {
    Amount::from_int_btc(value)
}

pub(crate) fn headers(made: &[Mined]) -> Vec<Header> {
    made.iter().map(|mined| mined.header).collect()
}

/// The headers, highest first, as events list the blocks that were disconnected.
pub(crate) fn downwards(made: &[Mined]) -> Vec<Header> {
    made.iter().rev().map(|mined| mined.header).collect()
}

/// The blocks that were disconnected and connected and their ancestor, from one event that must be a reorg.
pub(crate) fn reorg(events: &[Event]) -> (Vec<Header>, Vec<Header>, Header) {
    let [ChainEvent::Reorged { old, new, ancestor }] = events else { panic!("no single reorg: {events:?}") };
    (old.clone(), new.iter().map(|block| block.header).collect(), *ancestor)
}
