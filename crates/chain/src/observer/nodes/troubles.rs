//! The errors of a node, and how long it asked for no requests.

use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::ChainError;
use crate::observer::question::Purpose;

/// The last errors of a node, each until it is over.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    /// Why it did not return its head.
    failure: Option<ChainError>,
    /// The last error of a request that was not for its head.
    last: Option<LastError>,
    /// It asked for no requests until then.
    backoff_until: Option<Instant>,
}

#[derive(Debug)]
struct LastError {
    error: ChainError,
    purpose: Purpose,
    /// How often the node had returned its head by then.
    answers: u64,
}

impl Troubles {
    /// Why the node did not return its head.
    pub(super) fn failure(&self) -> Option<&ChainError> {
        self.failure.as_ref()
    }

    /// The last error of a request that was not for its head.
    pub(super) fn last(&self) -> Option<&ChainError> {
        self.last.as_ref().map(|last| &last.error)
    }

    /// Whether the node asked for no requests at this time.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.backoff_until.is_some_and(|until| until > now)
    }

    pub(super) fn probed(&mut self, failure: Option<ChainError>) {
        self.failure = failure;
    }

    /// A request that was not for its head failed; the node has returned its head `answers` times.
    pub(super) fn failed(&mut self, error: ChainError, purpose: Purpose, answers: u64) {
        self.last = Some(LastError { error, purpose, answers });
    }

    /// A request for this purpose succeeded: that ends an error of such a request, if the node has returned its head
    /// since.
    pub(super) fn succeeded(&mut self, purpose: Purpose, answers: u64) {
        self.last.take_if(|last| last.purpose == purpose && last.answers != answers);
    }

    /// The node asked for no requests for so long.
    pub(super) fn rest(&mut self, rest: Duration, now: Instant) {
        self.backoff_until = now.checked_add(rest);
    }

    /// Clears the last error if the node has returned its head since and has no back-off.
    pub(super) fn end(&mut self, answers: u64, now: Instant) {
        let is_old = self.last.as_ref().is_some_and(|last| last.answers != answers);
        if is_old && !self.rests(now) {
            self.last = None;
        }
    }
}
