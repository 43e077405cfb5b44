//! What follows from the facts: which blocks are final, which branch is canonical, what is told of it.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::known::{Chain, Facts};
use crate::{Block, ChainEvent, Hash, Header, Height, OnBranch, Transaction};

/// The way from the tip to the best head, as far as blocks are asked for.
#[derive(Debug)]
pub(super) struct BranchSwitch {
    pub(super) ancestor: Header,
    /// Lowest first.
    pub(super) joined: Vec<Header>,
}

impl<T: Transaction> Facts<T> {
    /// Advances what no believed branch may leave: what most of those that speak of finality agree on, or
    /// what is deep enough. One that is silent still has its vote until it is forgotten.
    pub(super) fn anchor(&mut self) {
        let told: Vec<Hash> = self.believed().filter_map(|node| Some(node.finalised?.hash)).collect();
        let final_depth = self.config.final_depth;
        let Some(Chain { graph, tip, anchor, .. }) = &mut self.chain else { return };
        let deep =
            tip.height.checked_sub(final_depth).and_then(|height| graph.ancestor_at(&tip.hash, height));
        for block in [graph.majority(&told), deep].into_iter().flatten() {
            let extends = graph.is_on_branch(&anchor.hash, &block.hash) == OnBranch::Yes;
            if block.height > anchor.height && extends {
                *anchor = block;
            }
        }
    }

    /// The head that the canonical branch should end in: the tip, if nothing is better. Where nobody who is
    /// believed has what is final, nothing can be said.
    pub(super) fn best(&self) -> Option<Header> {
        let tip = self.chain.as_ref()?.tip;
        let better = self.better().first().copied();
        better.or_else(|| self.final_heads().next().map(|_| tip))
    }

    /// The heads of nodes that decide, as far as they are linked and have the last final block.
    fn final_heads(&self) -> impl Iterator<Item = Header> {
        let believed = self.believed();
        let has_final = |head: &Header| {
            let of = |chain: &Chain| chain.graph.is_on_branch(&chain.finalised.hash, &head.hash);
            self.chain.as_ref().map(of) == Some(OnBranch::Yes)
        };
        believed.filter_map(|node| node.linked).filter(has_final)
    }

    /// The heads in which the canonical branch should rather end than in the tip, best first.
    ///
    /// They are those of nodes that decide and are believed; the heaviest is the best, of equals the tip, then the one
    /// seen first. A tip whose last holder fell silent is not given up for its own ancestor: nobody went back,
    /// somebody is behind. Nor is what is final ever given up, though all go back behind it.
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

    /// The way to `head`: as far as the window reaches, and at least until it outweighs the tip.
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
        let mut joined: Vec<Header> = graph.down(&end.hash, ancestor.height).collect();
        joined.reverse();
        Some(BranchSwitch { ancestor, joined })
    }

    /// Tells how the branch changed, as far as the blocks are there. Nothing is awaited here: what is told
    /// and what is remembered change together.
    pub(super) fn advance(&mut self, now: Instant) {
        let switches: Vec<BranchSwitch> =
            self.better().iter().filter_map(|head| self.switch_to(head)).collect();
        // Where the blocks of the best branch are not to be had, a worse one is better than none.
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
        let on_the_way: usize = switches.iter().map(|switch| switch.joined.len()).sum();
        self.blocks.keep(self.config.blocks_kept.max(on_the_way));
    }

    /// Whether the branch moved.
    fn follow(&mut self, switch: &BranchSwitch) -> bool {
        let Some(Chain { graph, tip, is_told, .. }) = &mut self.chain else { return false };
        let blocks = switch.joined.iter().map_while(|header| self.blocks.get(&header.hash).map(Arc::clone));
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
            if new.len() < switch.joined.len() && !is_heavier {
                return false;
            }
            if new.is_empty() {
                ChainEvent::Reverted { old, ancestor }
            } else {
                ChainEvent::Reorged { old, new, ancestor }
            }
        };
        (*tip, *is_told) = (next, true);
        self.tip_was_left = false;
        for node in self.nodes.values_mut() {
            node.held_tip = false;
        }
        self.events.push(event);
        true
    }

    /// Tells what is final on the canonical branch, as far as the branch was told.
    fn finalise(&mut self) {
        let Some(Chain { graph, tip, anchor, finalised, .. }) = &mut self.chain else { return };
        let Some(block) = graph.common_ancestor(&tip.hash, &anchor.hash) else { return };
        let on_branch = block == *anchor || block == *tip;
        if on_branch && block.height > finalised.height {
            *finalised = block;
            self.events.push(ChainEvent::Finalised { block });
        }
    }

    /// Tells who is behind, and which heads weigh the same as the tip.
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
        // A branch that is being caught up with has no rivals yet: there may be better ones.
        if self.best() != Some(*tip) {
            rivals.clear();
        }
        for rival in rivals.iter().filter(|rival| !self.rivals.contains(rival)) {
            self.events.push(ChainEvent::Rivals { tip: *tip, rival: *rival });
        }
        self.rivals = rivals;
    }

    /// The best height that a node which decides tells.
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

    /// Lets go of what is far below the last final block, and of no use to those that are behind.
    fn prune(&mut self) {
        /// Pruning looks at all headers, so it has to be worth it.
        const LEAST: Height = 64;
        let config = &self.config;
        let Some(Chain { graph, tip, finalised, .. }) = &mut self.chain else { return };
        // Whoever is below the root already keeps it from going further away.
        let believed = self.nodes.values().filter(|node| node.is_believed());
        let laggard = believed.filter_map(|node| node.linked.or(node.head)).map(|block| block.height).min();
        let lowest = finalised.height.saturating_sub(config.keep_below_final);
        let pinned = lowest.min(laggard.unwrap_or(lowest));
        let boundary = pinned.max(finalised.height.saturating_sub(config.keep_for_laggards)).min(lowest);
        // By what the branch has, not by what is told beside it: that must not keep itself from going.
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
