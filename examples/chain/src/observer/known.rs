//! All that is known of a chain, and how answers go into it. No I/O here: the time is an argument.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::time::Instant;

use super::blocks::Blocks;
use super::fetch::Found;
use super::node::{Node, Trouble};
use super::pending::Pending;
use super::probe::LONGEST_REST;
use super::{ChainConfig, Start};
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Block, ChainEvent, Graph, Hash, Header, Height, InsertError, Inserted, OnBranch, Transaction};

/// Facts first: headers, blocks, and what each node said. What follows from them is decided in `decide`.
#[derive(Debug)]
pub(super) struct Known<T> {
    pub(super) config: ChainConfig,
    pub(super) identity: Option<ChainIdentity>,
    pub(super) chain: Option<Chain>,
    pub(super) nodes: BTreeMap<Arc<str>, Node>,
    pub(super) pending: Pending,
    pub(super) blocks: Blocks<T>,
    /// Who told a header first, until its block is there: that node is asked for it first.
    pub(super) tellers: HashMap<Hash, Arc<str>>,
    /// Whom a block was asked of in vain in this cycle.
    pub(super) tried: HashMap<Hash, Vec<Arc<str>>>,
    /// Nobody has the tip any more, and the last one who had it went away from it: it did not just fall
    /// silent.
    pub(super) tip_was_left: bool,
    pub(super) rivals: Vec<Header>,
    /// When and at which height the catch-up began.
    pub(super) behind_since: Option<(Instant, Height)>,
    /// What happened and was not returned yet: an interrupted cycle loses nothing.
    pub(super) events: Vec<ChainEvent<T>>,
}

/// The graph and what was decided on it.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) graph: Graph,
    /// Up to where the events were told.
    pub(super) tip: Header,
    /// No branch without this block is believed. May be ahead of the tip.
    pub(super) anchor: Header,
    /// The last final block that was told.
    pub(super) finalised: Header,
}

impl Chain {
    pub(super) fn new(root: Header) -> Self {
        Self { graph: Graph::new(root), tip: root, anchor: root, finalised: root }
    }

    /// Whether a head is lower than anything that is kept: nothing can be said of its branch.
    pub(super) fn is_below(&self, head: &Header) -> bool {
        head.height < self.graph.root().height
    }
}

/// Where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// In the graph.
    Linked,
    /// Parents of it are missing.
    Waiting,
    /// Lower than the root: nothing can be said.
    Below,
    /// On a branch that leaves ours below the root.
    Off,
}

impl<T: Transaction> Known<T> {
    pub(super) fn new(config: ChainConfig) -> Self {
        let mut known = Self {
            identity: config.chain.clone(),
            chain: None,
            nodes: BTreeMap::new(),
            pending: Pending::default(),
            blocks: Blocks::new(),
            tellers: HashMap::new(),
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
            let mut chain = Chain::new(*root);
            // They were checked to be a chain: each is taken.
            for header in rest {
                if chain.graph.insert(*header).is_ok() {
                    chain.tip = *header;
                }
            }
            known.chain = Some(chain);
        }
        known
    }

    /// Takes in what a node said of its head.
    pub(super) fn answered(&mut self, name: &Arc<str>, head: Header, now: Instant) {
        let attached = self.is_attached(&head);
        let every = self.config.identify_every;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let attached = attached || node.head == Some(head);
        let proved = node.identified.is_some() && node.foreign.is_none() && attached;
        let due = node.identified.is_none_or(|proved| now.saturating_duration_since(proved) >= every);
        node.asks_identity = due || !proved;
        if proved {
            self.take_in(name, head);
        } else {
            node.withheld = Some(head);
        }
    }

    /// Takes in what came of a question.
    pub(super) fn found(&mut self, name: &Arc<str>, found: Found<T>, now: Instant) {
        let in_vain = matches!(found, Found::Root(Ok(None) | Err(_)));
        let trouble = match found {
            Found::Identity(Ok(identity)) => {
                self.identified(name, identity, now);
                None
            }
            Found::Final(head, Ok(finalised)) => {
                self.told_final(name, head, finalised, now);
                None
            }
            Found::Root(Ok(Some(root))) => {
                self.begin_at(root);
                None
            }
            Found::Root(Ok(None)) => Some(ChainError::Empty { endpoint: name.to_string() }),
            Found::Headers { headers, gap, error } => {
                self.filled(name, &headers);
                // What the node says of the gap contradicts what it built on it.
                if let (Some(gap), Some(ChainError::Untrue { .. })) = (gap, &error)
                    && headers.is_empty()
                {
                    self.pending.forget_children(&gap, name);
                }
                error
            }
            Found::Off { head } => {
                self.is_off(name, head);
                None
            }
            Found::Block(_, Ok(Some(block))) => {
                self.delivered(block);
                None
            }
            Found::Block(header, Ok(None)) => {
                let reason = format!("it does not have block {:?}", header.hash);
                self.tried.entry(header.hash).or_default().push(Arc::clone(name));
                Some(ChainError::Refused { endpoint: name.to_string(), method: "block", reason })
            }
            Found::Block(header, Err(error)) => {
                self.tried.entry(header.hash).or_default().push(Arc::clone(name));
                Some(error)
            }
            Found::Identity(Err(error)) | Found::Final(_, Err(error)) | Found::Root(Err(error)) => {
                Some(error)
            }
        };
        let Some(node) = self.nodes.get_mut(name) else { return };
        if in_vain {
            node.vain = node.vain.saturating_add(1);
        }
        let Some(error) = trouble else { return };
        if let ChainError::RateLimited { retry_after, .. } = error {
            let rest = retry_after.unwrap_or(self.config.interval).min(LONGEST_REST);
            node.rests_until = now.checked_add(rest);
        }
        node.trouble = Some(Trouble { error, answers: node.health.facts.answers });
    }

    /// A trouble is over when the node has answered for its head since, does not rest, and is asked nothing
    /// more.
    pub(super) fn end_troubles(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        for (name, node) in &mut self.nodes {
            let answers = node.health.facts.answers;
            let is_old = node.trouble.as_ref().is_some_and(|trouble| trouble.answers != answers);
            if is_old && !node.rests(now) && !is_asked(name) {
                node.trouble = None;
            }
        }
    }

    fn identified(&mut self, name: &Arc<str>, found: ChainIdentity, now: Instant) {
        let expected = self.identity.get_or_insert_with(|| found.clone());
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.asks_identity = false;
        let withheld = node.withheld.take();
        if *expected == found {
            node.identified = Some(now);
            node.foreign = None;
            if let Some(head) = withheld {
                self.take_in(name, head);
            }
        } else if node.foreign.as_ref() != Some(&found) {
            node.foreign = Some(found.clone());
            (node.head, node.linked, node.identified) = (None, None, None);
            (node.finalised, node.told_final_at) = (None, None);
            let (node, expected) = (Arc::clone(name), expected.clone());
            self.events.push(ChainEvent::IdentityChanged { node, expected, found });
        }
    }

    fn told_final(&mut self, name: &Arc<str>, head: Hash, finalised: Option<Header>, now: Instant) {
        // Whoever has the name now may be somebody else than was asked.
        let of_it = |node: &&mut Node| node.identified.is_some() && node.is_honest();
        let Some(node) = self.nodes.get_mut(name).filter(of_it) else { return };
        (node.finalised, node.told_final_at) = (finalised, Some((head, now)));
    }

    fn filled(&mut self, name: &Arc<str>, headers: &[Header]) {
        for header in headers {
            self.link(*header, name);
        }
        let Some((node, chain)) = self.nodes.get_mut(name).zip(self.chain.as_ref()) else { return };
        node.vain = if headers.is_empty() { node.vain.saturating_add(1) } else { 0 };
        let highest = headers.last().filter(|highest| chain.graph.contains(&highest.hash));
        if let Some(highest) = highest.filter(|_| node.is_honest()) {
            node.linked = Some(*highest);
        }
    }

    /// Nothing of a branch that leaves below the root is ever linked: whoever has the same head is off, too.
    fn is_off(&mut self, name: &Arc<str>, head: Hash) {
        for node in self.nodes.values_mut() {
            node.off |= node.head.is_some_and(|now| now.hash == head);
        }
        if self.nodes.get(name).is_some_and(|node| node.off) {
            self.pending.forget_told_by(name);
        }
    }

    fn begin_at(&mut self, root: Header) {
        if self.chain.is_some() {
            return;
        }
        self.chain = Some(Chain::new(root));
        let heads: Vec<_> =
            self.nodes.iter().filter_map(|(name, node)| Some((Arc::clone(name), node.head?))).collect();
        for (name, head) in heads {
            self.link(head, &name);
        }
    }

    fn take_in(&mut self, name: &Arc<str>, head: Header) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let goes_on = node.head.is_some_and(|before| head == before || head.parent == before.hash);
        if node.off && !goes_on {
            // Its gaps are of the branch that it was on, and not worth a question.
            node.off = false;
            self.pending.forget_told_by(name);
        }
        let lie = self.link(head, name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.lie = lie.map(|error| untrue(name, &error));
        if node.lie.is_some() {
            return;
        }
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

    /// Links a header and all that waited for it, or keeps it until its parent is there. Returns why it
    /// cannot be true.
    pub(super) fn link(&mut self, header: Header, teller: &Arc<str>) -> Option<InsertError> {
        let chain = self.chain.as_mut()?;
        let mut lie = None;
        let mut queue = vec![(header, Arc::clone(teller))];
        while let Some((next, teller)) = queue.pop() {
            match chain.graph.insert(next) {
                Ok(Inserted::New) => {
                    if self.blocks.get(&next.hash).is_none() {
                        self.tellers.insert(next.hash, teller);
                    }
                    self.pending.remove(&next.hash);
                    queue.extend(self.pending.take_children(&next.hash));
                }
                Ok(Inserted::Known) | Err(InsertError::BelowRoot { .. }) => {}
                Err(InsertError::MissingParent { .. }) => {
                    self.pending.insert(next, &teller, self.config.pending_limit);
                }
                Err(error) if next == header => lie = Some(error),
                Err(error) => {
                    if let Some(node) = self.nodes.get_mut(&teller) {
                        node.lie = Some(untrue(&teller, &error));
                    }
                }
            }
        }
        lie
    }

    fn delivered(&mut self, block: Block<T>) {
        self.tellers.remove(&block.header.hash);
        self.tried.remove(&block.header.hash);
        self.blocks.insert(block);
    }

    /// Whether a head is known, or continues what is known.
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

fn untrue(name: &Arc<str>, error: &InsertError) -> ChainError {
    ChainError::Untrue { endpoint: name.to_string(), method: "header", reason: error.to_string() }
}
