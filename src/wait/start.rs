//! From where on things count for a wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::judge::unheard;
use crate::observer::Observer;
use crate::status::{ObservationSnapshot, Published};

/// What was before the start does not count: neither cycles that began before, nor what was asked before and a later
/// cycle shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// Cycles from this one on count.
    pub(super) cycle: u64,
    /// What was asked from this moment on counts; `None` for all.
    since: Option<Instant>,
    /// A cycle that counts began at that very moment.
    is_met_by_a_cycle: bool,
    /// Each source of the set was heard since.
    all_heard: bool,
}

impl Start {
    /// At this moment, before this cycle.
    pub(super) fn at(since: Instant, cycle: u64) -> Self {
        Self { cycle, since: Some(since), is_met_by_a_cycle: false, all_heard: false }
    }

    /// Everything counts.
    pub(super) fn anytime() -> Self {
        Self { cycle: 0, since: None, is_met_by_a_cycle: false, all_heard: true }
    }

    /// Since when what was asked counts, as far as a cycle that counts and began at `began` can say. What was asked
    /// at the very moment of the start was asked before it, unless such a cycle began then as well.
    pub(super) fn since(&mut self, began: Instant) -> Option<Instant> {
        let since = self.since?;
        self.is_met_by_a_cycle |= began <= since;
        Some(self.exactly(since))
    }

    fn exactly(&self, since: Instant) -> Instant {
        if self.is_met_by_a_cycle { since } else { since + Duration::from_nanos(1) }
    }

    /// The snapshot without what was asked before.
    pub(super) fn view<O: Observer>(
        &mut self,
        snapshot: &Arc<ObservationSnapshot<O::Snapshot>>,
    ) -> Arc<ObservationSnapshot<O::Snapshot>> {
        let since = self.since(snapshot.began());
        match since.and_then(|since| O::asked_since(&snapshot.value, since)) {
            Some(value) => Arc::new(snapshot.showing(value)),
            None => Arc::clone(snapshot),
        }
    }

    /// Whether each source of the set was asked since the start, and has answered, failed, or been silent for as
    /// long as a cycle waits. From then on it is so for good: what joins later was not there before either.
    pub(super) fn has_heard_all<O: Observer>(
        &mut self,
        status: &Published<O::Snapshot>,
        at: Instant,
    ) -> bool {
        self.all_heard = self.all_heard || self.unheard::<O>(status, at).is_empty();
        self.all_heard
    }

    /// The sources of which that is unknown.
    pub(super) fn unheard<O: Observer>(&self, status: &Published<O::Snapshot>, at: Instant) -> Vec<Arc<str>> {
        self.since.map_or_else(Vec::new, |since| unheard::<O>(status, self.exactly(since), at))
    }
}
