//! Nodes under observation.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource};
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{
    Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, ChainView, Header, Start,
};
use watchkeeper_chain_ethereum::anvil::Anvil;
use watchkeeper_chain_ethereum::{EthereumClient, EthereumTransaction};

use crate::common::{PATIENCE, branch};

pub(crate) type Event = ChainEvent<EthereumTransaction>;
type Source = ObservedSource<ChainSource<EthereumClient>>;

/// An observation from genesis on, and the branch that its events fold to.
pub(crate) struct Watched {
    pub(crate) runtime: ObservationRuntime<ChainObserver<EthereumClient>>,
    pub(crate) sources: SharedSources<ChainSource<EthereumClient>>,
    subscription: Subscription<Event>,
    waiting: VecDeque<Event>,
    /// Events that no test has picked yet.
    unclaimed: Vec<Event>,
    branch: Vec<Header>,
}

pub(crate) fn source(name: &str, node: &Anvil) -> Source {
    ObservedSource::new(name, ChainSource::local(node.client().with_timeout(PATIENCE)))
}

impl Watched {
    /// Polls these nodes twenty times a second.
    pub(crate) async fn start(sources: Vec<Source>) -> Self {
        Self::with(sources, Duration::from_millis(50), None).await
    }

    pub(crate) async fn with(sources: Vec<Source>, interval: Duration, wake: Option<Arc<Notify>>) -> Self {
        let genesis = sources[0].source.client.header_at(0).await.unwrap().unwrap();
        let sources = SharedSources::new(sources);
        // On a busy machine a good node may be slow.
        let config = ChainConfig {
            start: Start::Genesis,
            probe_timeout: PATIENCE,
            request_timeout: PATIENCE,
            // Tests rewind nodes and switch them to lighter branches.
            lighter_after: 1,
            ..ChainConfig::every(interval)
        };
        let timing = ObservationConfig { interval, wake, ..Default::default() };
        let observer = ChainObserver::new(config);
        let runtime = ObservationRuntime::start(sources.clone(), observer, timing).await.unwrap();
        let subscription = runtime.handle().subscribe();
        Self {
            runtime,
            sources,
            subscription,
            waiting: VecDeque::new(),
            unclaimed: Vec::new(),
            branch: vec![genesis],
        }
    }

    /// Makes a change of several steps to a node; no poll sees the node before the last step.
    pub(crate) async fn at_once<R>(&self, change: impl Future<Output = R>) -> R {
        let control = self.runtime.control();
        control.pause().await.unwrap();
        // After one more poll no other is running.
        timeout(PATIENCE, control.poll_now_and_wait()).await.unwrap().unwrap();
        let made = change.await;
        control.resume().await.unwrap();
        made
    }

    pub(crate) fn view(&self) -> ChainView {
        self.runtime.handle().latest_snapshot().unwrap().value.clone()
    }

    /// The branch that the events so far fold to, lowest first.
    pub(crate) fn branch(&self) -> &[Header] {
        &self.branch
    }

    /// Folds the next event and keeps it as unclaimed.
    async fn next(&mut self) -> &Event {
        while self.waiting.is_empty() {
            let batch = self.subscription.recv().await.unwrap();
            self.waiting.extend(batch.events.iter().cloned());
        }
        let event = self.waiting.pop_front().unwrap();
        self.fold(&event);
        self.unclaimed.push(event);
        self.unclaimed.last().unwrap()
    }

    /// What `pick` returns for the first event it accepts: an unclaimed one, or one to come.
    pub(crate) async fn event<R>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<R>) -> R {
        if let Some((at, found)) =
            self.unclaimed.iter().enumerate().find_map(|(at, it)| Some((at, pick(it)?)))
        {
            self.unclaimed.remove(at);
            return found;
        }
        let found = timeout(PATIENCE, async {
            loop {
                if let Some(found) = pick(self.next().await) {
                    self.unclaimed.pop();
                    return found;
                }
            }
        })
        .await;
        found.unwrap_or_else(|_| {
            panic!("{what} was not emitted; unclaimed: {:#?}; {:#?}", self.unclaimed, self.view())
        })
    }

    /// Follows the events until they fold to the branch of the node.
    pub(crate) async fn follows(&mut self, node: &Anvil) {
        let wanted = branch(&node.client()).await;
        let reached = timeout(PATIENCE, async {
            while self.branch != wanted {
                self.next().await;
            }
        })
        .await;
        assert!(reached.is_ok(), "folded to {:#?} in place of {wanted:#?}; {:#?}", self.branch, self.view());
    }

    fn fold(&mut self, event: &Event) {
        match event {
            ChainEvent::Committed { new } => self.connect(new),
            ChainEvent::Reorged { old, new, ancestor } => {
                self.disconnect(old, ancestor);
                self.connect(new);
            }
            ChainEvent::Reverted { old, ancestor } => self.disconnect(old, ancestor),
            _ => {}
        }
    }

    fn disconnect(&mut self, old: &[Header], ancestor: &Header) {
        for header in old {
            assert_eq!(self.branch.pop().as_ref(), Some(header));
        }
        assert_eq!(self.branch.last(), Some(ancestor));
    }

    fn connect(&mut self, new: &[Arc<Block<EthereumTransaction>>]) {
        for block in new {
            assert_eq!(self.branch.last().unwrap().hash, block.header.parent);
            self.branch.push(block.header);
        }
    }
}
