//! Which data counts for a wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::judge::unheard;
use crate::observer::Observer;
use crate::status::{ObservationSnapshot, Published};

/// The start of a wait. Cycles that began before it do not count, nor does earlier data in a later cycle.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// This cycle and later ones count.
    pub(super) cycle: u64,
    /// Data asked for at this moment or later counts; `None` counts all.
    since: Option<Instant>,
    /// A cycle that counts began at exactly `since`.
    is_met_by_a_cycle: bool,
    /// Each source of the set was heard since the start.
    all_heard: bool,
}

impl Start {
    /// A start at `since`, before `cycle`.
    pub(super) fn at(since: Instant, cycle: u64) -> Self {
        Self { cycle, since: Some(since), is_met_by_a_cycle: false, all_heard: false }
    }

    /// All data counts.
    pub(super) fn anytime() -> Self {
        Self { cycle: 0, since: None, is_met_by_a_cycle: false, all_heard: true }
    }

    /// The moment from which data counts, given that a cycle that counts began at `began`. Data asked for at exactly
    /// the start counts only if such a cycle began then too.
    pub(super) fn since(&mut self, began: Instant) -> Option<Instant> {
        let since = self.since?;
        self.is_met_by_a_cycle |= began <= since;
        Some(self.exactly(since))
    }

    fn exactly(&self, since: Instant) -> Instant {
        if self.is_met_by_a_cycle { since } else { since + Duration::from_nanos(1) }
    }

    /// The snapshot without data asked for before the start.
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

    /// Whether each source of the set was asked since the start, and has answered, failed, or been silent for as long
    /// as a cycle waits. Once true it stays true: a source that joins later has no earlier data.
    pub(super) fn has_heard_all<O: Observer>(
        &mut self,
        status: &Published<O::Snapshot>,
        at: Instant,
    ) -> bool {
        self.all_heard = self.all_heard || self.unheard::<O>(status, at).is_empty();
        self.all_heard
    }

    /// The sources that are not heard yet.
    pub(super) fn unheard<O: Observer>(&self, status: &Published<O::Snapshot>, at: Instant) -> Vec<Arc<str>> {
        self.since.map_or_else(Vec::new, |since| unheard::<O>(status, self.exactly(since), at))
    }
}
