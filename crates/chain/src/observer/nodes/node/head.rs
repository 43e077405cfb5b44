//! A node's head: how what it returned is recorded and accepted.

use std::time::Duration;

use tokio::time::Instant;

use super::NodeFacts;
use crate::observer::ChainConfig;
use crate::observer::nodes::heads::{HeadChange, Patience};
use crate::observer::nodes::standing::StandingEvent::{Answered, HeadAccepted, LeftBranch};
use crate::observer::nodes::standing::{Standing, StandingCommand};
use crate::{Graph, Header};

impl NodeFacts {
    /// The last head that was accepted.
    pub(in crate::observer) fn head(&self) -> Option<Header> {
        self.heads.accepted()
    }

    /// When the probe began that returned its head.
    pub(in crate::observer) fn head_asked(&self) -> Option<Instant> {
        self.asked_head.at()
    }

    /// Whether its address keeps returning to heads that it has left.
    pub(in crate::observer) fn flaps(&self, now: Instant) -> bool {
        self.heads.flaps(now)
    }

    /// Whether a head is the one that it had, or a child of it.
    fn extends(&self, head: &Header) -> bool {
        self.head().is_some_and(|before| *head == before || head.parent == before.hash)
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
        self.on(Answered);
        let is_attached = is_attached || self.extends(&head);
        let rises = || self.is_believed() && self.rise.reaches(self.head(), &head);
        let is_near = is_attached || rises();
        self.proof.covers(head, is_near, every, now)
    }

    /// Whether a head has to be linked, and what follows; `None` for one on top of a header that cannot be true.
    pub(in crate::observer) fn before_head(&mut self, head: Header) -> Option<&'static [StandingCommand]> {
        let extends = self.extends(&head);
        if self.standing == Standing::InvalidBelow && extends {
            self.asked_head.reported(head, self.health.facts.last_success);
            self.heads.accept(head);
            self.asked_head.accepted(self.head());
            return None;
        }
        Some(if extends { &[] } else { self.on(LeftBranch) })
    }

    /// Records a head that can be true. One that is lighter than the accepted head has to be confirmed, as long as the
    /// accepted one counts.
    pub(in crate::observer) fn report(
        &mut self,
        head: Header,
        graph: Option<&Graph>,
        config: &ChainConfig,
        now: Instant,
    ) -> HeadChange {
        let counts = self.is_believed();
        self.on(HeadAccepted);
        let before = self.head();
        let change = if counts {
            self.heads.report(graph, head, Patience::of(config), now)
        } else {
            self.heads.accept(head)
        };
        self.asked_head.reported(head, self.health.facts.last_success);
        self.asked_head.accepted(self.head());
        if let Some(head) = self.head() {
            self.rise.note(before, &head);
        }
        change
    }

    /// Weighs what was not linked when it was reported.
    pub(in crate::observer::nodes) fn weigh_heads(
        &mut self,
        graph: &Graph,
        config: &ChainConfig,
        now: Instant,
    ) -> HeadChange {
        if !self.is_believed() {
            return HeadChange::default();
        }
        let change = self.heads.weigh(graph, Patience::of(config), now);
        self.asked_head.accepted(self.head());
        if let Some((before, head)) = change.from.zip(self.head()) {
            self.rise.note_late(before, &head);
        }
        change
    }
}
