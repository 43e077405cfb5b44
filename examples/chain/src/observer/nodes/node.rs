//! The facts about one node.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::rise::Rise;
use crate::adapter::{ChainError, ChainIdentity};
use crate::observer::{ChainConfig, Group};
use crate::{Graph, Hash, Header, Height, OnBranch};

/// What one node reported, and what it is believed. Only its methods change it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact, and none excludes another")]
pub(in crate::observer) struct NodeFacts {
    name: Arc<str>,
    group: Group,
    health: SourceHealth,
    /// Whether it is in the source set.
    listed: bool,
    /// The last head that was accepted.
    head: Option<Header>,
    finalised: Option<Header>,
    /// Its head when it was last asked for its last final block, and when it answered.
    final_reported_at: Option<(Hash, Instant)>,
    /// The last block of its branch that is in the graph: its head, or the highest header that it returned for a gap.
    linked: Option<Header>,
    rise: Rise,
    /// How many consecutive requests for headers failed, were late or returned none.
    empty_responses: u32,
    /// It did not return the last block that it was asked for.
    withheld_block: bool,
    /// How many consecutive requests for its final block had no answer, and until when it is not asked.
    final_empty_responses: u32,
    final_backoff_until: Option<Instant>,
    /// When it last proved to be on the chain.
    identified: Option<Instant>,
    /// Whether it has to be asked which chain it is on.
    asks_identity: bool,
    /// A head that is not used until the node has proved to be on the chain.
    unverified_head: Option<Header>,
    foreign: Option<ChainIdentity>,
    /// Why it did not return its head.
    failure: Option<ChainError>,
    /// Why its head, or a header that it reported below it, cannot be true.
    invalid_header: Option<ChainError>,
    /// The invalid header is below its head: descendants of that head stay invalid until the node has proved again to
    /// be on the chain.
    invalid_below: bool,
    /// The last error of a request that was not for its head, until a later one succeeds.
    last_error: Option<LastError>,
    /// It asked for no requests until then.
    backoff_until: Option<Instant>,
    breached: bool,
    /// Its branch forks from the graph below the root.
    diverged_below_root: bool,
    lagging: bool,
    /// The canonical tip was on its branch when the nodes were last judged.
    held_tip: bool,
    forgotten: bool,
}

#[derive(Debug)]
struct LastError {
    error: ChainError,
    /// How often the node had returned its head by then.
    answers: u64,
}

/// What to do with a head that a node reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observer) enum HeadStep {
    /// It is linked.
    Link,
    /// It is linked; the gaps of the node are on a branch that the node has left, and need no question.
    LinkElsewhere,
    /// It is on top of a header that cannot be true.
    Keep,
}

/// How a node's distance from the tip changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LagChange {
    Began(Height),
    Ended,
}

impl NodeFacts {
    pub(super) fn new(name: Arc<str>, group: Group, health: SourceHealth) -> Self {
        Self {
            name,
            group,
            health,
            listed: true,
            head: None,
            finalised: None,
            final_reported_at: None,
            linked: None,
            rise: Rise::default(),
            empty_responses: 0,
            withheld_block: false,
            final_empty_responses: 0,
            final_backoff_until: None,
            identified: None,
            asks_identity: true,
            unverified_head: None,
            foreign: None,
            failure: None,
            invalid_header: None,
            invalid_below: false,
            last_error: None,
            backoff_until: None,
            breached: false,
            diverged_below_root: false,
            lagging: false,
            held_tip: false,
            forgotten: false,
        }
    }

    pub(in crate::observer) fn name(&self) -> &Arc<str> {
        &self.name
    }

    pub(in crate::observer) fn group(&self) -> Group {
        self.group
    }

    pub(in crate::observer) fn health(&self) -> &SourceHealth {
        &self.health
    }

    /// Whether it is in the source set.
    pub(in crate::observer) fn is_listed(&self) -> bool {
        self.listed
    }

    /// The last head that was accepted.
    pub(in crate::observer) fn head(&self) -> Option<Header> {
        self.head
    }

    /// The last final block that it reported.
    pub(in crate::observer) fn finalised(&self) -> Option<Header> {
        self.finalised
    }

    /// The last block of its branch that is in the graph.
    /// Whether nothing else may be asked before which chain it is on: that is not known, or its head is another one.
    pub(in crate::observer) fn waits_for_identity(&self) -> bool {
        self.asks_identity && (self.identified.is_none() || self.unverified_head.is_some())
    }

    pub(in crate::observer) fn linked(&self) -> Option<Header> {
        self.linked
    }

    /// By how many blocks its head has probably risen since the last look: 0, unless it rises by several at each look.
    pub(in crate::observer) fn expected_rise(&self) -> Height {
        self.rise.expected()
    }

    /// How long its last answer took.
    pub(in crate::observer) fn last_elapsed(&self) -> Duration {
        self.health.facts.last_elapsed.unwrap_or_default()
    }

    /// How many consecutive requests for headers failed, were late or returned none.
    pub(in crate::observer) fn empty_responses(&self) -> u32 {
        self.empty_responses
    }

    /// Whether it did not return the last block that it was asked for.
    pub(in crate::observer) fn withheld_block(&self) -> bool {
        self.withheld_block
    }

    /// Whether it has to be asked which chain it is on.
    pub(in crate::observer) fn asks_identity(&self) -> bool {
        self.asks_identity
    }

    /// The other chain that it is on.
    pub(in crate::observer) fn foreign(&self) -> Option<&ChainIdentity> {
        self.foreign.as_ref()
    }

    /// Whether its head, or a header below it, cannot be true.
    pub(in crate::observer) fn is_invalid(&self) -> bool {
        self.invalid_header.is_some()
    }

    /// Whether it is on a branch without a final block.
    pub(in crate::observer) fn is_in_breach(&self) -> bool {
        self.breached
    }

    /// Whether its branch forks from the graph below the root.
    pub(in crate::observer) fn is_diverged(&self) -> bool {
        self.diverged_below_root
    }

    /// Whether a request that was not for its head failed, and none has succeeded since.
    pub(in crate::observer) fn has_trouble(&self) -> bool {
        self.last_error.is_some()
    }

    /// Why it did not return its head; else why it is not believed; else the error of another request.
    pub(in crate::observer) fn error(&self) -> Option<&ChainError> {
        let trouble = self.last_error.as_ref().map(|trouble| &trouble.error);
        self.failure.as_ref().or(self.invalid_header.as_ref()).or(trouble)
    }

    /// Whether its head counts: it is on the chain, valid, not in breach and not forgotten.
    pub(in crate::observer) fn is_believed(&self) -> bool {
        !self.breached && !self.forgotten && self.is_honest()
    }

    /// Whether it is on the chain and its headers are valid.
    pub(in crate::observer) fn is_honest(&self) -> bool {
        self.foreign.is_none() && self.invalid_header.is_none() && self.head.is_some()
    }

    /// Whether it asked for no requests at this time.
    pub(in crate::observer) fn rests(&self, now: Instant) -> bool {
        self.backoff_until.is_some_and(|until| until > now)
    }

    pub(in crate::observer) fn is_fresh(&self, now: Instant) -> bool {
        self.listed && self.health.freshness(now).is_fresh()
    }

    /// Whether it can be asked now: it answered the last probe, has no back-off and does not hang.
    ///
    /// A node that takes longer than `collect_for` already has its next probe in flight: it hangs after twice the time
    /// that it last took. A probe that has just begun does not hang: after a cancelled poll the cycle waits for less.
    pub(in crate::observer) fn is_reachable(&self, now: Instant, collect_for: Duration) -> bool {
        let facts = &self.health.facts;
        let slow = facts.last_elapsed.filter(|last| *last >= collect_for);
        let hangs = facts.in_flight_since.is_some_and(|since| {
            let waits = now.saturating_duration_since(since);
            // The probe began a little after the cycle began to wait.
            slow.map_or(waits >= collect_for / 8 * 7, |last| waits > last.saturating_mul(2))
        });
        self.listed && facts.last_success.is_some() && !self.health.is_failing() && !hangs && !self.rests(now)
    }

    /// Whether it has to be asked for its last final block, if it can be asked: its head is new, or the last answer is
    /// old, and the last request did not fail just now.
    pub(in crate::observer) fn owes_final(&self, every: Duration, now: Instant) -> Option<Header> {
        let head = self.head.filter(|_| self.is_honest())?;
        let is_known = self
            .final_reported_at
            .is_some_and(|(at, reported)| at == head.hash && now.saturating_duration_since(reported) < every);
        let waits = self.final_backoff_until.is_some_and(|until| until > now);
        (!is_known && !waits).then_some(head)
    }

    /// Whether a head is the one that it had, or a child of it.
    fn extends(&self, head: &Header) -> bool {
        self.head.is_some_and(|before| *head == before || head.parent == before.hash)
    }

    pub(super) fn unlist(&mut self) {
        self.listed = false;
    }

    /// It is not in the source set: another node may be at its address when it is back, and its answers are counted
    /// again from 0.
    pub(super) fn left(&mut self) {
        self.identified = None;
        self.health.facts.answers = 0;
    }

    /// It is in the source set, with this health.
    pub(super) fn is_there(&mut self, group: Group, health: SourceHealth, failure: Option<ChainError>) {
        (self.listed, self.group, self.health, self.failure) = (true, group, health, failure);
        if self.failure.is_some() {
            // Another node may be at this address when it answers again.
            self.identified = None;
        }
    }

    /// Records that it returned its head. Whether the head can be used at once: the node has proved to be on the chain,
    /// and the head is attached to what is known.
    pub(in crate::observer) fn answered(
        &mut self,
        head: Header,
        is_attached: bool,
        every: Duration,
        now: Instant,
    ) -> bool {
        let rises = self.is_believed() && !self.diverged_below_root && self.rise.reaches(self.head, &head);
        let attached = is_attached || self.extends(&head) || rises;
        let proved = self.identified.is_some() && self.foreign.is_none() && attached;
        let due = self.identified.is_none_or(|proved| now.saturating_duration_since(proved) >= every);
        self.asks_identity = due || !proved;
        if !proved {
            self.unverified_head = Some(head);
        }
        proved
    }

    /// What to do with a head before it is accepted.
    pub(in crate::observer) fn before_head(&mut self, head: Header) -> HeadStep {
        let extends = self.extends(&head);
        if self.invalid_below && extends {
            self.head = Some(head);
            return HeadStep::Keep;
        }
        if extends || !(self.diverged_below_root || self.invalid_below) {
            return HeadStep::Link;
        }
        (self.diverged_below_root, self.invalid_below) = (false, false);
        HeadStep::LinkElsewhere
    }

    /// Accepts a head, unless it cannot be true. Returns the one before.
    pub(in crate::observer) fn accept(
        &mut self,
        head: Header,
        invalid: Option<ChainError>,
    ) -> Option<Header> {
        self.invalid_header = invalid;
        if self.invalid_header.is_some() {
            return None;
        }
        self.rise.note(self.head, &head);
        self.head.replace(head)
    }

    /// A header that it reported cannot be true.
    pub(in crate::observer) fn is_contradicted(&mut self, error: ChainError) {
        self.invalid_header = Some(error);
    }

    /// It is on the chain. Returns the head that waited for this, and whether its branch has to be requested again.
    pub(super) fn proved(&mut self, now: Instant) -> (Option<Header>, bool) {
        self.asks_identity = false;
        self.identified = Some(now);
        (self.foreign, self.invalid_below) = (None, false);
        // The node may have been in the middle of a reorg.
        (self.unverified_head.take(), std::mem::take(&mut self.diverged_below_root))
    }

    /// It is on another chain. Whether that is new.
    pub(super) fn is_elsewhere(&mut self, found: &ChainIdentity) -> bool {
        (self.asks_identity, self.unverified_head) = (false, None);
        if self.foreign.as_ref() == Some(found) {
            return false;
        }
        self.foreign = Some(found.clone());
        (self.head, self.linked, self.identified) = (None, None, None);
        (self.finalised, self.final_reported_at) = (None, None);
        true
    }

    /// It reported what is final, when its head was `head`.
    pub(in crate::observer) fn reported_final(
        &mut self,
        head: Hash,
        finalised: Option<Header>,
        now: Instant,
    ) {
        // The name may have passed to another node since the question.
        if self.identified.is_some() && self.is_honest() {
            (self.finalised, self.final_reported_at) = (finalised, Some((head, now)));
            (self.final_empty_responses, self.final_backoff_until) = (0, None);
        }
    }

    /// It did not report what is final: it is asked again after an interval, which doubles each time.
    pub(in crate::observer) fn withheld_final(&mut self, config: &ChainConfig, now: Instant) {
        let rest = config.interval.saturating_mul(1 << self.final_empty_responses.min(16));
        self.final_empty_responses = self.final_empty_responses.saturating_add(1);
        self.final_backoff_until = now.checked_add(rest.min(config.identify_every));
    }

    /// A request for headers ended.
    pub(in crate::observer) fn returned_headers(&mut self, has_failed: bool) {
        self.empty_responses = if has_failed { self.empty_responses.saturating_add(1) } else { 0 };
    }

    /// A header below its head cannot be true, if its head is still `head`.
    pub(in crate::observer) fn is_contradicted_below(&mut self, head: Hash, error: ChainError) {
        if self.head.is_some_and(|now| now.hash == head) {
            (self.invalid_header, self.invalid_below) = (Some(error), true);
        }
    }

    /// A header that it returned is in the graph.
    pub(in crate::observer) fn is_linked_at(&mut self, header: Header) {
        if self.is_honest() {
            self.linked = Some(header);
        }
    }

    /// The branch of `head` forks from the graph below the root. Whether that is its branch still.
    pub(in crate::observer) fn diverged(&mut self, head: Hash) -> bool {
        let has_head = self.head.is_some_and(|now| now.hash == head);
        self.diverged_below_root |= has_head;
        has_head
    }

    /// Whether it returned a block that it was asked for.
    pub(in crate::observer) fn returned_block(&mut self, is_there: bool) {
        self.withheld_block = !is_there;
    }

    /// A request failed that was not for its head. `rest` is how long it asked for no requests.
    pub(in crate::observer) fn failed(&mut self, error: ChainError, rest: Option<Duration>, now: Instant) {
        if let Some(rest) = rest {
            self.backoff_until = now.checked_add(rest);
        }
        self.last_error = Some(LastError { error, answers: self.health.facts.answers });
    }

    /// Clears its last error if it has returned its head since, has no back-off, and has no open request.
    pub(super) fn end_trouble(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        let answers = self.health.facts.answers;
        let is_old = self.last_error.as_ref().is_some_and(|trouble| trouble.answers != answers);
        if is_old && !self.rests(now) && !is_asked(&self.name) {
            self.last_error = None;
        }
    }

    /// Forgets it after so long without an answer. Whether it is kept.
    pub(super) fn age(&mut self, forget_after: Duration, now: Instant) -> bool {
        let last = self.health.facts.last_success;
        self.forgotten = last.is_some_and(|last| now.saturating_duration_since(last) >= forget_after);
        self.listed || last.is_some() && !self.forgotten
    }

    /// The root was dropped.
    pub(super) fn root_dropped(&mut self) {
        (self.linked, self.diverged_below_root, self.breached, self.held_tip) = (None, false, false, false);
    }

    /// Finds the last block of its branch that is in the graph; none if its branch leaves the graph.
    pub(super) fn link(&mut self, graph: &Graph, is_gone: bool) {
        let mut linked = [self.head, self.linked].into_iter().flatten();
        self.linked = linked.find(|block| graph.contains(&block.hash)).filter(|_| !is_gone);
    }

    /// Records whether it is in breach. Whether that is new.
    pub(super) fn breach(&mut self, is_in_breach: bool) -> bool {
        !std::mem::replace(&mut self.breached, is_in_breach) && is_in_breach
    }

    /// Records whether the tip is on its branch; returns that, and whether the node left the tip.
    pub(super) fn hold(&mut self, graph: &Graph, tip: &Header) -> (bool, bool) {
        let on_branch = |head: Header| graph.is_on_branch(&tip.hash, &head.hash) == OnBranch::Yes;
        let holds = self.linked.is_some_and(on_branch);
        let held = std::mem::replace(&mut self.held_tip, holds);
        (holds, held && !holds)
    }

    /// The tip moved.
    pub(super) fn release_tip(&mut self) {
        self.held_tip = false;
    }

    /// Records how far behind it is, if that is too far.
    pub(super) fn lag(&mut self, behind: Option<Height>) -> Option<LagChange> {
        let before = std::mem::replace(&mut self.lagging, behind.is_some());
        match behind {
            Some(behind) if !before => Some(LagChange::Began(behind)),
            None if before => Some(LagChange::Ended),
            _ => None,
        }
    }
}
