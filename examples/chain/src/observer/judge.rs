//! Which nodes count, which are believed, and which decide.

use std::sync::Arc;

use tokio::time::Instant;

use super::Group;
use super::header_origins::HeaderOrigins;
use super::known::{Chain, ChainFacts, Standing};
use super::node::NodeFacts;
use super::pending::Pending;
use crate::{ChainEvent, Header, OnBranch, Transaction};

impl<T: Transaction> ChainFacts<T> {
    /// Judges the nodes: which still count, what is final, which are in breach.
    pub(super) fn judge(&mut self, now: Instant) {
        let forget_after = self.config.forget_after;
        for node in self.nodes.values_mut() {
            let silent = node.health.facts.last_success.map(|last| now.saturating_duration_since(last));
            node.forgotten = silent.is_some_and(|silent| silent >= forget_after);
        }
        let answered = |node: &NodeFacts| node.health.facts.last_success.is_some();
        self.nodes.retain(|_, node| node.listed || answered(node) && !node.forgotten);
        self.doubt_root();
        self.note_links();
        self.quarantine();
        self.anchor();
        self.quarantine();
        self.watch_holders();
    }

    /// Drops a root that came from a public node if most deciding nodes do not have it on their branches: the root was
    /// false, or only that node has it. No block was emitted by then.
    fn doubt_root(&mut self) {
        if self.chain.as_ref().is_none_or(|chain| chain.root_is_fixed) || self.deciders() != Group::Public {
            return;
        }
        let heads: Vec<Header> = self.believed().filter_map(|node| node.head).collect();
        let is_apart = |head: &&Header| matches!(self.standing(head), Standing::Below | Standing::Off);
        if heads.iter().filter(is_apart).count() * 2 <= heads.len() {
            return;
        }
        tracing::warn!(
            "most public nodes are not above the block where the observation was to begin: it begins again"
        );
        (self.chain, self.pending, self.header_origins) =
            (None, Pending::default(), HeaderOrigins::default());
        (self.behind_since, self.tip_was_left, self.rivals) = (None, false, Vec::new());
        for node in self.nodes.values_mut() {
            (node.linked, node.diverged_below_root, node.breached, node.held_tip) =
                (None, false, false, false);
        }
    }

    /// A node whose head is not linked yet keeps its last linked block; one whose head is below the root, or whose
    /// branch forks there, loses it.
    fn note_links(&mut self) {
        let Some(Chain { graph, .. }) = &self.chain else { return };
        let is_gone = |node: &NodeFacts| match node.head.map(|head| self.standing(&head)) {
            Some(Standing::Below | Standing::Off) => true,
            Some(Standing::Waiting) => node.diverged_below_root,
            Some(Standing::Linked) | None => false,
        };
        let gone: Vec<bool> = self.nodes.values().map(is_gone).collect();
        for (node, is_gone) in self.nodes.values_mut().zip(gone) {
            let mut linked = [node.head, node.linked].into_iter().flatten();
            let linked = linked.find(|block| graph.contains(&block.hash));
            node.linked = linked.filter(|_| !is_gone);
        }
    }

    /// Nodes whose heads are on branches without the anchor are not believed.
    fn quarantine(&mut self) {
        let Some(Chain { graph, anchor, .. }) = &self.chain else { return };
        let leaves = |block: &Header| {
            let shared = graph.common_ancestor(&block.hash, &anchor.hash);
            shared.is_some_and(|shared| shared != *anchor && shared != *block)
        };
        let breaches = |node: &NodeFacts, head: &Header| match self.standing(head) {
            Standing::Off => true,
            // A node in breach is believed again when it is seen on the branch.
            Standing::Waiting => {
                node.diverged_below_root || node.breached && node.linked.is_none_or(|block| leaves(&block))
            }
            Standing::Below => false,
            Standing::Linked => leaves(head),
        };
        let heads = self.nodes.iter().map(|(name, node)| {
            let head = node.head.filter(|_| node.is_honest());
            (Arc::clone(name), head.filter(|head| breaches(node, head)))
        });
        let (heads, finalised): (Vec<_>, Header) = (heads.collect(), *anchor);
        for (name, breach) in heads {
            let Some(node) = self.nodes.get_mut(&name) else { continue };
            let before = std::mem::replace(&mut node.breached, breach.is_some());
            if let Some(head) = breach.filter(|_| !before) {
                tracing::error!(node = %name, ?head, ?finalised, "a node is on a branch without a final block");
                self.events.push(ChainEvent::FinalityBreached { node: name, finalised, head });
            }
        }
    }

    /// Records whether the last holder of the tip left it. A node that is not believed any more because it fell silent
    /// is no holder, and did not leave the tip.
    pub(super) fn watch_holders(&mut self) {
        let group = self.deciders();
        let Some(Chain { graph, tip, .. }) = &self.chain else { return };
        let (mut is_held, mut was_left) = (false, false);
        for node in self.nodes.values_mut().filter(|node| node.group == group && node.is_believed()) {
            let holds =
                node.linked.is_some_and(|head| graph.is_on_branch(&tip.hash, &head.hash) == OnBranch::Yes);
            was_left |= node.held_tip && !holds;
            is_held |= holds;
            node.held_tip = holds;
        }
        self.tip_was_left = !is_held && (was_left || self.tip_was_left);
    }

    /// Which group decides which chain it is, where it begins, and which branch is canonical and final: the local nodes
    /// if any is in the source set, or left it less than `forget_after` after its last answer.
    pub(super) fn deciders(&self) -> Group {
        let lists = |group| self.nodes.values().any(|node| node.group == group);
        if !lists(Group::Local) && lists(Group::Public) { Group::Public } else { Group::Local }
    }

    pub(super) fn decides(&self, node: &NodeFacts) -> bool {
        node.group == self.deciders()
    }

    /// The believed nodes that decide.
    pub(super) fn believed(&self) -> impl Iterator<Item = &NodeFacts> {
        let group = self.deciders();
        self.nodes.values().filter(move |node| node.group == group && node.is_believed())
    }
}
