//! What is known of a chain after a cycle.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::Group;
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Graph, Header, Height};

/// The chain and its nodes after one cycle; cheap to clone.
///
/// In a wait it has no answer to a question from before the wait's start: a node with only such answers has no head,
/// and what follows from such heads is unknown. The tip, the last final block and the graph follow from the events;
/// they stay.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChainView {
    /// Which chain it is; `None` until a node has reported it.
    pub chain: Option<ChainIdentity>,
    /// The headers of all branches; `None` until the first one is known.
    pub graph: Option<Graph>,
    /// The tip of the canonical branch: the last block that the events connected. Before the first events, the block
    /// where the observation begins.
    pub tip: Option<Header>,
    /// The best head of a deciding node, towards which the tip moves. `None` while no deciding node has the last final
    /// block: the tip then stays.
    pub head: Option<Header>,
    /// The last final block of the canonical branch. The oldest one that is kept counts as final.
    pub finalised: Option<Header>,
    /// Heads of other branches with the same weight as the tip.
    pub rivals: Vec<Header>,
    /// The best block that more than half of the fresh public nodes have on their branches; `None` if too few are
    /// fresh, or no such block is known.
    pub target: Option<Header>,
    /// How far a catch-up is; `None` while the tip is at most
    /// [`lagging_after`](super::ChainConfig::lagging_after) blocks behind the nodes. In a wait also while no deciding
    /// node has reported the goal since its start: compare `tip` with `head` to wait for the end of a catch-up.
    pub progress: Option<Progress>,
    /// Every node by its name.
    pub nodes: Arc<BTreeMap<Arc<str>, NodeView>>,
    /// Which nodes decide.
    pub(super) deciders: Group,
    /// How many headers wait for their parents.
    pub pending: usize,
    /// How many blocks with transactions the observer keeps: see
    /// [`ChainConfig::blocks_kept`](super::ChainConfig::blocks_kept).
    pub blocks: usize,
    /// When this was so.
    pub taken_at: Instant,
    /// When the nodes' heads were recorded: what answered by then is judged by this time.
    pub(super) heads_at: Instant,
}

/// One node as last seen. `Debug` leaves out the health: it differs after each answer, and would hide the changes that
/// a report shows.
#[derive(Clone)]
#[non_exhaustive]
pub struct NodeView {
    /// Local or public.
    pub group: Group,
    /// The last head that was accepted, since it is in the set: the last one that it reported, unless a lighter one is
    /// still to be confirmed. [`ChainView::answer`] returns it if it is that of the last answer.
    pub head: Option<Header>,
    /// When the probe began that returned it.
    pub(super) head_asked: Option<Instant>,
    /// The last final block that it reported.
    pub finalised: Option<Header>,
    /// Where its head is relative to the canonical tip.
    pub agreement: Agreement,
    /// When it returned its head, and how often it failed to.
    pub health: SourceHealth,
    /// Why it did not return its head; else why it is not believed; else why less is asked of its blocks; else why it
    /// does not return what is final, after it had; else the error of another request, until it has returned its head
    /// again and no request is open; else why its branch is not walked to its end.
    pub error: Option<ChainError>,
    /// Whether its address keeps returning to heads that it has left, as one does that is served by several backends:
    /// three times within a minute, and not yet steady for a minute. See
    /// [`ChainConfig::lighter_after`](super::ChainConfig::lighter_after).
    pub flaps: bool,
}

impl fmt::Debug for NodeView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeView")
            .field("group", &self.group)
            .field("head", &self.head)
            .field("finalised", &self.finalised)
            .field("agreement", &self.agreement)
            .field("error", &self.error)
            .field("flaps", &self.flaps)
            .finish_non_exhaustive()
    }
}

/// Where a node's head is relative to the canonical tip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// The node has not answered yet, or it is not known where the chain begins.
    Unknown,
    /// It is on the canonical branch, this many blocks below the tip.
    Behind(Height),
    /// It is this many blocks below the tip, and lower than the oldest block that is kept: its branch is unknown.
    Below(Height),
    /// The tip is on the node's branch, this many blocks below its head.
    Ahead(Height),
    /// It is on another branch, which forks from the canonical one at this block.
    Forked(Header),
    /// Some of its ancestors are missing.
    Pending,
    /// It is on a branch without a final block: not believed.
    Breached,
    /// The node is on another chain: not believed.
    OtherChain(ChainIdentity),
    /// It contradicts what is known, see the error: not believed.
    Untrue,
}

/// A catch-up in progress.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The tip's height when it began.
    pub from: Height,
    /// The tip's height now.
    pub height: Height,
    /// The highest head of a deciding node.
    pub goal: Height,
    /// Blocks per second since it began.
    pub rate: f64,
    /// The time that is left at this rate; `None` while the rate is 0.
    pub left: Option<Duration>,
}

impl NodeView {
    /// The node without answers from before it left the set, if it is back and has not answered yet.
    pub(super) fn since_it_appeared(self) -> Self {
        if self.health.facts.last_success.is_some() { self } else { self.with(self.health.clone(), false) }
    }

    /// The node without answers to questions from before `since`; `None` if it has no such answer.
    fn asked_since(&self, since: Instant) -> Option<Self> {
        // The last answer may have returned a head that is not accepted, or not yet.
        let is_older = self.head.is_some() && self.head_asked.is_none_or(|asked| asked < since);
        match self.health.asked_since(since) {
            None if !is_older => None,
            health => Some(self.with(health.unwrap_or_else(|| self.health.clone()), !is_older)),
        }
    }

    /// The same node with only what this health covers, and with its head if that counts.
    fn with(&self, health: SourceHealth, head_counts: bool) -> Self {
        let answered = health.facts.last_success.is_some();
        let (has_head, has_failed) = (answered && head_counts, health.is_failing());
        let is_about_answer = matches!(self.agreement, Agreement::OtherChain(_) | Agreement::Untrue);
        let agreement = has_head || answered && is_about_answer;
        Self {
            group: self.group,
            head: self.head.filter(|_| has_head),
            head_asked: self.head_asked.filter(|_| has_head),
            finalised: self.finalised.filter(|_| has_head),
            agreement: if agreement { self.agreement.clone() } else { Agreement::Unknown },
            error: self.error.clone().filter(|_| answered || has_failed),
            flaps: self.flaps && answered,
            health,
        }
    }

    /// The head, if the last answer returned it.
    fn answer(&self) -> Option<Header> {
        self.head.filter(|_| self.head_asked == self.health.facts.last_success)
    }

    /// Whether the public target depends on it at this time.
    fn counts_for_target(&self, now: Instant) -> bool {
        self.group == Group::Public && self.is_believed() && self.health.freshness(now).is_fresh()
    }

    fn is_believed(&self) -> bool {
        !matches!(
            self.agreement,
            Agreement::Breached | Agreement::OtherChain(_) | Agreement::Untrue | Agreement::Unknown
        )
    }
}

impl ChainView {
    /// The node of this name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.get(name)
    }

    /// Whether the node answers: see [`SourceHealth::is_answering`].
    #[must_use]
    pub fn is_answering(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| node.health.is_answering(self.heads_at))
    }

    /// Whether the node's last answer is not too old. One that has just died is fresh for a while yet: see
    /// [`is_answering`](Self::is_answering).
    #[must_use]
    pub fn is_fresh(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| node.health.freshness(self.taken_at).is_fresh())
    }

    /// The head of a node, if the node answers and its last answer returned that head. `None` if that answer is not
    /// accepted, or not yet: the node is on another chain, contradicts what is known, or has to prove its chain first.
    #[must_use]
    pub fn answer(&self, name: &str) -> Option<Header> {
        self.node(name).filter(|_| self.is_answering(name))?.answer()
    }

    /// The nodes of the set that answer: see [`is_answering`](Self::is_answering).
    pub fn answering(&self) -> impl Iterator<Item = (&Arc<str>, &NodeView)> {
        self.nodes.iter().filter(|(_, node)| node.health.is_answering(self.heads_at))
    }

    /// The common head of all nodes, if all [answer](Self::answer) and have the same head; an empty set has none.
    #[must_use]
    pub fn shared_head(&self) -> Option<Header> {
        let first = self.answer(self.nodes.keys().next()?)?;
        self.nodes.keys().all(|name| self.answer(name) == Some(first)).then_some(first)
    }

    /// The view without answers to questions from before `since`; `None` if it has no such answer.
    pub(super) fn asked_since(&self, since: Instant) -> Option<Self> {
        let asked_since = |node: &NodeView| node.asked_since(since);
        if self.nodes.values().all(|node| asked_since(node).is_none()) {
            return None;
        }
        let view = |(name, node): (&Arc<str>, &NodeView)| {
            (Arc::clone(name), asked_since(node).unwrap_or_else(|| node.clone()))
        };
        let nodes: BTreeMap<_, _> = self.nodes.iter().map(view).collect();
        let deciding = || nodes.values().filter(|node| node.group == self.deciders && node.head.is_some());
        let has = |head: &Header| deciding().any(|node| node.head == Some(*head));
        // Of a node on the branch of the tip: without a heavier head, the best one is the tip.
        let has_tip = || deciding().any(|node| matches!(node.agreement, Agreement::Behind(_)));
        let reaches = |goal: Height| {
            deciding().any(|node| node.is_believed() && node.head.is_some_and(|head| head.height == goal))
        };
        let is_older = |name: &Arc<str>, node: &NodeView| node.head.is_some() && nodes[name].head.is_none();
        // One that has not answered for long does not count for the target, and may stay unknown.
        let mut public = self.nodes.iter().filter(|(_, node)| node.counts_for_target(self.taken_at));
        let by_all = public.all(|(name, node)| !is_older(name, node));
        let head = self.head.filter(|head| has(head) || self.tip == Some(*head) && has_tip());
        let progress = self.progress.filter(|progress| reaches(progress.goal));
        let rivals = self.rivals.iter().copied().filter(has).collect();
        let target = self.target.filter(|_| by_all);
        Some(Self { nodes: Arc::new(nodes), head, rivals, target, progress, ..self.clone() })
    }

    /// How many blocks of the public target's branch the node lacks: 0 is in sync. `None` if there is no target, the
    /// node does not answer, or its branch is unknown.
    #[must_use]
    pub fn behind_target(&self, name: &str) -> Option<Height> {
        let (target, graph) = (self.target?, self.graph.as_ref()?);
        let head = self.answer(name)?;
        let shared = graph.common_ancestor(&head.hash, &target.hash)?;
        Some(target.height - shared.height)
    }
}
