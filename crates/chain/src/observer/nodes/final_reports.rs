//! What a node reports as final.

use std::mem::discriminant;
use std::time::Duration;

use tokio::time::Instant;

use crate::adapter::ChainError;
use crate::observer::ChainConfig;
use crate::{Hash, Header};

/// The last final block that a node reported, and when it is asked again.
#[derive(Debug, Default)]
pub(super) struct FinalReports {
    block: Option<Header>,
    /// Its head when it was last asked, and when it answered.
    reported_at: Option<(Hash, Instant)>,
    /// How many consecutive requests had no answer, and until when it is not asked.
    failures: u32,
    backoff_until: Option<Instant>,
    /// The first error of the last kind.
    error: Option<ChainError>,
}

impl FinalReports {
    pub(super) fn block(&self) -> Option<Header> {
        self.block
    }

    /// Whether the node has to be asked: its head is new, or the last answer is old, and the last request did not fail
    /// just now.
    pub(super) fn is_owed(&self, head: &Header, every: Duration, now: Instant) -> bool {
        let is_known = self
            .reported_at
            .is_some_and(|(at, reported)| at == head.hash && now.saturating_duration_since(reported) < every);
        !is_known && self.backoff_until.is_none_or(|until| until <= now)
    }

    pub(super) fn reported(&mut self, head: Hash, block: Option<Header>, now: Instant) {
        *self = Self { block, reported_at: Some((head, now)), ..Self::default() };
    }

    /// Why it does not report what is final, if it ever has: most chains have nothing final at first, or never.
    pub(super) fn error(&self) -> Option<&ChainError> {
        self.error.as_ref().filter(|_| self.block.is_some())
    }

    /// The node is asked again after an interval, which doubles each time.
    pub(super) fn failed(&mut self, error: ChainError, config: &ChainConfig, now: Instant) {
        if self.error.as_ref().map(discriminant) != Some(discriminant(&error)) {
            self.error = Some(error);
        }
        let rest = config.interval.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        self.backoff_until = now.checked_add(rest.min(config.identify_every));
    }

    /// They are of another chain.
    pub(super) fn forget(&mut self) {
        (self.block, self.reported_at, self.error) = (None, None, None);
    }
}
