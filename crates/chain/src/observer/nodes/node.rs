//! The facts about one node.

mod branch;
mod head;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::asked_head::AskedHead;
use super::final_reports::FinalReports;
use super::heads::Heads;
use super::proof::ChainProof;
use super::returns::BlockReturns;
use super::rise::Rise;
use super::standing::StandingEvent::{
    FellSilent, ForkedBelowRoot, HeaderInvalid, HeaderInvalidBelow, Identified, LeftFinal, OnFinal,
    OtherChain, RootDropped,
};
use super::standing::{Standing, StandingCommand, StandingEvent};
use super::tip::{AtTip, Hold, LagChange};
use super::troubles::Troubles;
use super::width::Width;
use crate::adapter::{ChainError, ChainIdentity};
use crate::observer::probe::LONGEST_REST;
use crate::observer::question::Purpose;
use crate::observer::{ChainConfig, Group};
use crate::{Detail, Graph, Hash, Header, Height};

/// What one node reported, and what it is to the observer. Only its methods change it.
#[derive(Debug)]
pub(in crate::observer) struct NodeFacts {
    name: Arc<str>,
    group: Group,
    health: SourceHealth,
    presence: Presence,
    standing: Standing,
    proof: ChainProof,
    /// The other chain that it was on last.
    foreign: Option<ChainIdentity>,
    /// Why its head, or a header that it reported below it, could not be true.
    invalid_header: Option<ChainError>,
    heads: Heads,
    asked_head: AskedHead,
    /// The last block of its branch that is in the graph: its head, or the highest header that it returned for a gap.
    linked: Option<Header>,
    /// The head with which `linked` was last known to be on its branch, or not.
    branch_asked: Option<Hash>,
    rise: Rise,
    finality: FinalReports,
    /// How many consecutive requests for headers failed, were late or returned none.
    empty_responses: u32,
    width: Width,
    returns: BlockReturns,
    troubles: Troubles,
    at_tip: AtTip,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    InSet,
    Left,
}

impl NodeFacts {
    pub(super) fn new(name: Arc<str>, group: Group, health: SourceHealth) -> Self {
        Self {
            name,
            group,
            health,
            presence: Presence::InSet,
            standing: Standing::Unidentified,
            proof: ChainProof::new(),
            foreign: None,
            invalid_header: None,
            heads: Heads::default(),
            asked_head: AskedHead::default(),
            linked: None,
            branch_asked: None,
            rise: Rise::default(),
            finality: FinalReports::default(),
            empty_responses: 0,
            width: Width::default(),
            returns: BlockReturns::new(),
            troubles: Troubles::default(),
            at_tip: AtTip::default(),
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
        self.presence == Presence::InSet
    }

    /// The last final block that it reported.
    pub(in crate::observer) fn finalised(&self) -> Option<Header> {
        self.finality.block()
    }

    /// Whether nothing else may be asked before which chain it is on: that is not known, or its head is another one.
    pub(in crate::observer) fn waits_for_identity(&self) -> bool {
        self.proof.is_waited_for()
    }

    /// The last block of its branch that is in the graph.
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
    pub(in crate::observer) fn has_withheld_block(&self) -> bool {
        self.returns.withheld_last()
    }

    /// How much of a block it can be asked for.
    pub(in crate::observer) fn offers(&self, block: &Hash, config: &ChainConfig, now: Instant) -> Detail {
        self.returns.offers(block, config.detail, config.identify_every, now)
    }

    /// Whether it is known not to return all of its blocks.
    pub(in crate::observer) fn returns_less(&self) -> bool {
        self.returns.error().is_some()
    }

    /// Whether it counts for how much of a block can be had: it is in the set, and its last answer is not stale. One
    /// failed probe does not matter.
    pub(in crate::observer) fn has_a_say(&self, now: Instant) -> bool {
        self.is_honest() && self.is_fresh(now)
    }

    /// Whether it has to be asked which chain it is on.
    pub(in crate::observer) fn asks_identity(&self) -> bool {
        self.proof.is_owed()
    }

    /// The other chain that it is on.
    pub(in crate::observer) fn foreign(&self) -> Option<&ChainIdentity> {
        self.foreign.as_ref().filter(|_| self.standing == Standing::Foreign)
    }

    /// Whether its head, or a header below it, cannot be true.
    pub(in crate::observer) fn is_invalid(&self) -> bool {
        self.standing.is_invalid()
    }

    /// Whether it is on a branch without a final block.
    pub(in crate::observer) fn is_in_breach(&self) -> bool {
        self.standing.is_in_breach()
    }

    /// Whether its branch forks from the graph below the root.
    pub(in crate::observer) fn is_diverged(&self) -> bool {
        self.standing == Standing::Diverged
    }

    /// Whether it has not returned a head that counts, or not for too long.
    pub(super) fn is_unheard(&self) -> bool {
        matches!(self.standing, Standing::Unidentified | Standing::Forgotten)
    }

    /// Whether its head counts: it is on the chain, valid, not in breach and not forgotten.
    pub(in crate::observer) fn is_believed(&self) -> bool {
        self.standing.is_believed()
    }

    /// Whether it is on the chain and its headers are valid.
    pub(in crate::observer) fn is_honest(&self) -> bool {
        self.standing.is_honest()
    }

    /// Whether a request failed that was not for its head, and it has not returned its head since.
    pub(in crate::observer) fn has_trouble(&self) -> bool {
        self.troubles.last().is_some()
    }

    /// Why it did not return its head; else why it is not believed; else what it does not return: all of its blocks, what
    /// is final after it had been, or the last other thing that it was asked for.
    pub(in crate::observer) fn error(&self) -> Option<&ChainError> {
        let invalid = self.invalid_header.as_ref().filter(|_| self.is_invalid());
        let lacks = || self.returns.error().or_else(|| self.finality.error());
        self.troubles.failure().or(invalid).or_else(lacks).or_else(|| self.troubles.last())
    }

    pub(in crate::observer) fn is_fresh(&self, now: Instant) -> bool {
        self.is_listed() && self.health.freshness(now).is_fresh()
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
        let answers = facts.last_success.is_some() && !self.health.is_failing() && !hangs;
        self.is_listed() && answers && !self.troubles.rests(now)
    }

    /// Its head, if it has to be asked for its last final block.
    pub(in crate::observer) fn owes_final(&self, every: Duration, now: Instant) -> Option<Header> {
        let head = self.head().filter(|_| self.is_honest())?;
        self.finality.is_owed(&head, every, now).then_some(head)
    }

    /// Moves its standing, and forgets what no longer holds. Returns what else follows.
    fn on(&mut self, event: StandingEvent) -> &'static [StandingCommand] {
        let commands = self.standing.on(event).commands();
        if commands.contains(&StandingCommand::ForgetHead) {
            self.linked = None;
            self.heads.forget();
            self.finality.forget();
        }
        commands
    }

    /// It is not in the source set that is being recorded, or not yet.
    pub(super) fn unlist(&mut self) {
        self.presence = Presence::Left;
    }

    /// It is not in the source set: another node may be at its address when it is back, and its answers are counted
    /// again from 0.
    pub(super) fn left(&mut self) {
        self.proof.lapse();
        self.health.facts.answers = 0;
    }

    /// It is in the source set, with this health.
    pub(super) fn is_there(&mut self, group: Group, health: SourceHealth, failure: Option<ChainError>) {
        (self.presence, self.group, self.health) = (Presence::InSet, group, health);
        if failure.is_some() {
            // Another node may be at this address when it answers again.
            self.proof.lapse();
        }
        self.troubles.probed(failure);
    }

    /// Its head, or a header that it reported, cannot be true.
    pub(in crate::observer) fn is_contradicted(&mut self, error: ChainError) {
        self.on(HeaderInvalid);
        self.invalid_header = Some(error);
    }

    /// A header below its head cannot be true, if its head is still `head`.
    pub(in crate::observer) fn is_contradicted_below(&mut self, head: Hash, error: ChainError) {
        if self.head().is_some_and(|now| now.hash == head) {
            self.on(HeaderInvalidBelow);
            self.invalid_header = Some(error);
        }
    }

    /// It is on the chain. Returns the head that waited for this, and what follows.
    pub(super) fn proved(&mut self, now: Instant) -> (Option<Header>, &'static [StandingCommand]) {
        (self.proof.answered(Some(now)), self.on(Identified))
    }

    /// It is on another chain.
    pub(super) fn is_elsewhere(&mut self, found: &ChainIdentity) -> &'static [StandingCommand] {
        self.proof.answered(None);
        if self.foreign() == Some(found) {
            return &[];
        }
        self.foreign = Some(found.clone());
        self.on(OtherChain)
    }

    /// It reported what is final, when its head was `head`.
    pub(in crate::observer) fn reported_final(
        &mut self,
        head: Hash,
        finalised: Option<Header>,
        now: Instant,
    ) {
        // The name may have passed to another node since the question.
        if self.proof.is_there() && self.is_honest() {
            self.finality.reported(head, finalised, now);
        }
    }

    /// It did not report what is final.
    pub(in crate::observer) fn withheld_final(
        &mut self,
        error: ChainError,
        config: &ChainConfig,
        now: Instant,
    ) {
        self.finality.failed(error, config, now);
    }

    /// A request for headers ended, of which `wanted` calls may be made at once.
    pub(in crate::observer) fn returned_headers(&mut self, has_failed: bool, wanted: usize) {
        self.empty_responses = if has_failed { self.empty_responses.saturating_add(1) } else { 0 };
        self.width.note(has_failed, wanted);
    }

    /// How many calls for headers are made at once, of `wanted`.
    pub(in crate::observer) fn calls_at_once(&self, wanted: usize) -> usize {
        self.width.of(wanted)
    }

    /// Its branch forks from the graph below the root, as it said when its head was `head`. Returns what follows, unless
    /// it has a head since that is linked.
    pub(in crate::observer) fn diverged(&mut self, head: Hash, graph: &Graph) -> &'static [StandingCommand] {
        let is_open = |now: Header| now.hash == head || !graph.contains(&now.hash);
        if self.head().is_some_and(is_open) { self.on(ForkedBelowRoot) } else { &[] }
    }

    /// It returned so much of a block.
    pub(in crate::observer) fn returned_block(&mut self, detail: Detail) {
        self.returns.returned(detail);
    }

    /// It did not return a block, or less of it than it was asked for.
    pub(in crate::observer) fn withheld_block(&mut self) {
        self.returns.withheld();
    }

    /// Its answer says that it will not return so much of a block.
    pub(in crate::observer) fn failed_block(
        &mut self,
        block: Hash,
        at: Detail,
        error: &ChainError,
        cycle: u64,
        patience: Duration,
        now: Instant,
    ) {
        if self.returns.failed(block, at, error.clone(), cycle, patience, now) {
            tracing::warn!(
                node = %self.name, %error, "a node does not return blocks as {at:?}: if no other does, less is read"
            );
        }
    }

    /// A block needs no other question.
    pub(super) fn block_settled(&mut self, block: &Hash) {
        self.returns.settled(block);
    }

    /// A request failed that was not for its head.
    pub(in crate::observer) fn failed(&mut self, error: ChainError, purpose: Purpose) {
        self.troubles.failed(error, purpose, self.health.facts.answers);
    }

    /// A request for this purpose succeeded.
    pub(in crate::observer) fn succeeded(&mut self, purpose: Purpose) {
        self.troubles.succeeded(purpose, self.health.facts.answers);
    }

    /// It is not asked for a while if it limits the rate of requests: for as long as it asked for, else `interval`.
    pub(in crate::observer) fn rest_after(&mut self, error: &ChainError, interval: Duration, now: Instant) {
        if let ChainError::RateLimited { retry_after, .. } = error {
            self.troubles.rest(retry_after.unwrap_or(interval).min(LONGEST_REST), now);
        }
    }

    /// Clears its last error if it has returned its head since, has no back-off, and has no open request.
    pub(super) fn end_trouble(&mut self, is_asked: impl Fn(&str) -> bool, now: Instant) {
        if !is_asked(&self.name) {
            self.troubles.end(self.health.facts.answers, now);
        }
    }

    /// Its head does not count after so long without an answer. Whether the node is kept.
    pub(super) fn age(&mut self, config: &ChainConfig, now: Instant) -> bool {
        self.returns.age(config.identify_every, now);
        let last = self.health.facts.last_success;
        let is_silent = last.is_some_and(|last| now.saturating_duration_since(last) >= config.forget_after);
        if is_silent {
            self.on(FellSilent);
        }
        self.is_listed() || last.is_some() && !is_silent
    }

    /// The root was dropped.
    pub(super) fn root_dropped(&mut self) {
        self.on(RootDropped);
        (self.linked, self.at_tip) = (None, AtTip::default());
        self.heads.clear();
    }

    /// Records whether its branch has the final block. Returns what follows.
    pub(super) fn judge(&mut self, has_final: bool) -> &'static [StandingCommand] {
        self.on(if has_final { OnFinal } else { LeftFinal })
    }

    /// Records whether the tip is on its branch.
    pub(super) fn hold(&mut self, graph: &Graph, tip: &Header) -> Hold {
        self.at_tip.hold(graph, tip, self.linked)
    }

    /// The tip moved.
    pub(super) fn release_tip(&mut self) {
        self.at_tip.moved();
    }

    /// Records how far behind it is, if that is too far.
    pub(super) fn lag(&mut self, behind: Option<Height>) -> Option<LagChange> {
        self.at_tip.lag(behind)
    }
}
