//! Which questions to ask, and which node.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::{Fetches, Purpose, Question};
use super::known::{Chain, ChainFacts};
use super::node::NodeFacts;
use super::{Group, Start};
use crate::{Hash, Header, Height, OnBranch, Transaction};

/// How far headers may be ahead of the tip, in cycles of backfill.
const HEADERS_AHEAD: u64 = 4;

/// A node, and what it was asked for.
pub(super) type NodePurpose = (Arc<str>, Purpose);

impl<T: Transaction> ChainFacts<T> {
    /// What to ask now, given what is in flight. `asked` has the questions that are asked at most once in a cycle and
    /// were asked in this one.
    pub(super) fn questions(
        &self,
        fetches: &Fetches<T>,
        asked: &HashSet<NodePurpose>,
        cycle: u64,
        now: Instant,
    ) -> Vec<(Arc<str>, Question)> {
        let mut walks = Walks::default();
        for (name, question, _) in fetches.flights() {
            walks.begin(question, self.nodes.get(name).map_or(u32::MAX, |node| node.empty_responses));
        }
        let mut questions = Vec::new();
        let mut nodes: Vec<_> =
            self.nodes.iter().filter(|(_, node)| node.is_reachable(now, self.config.collect_for)).collect();
        // A node that returns no headers must not keep others from being asked.
        nodes.sort_by_key(|(_, node)| (node.empty_responses, node.group == Group::Public));
        for (name, node) in nodes {
            if fetches.is_busy(name) {
                continue;
            }
            let Some(question) = self.question(name, node, &walks, now) else { continue };
            if asked.contains(&(Arc::clone(name), question.purpose())) {
                continue;
            }
            walks.begin(&question, node.empty_responses);
            questions.push((Arc::clone(name), question));
        }
        self.ask_for_finality(fetches, asked, now, &mut questions);
        self.ask_for_blocks(fetches, cycle, now, &mut questions);
        questions
    }

    fn question(&self, name: &Arc<str>, node: &NodeFacts, walks: &Walks, now: Instant) -> Option<Question> {
        if node.asks_identity {
            // A node that does not decide must not determine which chain it is.
            return (self.identity.is_some() || self.decides(node)).then_some(Question::Identity);
        }
        let identity = self.identity.as_ref().filter(|_| node.is_honest() && !node.diverged_below_root)?;
        let Some(chain) = &self.chain else {
            let (start, head) = (self.config.start.clone(), node.head?.height);
            let is_recent = matches!(start, Start::Recent(_));
            let asks = if is_recent { self.is_furthest(name, now) } else { self.decides(node) };
            return asks.then_some(Question::Root { start, genesis: identity.genesis, head });
        };
        self.gap(chain, name, node, walks)
    }

    /// Whether no other deciding node has a higher head, once all of them have reported their chain. Nodes that
    /// returned no root come last. Local nodes are believed; a public node does not count if its head is higher than
    /// those of more than half of them.
    fn is_furthest(&self, name: &Arc<str>, now: Instant) -> bool {
        let group = self.deciders();
        let nodes = self.nodes.iter().filter(|(_, node)| node.group == group);
        let reachable: Vec<_> =
            nodes.filter(|(_, node)| node.is_reachable(now, self.config.collect_for)).collect();
        if reachable.iter().any(|(_, node)| node.asks_identity && node.last_error.is_none()) {
            return false;
        }
        let believed = reachable.into_iter().filter(|(_, node)| node.is_believed());
        let mut heads: Vec<_> = believed
            .filter_map(|(name, node)| Some((Reverse(node.head?.height), name, node.empty_responses)))
            .collect();
        heads.sort();
        if group == Group::Public {
            heads.drain(..heads.len() / 2);
        }
        heads
            .iter()
            .min_by_key(|(height, _, empty_responses)| (*empty_responses, *height))
            .is_some_and(|(_, best, _)| *best == name)
    }

    /// The lowest gap that the node may close.
    fn gap(
        &self,
        Chain { graph, tip, .. }: &Chain,
        name: &Arc<str>,
        node: &NodeFacts,
        walks: &Walks,
    ) -> Option<Question> {
        let head = node.head?.hash;
        let below_head = self.pending.lowest_below(&head);
        let lowest = graph.root().height.saturating_add(1);
        let mut gaps = self.pending.gaps_of(name);
        gaps.extend(below_head);
        let open = |gap: &Header| gap.height > lowest && walks.allow(Some(gap.parent), node.empty_responses);
        let gap = gaps.into_iter().filter(open).min_by_key(|gap| gap.height)?;
        // The node is most likely on the heaviest branch, unless it was seen on another one.
        let heaviest = graph.tips().max_by_key(|tip| graph.total_work(&tip.hash))?;
        let elsewhere =
            node.linked.filter(|block| graph.is_on_branch(&block.hash, &heaviest.hash) == OnBranch::No);
        let reach = elsewhere.unwrap_or(heaviest).height;
        let backfill = u64::try_from(self.config.backfill).unwrap_or(Height::MAX);
        if gap.height.saturating_sub(reach) <= backfill {
            return Some(Question::Down { from: gap.parent, height: gap.height - 1, head });
        }
        // Headers that other nodes returned, on a branch that may be lost, must not block the node's own branch.
        let ahead = node.linked.map_or(0, |block| block.height.saturating_sub(tip.height));
        if ahead >= backfill.saturating_mul(HEADERS_AHEAD) || !walks.allow(None, node.empty_responses) {
            return None;
        }
        Some(Question::Up { from: reach + 1, to: gap.height.min(reach + backfill), head })
    }

    /// What is final usually changes with the head; `identify_every` covers the other cases.
    fn ask_for_finality(
        &self,
        fetches: &Fetches<T>,
        asked: &HashSet<NodePurpose>,
        now: Instant,
        questions: &mut Vec<(Arc<str>, Question)>,
    ) {
        for (name, node) in &self.nodes {
            let Some(head) = node.head.filter(|_| node.is_honest()) else { continue };
            let is_known = node.final_reported_at.is_some_and(|(at, reported)| {
                at == head.hash && now.saturating_duration_since(reported) < self.config.identify_every
            }) || node.final_backoff_until.is_some_and(|until| until > now);
            let was_asked = asked.contains(&(Arc::clone(name), Purpose::Final))
                || fetches.asks(name, |purpose| purpose == Purpose::Final);
            if !is_known && !was_asked && node.is_reachable(now, self.config.collect_for) {
                questions.push((Arc::clone(name), Question::Final(head.hash)));
            }
        }
    }

    /// Each block on the path to a better head is requested once, and from a second node if the first one has not
    /// answered by the next cycle. A node that has not answered by then comes last. Else local nodes come before
    /// public ones, then nodes that returned the last block they were asked for, then the node that reported this
    /// block first.
    fn ask_for_blocks(
        &self,
        fetches: &Fetches<T>,
        cycle: u64,
        now: Instant,
        questions: &mut Vec<(Arc<str>, Question)>,
    ) {
        let Some(chain) = &self.chain else { return };
        let mut busy: HashMap<&str, usize> = HashMap::new();
        let mut asked: HashMap<Hash, Vec<&Arc<str>>> = HashMap::new();
        let (mut late, mut is_late) = (HashSet::new(), HashSet::new());
        for (name, question, begun) in fetches.flights() {
            let Question::Block(header) = question else { continue };
            *busy.entry(name).or_default() += 1;
            asked.entry(header.hash).or_default().push(name);
            if begun < cycle {
                late.insert(name);
                is_late.insert(header.hash);
            }
        }
        let mut seen = HashSet::new();
        let switches = self.better().into_iter().filter_map(|head| self.switch_to(&head));
        for header in switches.flat_map(|way| way.connected) {
            let asked = asked.get(&header.hash).map_or(&[][..], Vec::as_slice);
            let enough = if is_late.contains(&header.hash) { 2 } else { 1 };
            let is_there = self.blocks.get(&header.hash).is_some() || asked.len() >= enough;
            if is_there || !seen.insert(header.hash) {
                continue;
            }
            let tried = self.tried.get(&header.hash).map_or(&[][..], Vec::as_slice);
            let origin = self.header_origins.get(&header.hash);
            let may = |(name, node): &(&Arc<str>, &NodeFacts)| {
                let on_branch = |head: Header| chain.graph.is_on_branch(&header.hash, &head.hash);
                let has_it = node.linked.is_some_and(|head| on_branch(head) == OnBranch::Yes);
                node.is_reachable(now, self.config.collect_for)
                    && node.is_honest()
                    && !tried.contains(name)
                    && !asked.contains(name)
                    && (has_it || Some(*name) == origin)
            };
            let load = |name: &str| busy.get(name).copied().unwrap_or_default();
            let rank = |(name, node): &(&Arc<str>, &NodeFacts)| {
                let is_public = node.group == Group::Public;
                (late.contains(name), is_public, node.withheld_block, Some(*name) != origin, load(name))
            };
            // A block waits for a local node that is only busy: a public node is asked only if all local ones are late.
            let class =
                |(name, node): &(&Arc<str>, &NodeFacts)| (late.contains(name), node.group == Group::Public);
            let candidates: Vec<_> = self.nodes.iter().filter(may).collect();
            let best = candidates.iter().map(class).min();
            let free = candidates.into_iter().filter(|candidate| {
                Some(class(candidate)) == best && load(candidate.0) < self.config.requests_per_node
            });
            let Some((name, _)) = free.min_by_key(rank) else { continue };
            *busy.entry(name).or_default() += 1;
            questions.push((Arc::clone(name), Question::Block(header)));
        }
    }
}

/// The requests for headers in flight: by the block in which a gap ends, or `None` upwards; each with the least
/// `empty_responses` of the nodes that were asked.
#[derive(Default)]
struct Walks {
    begun: HashMap<Option<Hash>, u32>,
}

impl Walks {
    fn begin(&mut self, question: &Question, empty_responses: u32) {
        let what = match question {
            Question::Down { from, .. } => Some(*from),
            Question::Up { .. } => None,
            _ => return,
        };
        let least = self.begun.entry(what).or_insert(empty_responses);
        *least = empty_responses.min(*least);
    }

    /// Whether a node should be asked too: only if it is more reliable than those that were asked already.
    fn allow(&self, what: Option<Hash>, empty_responses: u32) -> bool {
        self.begun.get(&what).is_none_or(|least| empty_responses < *least)
    }
}
