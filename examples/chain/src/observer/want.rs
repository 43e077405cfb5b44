//! Which questions are worth asking, of whom.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::{Fetches, Purpose, Question};
use super::known::{Chain, Known};
use super::node::Node;
use super::{Group, Start};
use crate::{Hash, Header, Height, OnBranch, Transaction};

/// How far headers may be ahead of the blocks that were told, in cycles of backfill.
const HEADERS_AHEAD: u64 = 4;

/// A node, and what it was asked for.
pub(super) type Asked = (Arc<str>, Purpose);

impl<T: Transaction> Known<T> {
    /// What to ask now, given what is in flight. `asked` is what was asked in this cycle and is asked at
    /// most once in it.
    pub(super) fn questions(
        &self,
        fetches: &Fetches<T>,
        asked: &HashSet<Asked>,
        now: Instant,
    ) -> Vec<(Arc<str>, Question)> {
        let mut in_flight = fetches.asked_for();
        let mut goes_up = fetches.goes_up();
        let mut questions = Vec::new();
        let mut nodes: Vec<_> =
            self.nodes.iter().filter(|(_, node)| node.is_reachable(now, self.config.collect_for)).collect();
        // A node that brings no headers must not keep others from being asked.
        nodes.sort_by_key(|(_, node)| node.vain);
        for (name, node) in nodes {
            if fetches.is_busy(name) {
                continue;
            }
            let Some(question) = self.question(name, node, &in_flight, goes_up, now) else { continue };
            if asked.contains(&(Arc::clone(name), question.purpose())) {
                continue;
            }
            match &question {
                Question::Down { from, .. } => _ = in_flight.insert(*from),
                Question::Up { .. } => goes_up = true,
                _ => {}
            }
            questions.push((Arc::clone(name), question));
        }
        self.ask_for_finality(fetches, asked, now, &mut questions);
        self.ask_for_blocks(fetches, &in_flight, now, &mut questions);
        questions
    }

    fn question(
        &self,
        name: &Arc<str>,
        node: &Node,
        in_flight: &HashSet<Hash>,
        goes_up: bool,
        now: Instant,
    ) -> Option<Question> {
        if node.asks_identity {
            return Some(Question::Identity);
        }
        let identity = self.identity.as_ref().filter(|_| node.is_honest() && !node.off)?;
        let Some(chain) = &self.chain else {
            let (start, head) = (self.config.start.clone(), node.head?.height);
            let asks = !matches!(start, Start::Recent(_)) || self.is_furthest(name, now);
            return asks.then_some(Question::Root { start, genesis: identity.genesis, head });
        };
        self.gap(chain, name, node, in_flight, goes_up)
    }

    /// Whether no other node is further, once all have said which chain they are on. Those that were asked in
    /// vain come last.
    fn is_furthest(&self, name: &Arc<str>, now: Instant) -> bool {
        let reachable =
            || self.nodes.iter().filter(|(_, node)| node.is_reachable(now, self.config.collect_for));
        if reachable().any(|(_, node)| node.asks_identity && node.trouble.is_none()) {
            return false;
        }
        let believed = reachable().filter(|(_, node)| node.is_believed());
        let rank = |node: &Node| (node.vain, Reverse(node.head.map(|head| head.height)));
        believed.min_by_key(|(_, node)| rank(node)).is_some_and(|(best, _)| best == name)
    }

    /// The lowest gap that the node may close.
    fn gap(
        &self,
        Chain { graph, tip, .. }: &Chain,
        name: &Arc<str>,
        node: &Node,
        in_flight: &HashSet<Hash>,
        goes_up: bool,
    ) -> Option<Question> {
        let head = node.head?.hash;
        let below_head = self.pending.lowest_below(&head);
        let root = graph.root().height;
        let mut gaps = self.pending.gaps_of(name);
        gaps.extend(below_head);
        let open = |gap: &Header| gap.height > root + 1 && !in_flight.contains(&gap.parent);
        let gap = gaps.into_iter().filter(open).min_by_key(|gap| gap.height)?;
        // Most likely the node is on the heaviest branch; unless it was seen on another one.
        let heaviest = graph.tips().max_by_key(|tip| graph.total_work(&tip.hash))?;
        let elsewhere =
            node.linked.filter(|block| graph.is_on_branch(&block.hash, &heaviest.hash) == OnBranch::No);
        let reach = elsewhere.unwrap_or(heaviest).height;
        let backfill = u64::try_from(self.config.backfill).unwrap_or(Height::MAX);
        if gap.height.saturating_sub(reach) <= backfill {
            return Some(Question::Down { from: gap.parent, height: gap.height - 1, head });
        }
        let ahead = reach.saturating_sub(tip.height);
        if goes_up || ahead >= backfill.saturating_mul(HEADERS_AHEAD) {
            return None;
        }
        Some(Question::Up { from: reach + 1, to: gap.height.min(reach + backfill), head })
    }

    /// What is final changes with the head, as a rule; the rest is found by asking now and then.
    fn ask_for_finality(
        &self,
        fetches: &Fetches<T>,
        asked: &HashSet<Asked>,
        now: Instant,
        questions: &mut Vec<(Arc<str>, Question)>,
    ) {
        for (name, node) in &self.nodes {
            let Some(head) = node.head.filter(|_| node.is_honest()) else { continue };
            let is_known = node.told_final_at.is_some_and(|(at, told)| {
                at == head.hash && now.saturating_duration_since(told) < self.config.identify_every
            });
            let was_asked = asked.contains(&(Arc::clone(name), Purpose::Final))
                || fetches.asks(name, |purpose| purpose == Purpose::Final);
            if !is_known && !was_asked && node.is_reachable(now, self.config.collect_for) {
                questions.push((Arc::clone(name), Question::Final(head.hash)));
            }
        }
    }

    /// Each block on the way to a better head is asked for once: of one of our nodes before one of the public
    /// network, and there of the node that told it first, or, where that was in vain, of another one that has it
    /// on its branch.
    fn ask_for_blocks(
        &self,
        fetches: &Fetches<T>,
        in_flight: &HashSet<Hash>,
        now: Instant,
        questions: &mut Vec<(Arc<str>, Question)>,
    ) {
        let Some(chain) = &self.chain else { return };
        let mut busy: HashMap<Arc<str>, usize> = fetches.blocks_by_node();
        let mut seen = HashSet::new();
        let ways = self.better().into_iter().filter_map(|head| self.way_to(&head));
        for header in ways.flat_map(|way| way.joined) {
            let is_there = self.blocks.get(&header.hash).is_some() || in_flight.contains(&header.hash);
            if is_there || !seen.insert(header.hash) {
                continue;
            }
            let tried = self.tried.get(&header.hash).map_or(&[][..], Vec::as_slice);
            let teller = self.tellers.get(&header.hash);
            let may = |(name, node): &(&Arc<str>, &Node)| {
                let on_branch = |head: Header| chain.graph.is_on_branch(&header.hash, &head.hash);
                let has_it = node.linked.is_some_and(|head| on_branch(head) == OnBranch::Yes);
                node.is_reachable(now, self.config.collect_for)
                    && node.is_honest()
                    && !tried.contains(name)
                    && (has_it || Some(*name) == teller)
            };
            let candidates = self.nodes.iter().filter(may);
            // Ours first, then the teller, then whoever has the least to do.
            let load = |name: &Arc<str>| busy.get(name).copied().unwrap_or_default();
            let best = candidates
                .min_by_key(|(name, node)| (node.group == Group::Public, Some(*name) != teller, load(name)));
            let Some(name) = best
                .map(|(name, _)| name)
                .filter(|name| load(name) < self.config.requests_per_node)
                .map(Arc::clone)
            else {
                continue;
            };
            *busy.entry(Arc::clone(&name)).or_default() += 1;
            questions.push((name, Question::Block(header)));
        }
    }
}
