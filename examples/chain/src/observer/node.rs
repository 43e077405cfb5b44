//! What is remembered of one node.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::SourceHealth;

use super::Group;
use crate::adapter::{ChainError, ChainIdentity};
use crate::{Hash, Header};

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and none excludes another")]
pub(super) struct Node {
    pub(super) group: Group,
    pub(super) health: SourceHealth,
    /// Whether it is in the source set.
    pub(super) listed: bool,
    /// The last head that was taken in.
    pub(super) head: Option<Header>,
    pub(super) finalised: Option<Header>,
    /// Its head when it was last asked for its last final block, and when it answered.
    pub(super) told_final_at: Option<(Hash, Instant)>,
    /// The last block of its branch that is in the graph: its head, or how far it was caught up with.
    pub(super) linked: Option<Header>,
    /// How often in a row it was asked for headers in vain, or did not bring them in time.
    pub(super) vain: u32,
    /// It did not give the last block that it was asked for.
    pub(super) withholds: bool,
    /// How often in a row it did not say what is final, and until when it is not asked.
    pub(super) final_in_vain: u32,
    pub(super) final_rests_until: Option<Instant>,
    /// When it last proved to be on the chain.
    pub(super) identified: Option<Instant>,
    /// It has to be asked for its chain.
    pub(super) asks_identity: bool,
    /// A head that is not taken in before the node has proved to be on the chain.
    pub(super) unproved: Option<Header>,
    pub(super) foreign: Option<ChainIdentity>,
    /// Why it did not answer for its head.
    pub(super) failure: Option<ChainError>,
    /// Its head, or what it says is below, cannot be true.
    pub(super) lie: Option<ChainError>,
    /// It is what is below its head: that stays so for what is put on top, until the node is asked which chain
    /// it is on and gets another chance.
    pub(super) lies_below: bool,
    /// What went wrong last with a question that was not for its head; until that is over.
    pub(super) trouble: Option<Trouble>,
    /// It asked to be left alone until then.
    pub(super) rests_until: Option<Instant>,
    pub(super) breached: bool,
    /// Its branch was found to leave ours below the root; the way there is too long to be kept.
    pub(super) off: bool,
    pub(super) lagging: bool,
    /// Its head had the canonical tip on its branch when the nodes were last weighed.
    pub(super) held_tip: bool,
    pub(super) forgotten: bool,
}

#[derive(Debug)]
pub(super) struct Trouble {
    pub(super) error: ChainError,
    /// How often the node had answered for its head by then.
    pub(super) answers: u64,
}

impl Node {
    pub(super) fn new(group: Group, health: SourceHealth) -> Self {
        Self {
            group,
            health,
            listed: true,
            head: None,
            finalised: None,
            told_final_at: None,
            linked: None,
            vain: 0,
            withholds: false,
            final_in_vain: 0,
            final_rests_until: None,
            identified: None,
            asks_identity: true,
            unproved: None,
            foreign: None,
            failure: None,
            lie: None,
            lies_below: false,
            trouble: None,
            rests_until: None,
            breached: false,
            off: false,
            lagging: false,
            held_tip: false,
            forgotten: false,
        }
    }

    /// Whether its last answer says something about the chain.
    pub(super) fn is_believed(&self) -> bool {
        !self.breached && !self.forgotten && self.is_honest()
    }

    /// Whether it is on the chain and tells no lies.
    pub(super) fn is_honest(&self) -> bool {
        self.foreign.is_none() && self.lie.is_none() && self.head.is_some()
    }

    /// Whether a head is the one that it had, or stands on that.
    pub(super) fn goes_on(&self, head: &Header) -> bool {
        self.head.is_some_and(|before| *head == before || head.parent == before.hash)
    }

    /// Whether it asked to be left alone.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.listed && self.health.freshness(now).is_fresh()
    }

    /// Whether it is worth a question: it answered when it was last asked, and does not rest.
    ///
    /// One that takes longer than a cycle waits (`collect_for`) is asked anew before the cycle looks at it: it
    /// has time for twice what it last took. One that was asked just now does not hang: after a poll that was cut off,
    /// the cycle waits for less.
    pub(super) fn is_reachable(&self, now: Instant, collect_for: Duration) -> bool {
        let facts = &self.health.facts;
        let slow = facts.last_elapsed.filter(|last| *last >= collect_for);
        let hangs = facts.in_flight_since.is_some_and(|since| {
            let waits = now.saturating_duration_since(since);
            // It was asked a little after the cycle began to wait.
            slow.map_or(waits >= collect_for / 8 * 7, |last| waits > last.saturating_mul(2))
        });
        self.listed && facts.last_success.is_some() && !self.health.is_failing() && !hangs && !self.rests(now)
    }
}
