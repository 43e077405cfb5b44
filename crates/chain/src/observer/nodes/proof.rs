//! Whether a node has proved its chain.

use std::time::Duration;

use tokio::time::Instant;

use crate::Header;

/// When a node last proved to be on the chain, and what waits for its next proof.
#[derive(Debug)]
pub(super) struct ChainProof {
    at: Option<Instant>,
    owed: Owed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// It has to be asked which chain it is on.
    Proof,
    /// The same; this head is not used until then.
    ProofFor(Header),
}

impl ChainProof {
    pub(super) fn new() -> Self {
        Self { at: None, owed: Owed::Proof }
    }

    /// Whether the node has proved its chain since it was new, unreachable, or out of the source set.
    pub(super) fn is_there(&self) -> bool {
        self.at.is_some()
    }

    /// Whether the node has to be asked which chain it is on.
    pub(super) fn is_owed(&self) -> bool {
        self.owed != Owed::Nothing
    }

    /// Whether nothing else may be asked before that.
    pub(super) fn is_waited_for(&self) -> bool {
        match self.owed {
            Owed::Nothing => false,
            Owed::Proof => !self.is_there(),
            Owed::ProofFor(_) => true,
        }
    }

    /// Another node may be at the address.
    pub(super) fn lapse(&mut self) {
        self.at = None;
    }

    /// Records a head; whether it can be used without another proof.
    pub(super) fn covers(&mut self, head: Header, is_attached: bool, every: Duration, now: Instant) -> bool {
        let covered = is_attached && self.is_there();
        let is_old = self.at.is_none_or(|proved| now.saturating_duration_since(proved) >= every);
        self.owed = match (covered, is_old) {
            (false, _) => Owed::ProofFor(head),
            (true, true) => Owed::Proof,
            (true, false) => Owed::Nothing,
        };
        covered
    }

    /// The node said which chain it is on, `at` if it is the right one. Returns the head that waited.
    pub(super) fn answered(&mut self, at: Option<Instant>) -> Option<Header> {
        self.at = at;
        match std::mem::replace(&mut self.owed, Owed::Nothing) {
            Owed::ProofFor(head) => Some(head),
            Owed::Nothing | Owed::Proof => None,
        }
    }
}
