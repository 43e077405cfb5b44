//! How the answers to questions are recorded.

use std::sync::Arc;

use tokio::time::Instant;

use super::fetch::Found;
use super::known::{Chain, ChainFacts, untrue};
use super::node::{LastError, NodeFacts};
use super::probe::LONGEST_REST;
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Block, ChainEvent, Hash, Header, Transaction};

impl<T: Transaction> ChainFacts<T> {
    /// Records the answer to a question.
    pub(super) fn found(&mut self, name: &Arc<str>, found: Found<T>, now: Instant) {
        let has_no_root = matches!(found, Found::Root(Ok(None) | Err(_)));
        let error = match found {
            Found::Identity(Ok(identity)) => {
                self.identified(name, identity, now);
                None
            }
            Found::Final(head, Ok(finalised)) => {
                self.final_reported(name, head, finalised, now);
                None
            }
            Found::Root(Ok(Some(root))) => {
                self.begin_at(root);
                None
            }
            Found::Root(Ok(None)) => Some(ChainError::Empty { endpoint: name.to_string() }),
            Found::Headers { head, headers, gap, error } => self.filled(name, head, &headers, gap, error),
            Found::Off { head, root } => {
                self.is_off(name, head, root);
                None
            }
            Found::Block(_, Ok(Some(block))) => {
                self.delivered(name, block);
                None
            }
            Found::Block(header, Ok(None)) => {
                self.withheld_block_by(name, header);
                let reason = format!("it does not have block {:?}", header.hash);
                Some(ChainError::Refused { endpoint: name.to_string(), method: "block", reason })
            }
            Found::Block(header, Err(error)) => {
                self.withheld_block_by(name, header);
                Some(error)
            }
            Found::Final(_, Err(error)) => {
                self.withheld_final_by(name, now);
                Some(error)
            }
            Found::Identity(Err(error)) | Found::Root(Err(error)) => Some(error),
        };
        let Some(node) = self.nodes.get_mut(name) else { return };
        if has_no_root {
            node.empty_responses = node.empty_responses.saturating_add(1);
        }
        let Some(error) = error else { return };
        if let ChainError::RateLimited { retry_after, .. } = error {
            let rest = retry_after.unwrap_or(self.config.interval).min(LONGEST_REST);
            node.backoff_until = now.checked_add(rest);
        }
        node.last_error = Some(LastError { error, answers: node.health.facts.answers });
    }

    /// Clears the last error of a node that has returned its head since, has no back-off, and has no open request.
    pub(super) fn end_troubles(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        for (name, node) in &mut self.nodes {
            let answers = node.health.facts.answers;
            let is_old = node.last_error.as_ref().is_some_and(|trouble| trouble.answers != answers);
            if is_old && !node.rests(now) && !is_asked(name) {
                node.last_error = None;
            }
        }
    }

    fn identified(&mut self, name: &Arc<str>, found: ChainIdentity, now: Instant) {
        let expected = self.identity.get_or_insert_with(|| found.clone());
        let Some(node) = self.nodes.get_mut(name) else { return };
        node.asks_identity = false;
        let unverified_head = node.unverified_head.take();
        if *expected == found {
            node.identified = Some(now);
            (node.foreign, node.invalid_below) = (None, false);
            // The node may have been in the middle of a reorg: its branch is requested again.
            if std::mem::take(&mut node.diverged_below_root) {
                self.pending.forget_reported_by(name);
            }
            if let Some(head) = unverified_head {
                self.take_in(name, head);
            }
        } else if node.foreign.as_ref() != Some(&found) {
            node.foreign = Some(found.clone());
            (node.head, node.linked, node.identified) = (None, None, None);
            (node.finalised, node.final_reported_at) = (None, None);
            let (node, expected) = (Arc::clone(name), expected.clone());
            self.events.push(ChainEvent::IdentityChanged { node, expected, found });
        }
    }

    fn final_reported(&mut self, name: &Arc<str>, head: Hash, finalised: Option<Header>, now: Instant) {
        // The name may have passed to another node since the question.
        let is_proved = |node: &&mut NodeFacts| node.identified.is_some() && node.is_honest();
        let Some(node) = self.nodes.get_mut(name).filter(is_proved) else { return };
        (node.finalised, node.final_reported_at) = (finalised, Some((head, now)));
        (node.final_empty_responses, node.final_backoff_until) = (0, None);
    }

    /// The node is asked again after an interval, which doubles each time.
    fn withheld_final_by(&mut self, name: &Arc<str>, now: Instant) {
        let config = &self.config;
        let Some(node) = self.nodes.get_mut(name) else { return };
        let rest = config.interval.saturating_mul(1 << node.final_empty_responses.min(16));
        node.final_empty_responses = node.final_empty_responses.saturating_add(1);
        node.final_backoff_until = now.checked_add(rest.min(config.identify_every));
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
            self.pending.forget_children(&gap, name);
        }
        if invalid.is_some() {
            self.pending.forget_reported_by(name);
        }
        let (node, chain) = self.nodes.get_mut(name).zip(self.chain.as_ref())?;
        let is_limited = matches!(error, Some(ChainError::RateLimited { .. }));
        let has_failed = headers.is_empty() || is_late || is_limited || invalid.is_some();
        node.empty_responses = if has_failed { node.empty_responses.saturating_add(1) } else { 0 };
        if let Some(invalid) = invalid.filter(|_| node.head.is_some_and(|now| now.hash == head)) {
            (node.invalid_header, node.invalid_below) = (Some(untrue(name, &invalid)), true);
        }
        let highest = headers.last().filter(|highest| chain.graph.contains(&highest.hash));
        if let Some(highest) = highest.filter(|_| node.is_honest()) {
            node.linked = Some(*highest);
        }
        // A node that returned some headers has made progress: that it was late is no error.
        error.filter(|_| headers.is_empty() || !is_late)
    }

    /// A branch that forks below the root is never linked. What one node reports counts for that node alone.
    fn is_off(&mut self, name: &Arc<str>, head: Hash, root: Hash) {
        if self.chain.as_ref().is_none_or(|chain| chain.graph.root().hash != root) {
            return;
        }
        let has_head = |node: &&mut NodeFacts| node.head.is_some_and(|now| now.hash == head);
        if let Some(node) = self.nodes.get_mut(name).filter(has_head) {
            node.diverged_below_root = true;
            self.pending.forget_reported_by(name);
        }
    }

    fn begin_at(&mut self, root: Header) {
        if self.chain.is_some() {
            return;
        }
        self.chain = Some(Chain::new(root));
        let heads: Vec<_> =
            self.nodes.iter().filter_map(|(name, node)| Some((Arc::clone(name), node.head?))).collect();
        for (name, head) in heads {
            self.link(head, &name);
        }
    }

    fn withheld_block_by(&mut self, name: &Arc<str>, header: Header) {
        self.tried.entry(header.hash).or_default().push(Arc::clone(name));
        if let Some(node) = self.nodes.get_mut(name) {
            node.withheld_block = true;
        }
    }

    fn delivered(&mut self, name: &Arc<str>, block: Block<T>) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.withheld_block = false;
        }
        self.header_origins.remove(&block.header.hash);
        self.tried.remove(&block.header.hash);
        self.blocks.insert(block);
    }
}
