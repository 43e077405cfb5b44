//! Chains drawn in text, nodes that have parts of them, and the events that the observer emits.

mod front;
mod steps;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use watchkeeper::source::SharedSources;
use watchkeeper::subscription::Subscription;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, Observer};
use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
use watchkeeper_chain::{
    Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, Hash, Header, Start, Transaction,
};

pub(crate) use front::{Front, InFront};
pub(crate) use steps::{LONG, NAMES, Step, heal, on_paused_clock, steps};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A transaction that is only a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named(pub(crate) &'static str);

impl Transaction for Named {
    fn id(&self) -> Hash {
        hash(self.0)
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        Vec::new()
    }
}

pub(crate) type Node = MemoryNode<Named>;
pub(crate) type Event = ChainEvent<Named>;

/// The hash that a name stands for.
pub(crate) fn hash(name: &str) -> Hash {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    Hash(bytes)
}

/// The name that a hash stands for.
pub(crate) fn name(hash: Hash) -> String {
    String::from_utf8(hash.0.into_iter().take_while(|byte| *byte != 0).collect()).unwrap()
}

/// Blocks by their names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    blocks: BTreeMap<String, Block<Named>>,
}

impl Tree {
    /// Lines of blocks, each the parent of the next; a line begins with a known block or with the root.
    /// A block weighs 1, or the number after its colon.
    ///
    /// ```text
    /// g a1 a2 a3
    /// a1 b2 b3:5
    /// ```
    pub(crate) fn new(drawing: &str) -> Self {
        let mut tree = Self::default();
        for line in drawing.lines() {
            tree.line(line);
        }
        tree
    }

    pub(crate) fn line(&mut self, line: &str) {
        let mut parent: Option<Header> = None;
        for word in line.split_whitespace() {
            let (block, work) = word.split_once(':').unwrap_or((word, "1"));
            if let Some(known) = self.blocks.get(block) {
                parent = Some(known.header);
                continue;
            }
            let header = Header {
                hash: hash(block),
                parent: parent.map_or(hash(""), |parent| parent.hash),
                height: parent.map_or(0, |parent| parent.height + 1),
                work: work.parse().unwrap(),
                time: 0,
            };
            self.insert(Block::new(header, Vec::new()));
            parent = Some(header);
        }
    }

    pub(crate) fn insert(&mut self, block: Block<Named>) {
        self.blocks.insert(name(block.header.hash), block);
    }

    pub(crate) fn header(&self, name: &str) -> Header {
        self.block(name).header
    }

    pub(crate) fn block(&self, name: &str) -> &Block<Named> {
        self.blocks.get(name).unwrap_or_else(|| panic!("{name} is not drawn"))
    }

    /// A node that has the branch up to `head`.
    pub(crate) fn node(&self, head: &str) -> Node {
        let node = MemoryNode::new(identity());
        self.advance(&node, head);
        node
    }

    /// Gives a node the branch up to `head`, and that head.
    pub(crate) fn advance(&self, node: &Node, head: &str) {
        let mut script = node.script();
        let mut next = self.blocks.get(head);
        assert!(next.is_some(), "{head} is not drawn");
        while let Some(block) = next {
            script.blocks.insert(block.header.hash, block.clone());
            next = self.blocks.get(&name(block.header.parent));
        }
        script.head = Some(hash(head));
    }
}

pub(crate) fn identity() -> ChainIdentity {
    ChainIdentity { id: "test".to_owned(), genesis: hash("g") }
}

/// A chain of `length` blocks above `g`, named by `prefix` and their heights.
pub(crate) fn long(prefix: &str, length: u64) -> String {
    branch("g", prefix, 1..=length)
}

/// A line of blocks from `from` on, named by `prefix` and their heights.
pub(crate) fn branch(from: &str, prefix: &str, heights: std::ops::RangeInclusive<u64>) -> String {
    heights.fold(from.to_owned(), |line, height| format!("{line} {prefix}{height}"))
}

/// Polls once a second, from genesis on. A node's head is left at once also for a lighter one, as most tests rewind
/// nodes; those of flapping addresses set `lighter_after`.
pub(crate) fn config() -> ChainConfig {
    ChainConfig {
        unread_after: 2 * SECOND,
        start: Start::Genesis,
        lighter_after: 1,
        ..ChainConfig::every(SECOND)
    }
}

pub(crate) struct Watched<O: Observer = ChainObserver<Node>> {
    pub(crate) runtime: ObservationRuntime<O>,
    pub(crate) sources: SharedSources<O::Source>,
    subscription: Subscription<O::Event>,
}

pub(crate) fn local<T: Transaction>(
    nodes: &[(&str, &MemoryNode<T>)],
) -> Vec<ObservedSource<ChainSource<MemoryNode<T>>>> {
    nodes.iter().map(|(name, node)| ObservedSource::new(*name, ChainSource::local((*node).clone()))).collect()
}

impl Watched {
    pub(crate) async fn start(config: ChainConfig, sources: Vec<ObservedSource<ChainSource<Node>>>) -> Self {
        Self::with(ChainObserver::new(config), sources).await
    }

    /// Runs a cycle and returns the events since the last call, in words.
    pub(crate) async fn events(&mut self) -> Vec<String> {
        self.cycle().await;
        self.emitted().iter().map(in_words).collect()
    }
}

impl<O> Watched<O>
where
    O: Observer<Source: Clone, Snapshot: Clone, Event: Clone>,
{
    /// Polls once a second.
    pub(crate) async fn with(observer: O, sources: Vec<ObservedSource<O::Source>>) -> Self {
        let sources = SharedSources::new(sources);
        let timing = ObservationConfig { interval: SECOND, history_limit: 1024, ..Default::default() };
        let runtime = ObservationRuntime::start(sources.clone(), observer, timing).await.unwrap();
        let subscription = runtime.handle().subscribe();
        Self { runtime, sources, subscription }
    }

    /// The view after a cycle that begins now or later.
    pub(crate) async fn cycle(&self) -> O::Snapshot {
        self.runtime.poll_now_and_wait().await.unwrap().value.clone()
    }

    /// The view of the last cycle.
    pub(crate) fn last_view(&self) -> O::Snapshot {
        self.runtime.handle().latest_snapshot().unwrap().value.clone()
    }

    /// The events since the last call.
    pub(crate) fn emitted(&mut self) -> Vec<O::Event> {
        let batches = std::iter::from_fn(|| self.subscription.try_recv()).map(Result::unwrap);
        batches.flat_map(|batch| batch.events.clone()).collect()
    }
}

pub(crate) fn in_words(event: &Event) -> String {
    let names =
        |headers: &[Header]| headers.iter().map(|header| name(header.hash)).collect::<Vec<_>>().join(" ");
    let blocks =
        |blocks: &[Arc<Block<Named>>]| names(&blocks.iter().map(|block| block.header).collect::<Vec<_>>());
    let of = |header: &Header| name(header.hash);
    match event {
        ChainEvent::Committed { new } => format!("committed {}", blocks(new)),
        ChainEvent::Reorged { old, new, ancestor } => {
            format!("reorged {} to {} at {}", names(old), blocks(new), of(ancestor))
        }
        ChainEvent::Reverted { old, ancestor } => format!("reverted {} to {}", names(old), of(ancestor)),
        ChainEvent::Finalised { block } => format!("finalised {}", of(block)),
        ChainEvent::Rivals { tip, rival } => format!("rivals {} {}", of(tip), of(rival)),
        ChainEvent::Lagging { node, behind } => format!("{node} lags by {behind}"),
        ChainEvent::CaughtUp { node } => format!("{node} caught up"),
        ChainEvent::Flapping { node, head, other } => {
            format!("{node} flaps between {} and {}", of(head), of(other))
        }
        ChainEvent::Rewound { node, from, to } => format!("{node} rewound {} to {}", of(from), of(to)),
        ChainEvent::FinalityBreached { node, finalised, head } => {
            format!("{node} breached {} by {}", of(finalised), of(head))
        }
        ChainEvent::IdentityChanged { node, found, .. } => format!("{node} is on {}", found.id),
        _ => unreachable!("{event:?}"),
    }
}

pub(crate) fn show(header: Option<Header>) -> String {
    header.map_or_else(|| "-".to_owned(), |header| name(header.hash))
}

/// Applies events to a branch of names, and checks that they fit.
pub(crate) fn fold(branch: &mut Vec<String>, events: &[Event]) {
    let mut hashes: Vec<Hash> = branch.iter().map(|name| hash(name)).collect();
    fold_hashes(&mut hashes, events);
    *branch = hashes.into_iter().map(name).collect();
}

/// The same with the hashes of any chain.
pub(crate) fn fold_hashes<T: Transaction>(branch: &mut Vec<Hash>, events: &[ChainEvent<T>]) {
    for event in events {
        let (old, new, ancestor) = match event {
            ChainEvent::Committed { new } => (&[][..], &new[..], None),
            ChainEvent::Reorged { old, new, ancestor } => (&old[..], &new[..], Some(ancestor)),
            ChainEvent::Reverted { old, ancestor } => (&old[..], &[][..], Some(ancestor)),
            _ => continue,
        };
        assert!(!old.is_empty() || !new.is_empty(), "{event:?}");
        for left in old {
            assert_eq!(branch.pop(), Some(left.hash));
        }
        if let Some(ancestor) = ancestor {
            assert_eq!(branch.last(), Some(&ancestor.hash));
        }
        for block in new {
            assert_eq!(branch.last(), Some(&block.header.parent));
            branch.push(block.header.hash);
        }
    }
}
