//! The nodes: which count, which are believed, and which decide.

mod asked_head;
mod final_reports;
mod heads;
mod node;
mod proof;
mod resumed;
mod returns;
mod rise;
mod standing;
mod tip;
mod troubles;
mod width;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::headers::{Headers, Place};
use super::{ChainConfig, Group, Start};
use crate::adapter::{ChainError, ChainIdentity};
use crate::{ChainEvent, Graph, Hash, Header, Height, OnBranch};
use heads::Patience;
use resumed::ResumedTip;
use tip::{Hold, LagChange};

pub(super) use heads::HeadChange;
pub(super) use node::NodeFacts;
pub(super) use standing::StandingCommand;

/// Owns the facts of each node by its name, and which chain the nodes must be on.
#[derive(Debug)]
pub(super) struct Nodes {
    identity: Option<ChainIdentity>,
    by_name: BTreeMap<Arc<str>, NodeFacts>,
    /// When the source set and its heads were recorded last.
    recorded_at: Option<Instant>,
    resumed: Option<ResumedTip>,
}

/// The deciding nodes that have the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holders {
    Some,
    None,
    /// One that had it left it, or all have gone back from the one with which the observation began. A node that is not
    /// believed any more because it fell silent did not leave the tip.
    NoneAfterOneLeft,
}

impl Nodes {
    /// No nodes, that have to be on the configured chain, if any.
    pub(super) fn new(config: &ChainConfig) -> Self {
        let is_resumed = matches!(config.start, Start::Known(_));
        Self {
            identity: config.chain.clone(),
            by_name: BTreeMap::new(),
            recorded_at: None,
            resumed: is_resumed.then(ResumedTip::default),
        }
    }

    /// When the source set and its heads were recorded last.
    pub(super) fn recorded_at(&self) -> Option<Instant> {
        self.recorded_at
    }

    /// Which chain it is; `None` until a node has reported it.
    pub(super) fn identity(&self) -> Option<&ChainIdentity> {
        self.identity.as_ref()
    }

    pub(super) fn get(&self, name: &str) -> Option<&NodeFacts> {
        self.by_name.get(name)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut NodeFacts> {
        self.by_name.get_mut(name)
    }

    /// All nodes, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &NodeFacts> {
        self.by_name.values()
    }

    /// Which group decides which chain it is, where it begins, and which branch is canonical and final: the local nodes
    /// if any is in the source set, or left it less than `forget_after` after its last answer.
    pub(super) fn deciders(&self) -> Group {
        let lists = |group| self.iter().any(|node| node.group() == group);
        if !lists(Group::Local) && lists(Group::Public) { Group::Public } else { Group::Local }
    }

    pub(super) fn decides(&self, node: &NodeFacts) -> bool {
        node.group() == self.deciders()
    }

    /// The believed nodes that decide.
    pub(super) fn believed(&self) -> impl Iterator<Item = &NodeFacts> {
        let group = self.deciders();
        self.iter().filter(move |node| node.group() == group && node.is_believed())
    }

    /// The heads of all believed nodes.
    pub(super) fn heads(&self) -> Vec<Header> {
        self.iter().filter(|node| node.is_believed()).filter_map(NodeFacts::head).collect()
    }

    /// The linked heads of the believed nodes that decide.
    pub(super) fn linked_heads(&self) -> Vec<Header> {
        self.believed().filter_map(NodeFacts::linked).collect()
    }

    /// What the believed nodes that decide report as final. A silent node keeps its vote until it is forgotten.
    pub(super) fn reported_final(&self) -> Vec<Hash> {
        self.believed().filter_map(|node| Some(node.finalised()?.hash)).collect()
    }

    /// The highest head of a believed node that decides.
    pub(super) fn goal(&self) -> Option<Height> {
        self.believed().filter_map(NodeFacts::head).map(|head| head.height).max()
    }

    /// The height of the believed node that is furthest behind. One whose head is below the root counts too.
    pub(super) fn laggard(&self) -> Option<Height> {
        let believed = self.iter().filter(|node| node.is_believed());
        believed.filter_map(|node| node.linked().or(node.head())).map(|block| block.height).min()
    }

    /// Begins to record the source set: no node is in it yet.
    pub(super) fn begin_set(&mut self) {
        self.by_name.values_mut().for_each(NodeFacts::unlist);
    }

    /// Records a node of the source set. Whether it has answered since it was last recorded.
    pub(super) fn is_in_set(
        &mut self,
        name: &Arc<str>,
        group: Group,
        health: SourceHealth,
        failure: Option<ChainError>,
    ) -> bool {
        let before = self.by_name.get(name).map_or(0, |node| node.health().facts.answers);
        let is_new = before != health.facts.answers;
        let node = self.by_name.entry(Arc::clone(name));
        let node = node.or_insert_with(|| NodeFacts::new(Arc::clone(name), group, health.clone()));
        node.is_there(group, health, failure);
        is_new
    }

    /// Ends to record the source set.
    pub(super) fn end_set(&mut self, now: Instant) {
        self.recorded_at = Some(now);
        self.by_name.values_mut().filter(|node| !node.is_listed()).for_each(NodeFacts::left);
    }

    /// Records which chain a node is on. The first answer decides which chain it is. Returns the head that waited for
    /// this, and what follows.
    pub(super) fn identified(
        &mut self,
        name: &str,
        found: &ChainIdentity,
        now: Instant,
    ) -> (Option<Header>, &'static [StandingCommand]) {
        let expected = self.identity.get_or_insert_with(|| found.clone());
        match self.by_name.get_mut(name) {
            Some(node) if expected == found => node.proved(now),
            Some(node) => (None, node.is_elsewhere(found)),
            None => (None, &[]),
        }
    }

    /// Records that waiting headers of these nodes cannot be true.
    pub(super) fn contradicted(&mut self, waiting: Vec<(Arc<str>, ChainError)>) {
        for (name, error) in waiting {
            if let Some(node) = self.by_name.get_mut(&name) {
                node.is_contradicted(error);
            }
        }
    }

    /// Forgets nodes that have been silent for too long.
    pub(super) fn age(&mut self, config: &ChainConfig, now: Instant) {
        self.by_name.retain(|_, node| node.age(config, now));
    }

    /// Whether most public nodes are not on branches above a root that they decided: the root was false, or only one
    /// node has it.
    pub(super) fn doubt_root(&self, headers: &Headers) -> bool {
        if self.deciders() != Group::Public {
            return false;
        }
        let heads: Vec<Header> = self.believed().filter_map(NodeFacts::head).collect();
        let is_apart = |head: &&Header| matches!(headers.place(head), Place::Below | Place::Off);
        heads.iter().filter(is_apart).count() * 2 > heads.len()
    }

    /// The root was dropped.
    pub(super) fn root_dropped(&mut self) {
        self.by_name.values_mut().for_each(NodeFacts::root_dropped);
    }

    /// Weighs heads that were not linked when they were reported. Returns what changed.
    pub(super) fn weigh_heads(
        &mut self,
        graph: &Graph,
        config: &ChainConfig,
        now: Instant,
    ) -> Vec<(Arc<str>, HeadChange)> {
        let weigh = |(name, node): (&Arc<str>, &mut NodeFacts)| {
            let change = node.weigh_heads(graph, config, now);
            (change != HeadChange::default()).then(|| (Arc::clone(name), change))
        };
        self.by_name.iter_mut().filter_map(weigh).collect()
    }

    /// A node whose head is not linked yet keeps its last linked block; one whose head is below the root, or whose
    /// branch forks there, loses it.
    pub(super) fn note_links(&mut self, headers: &Headers) {
        let Some(graph) = headers.graph() else { return };
        for node in self.by_name.values_mut() {
            let is_gone = match node.head().map(|head| headers.place(&head)) {
                Some(Place::Below | Place::Off) => true,
                Some(Place::Waiting) => node.is_diverged(),
                Some(Place::Linked) | None => false,
            };
            node.link(graph, is_gone);
        }
    }

    /// Nodes whose heads are on branches without the anchor are not believed. Returns what follows.
    pub(super) fn quarantine(
        &mut self,
        headers: &Headers,
        anchor: &Header,
    ) -> Vec<(Arc<str>, &'static [StandingCommand])> {
        let Some(graph) = headers.graph() else { return Vec::new() };
        let leaves = |block: &Header| graph.leaves(block, anchor);
        let has_final = |node: &NodeFacts, head: &Header| match headers.place(head) {
            Place::Off => Some(false),
            // A node in breach is believed again when it is seen on the branch.
            Place::Waiting => node.linked().filter(|block| !leaves(block)).map(|_| true),
            Place::Below => Some(true),
            Place::Linked => Some(!leaves(head)),
        };
        let mut follows = Vec::new();
        for (name, node) in self.by_name.iter_mut().filter(|(_, node)| node.is_honest()) {
            if let Some(has_final) = node.head().and_then(|head| has_final(node, &head)) {
                follows.push((Arc::clone(name), node.judge(has_final)));
            }
        }
        follows
    }

    /// Records which deciding nodes have the tip.
    pub(super) fn watch_tip(
        &mut self,
        headers: &Headers,
        tip: &Header,
        config: &ChainConfig,
        now: Instant,
    ) -> Holders {
        let Some(graph) = headers.graph() else { return Holders::None };
        let group = self.deciders();
        let (mut is_held, mut was_left) = (false, false);
        for node in self.by_name.values_mut().filter(|node| node.group() == group && node.is_believed()) {
            let hold = node.hold(graph, tip);
            (is_held, was_left) = (is_held || hold == Hold::Has, was_left || hold == Hold::Left);
        }
        self.resumed.take_if(|_| is_held);
        let deciding = self.by_name.values().filter(|node| node.group() == group);
        let patience = Patience::of(config);
        let was_left = was_left
            || self
                .resumed
                .as_mut()
                .is_some_and(|tip_before| tip_before.was_left(deciding, headers, tip, patience, now));
        match (is_held, was_left) {
            (true, _) => Holders::Some,
            (false, true) => Holders::NoneAfterOneLeft,
            (false, false) => Holders::None,
        }
    }

    /// The tip moved: no node has left the new one.
    pub(super) fn tip_moved(&mut self) {
        self.resumed = None;
        self.by_name.values_mut().for_each(NodeFacts::release_tip);
    }

    /// Returns which nodes began to lag, and which no longer do.
    pub(super) fn compare<T>(
        &mut self,
        headers: &Headers,
        tip: &Header,
        config: &ChainConfig,
        now: Instant,
    ) -> Vec<ChainEvent<T>> {
        let Some(graph) = headers.graph() else { return Vec::new() };
        let mut events = Vec::new();
        for (name, node) in &mut self.by_name {
            let Some(head) = node.head().filter(|_| node.is_believed()) else { continue };
            if !node.is_fresh(now) || !node.is_reachable(now, config.collect_for) {
                continue;
            }
            let is_behind =
                headers.is_below(&head) || graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes;
            // A laggard that is on another branch has not caught up.
            if !is_behind && graph.is_on_branch(&tip.hash, &head.hash) != OnBranch::Yes {
                continue;
            }
            let behind = is_behind.then(|| tip.height - head.height);
            let node_name = Arc::clone(name);
            events.extend(node.lag(behind.filter(|behind| *behind > config.lagging_after)).map(|change| {
                match change {
                    LagChange::Began(behind) => ChainEvent::Lagging { node: node_name, behind },
                    LagChange::Ended => ChainEvent::CaughtUp { node: node_name },
                }
            }));
        }
        events
    }

    /// A block needs no other question.
    pub(super) fn block_settled(&mut self, block: &Hash) {
        self.by_name.values_mut().for_each(|node| node.block_settled(block));
    }

    /// Clears errors that are over.
    pub(super) fn end_troubles(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        for node in self.by_name.values_mut() {
            node.end_trouble(&is_asked, now);
        }
    }
}
