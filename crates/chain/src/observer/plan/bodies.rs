//! Which blocks to ask for, and which node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::{Planned, Situation};
use crate::observer::Group;
use crate::observer::nodes::NodeFacts;
use crate::observer::question::{Flight, Question};
use crate::{Block, Detail, Graph, Hash, Header, OnBranch, Transaction};

/// A node is asked a second time for a block after this part of the time-out.
const AGAIN_AFTER: u32 = 5;

/// The blocks on the paths to better heads that are not there. None is wanted if only headers are read.
pub(in crate::observer) fn missing<T: Transaction>(at: &Situation<'_, T>) -> Vec<Header> {
    let Some(graph) = at.headers.graph().filter(|_| at.config.detail > Detail::Header) else {
        return Vec::new();
    };
    let mut seen = HashSet::new();
    let switches = at.branch.switches(graph, &at.nodes.linked_heads(), at.config.block_window);
    let headers = switches.iter().flat_map(|switch| switch.connected().iter().copied());
    headers.filter(|header| !at.branch.has_block(&header.hash) && seen.insert(header.hash)).collect()
}

/// The missing blocks of which no node returns more than what is known of them: what one returned, or the header.
pub(in crate::observer) fn settled<T: Transaction>(at: &Situation<'_, T>) -> Vec<Block<T>> {
    let Some(graph) = at.headers.graph().filter(|_| at.is_any_lowered()) else { return Vec::new() };
    let settled = |header: &Header| {
        let part = at.branch.part_of(&header.hash);
        let enough = at.detail(graph, header) <= part.map_or(Detail::Header, |part| part.detail);
        enough.then(|| part.cloned().unwrap_or_else(|| Block::unread(*header)))
    };
    at.branch.missing_blocks().iter().filter_map(settled).collect()
}

impl<T: Transaction> Situation<'_, T> {
    /// Whether the answer to a question is late: it began in an earlier cycle, and takes twice as long as the node's last
    /// answer. Where nodes take longer than a cycle, none is late for that alone.
    fn is_late(&self, flight: &Flight) -> bool {
        let usual = self.nodes.get(&flight.node).map_or(Duration::ZERO, NodeFacts::last_elapsed);
        let waited = self.now.saturating_duration_since(flight.since);
        flight.cycle < self.asked.cycle() && waited >= usual.saturating_mul(2)
    }

    /// Each block on the path to a better head is requested once, and from a second node if the first one is
    /// late. If there is no other node, the same one is asked a second time after a while.
    pub(super) fn ask_for_blocks(&self, planned: &mut Vec<Planned>) {
        let Some(graph) = self.headers.graph() else { return };
        let mut bodies = Bodies::in_flight(self.flights, |flight| self.is_late(flight));
        let overdue = self.config.request_timeout / AGAIN_AFTER;
        bodies
            .note_overdue(self.flights, |flight| self.now.saturating_duration_since(flight.since) >= overdue);
        for header in self.branch.missing_blocks() {
            if bodies.are_enough(&header.hash) {
                continue;
            }
            let detail = self.detail(graph, header);
            let Some(node) = self.node_for(graph, header, detail, &bodies) else { continue };
            bodies.begin(node.name());
            let question = Question::Block(*header, detail);
            planned.push(Planned { node: Arc::clone(node.name()), question });
        }
    }

    /// Whether a node has a block.
    fn has(&self, graph: &Graph, node: &NodeFacts, header: &Header) -> bool {
        let on_branch = |head: Header| graph.is_on_branch(&header.hash, &head.hash) == OnBranch::Yes;
        node.linked().is_some_and(on_branch) || Some(node.name()) == self.headers.origin(&header.hash)
    }

    /// Whether a node may get a block yet: its head is a little below the block, or it is not known what is below its head.
    fn may_get(&self, graph: &Graph, node: &NodeFacts, header: &Header) -> bool {
        node.is_believed()
            && node.head().is_some_and(|head| {
                let behind = header.height.checked_sub(head.height).filter(|behind| *behind > 0);
                let is_near = |behind| behind <= self.config.lagging_after;
                behind.map_or_else(|| !graph.contains(&head.hash), is_near)
            })
    }

    /// Whether a node is known not to return all of its blocks.
    fn is_any_lowered(&self) -> bool {
        self.nodes.iter().any(NodeFacts::returns_less)
    }

    /// How much of a block is asked for: as much as one of the nodes that have it can still return. A node that may get it
    /// yet is waited for, but not for long.
    fn detail(&self, graph: &Graph, header: &Header) -> Detail {
        if !self.is_any_lowered() {
            return self.config.detail;
        }
        let since = self.branch.missing_since(&header.hash);
        let waited = since.map_or(Duration::ZERO, |since| self.now.saturating_duration_since(since));
        let waits = waited < self.config.unread_after;
        let having = self.nodes.iter().filter(|node| {
            node.has_a_say(self.now)
                && (self.has(graph, node, header) || waits && self.may_get(graph, node, header))
        });
        let offers = having.map(|node| node.offers(&header.hash, self.config, self.now));
        offers.max().unwrap_or(self.config.detail)
    }

    /// The node that is asked for a block. One that has not answered by the next cycle comes last. Else local nodes
    /// come before public ones, then nodes that returned the last block they were asked for, then the node that
    /// reported this block first.
    fn node_for(
        &self,
        graph: &Graph,
        header: &Header,
        detail: Detail,
        bodies: &Bodies<'_>,
    ) -> Option<&NodeFacts> {
        let origin = self.headers.origin(&header.hash);
        let is_origin = |node: &NodeFacts| Some(node.name()) == origin;
        let may = |node: &&NodeFacts| {
            self.is_reachable(node)
                && node.is_honest()
                && node.offers(&header.hash, self.config, self.now) >= detail
                && !self.asked.was_withheld_by(node.name(), &header.hash, detail)
                && self.has(graph, node, header)
        };
        // A block waits for a local node that is only busy: a public node is asked only if all local ones are late.
        let class = |node: &NodeFacts| (bodies.is_late(node.name()), node.group() == Group::Public);
        let (asked, mut candidates): (Vec<&NodeFacts>, Vec<&NodeFacts>) =
            self.nodes.iter().filter(may).partition(|node| bodies.is_asked(node.name(), &header.hash));
        if candidates.is_empty() && bodies.is_overdue(&header.hash) {
            candidates = asked;
        }
        let best = candidates.iter().map(|node| class(node)).min();
        let is_free = |node: &&NodeFacts| {
            Some(class(node)) == best && bodies.load(node.name()) < self.config.requests_per_node
        };
        let rank = |node: &&NodeFacts| {
            (class(node), node.has_withheld_block(), !is_origin(node), bodies.load(node.name()))
        };
        candidates.into_iter().filter(is_free).min_by_key(rank)
    }
}

/// The requests for blocks in flight.
struct Bodies<'a> {
    load: HashMap<Arc<str>, usize>,
    asked: HashMap<Hash, Vec<&'a Arc<str>>>,
    /// Nodes that still owe a block from an earlier cycle, and these blocks.
    late_nodes: HashSet<&'a Arc<str>>,
    late_blocks: HashSet<Hash>,
    overdue_blocks: HashSet<Hash>,
}

impl<'a> Bodies<'a> {
    fn in_flight(flights: &[&'a Flight], is_late: impl Fn(&Flight) -> bool) -> Self {
        let mut bodies = Self {
            load: HashMap::new(),
            asked: HashMap::new(),
            late_nodes: HashSet::new(),
            late_blocks: HashSet::new(),
            overdue_blocks: HashSet::new(),
        };
        for flight in flights {
            let Question::Block(header, _) = &flight.question else { continue };
            bodies.begin(&flight.node);
            bodies.asked.entry(header.hash).or_default().push(&flight.node);
            if is_late(flight) {
                bodies.late_nodes.insert(&flight.node);
                bodies.late_blocks.insert(header.hash);
            }
        }
        bodies
    }

    fn note_overdue(&mut self, flights: &[&Flight], is_overdue: impl Fn(&Flight) -> bool) {
        for flight in flights.iter().filter(|flight| is_overdue(flight)) {
            if let Question::Block(header, _) = &flight.question {
                self.overdue_blocks.insert(header.hash);
            }
        }
    }

    fn begin(&mut self, node: &Arc<str>) {
        *self.load.entry(Arc::clone(node)).or_default() += 1;
    }

    fn load(&self, node: &str) -> usize {
        self.load.get(node).copied().unwrap_or_default()
    }

    fn is_late(&self, node: &Arc<str>) -> bool {
        self.late_nodes.contains(node)
    }

    /// The nodes that were asked for a block.
    fn asked_for(&self, block: &Hash) -> &[&'a Arc<str>] {
        self.asked.get(block).map_or(&[], Vec::as_slice)
    }

    fn is_asked(&self, node: &Arc<str>, block: &Hash) -> bool {
        self.asked_for(block).contains(&node)
    }

    /// Whether the only question for a block was probably lost: one that only takes its time is not sent twice.
    fn is_overdue(&self, block: &Hash) -> bool {
        self.overdue_blocks.contains(block) && self.asked_for(block).len() == 1
    }

    /// Whether enough nodes were asked for a block: one, or two if the first is late.
    fn are_enough(&self, block: &Hash) -> bool {
        let nodes: HashSet<_> = self.asked_for(block).iter().collect();
        nodes.len() >= if self.late_blocks.contains(block) { 2 } else { 1 }
    }
}
