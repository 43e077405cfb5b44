//! Which blocks to ask for, and which node.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{Planned, Situation};
use crate::observer::Group;
use crate::observer::nodes::NodeFacts;
use crate::observer::question::{Flight, Question};
use crate::{Detail, Graph, Hash, Header, OnBranch, Transaction};

/// The blocks on the path to a better head of which no node that has them returns more than the header.
pub(in crate::observer) fn unread<T: Transaction>(at: &Situation<'_, T>) -> Vec<Header> {
    let Some(graph) = at.headers.graph() else { return Vec::new() };
    let missing = at.missing(graph).into_iter();
    missing.filter(|header| at.detail(graph, header) == Detail::Header).collect()
}

impl<T: Transaction> Situation<'_, T> {
    /// Each block on the path to a better head is requested once, and from a second node if the first one has not
    /// answered by the next cycle.
    pub(super) fn ask_for_blocks(&self, planned: &mut Vec<Planned>) {
        let Some(graph) = self.headers.graph() else { return };
        let mut bodies = Bodies::in_flight(self.flights, self.asked.cycle());
        for header in self.missing(graph) {
            if bodies.are_enough(&header.hash) {
                continue;
            }
            let detail = self.detail(graph, &header);
            let Some(node) = self.node_for(graph, &header, detail, &bodies) else { continue };
            bodies.begin(node.name());
            let question = Question::Block(header, detail);
            planned.push(Planned { node: Arc::clone(node.name()), question });
        }
    }

    /// The blocks on the path to a better head that are not there. None is wanted if only headers are read.
    fn missing(&self, graph: &Graph) -> Vec<Header> {
        if self.config.detail == Detail::Header {
            return Vec::new();
        }
        let mut seen = HashSet::new();
        let switches = self.branch.switches(graph, &self.nodes.linked_heads(), self.config.block_window);
        let headers = switches.iter().flat_map(|switch| switch.connected().iter().copied());
        headers.filter(|header| !self.branch.has_block(&header.hash) && seen.insert(header.hash)).collect()
    }

    /// Whether a node has a block.
    fn has(&self, graph: &Graph, node: &NodeFacts, header: &Header) -> bool {
        let on_branch = |head: Header| graph.is_on_branch(&header.hash, &head.hash) == OnBranch::Yes;
        node.linked().is_some_and(on_branch) || Some(node.name()) == self.headers.origin(&header.hash)
    }

    /// How much of a block is asked for: as much as one of the nodes that have it can still return.
    fn detail(&self, graph: &Graph, header: &Header) -> Detail {
        if !self.nodes.iter().any(NodeFacts::returns_less) {
            return self.config.detail;
        }
        let having = self.nodes.iter().filter(|node| node.has_a_say() && self.has(graph, node, header));
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
                && !bodies.asked_for(&header.hash).contains(&node.name())
                && self.has(graph, node, header)
        };
        // A block waits for a local node that is only busy: a public node is asked only if all local ones are late.
        let class = |node: &NodeFacts| (bodies.is_late(node.name()), node.group() == Group::Public);
        let candidates: Vec<&NodeFacts> = self.nodes.iter().filter(may).collect();
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
}

impl<'a> Bodies<'a> {
    fn in_flight(flights: &[&'a Flight], cycle: u64) -> Self {
        let mut bodies = Self {
            load: HashMap::new(),
            asked: HashMap::new(),
            late_nodes: HashSet::new(),
            late_blocks: HashSet::new(),
        };
        for flight in flights {
            let Question::Block(header, _) = &flight.question else { continue };
            bodies.begin(&flight.node);
            bodies.asked.entry(header.hash).or_default().push(&flight.node);
            if flight.cycle < cycle {
                bodies.late_nodes.insert(&flight.node);
                bodies.late_blocks.insert(header.hash);
            }
        }
        bodies
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

    /// Whether enough nodes were asked for a block: one, or two if the first is late.
    fn are_enough(&self, block: &Hash) -> bool {
        self.asked_for(block).len() >= if self.late_blocks.contains(block) { 2 } else { 1 }
    }
}
