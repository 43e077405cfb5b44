//! All facts about a chain, and how heads and headers are added. No I/O here: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::blocks::Blocks;
use super::header_origins::HeaderOrigins;
use super::node::NodeFacts;
use super::pending::Pending;
use super::{ChainConfig, Start};
use crate::adapter::{ChainError, ChainIdentity};
use crate::{ChainEvent, Graph, Hash, Header, Height, InsertError, Inserted, OnBranch, Transaction};

/// Headers, blocks, and what each node reported. `found` adds the answers to questions, `judge` judges the nodes,
/// `decide` chooses the branch.
#[derive(Debug)]
pub(super) struct ChainFacts<T> {
    pub(super) config: ChainConfig,
    pub(super) identity: Option<ChainIdentity>,
    pub(super) chain: Option<Chain>,
    pub(super) nodes: BTreeMap<Arc<str>, NodeFacts>,
    pub(super) pending: Pending,
    pub(super) blocks: Blocks<T>,
    pub(super) header_origins: HeaderOrigins,
    /// The nodes that did not return a block in this cycle.
    pub(super) tried: HashMap<Hash, Vec<Arc<str>>>,
    /// No node has the tip any more, and the last one that had it left it, and did not just fall silent.
    pub(super) tip_was_left: bool,
    pub(super) rivals: Vec<Header>,
    /// When and at which height the catch-up began.
    pub(super) behind_since: Option<(Instant, Height)>,
    /// Events that were not returned yet: a cancelled cycle loses none.
    pub(super) events: Vec<ChainEvent<T>>,
}

/// The graph and what was decided on it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) graph: Graph,
    /// The last block that was emitted.
    pub(super) tip: Header,
    /// No branch without this block is believed. May be ahead of the tip.
    pub(super) anchor: Header,
    /// The last final block that was emitted.
    pub(super) finalised: Header,
    /// The root is configured, or a block above it was emitted: it cannot be replaced any more.
    pub(super) root_is_fixed: bool,
}

impl Chain {
    pub(super) fn new(root: Header) -> Self {
        Self { graph: Graph::new(root), tip: root, anchor: root, finalised: root, root_is_fixed: false }
    }

    /// Whether a head is lower than the root: its branch is unknown.
    pub(super) fn is_below(&self, head: &Header) -> bool {
        head.height < self.graph.root().height
    }
}

/// Where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the graph.
    Linked,
    /// Some of its ancestors are missing.
    Waiting,
    /// Lower than the root: its branch is unknown.
    Below,
    /// On a branch that forks from the graph below the root.
    Off,
}

impl<T: Transaction> ChainFacts<T> {
    pub(super) fn new(config: ChainConfig) -> Self {
        let mut known = Self {
            identity: config.chain.clone(),
            chain: None,
            nodes: BTreeMap::new(),
            pending: Pending::default(),
            blocks: Blocks::new(),
            header_origins: HeaderOrigins::default(),
            tried: HashMap::new(),
            tip_was_left: false,
            rivals: Vec::new(),
            behind_since: None,
            events: Vec::new(),
            config,
        };
        if let Start::Known(headers) = &known.config.start
            && let [root, rest @ ..] = headers.as_slice()
        {
            let mut chain = Chain { root_is_fixed: true, ..Chain::new(*root) };
            // `validate` checks that they are a chain: each is inserted.
            for header in rest {
                if chain.graph.insert(*header).is_ok() {
                    chain.tip = *header;
                }
            }
            known.chain = Some(chain);
        }
        known
    }

    /// Records the head that a node reported.
    pub(super) fn answered(&mut self, name: &Arc<str>, head: Header, now: Instant) {
        let attached = self.is_attached(&head);
        let every = self.config.identify_every;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let attached = attached || node.extends(&head);
        let proved = node.identified.is_some() && node.foreign.is_none() && attached;
        let due = node.identified.is_none_or(|proved| now.saturating_duration_since(proved) >= every);
        node.asks_identity = due || !proved;
        if proved {
            self.take_in(name, head);
        } else {
            node.unverified_head = Some(head);
        }
    }

    pub(super) fn take_in(&mut self, name: &Arc<str>, head: Header) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let extends = node.extends(&head);
        if node.invalid_below && extends {
            (node.head, node.head_asked) = (Some(head), node.health.facts.last_success);
            return;
        }
        if (node.diverged_below_root || node.invalid_below) && !extends {
            // Its gaps are on the branch that it has left, and need no question.
            (node.diverged_below_root, node.invalid_below) = (false, false);
            self.pending.forget_reported_by(name);
        }
        let invalid = self.link(head, name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.invalid_header = invalid.map(|error| untrue(name, &error));
        if node.invalid_header.is_some() {
            return;
        }
        node.head_asked = node.health.facts.last_success;
        let before = node.head.replace(head);
        let Some((from, chain)) = before.zip(self.chain.as_ref()) else { return };
        let back = if chain.is_below(&head) {
            head.height < from.height
        } else {
            head != from && chain.graph.is_on_branch(&head.hash, &from.hash) == OnBranch::Yes
        };
        if back {
            self.events.push(ChainEvent::Rewound { node: Arc::clone(name), from, to: head });
        }
    }

    /// Links a header and all that waited for it, or keeps it until its parent is there. Returns why it cannot be true.
    pub(super) fn link(&mut self, header: Header, origin: &Arc<str>) -> Option<InsertError> {
        let limit = self.config.headers_off_branch;
        let chain = self.chain.as_mut()?;
        let mut invalid = None;
        let mut queue = vec![(header, Arc::clone(origin))];
        while let Some((next, origin)) = queue.pop() {
            if self.header_origins.count(&origin) >= limit && !chain.graph.contains(&next.hash) {
                // It is reported again when there is room: with the head above it, or by another node.
                continue;
            }
            match chain.graph.insert(next) {
                Ok(Inserted::New) => {
                    if self.blocks.get(&next.hash).is_none() {
                        self.header_origins.insert(next.hash, origin);
                    }
                    self.pending.remove(&next.hash);
                    queue.extend(self.pending.take_children(&next.hash));
                }
                Ok(Inserted::Known) | Err(InsertError::BelowRoot { .. }) => {}
                Err(InsertError::MissingParent { .. }) => {
                    self.pending.insert(next, &origin, self.config.pending_limit);
                }
                Err(error) if next == header => invalid = Some(error),
                Err(error) => {
                    if let Some(node) = self.nodes.get_mut(&origin) {
                        node.invalid_header = Some(untrue(&origin, &error));
                    }
                }
            }
        }
        invalid
    }

    /// Whether a head or its parent is known.
    fn is_attached(&self, head: &Header) -> bool {
        let known = |hash: &Hash| {
            self.pending.get(hash).is_some()
                || self.chain.as_ref().is_some_and(|chain| chain.graph.contains(hash))
        };
        known(&head.hash) || known(&head.parent)
    }

    pub(super) fn standing(&self, head: &Header) -> Standing {
        let Some(chain) = &self.chain else { return Standing::Waiting };
        let root = chain.graph.root();
        if chain.graph.contains(&head.hash) {
            Standing::Linked
        } else if chain.is_below(head) {
            Standing::Below
        } else if head.height == root.height {
            Standing::Off
        } else {
            let lowest = self.pending.lowest_below(&head.hash).unwrap_or(*head);
            if lowest.height <= root.height + 1 { Standing::Off } else { Standing::Waiting }
        }
    }
}

pub(super) fn untrue(name: &Arc<str>, error: &InsertError) -> ChainError {
    ChainError::Untrue { endpoint: name.to_string(), method: "header", reason: error.to_string() }
}
