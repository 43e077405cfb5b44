//! The tip of a run before, which may have been left while nothing ran.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::heads::Patience;
use super::node::NodeFacts;
use crate::observer::headers::{Headers, Place};
use crate::{Hash, Header, OnBranch};

/// What the nodes have instead of a tip with which the observation began, until one of them has it or it moves.
///
/// No node was seen to leave that tip, so each that decides counts: one that has not answered may have it, and one whose
/// head rises below it is catching up.
#[derive(Debug, Default)]
pub(super) struct ResumedTip {
    below: HashMap<Arc<str>, Below>,
}

/// An ancestor of the tip that a node has as its head.
#[derive(Debug)]
struct Below {
    head: Hash,
    since: Instant,
    /// How often the node had returned its head by then.
    answers: u64,
}

/// Where a node is relative to the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whereabouts {
    Back,
    Elsewhere,
    Unknown,
}

impl ResumedTip {
    /// Whether a deciding node has gone back from the tip, and no other one may have it.
    pub(super) fn was_left<'a>(
        &mut self,
        deciding: impl Iterator<Item = &'a NodeFacts>,
        headers: &Headers,
        tip: &Header,
        patience: Patience,
        now: Instant,
    ) -> bool {
        let places: Vec<Whereabouts> =
            deciding.map(|node| self.place(node, headers, tip, patience, now)).collect();
        places.contains(&Whereabouts::Back) && !places.contains(&Whereabouts::Unknown)
    }

    fn place(
        &mut self,
        node: &NodeFacts,
        headers: &Headers,
        tip: &Header,
        patience: Patience,
        now: Instant,
    ) -> Whereabouts {
        if node.is_unheard() {
            return Whereabouts::Unknown;
        }
        let Some(head) = node.head().filter(|_| node.is_believed()) else { return Whereabouts::Elsewhere };
        let on_branch = headers.graph().map(|graph| graph.is_on_branch(&head.hash, &tip.hash));
        match headers.place(&head) {
            Place::Waiting => Whereabouts::Unknown,
            Place::Linked if on_branch == Some(OnBranch::Yes) => {
                if self.is_confirmed(node, &head, patience, now) {
                    Whereabouts::Back
                } else {
                    Whereabouts::Unknown
                }
            }
            Place::Linked | Place::Below | Place::Off => Whereabouts::Elsewhere,
        }
    }

    /// Whether the node has returned this head often enough, or for long enough.
    fn is_confirmed(&mut self, node: &NodeFacts, head: &Header, patience: Patience, now: Instant) -> bool {
        let facts = &node.health().facts;
        let new = || Below { head: head.hash, since: now, answers: facts.answers };
        let below = self.below.entry(Arc::clone(node.name())).or_insert_with(new);
        if below.head != head.hash {
            *below = new();
        }
        let answers = facts.answers.saturating_sub(below.answers).saturating_add(1);
        let last = facts.last_success.unwrap_or(below.since);
        answers >= u64::from(patience.answers) || last.saturating_duration_since(below.since) >= patience.time
    }
}
