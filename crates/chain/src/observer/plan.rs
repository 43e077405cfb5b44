//! Which questions to ask, and which node: a pure function of what is known.

mod bodies;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::asked::Asked;
use super::branch::CanonicalBranch;
use super::headers::Headers;
use super::nodes::{NodeFacts, Nodes};
use super::question::{Flight, Purpose, Question};
use super::{ChainConfig, Group, Start};
use crate::{Graph, Hash, Header, Height, OnBranch, Transaction};

pub(super) use bodies::{missing, settled};

/// How far headers may be ahead of the tip, in cycles of backfill.
const HEADERS_AHEAD: u64 = 4;

/// A question, and the node that it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) node: Arc<str>,
    pub(super) question: Question,
}

/// All that the plan follows from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Situation<'a, T> {
    pub(super) headers: &'a Headers,
    pub(super) branch: &'a CanonicalBranch<T>,
    pub(super) nodes: &'a Nodes,
    pub(super) flights: &'a [&'a Flight],
    pub(super) asked: &'a Asked,
    pub(super) config: &'a ChainConfig,
    pub(super) now: Instant,
}

/// What to ask now.
pub(super) fn plan<T: Transaction>(at: &Situation<'_, T>) -> Vec<Planned> {
    let mut planned = Vec::new();
    at.ask_for_identity(&mut planned);
    at.ask_for_headers(&mut planned);
    at.ask_for_finality(&mut planned);
    at.ask_for_blocks(&mut planned);
    planned
}

/// What to ask beside the heads, at the start of a cycle: nodes whose heads rise by several blocks at each look are asked
/// for the headers that are probably new.
pub(super) fn plan_ahead<T: Transaction>(at: &Situation<'_, T>) -> Vec<Planned> {
    let (Some(graph), Some(tip)) = (at.headers.graph(), at.branch.tip()) else { return Vec::new() };
    let question = |node: &NodeFacts| {
        let (expected, linked) = (node.expected_rise(), node.linked()?);
        let is_far = linked.height.saturating_sub(tip.height) >= at.ahead_of_tip();
        if expected == 0 || is_far || !node.is_believed() || node.empty_responses() > 0 {
            return None;
        }
        let to = linked.height.max(node.head()?.height).saturating_add(expected);
        let to = to.min(linked.height.saturating_add(at.budget(node)));
        Some(Question::Ahead { from: linked.height.saturating_add(1), to })
    };
    // One node for each branch, unless its answer is late.
    let being_asked = |flight: &&&Flight| {
        flight.question.purpose() == Purpose::Ahead && flight.cycle + 1 >= at.asked.cycle()
    };
    let asked = at.flights.iter().filter(being_asked).filter_map(|flight| at.nodes.get(&flight.node));
    let mut branches: Vec<Header> = asked.filter_map(NodeFacts::linked).collect();
    let mut planned = Vec::new();
    for node in at.in_order().into_iter().filter(|node| !at.is_busy(node) && !node.waits_for_identity()) {
        let (Some(question), Some(linked)) = (question(node), node.linked()) else { continue };
        let is_shared = |other: &Header| {
            [(other, &linked), (&linked, other)]
                .iter()
                .any(|(low, high)| graph.is_on_branch(&low.hash, &high.hash) == OnBranch::Yes)
        };
        if !branches.iter().any(is_shared) {
            branches.push(linked);
            planned.push(Planned { node: Arc::clone(node.name()), question });
        }
    }
    planned
}

/// How many headers a node is asked for at once: as many as it probably returns in half of the time-out.
pub(super) fn budget(config: &ChainConfig, node: &NodeFacts) -> usize {
    let answer = node.last_elapsed().max(Duration::from_millis(1));
    let rounds = (config.request_timeout.as_millis() / 2 / answer.as_millis()).max(1);
    let at_once = node.calls_at_once(config.requests_per_node);
    config.backfill.min(at_once.saturating_mul(usize::try_from(rounds).unwrap_or(usize::MAX)))
}

impl<T: Transaction> Situation<'_, T> {
    fn is_reachable(&self, node: &NodeFacts) -> bool {
        node.is_reachable(self.now, self.config.collect_for)
    }

    /// Whether such a question to the node is in flight.
    fn asks(&self, node: &NodeFacts, is_meant: impl Fn(Purpose) -> bool) -> bool {
        self.flights.iter().any(|flight| flight.node == *node.name() && is_meant(flight.question.purpose()))
    }

    /// Whether a question to the node is in flight on whose answer the next one depends.
    fn is_busy(&self, node: &NodeFacts) -> bool {
        self.asks(node, |purpose| match purpose {
            Purpose::Identity => node.waits_for_identity(),
            Purpose::Final | Purpose::Block => false,
            Purpose::Root | Purpose::Headers | Purpose::Ahead => true,
        })
    }

    /// How many headers may be known above the tip, whose blocks are still missing.
    fn ahead_of_tip(&self) -> Height {
        self.backfill().saturating_mul(HEADERS_AHEAD)
    }

    fn backfill(&self) -> Height {
        Height::try_from(self.config.backfill).unwrap_or(Height::MAX)
    }

    fn budget(&self, node: &NodeFacts) -> Height {
        Height::try_from(budget(self.config, node)).unwrap_or(Height::MAX)
    }

    /// The nodes that can be asked. One that is slow, or returns no headers, must not keep others from being asked.
    fn in_order(&self) -> Vec<&NodeFacts> {
        let mut nodes: Vec<_> = self.nodes.iter().filter(|node| self.is_reachable(node)).collect();
        nodes.sort_by_key(|node| {
            let is_slow = node.last_elapsed() >= self.config.collect_for;
            (node.empty_responses(), node.group() == Group::Public, is_slow)
        });
        nodes
    }

    /// One question for each node that has none in flight, other than for its last final block or for blocks.
    fn ask_for_headers(&self, planned: &mut Vec<Planned>) {
        let mut walks = Walks::default();
        for flight in self.flights {
            let node = self.nodes.get(&flight.node);
            walks.begin(&flight.question, node.map_or(u32::MAX, NodeFacts::empty_responses));
            if let Question::Ahead { to, .. } = flight.question
                && flight.cycle == self.asked.cycle()
            {
                walks.ahead = walks.ahead.max(to);
            }
        }
        for node in self.in_order() {
            if self.is_busy(node) {
                continue;
            }
            let Some(question) = self.question(node, &walks) else { continue };
            if self.asked.was_asked(node.name(), question.purpose()) {
                continue;
            }
            walks.begin(&question, node.empty_responses());
            planned.push(Planned { node: Arc::clone(node.name()), question });
        }
    }

    /// Now and then a node is asked which chain it is on. Only if that is unknown the other questions wait for it.
    fn ask_for_identity(&self, planned: &mut Vec<Planned>) {
        for node in self.nodes.iter().filter(|node| node.asks_identity() && self.is_reachable(node)) {
            // A node that does not decide must not determine which chain it is.
            let may = self.nodes.identity().is_some() || self.nodes.decides(node);
            let was_asked = self.asked.was_asked(node.name(), Purpose::Identity)
                || self.asks(node, |purpose| purpose == Purpose::Identity);
            if may && !was_asked && !self.is_busy(node) {
                planned.push(Planned { node: Arc::clone(node.name()), question: Question::Identity });
            }
        }
    }

    fn question(&self, node: &NodeFacts, walks: &Walks) -> Option<Question> {
        if node.waits_for_identity() {
            return None;
        }
        let identity = self.nodes.identity().filter(|_| node.is_honest() && !node.is_diverged())?;
        let Some(graph) = self.headers.graph() else {
            let (start, head) = (self.config.start.clone(), node.head()?.height);
            let is_recent = matches!(start, Start::Recent(_));
            let asks = if is_recent { self.is_furthest(node) } else { self.nodes.decides(node) };
            return asks.then_some(Question::Root { start, genesis: identity.genesis, head });
        };
        self.gap(graph, node, walks)
    }

    /// Whether no other deciding node has a higher head, once all of them have reported their chain. Nodes that
    /// returned no root come last. Local nodes are believed; a public node does not count if its head is higher than
    /// those of more than half of them.
    fn is_furthest(&self, node: &NodeFacts) -> bool {
        let group = self.nodes.deciders();
        let deciders = self.nodes.iter().filter(|node| node.group() == group);
        let reachable: Vec<_> = deciders.filter(|node| self.is_reachable(node)).collect();
        if reachable.iter().any(|node| node.asks_identity() && !node.has_trouble()) {
            return false;
        }
        let believed = reachable.into_iter().filter(|node| node.is_believed());
        let mut heads: Vec<_> = believed
            .filter_map(|node| Some((Reverse(node.head()?.height), node.name(), node.empty_responses())))
            .collect();
        heads.sort();
        if group == Group::Public {
            heads.drain(..heads.len() / 2);
        }
        heads
            .iter()
            .min_by_key(|(height, _, empty_responses)| (*empty_responses, *height))
            .is_some_and(|(_, best, _)| *best == node.name())
    }

    /// The lowest gap that the node may close.
    fn gap(&self, graph: &Graph, node: &NodeFacts, walks: &Walks) -> Option<Question> {
        let (head, tip) = (node.head()?.hash, self.branch.tip()?);
        let lowest = graph.root().height.saturating_add(1);
        let open = |gap: &Header| {
            // What another node is asked for beside its head may close it.
            let is_asked = gap.height <= walks.ahead.saturating_add(1);
            gap.height > lowest && !is_asked && walks.allow(Some(gap.parent), node.empty_responses())
        };
        let gaps = self.headers.gaps_of(node.name(), &head).into_iter();
        let gap = gaps.filter(open).min_by_key(|gap| gap.height)?;
        // The node is most likely on the heaviest branch, unless it was seen on another one. A branch without the last
        // final block may be the heaviest, as it is walked to its end: a node that was not seen there is not on it.
        let followed = graph.tips().filter(|tip| !self.leaves_anchor(graph, tip));
        let heaviest = followed.max_by_key(|tip| graph.total_work(&tip.hash))?;
        let elsewhere =
            node.linked().filter(|block| graph.is_on_branch(&block.hash, &heaviest.hash) == OnBranch::No);
        let reach = elsewhere.unwrap_or(heaviest).height;
        // Above the lowest gap there may be others, up to the head.
        let top = node.head()?.height.max(gap.height) - 1;
        if gap.height <= reach.saturating_add(1) || top.saturating_sub(reach) <= 1 {
            return Some(Question::Down { from: gap.parent, height: gap.height - 1, head });
        }
        if !self.headers.has_room_for(node.name()) {
            // What fills it may be a lost branch that the node has left by now: then there is room again.
            let lost = node.linked().filter(|block| self.leaves_anchor(graph, block));
            let block = lost.filter(|_| node.owes_branch(&head))?;
            return Some(Question::OnBranch { block, head });
        }
        // Headers that other nodes returned, on a branch that may be lost, must not block the node's own branch. The tip
        // never follows a branch without the last final block: it has to be walked to its end, to see the breach.
        let followed = node.linked().filter(|block| !self.leaves_anchor(graph, block));
        let ahead = followed.map_or(0, |block| block.height.saturating_sub(tip.height));
        let to = top.saturating_add(node.expected_rise()).min(reach.saturating_add(self.budget(node)));
        let question = Question::Up { from: reach + 1, to, gap, head };
        let may = ahead < self.ahead_of_tip() && walks.allow(Walks::end(&question)?, node.empty_responses());
        may.then_some(question)
    }

    /// Whether a block is on a branch without the last final block.
    fn leaves_anchor(&self, graph: &Graph, block: &Header) -> bool {
        self.branch.anchor().is_some_and(|anchor| graph.leaves(block, &anchor))
    }

    /// What is final usually changes with the head; `identify_every` covers the other cases.
    fn ask_for_finality(&self, planned: &mut Vec<Planned>) {
        for node in self.nodes.iter() {
            let Some(head) = node.owes_final(self.config.identify_every, self.now) else { continue };
            let was_asked = self.asked.was_asked(node.name(), Purpose::Final)
                || self.asks(node, |purpose| purpose == Purpose::Final);
            if !was_asked && self.is_reachable(node) {
                let question = Question::Final(head.hash);
                planned.push(Planned { node: Arc::clone(node.name()), question });
            }
        }
    }
}

/// The requests for headers in flight: by the block in which a gap ends, or `None` if they do not reach it; each with the least
/// `empty_responses` of the nodes that were asked.
#[derive(Default)]
struct Walks {
    begun: HashMap<Option<Hash>, u32>,
    /// Up to which height headers are requested beside the heads in this cycle.
    ahead: Height,
}

impl Walks {
    /// The block in which the gap of a request ends, or `None` if the request does not reach it.
    #[expect(clippy::option_option, reason = "other questions are no walks")]
    fn end(question: &Question) -> Option<Option<Hash>> {
        match question {
            Question::Down { from, .. } => Some(Some(*from)),
            Question::Up { to, gap, .. } => Some((*to >= gap.height - 1).then_some(gap.parent)),
            _ => None,
        }
    }

    fn begin(&mut self, question: &Question, empty_responses: u32) {
        let Some(what) = Self::end(question) else { return };
        let least = self.begun.entry(what).or_insert(empty_responses);
        *least = empty_responses.min(*least);
    }

    /// Whether a node should be asked too: only if it is more reliable than those that were asked already.
    fn allow(&self, what: Option<Hash>, empty_responses: u32) -> bool {
        self.begun.get(&what).is_none_or(|least| empty_responses < *least)
    }
}
