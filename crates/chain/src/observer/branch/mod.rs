//! The canonical branch: where it ends, what is final on it, its blocks, and the events of its changes.

mod blocks;
mod catch_up;
mod missing;

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::nodes::Holders;
use super::{ChainConfig, Progress, Start};
use crate::{Block, ChainEvent, Detail, Graph, Hash, Header, Height, OnBranch, Transaction};
use blocks::Blocks;
use catch_up::CatchUp;
use missing::MissingBlocks;

/// Owns the ends of the canonical branch, and the blocks that were fetched.
#[derive(Debug)]
pub(super) struct CanonicalBranch<T> {
    ends: Option<Ends>,
    /// No node has the tip any more, and the last one that had it left it, and did not just fall silent.
    tip_was_left: bool,
    /// Heads of other branches with the weight of the tip.
    rivals: Vec<Header>,
    catch_up: CatchUp,
    blocks: Blocks<T>,
    missing: MissingBlocks<T>,
    detail: Detail,
}

#[derive(Clone, Copy, Debug)]
struct Ends {
    /// The last block that was emitted.
    tip: Header,
    /// No branch without this block is believed. May be ahead of the tip.
    anchor: Header,
    /// The last final block that was emitted.
    finalised: Header,
}

/// The path from the tip to a better head, as far as blocks are requested.
#[derive(Debug)]
pub(super) struct BranchSwitch {
    ancestor: Header,
    /// Lowest first.
    connected: Vec<Header>,
}

impl BranchSwitch {
    /// The blocks that it connects, lowest first.
    pub(super) fn connected(&self) -> &[Header] {
        &self.connected
    }
}

impl<T: Transaction> CanonicalBranch<T> {
    /// No branch, unless the observation begins at known headers.
    pub(super) fn new(config: &ChainConfig) -> Self {
        let ends = match &config.start {
            Start::Known(known) => known.first().zip(known.last()),
            _ => None,
        };
        let ends = ends.map(|(root, tip)| Ends { tip: *tip, anchor: *root, finalised: *root });
        let catch_up = CatchUp::default();
        Self {
            ends,
            tip_was_left: false,
            rivals: Vec::new(),
            catch_up,
            blocks: Blocks::new(),
            missing: MissingBlocks::new(),
            detail: config.detail,
        }
    }

    pub(super) fn begin_at(&mut self, root: Header) {
        self.ends = Some(Ends { tip: root, anchor: root, finalised: root });
    }

    /// Drops a branch of which nothing was emitted.
    pub(super) fn drop_root(&mut self) {
        (self.ends, self.tip_was_left) = (None, false);
        (self.rivals, self.catch_up) = (Vec::new(), CatchUp::default());
    }

    /// The last block that was emitted.
    pub(super) fn tip(&self) -> Option<Header> {
        self.ends.map(|ends| ends.tip)
    }

    /// The block that every believed branch has.
    pub(super) fn anchor(&self) -> Option<Header> {
        self.ends.map(|ends| ends.anchor)
    }

    /// The last final block that was emitted.
    pub(super) fn finalised(&self) -> Option<Header> {
        self.ends.map(|ends| ends.finalised)
    }

    /// Heads of other branches with the weight of the tip.
    pub(super) fn rivals(&self) -> &[Header] {
        &self.rivals
    }

    /// Advances the block that every believed branch must have: one on which most of the `reported` ones agree, or one
    /// that is deep enough.
    pub(super) fn raise_anchor(&mut self, graph: &Graph, reported: &[Hash], final_depth: Height) {
        let Some(Ends { tip, anchor, .. }) = &mut self.ends else { return };
        let deep =
            tip.height.checked_sub(final_depth).and_then(|height| graph.ancestor_at(&tip.hash, height));
        for block in [graph.majority(reported), deep].into_iter().flatten() {
            let extends = graph.is_on_branch(&anchor.hash, &block.hash) == OnBranch::Yes;
            if block.height > anchor.height && extends {
                *anchor = block;
            }
        }
    }

    /// The head in which the branch should end: the tip, if none of `heads` is better. `None` if none has the last
    /// final block.
    pub(super) fn best(&self, graph: &Graph, heads: &[Header]) -> Option<Header> {
        let ends = self.ends?;
        let better = self.better(graph, heads).first().copied();
        better.or_else(|| heads.iter().any(|head| ends.is_final_on(graph, head)).then_some(ends.tip))
    }

    /// Those of `heads` that are better than the tip as end of the branch, best first.
    ///
    /// The heaviest is the best; of equals the tip, then the one seen first. A tip whose last holder fell silent is not
    /// replaced by its own ancestor: no node went back, the others are behind. A final block is never given up, even if
    /// all nodes go back below it.
    fn better(&self, graph: &Graph, heads: &[Header]) -> Vec<Header> {
        let Some(ends @ Ends { tip, anchor, .. }) = self.ends else { return Vec::new() };
        let mut heads: Vec<Header> =
            heads.iter().filter(|head| ends.is_final_on(graph, head)).copied().collect();
        let weight = |head: &Header| graph.total_work(&head.hash);
        heads.sort_by_key(|head| (Reverse(weight(head)), graph.first_seen(&head.hash)));
        heads.dedup();
        let is_held = heads.iter().any(|head| graph.is_on_branch(&tip.hash, &head.hash) == OnBranch::Yes);
        let shared = graph.common_ancestor(&tip.hash, &anchor.hash);
        let may_stay = !self.tip_was_left && (shared == Some(tip) || shared == Some(anchor));
        let better = |head: &Header| {
            if is_held {
                weight(head) > weight(&tip)
            } else {
                !(may_stay && graph.is_on_branch(&head.hash, &tip.hash) == OnBranch::Yes)
            }
        };
        let count = heads.iter().take_while(|head| better(head)).count();
        heads.truncate(count);
        heads
    }

    /// The paths to those of `heads` that are better than the tip, best first.
    pub(super) fn switches(&self, graph: &Graph, heads: &[Header], window: usize) -> Vec<BranchSwitch> {
        let better = self.better(graph, heads);
        better.iter().filter_map(|head| self.switch_to(graph, head, window)).collect()
    }

    /// The path to `head`: as far as the window reaches, and at least until it outweighs the tip.
    fn switch_to(&self, graph: &Graph, head: &Header, window: usize) -> Option<BranchSwitch> {
        let tip = self.tip()?;
        let ancestor = graph.common_ancestor(&tip.hash, &head.hash)?;
        let window = u64::try_from(window).unwrap_or(u64::MAX);
        let mut end = head.height.min(ancestor.height.saturating_add(window));
        let outweighs = |height| {
            let there = graph.ancestor_at(&head.hash, height);
            there.is_some_and(|there| graph.total_work(&there.hash) > graph.total_work(&tip.hash))
        };
        let mut enough = if ancestor == tip { end } else { head.height };
        while end < enough {
            let middle = end + (enough - end) / 2;
            (end, enough) = if outweighs(middle) { (end, middle) } else { (middle + 1, enough) };
        }
        let end = graph.ancestor_at(&head.hash, end)?;
        let mut connected: Vec<Header> = graph.down(&end.hash, ancestor.height).collect();
        connected.reverse();
        Some(BranchSwitch { ancestor, connected })
    }

    /// Moves the tip as far as the blocks are there, and returns how the branch changed.
    pub(super) fn follow(&mut self, graph: &Graph, switch: &BranchSwitch) -> Option<ChainEvent<T>> {
        let Ends { tip, .. } = self.ends.as_mut()?;
        let blocks = switch.connected.iter().map_while(|header| body(&self.blocks, header, self.detail));
        let new: Vec<Arc<Block<T>>> = blocks.collect();
        let ancestor = switch.ancestor;
        let next = new.last().map_or(ancestor, |block| block.header);
        let event = if ancestor == *tip {
            if new.is_empty() {
                return None;
            }
            ChainEvent::Committed { new }
        } else {
            let old: Vec<Header> = graph.down(&tip.hash, ancestor.height).collect();
            let is_heavier = graph.total_work(&next.hash) > graph.total_work(&tip.hash);
            if new.len() < switch.connected.len() && !is_heavier {
                return None;
            }
            if new.is_empty() {
                ChainEvent::Reverted { old, ancestor }
            } else {
                ChainEvent::Reorged { old, new, ancestor }
            }
        };
        (*tip, self.tip_was_left) = (next, false);
        Some(event)
    }

    /// Returns what is newly final on the branch, up to the tip.
    pub(super) fn finalise(&mut self, graph: &Graph) -> Option<ChainEvent<T>> {
        let Ends { tip, anchor, finalised } = self.ends.as_mut()?;
        let block = graph.common_ancestor(&tip.hash, &anchor.hash)?;
        let on_branch = block == *anchor || block == *tip;
        if !on_branch || block.height <= finalised.height {
            return None;
        }
        *finalised = block;
        Some(ChainEvent::Finalised { block })
    }

    /// Records whether the last holder of the tip left it.
    pub(super) fn note_holders(&mut self, holders: Holders) {
        self.tip_was_left = match holders {
            Holders::Some => false,
            Holders::NoneAfterOneLeft => true,
            Holders::None => self.tip_was_left,
        };
    }

    /// Returns which of `heads` weigh the same as the tip and did not before. During a catch-up the tip has no rivals
    /// yet: there may be better heads.
    pub(super) fn compare(&mut self, graph: &Graph, heads: &[Header], is_best: bool) -> Vec<ChainEvent<T>> {
        let Some(Ends { tip, .. }) = self.ends else { return Vec::new() };
        let mut rivals: Vec<Header> = Vec::new();
        for head in heads.iter().filter(|_| is_best) {
            let is_rival = *head != tip && graph.total_work(&head.hash) == graph.total_work(&tip.hash);
            if is_rival && !rivals.contains(head) {
                rivals.push(*head);
            }
        }
        let new = rivals.iter().filter(|rival| !self.rivals.contains(rival));
        let events = new.map(|rival| ChainEvent::Rivals { tip, rival: *rival }).collect();
        self.rivals = rivals;
        events
    }

    /// Records how far the highest head is.
    pub(super) fn measure(&mut self, goal: Option<Height>, lagging_after: Height, now: Instant) {
        if let Some((tip, goal)) = self.tip().zip(goal) {
            self.catch_up.measure(tip.height, goal, lagging_after, now);
        }
    }

    pub(super) fn progress(&self, goal: Option<Height>, now: Instant) -> Option<Progress> {
        self.catch_up.progress(self.tip()?.height, goal?, now)
    }

    /// The block below which headers are dropped: far below the last final block, and below what a lagging node needs.
    /// `None` if too few headers are below it.
    pub(super) fn prune_below(
        &self,
        graph: &Graph,
        laggard: Option<Height>,
        config: &ChainConfig,
    ) -> Option<Header> {
        /// Pruning visits all headers, so it has to be worth it.
        const LEAST: Height = 64;
        let Ends { tip, finalised, .. } = self.ends?;
        let lowest = finalised.height.saturating_sub(config.keep_below_final);
        let pinned = lowest.min(laggard.unwrap_or(lowest));
        let boundary = pinned.max(finalised.height.saturating_sub(config.keep_for_laggards)).min(lowest);
        // Measured by the canonical branch: headers beside it must not prevent their own pruning.
        let worth = LEAST.max((tip.height - graph.root().height) / 8);
        let is_worth_it = boundary >= graph.root().height.saturating_add(worth);
        is_worth_it.then(|| graph.ancestor_at(&tip.hash, boundary)).flatten()
    }

    pub(super) fn has_block(&self, hash: &Hash) -> bool {
        self.blocks.get(hash).is_some()
    }

    /// How many blocks are kept.
    pub(super) fn blocks(&self) -> usize {
        self.blocks.len()
    }

    pub(super) fn insert_block(&mut self, block: Block<T>) {
        self.missing.arrived(&block.header.hash);
        self.blocks.insert(block);
    }

    /// Records which blocks on the paths to better heads are missing.
    pub(super) fn blocks_are_missing(&mut self, headers: Vec<Header>, now: Instant) {
        self.missing.are(headers, now);
    }

    /// The missing blocks on the paths to better heads.
    pub(super) fn missing_blocks(&self) -> &[Header] {
        self.missing.headers()
    }

    /// Since when a block is missing.
    pub(super) fn missing_since(&self, block: &Hash) -> Option<Instant> {
        self.missing.since(block)
    }

    /// Keeps less of a missing block than was asked for, in case no node returns more.
    pub(super) fn keep_part(&mut self, block: Block<T>) {
        self.missing.keep(block);
    }

    /// What nodes returned of a missing block: less than was asked for.
    pub(super) fn part_of(&self, block: &Hash) -> Option<&Block<T>> {
        self.missing.best(block)
    }

    /// Drops the oldest blocks above the limit.
    pub(super) fn keep_blocks(&mut self, limit: usize) {
        self.blocks.keep(limit);
    }
}

/// A block, if it is there or not wanted.
fn body<T>(blocks: &Blocks<T>, header: &Header, detail: Detail) -> Option<Arc<Block<T>>> {
    let unread = || (detail == Detail::Header).then(|| Arc::new(Block::unread(*header)));
    blocks.get(&header.hash).map(Arc::clone).or_else(unread)
}

impl Ends {
    /// Whether the last final block is on the branch of `head`.
    fn is_final_on(&self, graph: &Graph, head: &Header) -> bool {
        graph.is_on_branch(&self.finalised.hash, &head.hash) == OnBranch::Yes
    }
}
