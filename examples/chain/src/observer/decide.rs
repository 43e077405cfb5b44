//! What follows from the facts: which blocks are final, which branch is canonical, and which events are emitted.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::known::{Chain, ChainFacts};
use crate::{Block, ChainEvent, Hash, Header, Height, OnBranch, Transaction};

/// The path from the tip to the best head, as far as blocks are requested.
#[derive(Debug)]
pub(super) struct BranchSwitch {
    pub(super) ancestor: Header,
    /// Lowest first.
    pub(super) connected: Vec<Header>,
}

impl<T: Transaction> ChainFacts<T> {
    /// Advances the block that every believed branch must have: one on which most nodes that report finality agree,
    /// or one that is deep enough. A silent node keeps its vote until it is forgotten.
    pub(super) fn anchor(&mut self) {
        let reported: Vec<Hash> = self.believed().filter_map(|node| Some(node.finalised?.hash)).collect();
        let final_depth = self.config.final_depth;
        let Some(Chain { graph, tip, anchor, .. }) = &mut self.chain else { return };
        let deep =
            tip.height.checked_sub(final_depth).and_then(|height| graph.ancestor_at(&tip.hash, height));
        for block in [graph.majority(&reported), deep].into_iter().flatten() {
            let extends = graph.is_on_branch(&anchor.hash, &block.hash) == OnBranch::Yes;
            if block.height > anchor.height && extends {
                *anchor = block;
            }
        }
    }

    /// The head in which the canonical branch should end: the tip, if no other is better. `None` if no believed node
    /// has the last final block.
    pub(super) fn best(&self) -> Option<Header> {
        let tip = self.chain.as_ref()?.tip;
        let better = self.better().first().copied();
        better.or_else(|| self.final_heads().next().map(|_| tip))
    }

    /// The linked heads of deciding nodes that have the last final block on their branch.
    fn final_heads(&self) -> impl Iterator<Item = Header> {
        let believed = self.believed();
        let has_final = |head: &Header| {
            let standing = |chain: &Chain| chain.graph.is_on_branch(&chain.finalised.hash, &head.hash);
            self.chain.as_ref().map(standing) == Some(OnBranch::Yes)
        };
        believed.filter_map(|node| node.linked).filter(has_final)
    }

    /// The heads that are better than the tip as end of the canonical branch, best first.
    ///
    /// They belong to believed deciding nodes. The heaviest is the best; of equals the tip, then the one seen first. A
    /// tip whose last holder fell silent is not replaced by its own ancestor: no node went back, the others are behind.
    /// A final block is never given up, even if all nodes go back below it.
    pub(super) fn better(&self) -> Vec<Header> {
        let Some(Chain { graph, tip, anchor, .. }) = &self.chain else { return Vec::new() };
        let mut heads: Vec<Header> = self.final_heads().collect();
        let weight = |head: &Header| graph.total_work(&head.hash);
        heads.sort_by_key(|head| (Reverse(weight(head)), graph.first_seen(&head.hash)));
        heads.dedup();
        let is_held = heads.iter().any(|head| graph.is_on_branch(&tip.hash, &head.hash) == OnBranch::Yes);
        let shared = graph.common_ancestor(&tip.hash, &anchor.hash);
        let may_stay = !self.tip_was_left && (shared == Some(*tip) || shared == Some(*anchor));
        let better = |head: &Header| {
            if is_held {
                weight(head) > weight(tip)
            } else {
                !(may_stay && graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes)
            }
        };
        let count = heads.iter().take_while(|head| better(head)).count();
        heads.truncate(count);
        heads
    }

    /// The path to `head`: as far as the window reaches, and at least until it outweighs the tip.
    pub(super) fn switch_to(&self, head: &Header) -> Option<BranchSwitch> {
        let Chain { graph, tip, .. } = self.chain.as_ref()?;
        let ancestor = graph.common_ancestor(&tip.hash, &head.hash)?;
        let window = u64::try_from(self.config.block_window).unwrap_or(u64::MAX);
        let mut end = head.height.min(ancestor.height.saturating_add(window));
        let outweighs = |height| {
            let there = graph.ancestor_at(&head.hash, height);
            there.is_some_and(|there| graph.total_work(&there.hash) > graph.total_work(&tip.hash))
        };
        let mut enough = if ancestor == *tip { end } else { head.height };
        while end < enough {
            let middle = end + (enough - end) / 2;
            (end, enough) = if outweighs(middle) { (end, middle) } else { (middle + 1, enough) };
        }
        let end = graph.ancestor_at(&head.hash, end)?;
        let mut connected: Vec<Header> = graph.down(&end.hash, ancestor.height).collect();
        connected.reverse();
        Some(BranchSwitch { ancestor, connected })
    }

    /// Emits how the branch changed, as far as the blocks are there. Nothing is awaited here: events and state change
    /// together.
    pub(super) fn advance(&mut self, now: Instant) {
        let switches: Vec<BranchSwitch> =
            self.better().iter().filter_map(|head| self.switch_to(head)).collect();
        // If the blocks of the best branch are not available, the next best one is used.
        for switch in &switches {
            if self.follow(switch) {
                break;
            }
        }
        self.anchor();
        self.finalise();
        self.watch_holders();
        self.compare(now);
        self.measure(now);
        self.prune();
        let on_the_way: usize = switches.iter().map(|switch| switch.connected.len()).sum();
        self.blocks.keep(self.config.blocks_kept.max(on_the_way));
    }

    /// Whether the branch moved.
    fn follow(&mut self, switch: &BranchSwitch) -> bool {
        let Some(Chain { graph, tip, root_is_fixed, .. }) = &mut self.chain else { return false };
        let blocks =
            switch.connected.iter().map_while(|header| self.blocks.get(&header.hash).map(Arc::clone));
        let new: Vec<Arc<Block<T>>> = blocks.collect();
        let ancestor = switch.ancestor;
        let next = new.last().map_or(ancestor, |block| block.header);
        let event = if ancestor == *tip {
            if new.is_empty() {
                return false;
            }
            ChainEvent::Committed { new }
        } else {
            let old: Vec<Header> = graph.down(&tip.hash, ancestor.height).collect();
            let is_heavier = graph.total_work(&next.hash) > graph.total_work(&tip.hash);
            if new.len() < switch.connected.len() && !is_heavier {
                return false;
            }
            if new.is_empty() {
                ChainEvent::Reverted { old, ancestor }
            } else {
                ChainEvent::Reorged { old, new, ancestor }
            }
        };
        (*tip, *root_is_fixed) = (next, true);
        self.tip_was_left = false;
        for node in self.nodes.values_mut() {
            node.held_tip = false;
        }
        self.events.push(event);
        true
    }

    /// Emits what is final on the canonical branch, up to the tip.
    fn finalise(&mut self) {
        let Some(Chain { graph, tip, anchor, finalised, .. }) = &mut self.chain else { return };
        let Some(block) = graph.common_ancestor(&tip.hash, &anchor.hash) else { return };
        let on_branch = block == *anchor || block == *tip;
        if on_branch && block.height > finalised.height {
            *finalised = block;
            self.events.push(ChainEvent::Finalised { block });
        }
    }

    /// Emits which nodes are behind, and which heads weigh the same as the tip.
    fn compare(&mut self, now: Instant) {
        let Some(chain) = &self.chain else { return };
        let Chain { graph, tip, .. } = chain;
        let mut rivals: Vec<Header> = Vec::new();
        for (name, node) in &mut self.nodes {
            let Some(head) = node.head.filter(|_| node.is_believed()) else { continue };
            let is_rival = head != *tip && graph.total_work(&head.hash) == graph.total_work(&tip.hash);
            if is_rival && !rivals.contains(&head) {
                rivals.push(head);
            }
            if !node.is_fresh(now) || !node.is_reachable(now, self.config.collect_for) {
                continue;
            }
            let is_behind =
                chain.is_below(&head) || graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes;
            let behind = is_behind
                .then(|| tip.height - head.height)
                .filter(|behind| *behind > self.config.lagging_after);
            // A laggard that is on another branch has not caught up.
            if !is_behind && graph.is_on_branch(&tip.hash, &head.hash) != OnBranch::Yes {
                continue;
            }
            let before = std::mem::replace(&mut node.lagging, behind.is_some());
            match behind {
                Some(behind) if !before => {
                    self.events.push(ChainEvent::Lagging { node: Arc::clone(name), behind });
                }
                None if before => self.events.push(ChainEvent::CaughtUp { node: Arc::clone(name) }),
                _ => {}
            }
        }
        // During a catch-up the tip has no rivals yet: there may be better heads.
        if self.best() != Some(*tip) {
            rivals.clear();
        }
        for rival in rivals.iter().filter(|rival| !self.rivals.contains(rival)) {
            self.events.push(ChainEvent::Rivals { tip: *tip, rival: *rival });
        }
        self.rivals = rivals;
    }

    /// The highest head of a deciding node.
    pub(super) fn goal(&self) -> Option<Height> {
        self.believed().filter_map(|node| node.head).map(|head| head.height).max()
    }

    fn measure(&mut self, now: Instant) {
        let Some((tip, goal)) = self.chain.as_ref().map(|chain| chain.tip).zip(self.goal()) else { return };
        if goal.saturating_sub(tip.height) <= self.config.lagging_after {
            self.behind_since = None;
        } else if self.behind_since.is_none() {
            self.behind_since = Some((now, tip.height));
        }
    }

    /// Drops headers that are far below the last final block and that no lagging node needs.
    fn prune(&mut self) {
        /// Pruning visits all headers, so it has to be worth it.
        const LEAST: Height = 64;
        let config = &self.config;
        let Some(Chain { graph, tip, finalised, .. }) = &mut self.chain else { return };
        // A node whose head is already below the root keeps the root from moving further up.
        let believed = self.nodes.values().filter(|node| node.is_believed());
        let laggard = believed.filter_map(|node| node.linked.or(node.head)).map(|block| block.height).min();
        let lowest = finalised.height.saturating_sub(config.keep_below_final);
        let pinned = lowest.min(laggard.unwrap_or(lowest));
        let boundary = pinned.max(finalised.height.saturating_sub(config.keep_for_laggards)).min(lowest);
        // Measured by the canonical branch: headers beside it must not prevent their own pruning.
        let worth = LEAST.max((tip.height - graph.root().height) / 8);
        if boundary < graph.root().height.saturating_add(worth) {
            return;
        }
        if let Some(root) = graph.ancestor_at(&tip.hash, boundary)
            && graph.prune(&root.hash).is_ok()
        {
            self.pending.prune(root.height);
            self.header_origins.retain(|hash| graph.contains(hash));
        }
    }
}
