//! One observer of one chain, over all its nodes.

mod answer;
mod asked;
mod branch;
mod config;
mod facts;
mod fetch;
mod headers;
mod hedge;
mod nodes;
mod plan;
mod probe;
mod question;
mod show;
mod source;
mod view;
mod waits;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use watchkeeper::per_source::PerSourceState;
use watchkeeper::source::SourceHealth;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, PerSource, async_trait};

use crate::adapter::ChainClient;
use crate::{ChainEvent, Graph, Header, Transaction};
use answer::NodeAnswer;
use facts::ChainFacts;
use fetch::Fetches;
use hedge::patience;
use nodes::NodeFacts;
use plan::{Planned, budget};
use probe::Errors;

pub use config::{ChainConfig, ChainConfigError, Start};
pub use source::{ChainSource, Group};
pub use view::{Agreement, ChainView, NodeView, Progress};
pub use waits::{NodeWaits, ShowsChain};

/// Observes one chain through any number of nodes, and keeps one graph of it.
///
/// In each cycle all nodes are asked for their heads concurrently: a node that hangs or fails does not delay the
/// others. The requests that follow from the answers are made in the same cycle: the last final block of a node
/// whose head is new, missing parents, within a bound, and each new block once. A late answer is used by a later
/// cycle. Events contain only what was delivered; all events of a cycle are in one batch.
///
/// A block is requested from a local node if one has it, first from the node that reported the block first. A node
/// that did not return the last block comes after the others of its group. A node that still owes a block from an
/// earlier cycle comes last, and that block is then requested from a second node. Headers are requested first from
/// nodes that return them in time.
///
/// # Who decides
///
/// Local nodes ([`Group::Local`]) that are in the source set, or left it and answered within
/// [`ChainConfig::forget_after`], decide alone: which chain it is, where the observation begins, which branch is
/// canonical, and what is final. Public nodes then provide headers, blocks and [`ChainView::target`], with which the
/// local nodes are compared; they decide nothing, even while no local node answers.
///
/// If only public nodes are in the set, they decide in the same way. A node whose head is higher than those of more
/// than half of them does not decide where the observation begins. A root that most of them do not have on their
/// branches is dropped as long as no block was emitted. From then on the heaviest head counts, from any node: a source
/// set without local nodes should contain only trusted ones.
///
/// In each snapshot the tip is the block to which the events lead. Cycle 0 has no events: its snapshot shows the nodes,
/// and as tip the block where the observation begins. The first poll emits what cycle 0 found.
///
/// # Which branch is canonical
///
/// The heaviest of the accepted heads of the deciding nodes: see
/// [`lighter_after`](ChainConfig::lighter_after) for when a lighter head is accepted. Of branches of equal weight the one seen first stays. A
/// node that falls silent keeps its head for [`ChainConfig::forget_after`].
///
/// When the last deciding node that had the tip has left it, the best of their current heads replaces it, even on a
/// lighter branch or at an ancestor of the tip. If that last node has only fallen silent, the tip is not replaced by
/// its own ancestor, even if other nodes went back before: no node is known to have lost the tip, and the others are
/// behind.
///
/// A tip with which the observation begins ([`Start::Known`]) may have been left before. It is replaced by an ancestor
/// once each deciding node has answered, none has the tip, and those that have an ancestor as their head have returned
/// that one for [`lighter_after`](ChainConfig::lighter_after) answers, or for
/// [`lighter_for`](ChainConfig::lighter_for). A node whose head rises is catching up.
///
/// # What is final
///
/// The best block that more than half of the deciding nodes that report finality have at or below their last final
/// block; else the block [`ChainConfig::final_depth`] below the tip; and always the oldest block that is kept. A node
/// on a branch without the final block is not believed while it is there. A final block is never disconnected: if all
/// nodes go back below it, or lose their chain and start again, the tip stays, [`ChainView::head`] is `None`, and each
/// node is shown behind, below or in breach until it is back.
///
/// # Which chain it is
///
/// That of the first deciding node that answers, unless [`ChainConfig::chain`] is set. The [`ChainClient`] has to check
/// that a header's hash is the hash of its content.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
/// use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
/// use watchkeeper_chain::{
///     Block, ChainConfig, ChainObserver, ChainSource, Hash, Header, Start, Transaction,
/// };
///
/// #[derive(Clone, Debug, PartialEq)]
/// struct Nothing;
///
/// impl Transaction for Nothing {
///     fn id(&self) -> Hash {
///         Hash([0; 32])
///     }
///     fn conflicts(&self) -> Vec<Vec<u8>> {
///         Vec::new()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let header = |nth: u8| {
///     Header { hash: Hash([nth; 32]), parent: Hash([nth - 1; 32]), height: nth.into(), work: 1, time: 0 }
/// };
/// let node = MemoryNode::new(ChainIdentity { id: "docs".to_owned(), genesis: Hash([1; 32]) });
/// for header in (1..=3).map(header) {
///     let block = Block::new(header, vec![Nothing]);
///     node.script().blocks.insert(header.hash, block);
///     node.script().head = Some(header.hash);
/// }
///
/// let interval = Duration::from_millis(250);
/// let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(interval) };
/// let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ChainSource::local(node))]);
/// let timing = ObservationConfig { interval, ..Default::default() };
/// let runtime = ObservationRuntime::start(nodes, ChainObserver::new(config), timing).await?;
///
/// let followed = runtime.handle().eventually("block 3 is the tip", move |view| view.tip == Some(header(3)));
/// let seen = followed.within(Duration::from_secs(5)).await?;
/// assert_eq!(seen.value.shared_head(), Some(header(3)));
/// # let _ = runtime.stop().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct ChainObserver<C: ChainClient> {
    nodes: PerSource<ChainSource<C>, Header>,
    errors: Errors,
    config: ChainConfig,
}

/// What [`ChainObserver`] remembers.
pub struct ChainState<T> {
    nodes: PerSourceState<Header>,
    known: ChainFacts<T>,
    fetches: Fetches<T>,
}

impl<C: ChainClient> ChainObserver<C> {
    /// Observes as `config` says.
    #[must_use]
    pub fn new(config: ChainConfig) -> Self {
        let errors = Errors::default();
        let kept = errors.clone();
        let nodes = PerSource::new(move |node| kept.clone().probe(node))
            .probe_timeout(config.probe_timeout)
            .collect_for(config.collect_for)
            .stale_after(config.stale_after);
        Self { nodes, errors, config }
    }

    /// Asks the nodes and records their answers. The poll decides what follows, and emits it.
    async fn ask_nodes(
        &self,
        sources: &[ObservedSource<ChainSource<C>>],
        state: &mut ChainState<C::Transaction>,
    ) -> Result<(), DynError> {
        state.known.begin_cycle();
        self.ask_ahead(sources, state);
        self.nodes.poll(sources, &mut state.nodes).await?;
        self.take_heads(sources, state);
        let enough = sleep_until(Instant::now() + self.config.collect_for);
        tokio::pin!(enough);
        loop {
            let now = Instant::now();
            while let Some((node, found)) = state.fetches.try_next() {
                state.known.found(&node, found, now);
            }
            state.known.judge(now);
            self.ask(sources, state, now);
            if !state.fetches.any_of(state.known.cycle()) {
                break;
            }
            tokio::select! {
                biased;
                Some((node, found)) = state.fetches.next() => state.known.found(&node, found, Instant::now()),
                () = &mut enough => break,
            }
        }
        state.known.end_troubles(|node| state.fetches.asks(node), Instant::now());
        Ok(())
    }

    /// Asks for what is probably new, beside the heads.
    fn ask_ahead(&self, sources: &[ObservedSource<ChainSource<C>>], state: &mut ChainState<C::Transaction>) {
        let now = Instant::now();
        while let Some((node, found)) = state.fetches.try_next() {
            state.known.found(&node, found, now);
        }
        state.known.judge(now);
        // What is known to be missing comes first.
        self.ask(sources, state, now);
        let flights: Vec<_> = state.fetches.flights().collect();
        let planned = state.known.plan_ahead(&flights, now);
        self.begin(sources, state, planned);
    }

    /// Records the heads that the nodes reported since the last cycle.
    fn take_heads(&self, sources: &[ObservedSource<ChainSource<C>>], state: &mut ChainState<C::Transaction>) {
        let now = Instant::now();
        let answers = self.nodes.snapshot(&state.nodes);
        state.known.begin_set();
        // The answers are in the order of the sources.
        for (source, answer) in sources.iter().zip(answers.iter()) {
            let (name, health, group) = (answer.name, answer.health(), source.source.group);
            let failure = health.facts.last_failure.as_ref().filter(|_| health.is_failing());
            let failure = failure.map(|failure| self.errors.of(name, failure, &self.config));
            let head = answer.value.map(|head| **head);
            state.known.is_in_set(name, group, health, failure, head, now);
        }
        state.known.end_set(now);
        self.errors.keep(|name| state.known.nodes().get(name).is_some());
    }

    fn ask(
        &self,
        sources: &[ObservedSource<ChainSource<C>>],
        state: &mut ChainState<C::Transaction>,
        now: Instant,
    ) {
        let flights: Vec<_> = state.fetches.flights().collect();
        let planned = state.known.plan(&flights, now);
        self.begin(sources, state, planned);
    }

    fn begin(
        &self,
        sources: &[ObservedSource<ChainSource<C>>],
        state: &mut ChainState<C::Transaction>,
        planned: Vec<Planned>,
    ) {
        for Planned { node: name, question } in planned {
            let Some(source) = sources.iter().find(|source| *source.name == *name) else { continue };
            let known = state.known.nodes().get(&name);
            let node = NodeAnswer {
                client: source.source.client.clone(),
                name: Arc::clone(&name),
                limit: self.config.request_timeout,
                budget: known.map_or(1, |node| budget(&self.config, node)),
                patience: patience(known.map_or(Duration::ZERO, NodeFacts::last_elapsed)),
                at_once: known.map_or(1, |node| node.calls_at_once(self.config.requests_per_node)),
                suspect: known.is_some_and(NodeFacts::is_in_breach),
            };
            let work = node.answer(question.clone(), state.known.graph().cloned());
            state.fetches.begin(&name, question, state.known.cycle(), work);
        }
    }
}

#[async_trait]
impl<C: ChainClient> Observer for ChainObserver<C> {
    type Source = ChainSource<C>;
    type State = ChainState<C::Transaction>;
    type Snapshot = ChainView;
    type Event = ChainEvent<C::Transaction>;

    fn configured(&mut self, config: &ObservationConfig) {
        self.nodes.configured(config);
    }

    async fn init(
        &self,
        sources: &[ObservedSource<ChainSource<C>>],
    ) -> Result<ChainState<C::Transaction>, DynError> {
        self.config.validate()?;
        let nodes = self.nodes.init(&[]).await?;
        let known = ChainFacts::new(self.config.clone());
        let mut state = ChainState { nodes, known, fetches: Fetches::new() };
        self.ask_nodes(sources, &mut state).await?;
        Ok(state)
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<ChainSource<C>>],
        state: &mut ChainState<C::Transaction>,
    ) -> Result<Vec<ChainEvent<C::Transaction>>, DynError> {
        self.ask_nodes(sources, state).await?;
        // No await from here on: the branch and its events change together.
        state.known.advance(Instant::now());
        Ok(state.known.take_events())
    }

    fn snapshot(&self, state: &ChainState<C::Transaction>) -> ChainView {
        state.known.view(Instant::now())
    }

    /// True: what a poll has learned is stored between two awaits, with its events, and the requests in flight are in
    /// the state too.
    fn poll_is_cancel_safe(&self) -> bool {
        true
    }

    fn source_health(snapshot: &ChainView, name: &str) -> Option<SourceHealth> {
        snapshot.node(name).map(|node| node.health.clone())
    }

    /// The heads that the nodes reported since. The tip, the last final block and the graph stay as they are.
    fn asked_since(snapshot: &ChainView, since: Instant) -> Option<ChainView> {
        snapshot.asked_since(since)
    }

    /// `None`: events count by their cycle. A block is connected once, in a cycle after the one that asked for the head
    /// that leads to it: an event has no single moment at which it was asked for.
    fn asked_at(_: &ChainEvent<C::Transaction>) -> Option<Instant> {
        None
    }

    /// Each view counts its headers and nodes, though views share them.
    fn weight(snapshot: &ChainView, events: &[ChainEvent<C::Transaction>]) -> usize {
        let headers = snapshot.graph.as_ref().map_or(0, Graph::len) * size_of::<Header>();
        let nodes = snapshot.nodes.len() * size_of::<(Arc<str>, NodeView)>();
        size_of_val(snapshot) + headers + nodes + size_of_val(events)
    }
}

impl<T: Transaction> fmt::Debug for ChainState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChainState")
            .field("cycle", &self.known.cycle())
            .field("graph", &self.known.graph())
            .finish_non_exhaustive()
    }
}
