//! All facts about a chain, and how answers change them. No I/O here: the time is an argument.

mod lost;

use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::asked::Asked;
use super::branch::{BranchSwitch, CanonicalBranch};
use super::fetch::Found;
use super::headers::Headers;
use super::nodes::{HeadChange, NodeFacts, Nodes, StandingCommand};
use super::plan::{Planned, Situation, missing, plan, plan_ahead, settled};
use super::question::Flight;
use super::show::view;
use super::{ChainConfig, ChainView, Group};
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Block, ChainEvent, Detail, Graph, Hash, Header, Transaction};

/// Passes what was reported to the owners of the facts, each to the next, and keeps the events that follow.
#[derive(Debug)]
pub(super) struct ChainFacts<T> {
    config: ChainConfig,
    headers: Headers,
    branch: CanonicalBranch<T>,
    nodes: Nodes,
    asked: Asked,
    /// Events that were not returned yet: a cancelled cycle loses none.
    events: Vec<ChainEvent<T>>,
}

impl<T: Transaction> ChainFacts<T> {
    pub(super) fn new(config: ChainConfig) -> Self {
        Self {
            headers: Headers::new(&config),
            branch: CanonicalBranch::new(&config),
            nodes: Nodes::new(&config),
            asked: Asked::default(),
            events: Vec::new(),
            config,
        }
    }

    pub(super) fn graph(&self) -> Option<&Graph> {
        self.headers.graph()
    }

    pub(super) fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    pub(super) fn take_events(&mut self) -> Vec<ChainEvent<T>> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn view(&self, now: Instant) -> ChainView {
        view(&self.headers, &self.branch, &self.nodes, self.config.public_quorum, now)
    }

    pub(super) fn begin_cycle(&mut self) {
        self.asked.begin_cycle();
    }

    /// The list of the source set begins again.
    pub(super) fn begin_set(&mut self) {
        self.nodes.begin_set();
    }

    /// Records a node of the source set, and its head.
    pub(super) fn is_in_set(
        &mut self,
        name: &Arc<str>,
        group: Group,
        health: SourceHealth,
        failure: Option<ChainError>,
        head: Option<Header>,
        now: Instant,
    ) {
        let has_answered = self.nodes.is_in_set(name, group, health, failure);
        if let Some(head) = head.filter(|_| has_answered) {
            self.answered(name, head, now);
        }
    }

    /// The source set is recorded.
    pub(super) fn end_set(&mut self, now: Instant) {
        self.nodes.end_set(now);
    }

    /// What to ask beside the heads, given what is in flight.
    pub(super) fn plan_ahead(&self, flights: &[&Flight], now: Instant) -> Vec<Planned> {
        plan_ahead(&self.situation(flights, now))
    }

    fn situation<'a>(&'a self, flights: &'a [&Flight], now: Instant) -> Situation<'a, T> {
        let Self { headers, branch, nodes, asked, config, .. } = self;
        Situation { headers, branch, nodes, flights, asked, config, now }
    }

    /// What to ask now, given what is in flight.
    pub(super) fn plan(&mut self, flights: &[&Flight], now: Instant) -> Vec<Planned> {
        let planned = plan(&self.situation(flights, now));
        for Planned { node, question } in &planned {
            self.asked.note(node, question);
        }
        planned
    }

    pub(super) fn cycle(&self) -> u64 {
        self.asked.cycle()
    }

    fn answered(&mut self, name: &Arc<str>, head: Header, now: Instant) {
        let is_attached = self.headers.is_attached(&head);
        let every = self.config.identify_every;
        let Some(node) = self.nodes.get_mut(name) else { return };
        if node.answered(head, is_attached, every, now) {
            self.take_in(name, head, now);
        }
    }

    fn take_in(&mut self, name: &Arc<str>, head: Header, now: Instant) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        let Some(follows) = node.before_head(head) else { return };
        self.obey(name, follows);
        let invalid = self.link(head, name);
        let Some(node) = self.nodes.get_mut(name) else { return };
        if let Some(invalid) = invalid {
            return node.is_contradicted(invalid);
        }
        let change = node.report(head, self.headers.graph(), &self.config, now);
        self.head_changed(name, change);
    }

    /// Emits that a node went back, and that it flaps.
    fn head_changed(&mut self, name: &Arc<str>, change: HeadChange) {
        let Some(head) = self.nodes.get(name).and_then(NodeFacts::head) else { return };
        if let Some(from) = change.from.filter(|from| self.headers.is_rewind(from, &head)) {
            self.events.push(ChainEvent::Rewound { node: Arc::clone(name), from, to: head });
        }
        if let Some(other) = change.flaps_to {
            tracing::warn!(node = %name, ?head, ?other, "an address returns to heads that it has left");
            self.events.push(ChainEvent::Flapping { node: Arc::clone(name), head, other });
        }
    }

    /// Does what follows from a node's standing.
    fn obey(&mut self, name: &Arc<str>, commands: &[StandingCommand]) {
        for command in commands {
            let Some(node) = self.nodes.get(name) else { return };
            match command {
                StandingCommand::ForgetHead => {}
                StandingCommand::ForgetGaps => self.headers.forget_reported_by(name),
                StandingCommand::ReportChain => {
                    if let Some((expected, found)) =
                        self.nodes.identity().cloned().zip(node.foreign().cloned())
                    {
                        let node = Arc::clone(name);
                        self.events.push(ChainEvent::IdentityChanged { node, expected, found });
                    }
                }
                StandingCommand::ReportBreach => {
                    if let Some((finalised, head)) = self.branch.anchor().zip(node.head()) {
                        tracing::error!(node = %name, ?head, ?finalised, "a node is on a branch without a final block");
                        self.events.push(ChainEvent::FinalityBreached {
                            node: Arc::clone(name),
                            finalised,
                            head,
                        });
                    }
                }
            }
        }
    }

    /// Links a header, and returns why it cannot be true.
    fn link(&mut self, header: Header, origin: &Arc<str>) -> Option<ChainError> {
        let found = self.headers.link(header, origin, |hash| self.branch.has_block(hash));
        self.nodes.contradicted(found.waiting);
        found.own
    }

    /// Records the answer to a question.
    pub(super) fn found(&mut self, name: &Arc<str>, found: Found<T>, now: Instant) {
        let purpose = found.purpose();
        let error = match found {
            Found::Identity(identity) => identity.map(|identity| self.identified(name, &identity, now)).err(),
            Found::Final(head, finalised) => {
                self.final_reported(name, head, finalised, now);
                None
            }
            Found::Root(Ok(Some(root))) => {
                self.begin_at(root);
                None
            }
            Found::Root(answer) => {
                if let Some(node) = self.nodes.get_mut(name) {
                    node.returned_headers(true, self.config.requests_per_node);
                }
                Some(answer.err().unwrap_or_else(|| ChainError::Empty { endpoint: name.to_string() }))
            }
            Found::Headers { head, headers, gap, error } => self.filled(name, head, &headers, gap, error),
            Found::OnBranch { block, head, there } => {
                there.map(|there| self.placed(name, &block, head, there.as_ref())).err()
            }
            Found::Ahead { headers, error } => self.filled_ahead(name, &headers, error),
            Found::Off { head, root } => {
                self.diverged(name, head, root);
                None
            }
            Found::Block(header, detail, answer) => self.block_found(name, header.hash, detail, answer, now),
        };
        let Some(node) = self.nodes.get_mut(name) else { return };
        match error {
            Some(error) => {
                node.rest_after(&error, self.config.interval, now);
                node.failed(error, purpose);
            }
            None => node.succeeded(purpose),
        }
    }

    /// Records the answer of a node that was asked for so much of a block. Returns why it is no such answer.
    fn block_found(
        &mut self,
        name: &Arc<str>,
        hash: Hash,
        asked: Detail,
        answer: Result<Option<Block<T>>, ChainError>,
        now: Instant,
    ) -> Option<ChainError> {
        let refused = |reason| ChainError::Refused { endpoint: name.to_string(), method: "block", reason };
        let node = self.nodes.get_mut(name);
        let (error, is_final) = match answer {
            Ok(Some(block)) => {
                let returned = block.detail;
                if let Some(node) = node {
                    node.returned_block(returned);
                }
                if returned >= asked {
                    self.block_arrived(block);
                    return None;
                }
                self.branch.keep_part(block);
                (refused(format!("of block {hash:?} it returned less than was asked for")), true)
            }
            Ok(None) => (refused(format!("it does not have block {hash:?}")), false),
            // What a node says now and may not say later is no reason to read less.
            Err(error) => {
                let is_final = !error.is_retryable();
                (error, is_final)
            }
        };
        self.asked.withheld(hash, asked, name);
        if let Some(node) = self.nodes.get_mut(name) {
            node.withheld_block();
            if is_final {
                node.failed_block(hash, asked, &error, self.asked.cycle(), self.config.unread_after, now);
            }
        }
        Some(error)
    }

    /// Records which blocks are missing. Those of which no node returns more count as they are.
    fn settle_blocks(&mut self, now: Instant) {
        let missing = missing(&self.situation(&[], now));
        self.branch.blocks_are_missing(missing, now);
        for block in settled(&self.situation(&[], now)) {
            self.block_arrived(block);
        }
    }

    fn block_arrived(&mut self, block: Block<T>) {
        let hash = block.header.hash;
        self.headers.block_arrived(&hash);
        self.asked.block_arrived(&hash);
        self.nodes.block_settled(&hash);
        self.branch.insert_block(block);
    }

    /// Clears errors that are over; `is_asked` is whether a node has an open request.
    pub(super) fn end_troubles(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        self.nodes.end_troubles(is_asked, now);
    }

    fn identified(&mut self, name: &Arc<str>, found: &ChainIdentity, now: Instant) {
        let (head, follows) = self.nodes.identified(name, found, now);
        self.obey(name, follows);
        if let Some(head) = head {
            self.take_in(name, head, now);
        }
    }

    fn final_reported(
        &mut self,
        name: &str,
        head: Hash,
        finalised: Result<Option<Header>, ChainError>,
        now: Instant,
    ) {
        let Some(node) = self.nodes.get_mut(name) else { return };
        match finalised {
            Ok(finalised) => node.reported_final(head, finalised, now),
            Err(error) => {
                node.rest_after(&error, self.config.interval, now);
                node.withheld_final(error, &self.config, now);
            }
        }
    }

    /// Records the headers that a node returned to close a gap. Returns what is wrong with them.
    fn filled(
        &mut self,
        name: &Arc<str>,
        head: Hash,
        headers: &[Header],
        gap: Option<Hash>,
        error: Option<ChainError>,
    ) -> Option<ChainError> {
        let invalid = headers.iter().find_map(|header| self.link(*header, name));
        let is_late = matches!(error, Some(ChainError::TimedOut { .. }));
        // The node's answer about the gap contradicts the headers that it reported above the gap.
        if let (Some(gap), Some(ChainError::Untrue { .. }), []) = (gap, &error, headers) {
            self.headers.forget_children(&gap, name);
        }
        if invalid.is_some() {
            self.headers.forget_reported_by(name);
        }
        let (node, graph) = self.nodes.get_mut(name).zip(self.headers.graph())?;
        let is_weak = error.as_ref().is_some_and(ChainError::is_retryable);
        let has_failed = headers.is_empty() || is_weak || invalid.is_some();
        node.returned_headers(has_failed, self.config.requests_per_node);
        let contradiction = invalid.clone();
        if let Some(invalid) = invalid {
            node.is_contradicted_below(head, invalid);
        }
        // The last ones may be more than are kept of the node.
        if let Some(highest) = headers.iter().rev().find(|header| graph.contains(&header.hash)) {
            node.is_linked_at(*highest, graph, self.branch.anchor().as_ref());
        }
        // A node that returned some headers has made progress: that it was late is no error.
        contradiction.or(error.filter(|_| headers.is_empty() || !is_late))
    }

    /// Records headers above the last known one: none, if none is new. Returns why there are none.
    fn filled_ahead(
        &mut self,
        name: &Arc<str>,
        headers: &[Header],
        error: Option<ChainError>,
    ) -> Option<ChainError> {
        let error = error.filter(|_| headers.is_empty());
        if let Some((node, error)) = self.nodes.get_mut(name).zip(error.as_ref()) {
            node.returned_headers(error.is_retryable(), self.config.requests_per_node);
        }
        // Those that do not link are not kept: the node's next head decides.
        for header in headers {
            let is_linked = self.headers.graph().is_some_and(|graph| graph.contains(&header.parent));
            let is_believed = self.nodes.get(name).is_some_and(NodeFacts::is_believed);
            if !is_linked || !is_believed || self.link(*header, name).is_some() {
                break;
            }
            if let Some((node, graph)) = self.nodes.get_mut(name).zip(self.headers.graph()) {
                node.is_linked_at(*header, graph, self.branch.anchor().as_ref());
            }
        }
        error
    }

    /// A branch that forks below the root is never linked. What one node reports counts for that node alone.
    fn diverged(&mut self, name: &Arc<str>, head: Hash, root: Hash) {
        let Some(graph) = self.headers.graph().filter(|graph| graph.root().hash == root) else { return };
        if graph.contains(&head) {
            // It was asked for the branch of a head that was not accepted.
            return self.headers.forget_reported_by(name);
        }
        let follows = self.nodes.get_mut(name).map_or(&[][..], |node| node.diverged(head, graph));
        self.obey(name, follows);
    }

    fn begin_at(&mut self, root: Header) {
        if !self.headers.begin_at(root) {
            return;
        }
        self.branch.begin_at(root);
        let heads: Vec<_> =
            self.nodes.iter().filter_map(|node| Some((Arc::clone(node.name()), node.head()?))).collect();
        for (name, head) in heads {
            self.link(head, &name);
        }
    }

    /// Judges the nodes: which still count, what is final, which are in breach.
    pub(super) fn judge(&mut self, now: Instant) {
        self.nodes.age(&self.config, now);
        // No block was emitted by then.
        if self.headers.root_is_doubtful() && self.nodes.doubt_root(&self.headers) {
            tracing::warn!(
                "most public nodes are not above the block where the observation was to begin: it begins again"
            );
            self.headers.drop_root();
            self.branch.drop_root();
            self.nodes.root_dropped();
        }
        self.weigh_heads(now);
        self.nodes.note_links(&self.headers);
        self.quarantine();
        self.raise_anchor();
        self.quarantine();
        self.make_room();
        self.watch_tip(now);
        self.settle_blocks(now);
    }

    fn weigh_heads(&mut self, now: Instant) {
        let Some(graph) = self.headers.graph() else { return };
        for (name, change) in self.nodes.weigh_heads(graph, &self.config, now) {
            self.head_changed(&name, change);
        }
    }

    fn quarantine(&mut self) {
        let Some(anchor) = self.branch.anchor() else { return };
        for (name, follows) in self.nodes.quarantine(&self.headers, &anchor) {
            self.obey(&name, follows);
        }
    }

    fn raise_anchor(&mut self) {
        if let Some(graph) = self.headers.graph() {
            self.branch.raise_anchor(graph, &self.nodes.reported_final(), self.config.final_depth);
        }
    }

    fn watch_tip(&mut self, now: Instant) {
        if let Some(tip) = self.branch.tip() {
            self.branch.note_holders(self.nodes.watch_tip(&self.headers, &tip, &self.config, now));
        }
    }

    /// Emits how the branch changed, as far as the blocks are there. Nothing is awaited here: events and state change
    /// together.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(graph) = self.headers.graph() else { return };
        let switches = self.branch.switches(graph, &self.nodes.linked_heads(), self.config.block_window);
        let is_unread = self.config.detail == Detail::Header;
        // If the blocks of the best branch are not available, the next best one is used.
        let moved = switches.iter().find_map(|switch| self.branch.follow(graph, switch));
        if let Some(event) = moved {
            self.events.push(event);
            self.nodes.tip_moved();
            self.headers.fix_root();
            for header in switches.iter().flat_map(BranchSwitch::connected).filter(|_| is_unread) {
                self.headers.block_arrived(&header.hash);
            }
        }
        self.raise_anchor();
        self.events.extend(self.headers.graph().and_then(|graph| self.branch.finalise(graph)));
        self.watch_tip(now);
        self.compare(now);
        self.branch.measure(self.nodes.goal(), self.config.lagging_after, now);
        self.prune();
        let on_the_way: usize = switches.iter().map(|switch| switch.connected().len()).sum();
        self.branch.keep_blocks(self.config.blocks_kept.max(on_the_way));
    }

    /// Emits which nodes are behind, and which heads weigh the same as the tip.
    fn compare(&mut self, now: Instant) {
        let Some((graph, tip)) = self.headers.graph().zip(self.branch.tip()) else { return };
        self.events.extend(self.nodes.compare(&self.headers, &tip, &self.config, now));
        let is_best = self.branch.best(graph, &self.nodes.linked_heads()) == Some(tip);
        self.events.extend(self.branch.compare(graph, &self.nodes.heads(), is_best));
    }

    /// Drops headers that are far below the last final block and that no lagging node needs.
    fn prune(&mut self) {
        let Some(graph) = self.headers.graph() else { return };
        if let Some(root) = self.branch.prune_below(graph, self.nodes.laggard(), &self.config) {
            self.headers.prune(&root);
        }
    }
}
