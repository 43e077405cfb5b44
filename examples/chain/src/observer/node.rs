//! The facts about one node.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::source::SourceHealth;

use super::Group;
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Hash, Header};

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a separate fact, and none excludes another")]
pub(super) struct NodeFacts {
    pub(super) group: Group,
    pub(super) health: SourceHealth,
    /// Whether it is in the source set.
    pub(super) listed: bool,
    /// The last head that was accepted.
    pub(super) head: Option<Header>,
    /// When the probe began that returned it.
    pub(super) head_asked: Option<Instant>,
    pub(super) finalised: Option<Header>,
    /// Its head when it was last asked for its last final block, and when it answered.
    pub(super) final_reported_at: Option<(Hash, Instant)>,
    /// The last block of its branch that is in the graph: its head, or the highest header that it returned for a gap.
    pub(super) linked: Option<Header>,
    /// How many consecutive requests for headers failed, were late or returned none.
    pub(super) empty_responses: u32,
    /// It did not return the last block that it was asked for.
    pub(super) withheld_block: bool,
    /// How many consecutive requests for its final block had no answer, and until when it is not asked.
    pub(super) final_empty_responses: u32,
    pub(super) final_backoff_until: Option<Instant>,
    /// When it last proved to be on the chain.
    pub(super) identified: Option<Instant>,
    /// Whether it has to be asked which chain it is on.
    pub(super) asks_identity: bool,
    /// A head that is not used until the node has proved to be on the chain.
    pub(super) unverified_head: Option<Header>,
    pub(super) foreign: Option<ChainIdentity>,
    /// Why it did not return its head.
    pub(super) failure: Option<ChainError>,
    /// Why its head, or a header that it reported below it, cannot be true.
    pub(super) invalid_header: Option<ChainError>,
    /// The invalid header is below its head: descendants of that head stay invalid until the node has proved again to
    /// be on the chain.
    pub(super) invalid_below: bool,
    /// The last error of a request that was not for its head, until a later one succeeds.
    pub(super) last_error: Option<LastError>,
    /// It asked for no requests until then.
    pub(super) backoff_until: Option<Instant>,
    pub(super) breached: bool,
    /// Its branch forks from the graph below the root.
    pub(super) diverged_below_root: bool,
    pub(super) lagging: bool,
    /// The canonical tip was on its branch when the nodes were last judged.
    pub(super) held_tip: bool,
    pub(super) forgotten: bool,
}

#[derive(Debug)]
pub(super) struct LastError {
    pub(super) error: ChainError,
    /// How often the node had returned its head by then.
    pub(super) answers: u64,
}

impl NodeFacts {
    pub(super) fn new(group: Group, health: SourceHealth) -> Self {
        Self {
            group,
            health,
            listed: true,
            head: None,
            head_asked: None,
            finalised: None,
            final_reported_at: None,
            linked: None,
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

    /// Whether its head counts: it is on the chain, valid, not in breach and not forgotten.
    pub(super) fn is_believed(&self) -> bool {
        !self.breached && !self.forgotten && self.is_honest()
    }

    /// Whether it is on the chain and its headers are valid.
    pub(super) fn is_honest(&self) -> bool {
        self.foreign.is_none() && self.invalid_header.is_none() && self.head.is_some()
    }

    /// Whether a head is the one that it had, or a child of it.
    pub(super) fn extends(&self, head: &Header) -> bool {
        self.head.is_some_and(|before| *head == before || head.parent == before.hash)
    }

    /// Whether it asked for no requests at this time.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.backoff_until.is_some_and(|until| until > now)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.listed && self.health.freshness(now).is_fresh()
    }

    /// Whether it can be asked now: it answered the last probe, has no back-off and does not hang.
    ///
    /// A node that takes longer than `collect_for` already has its next probe in flight: it hangs after twice the time
    /// that it last took. A probe that has just begun does not hang: after a cancelled poll the cycle waits for less.
    pub(super) fn is_reachable(&self, now: Instant, collect_for: Duration) -> bool {
        let facts = &self.health.facts;
        let slow = facts.last_elapsed.filter(|last| *last >= collect_for);
        let hangs = facts.in_flight_since.is_some_and(|since| {
            let waits = now.saturating_duration_since(since);
            // The probe began a little after the cycle began to wait.
            slow.map_or(waits >= collect_for / 8 * 7, |last| waits > last.saturating_mul(2))
        });
        self.listed && facts.last_success.is_some() && !self.health.is_failing() && !hangs && !self.rests(now)
    }
}
