//! The errors of a node, and how long it asked for no requests.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::ChainError;

/// The last errors of a node, each until it is over.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Why it did not return its head.
    failure: Option<ChainError>,
    /// The last error of a request that was not for its head, and how often the node had returned its head by then.
    last: Option<(ChainError, u64)>,
    /// It asked for no requests until then.
    backoff_until: Option<Instant>,
}

impl Troubles {
    /// Why the node did not return its head.
    pub(super) fn failure(&self) -> Option<&ChainError> {
        self.failure.as_ref()
    }

    /// The last error of a request that was not for its head.
    pub(super) fn last(&self) -> Option<&ChainError> {
        self.last.as_ref().map(|(error, _)| error)
    }

    /// Whether the node asked for no requests at this time.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.backoff_until.is_some_and(|until| until > now)
    }

    pub(super) fn probed(&mut self, failure: Option<ChainError>) {
        self.failure = failure;
    }

    /// A request that was not for its head failed; the node has returned its head `answers` times.
    pub(super) fn failed(&mut self, error: ChainError, answers: u64) {
        self.last = Some((error, answers));
    }

    /// The node asked for no requests for so long.
    pub(super) fn rest(&mut self, rest: Duration, now: Instant) {
        self.backoff_until = now.checked_add(rest);
    }

    /// Clears the last error if the node has returned its head since and has no back-off.
    pub(super) fn end(&mut self, answers: u64, now: Instant) {
        let is_old = self.last.as_ref().is_some_and(|(_, then)| *then != answers);
        if is_old && !self.rests(now) {
            self.last = None;
        }
    }
}
