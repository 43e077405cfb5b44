//! The whole observer over a node that answers at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider, async_trait};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{
    Block, ChainConfig, ChainObserver, ChainSource, Detail, Hash, Header, Height, Start, Transaction,
};

use crate::chains::{Plain, RIVAL_EVERY, hash, one_branch};
use crate::{per_second, row};

/// From genesis through the whole observer, over a node whose answers cost nothing.
pub(crate) fn through_the_observer() {
    const BLOCKS: usize = 50_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let branch: Vec<Header> = one_branch()
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
        row("catch-up through the observer, blocks", "", &per_second(rate), "", "");
    });
}

/// A node that answers at once, and has blocks without transactions.
#[derive(Clone)]
struct Swift(Arc<(Vec<Header>, Plain)>);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Nothing;

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

    async fn block(&self, hash: Hash, _: Detail) -> Result<Option<Block<Nothing>>, ChainError> {
        let header = self.0.1.get(&hash).copied();
        Ok(header.map(|header| Block::new(header, Vec::new())))
    }
}
