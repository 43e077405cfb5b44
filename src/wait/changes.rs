//! Changes inside a window: the newest snapshots, compared by their rendered text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Snapshot;
use super::diff::{Tree, diff};
use super::show::{RenderedSnapshot, Show};
use crate::observer::Observer;
use crate::panics::discard_logged;
use crate::status::ObservationSnapshot;

/// How many of the newest snapshots are kept for comparison.
const KEPT: usize = 9;
/// How many older snapshots are kept, spread over the window, if there are no events to show which ones differ.
const SPREAD: usize = 8;
/// How many changes a report shows.
const SHOWN: usize = 8;

/// The newest snapshots that may differ: those of cycles with events, or all snapshots of an observer that emits no
/// events. They are rendered and compared only if the wait fails.
///
/// Without events, older snapshots are kept at growing distances. A change between two of them is shown with the time
/// of the later one.
pub(super) struct SnapshotTrail<S> {
    /// The first snapshot that made room for a newer one, and then every `stride`th.
    spread: Vec<Arc<ObservationSnapshot<S>>>,
    stride: u64,
    /// How many snapshots have made room since the last one that was kept.
    passed: u64,
    snapshots: VecDeque<Arc<ObservationSnapshot<S>>>,
    /// How many older snapshots are not kept.
    dropped: u64,
}

impl<S> SnapshotTrail<S> {
    /// `before`: the snapshot known before the window, to compare the first one of the window with.
    pub(super) fn new(before: Option<&Arc<ObservationSnapshot<S>>>) -> Self {
        let snapshots = before.cloned().into_iter().collect();
        Self { spread: Vec::new(), stride: 1, passed: 0, snapshots, dropped: 0 }
    }

    pub(super) fn saw(&mut self, snapshot: &Arc<ObservationSnapshot<S>>) {
        if let Some(last) = self.snapshots.back() {
            let has_events = last.event_count > 0;
            let is_distinct =
                last.event_count != snapshot.event_count || last.generation != snapshot.generation;
            if last.cycle >= snapshot.cycle || (has_events && !is_distinct) {
                return;
            }
        }
        if self.snapshots.len() == KEPT
            && let Some(oldest) = self.snapshots.pop_front()
        {
            self.make_room(oldest, snapshot.event_count > 0);
        }
        self.snapshots.push_back(Arc::clone(snapshot));
    }

    fn make_room(&mut self, oldest: Arc<ObservationSnapshot<S>>, has_events: bool) {
        self.passed += 1;
        if has_events || (!self.spread.is_empty() && self.passed < self.stride) {
            return self.drop_one(oldest);
        }
        self.passed = 0;
        if self.spread.len() == SPREAD {
            self.stride *= 2;
            for (nth, snapshot) in std::mem::take(&mut self.spread).into_iter().enumerate() {
                if nth % 2 == 0 { self.spread.push(snapshot) } else { self.drop_one(snapshot) }
            }
        }
        self.spread.push(oldest);
    }

    fn drop_one(&mut self, snapshot: Arc<ObservationSnapshot<S>>) {
        self.dropped += 1;
        discard_logged(snapshot, "a snapshot that was kept to be compared");
    }
}

impl<S> SnapshotTrail<S> {
    /// Drops the snapshots one by one: two destructors that panic at once would abort the process.
    pub(super) fn let_go(&mut self) {
        for snapshot in self.spread.drain(..).chain(self.snapshots.drain(..)) {
            discard_logged(snapshot, "a snapshot that was kept to be compared");
        }
    }
}

/// The changes inside a window, for its report.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// The newest changes, oldest first.
    pub(super) shown: Vec<Changed>,
    /// How many more changes were found.
    pub(super) more: u64,
    /// How many snapshots were not compared: older ones, or all of them if rendering one is costly.
    pub(super) dropped: u64,
    /// Nothing was compared because rendering a snapshot is costly.
    pub(super) costly: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) at: Duration,
    #[cfg_attr(not(feature = "json"), allow(dead_code, reason = "for JSON"))]
    pub(super) cycle: u64,
    /// At most 400 bytes.
    pub(super) what: String,
}

/// Renders each snapshot once, and caches the text.
pub(super) struct Shower<'a, 's, O: Observer> {
    show: &'a Show<'s, O>,
    shown: Vec<(Snapshot<O>, Option<RenderedSnapshot>)>,
}

impl<'a, 's, O: Observer> Shower<'a, 's, O> {
    pub(super) fn new(show: &'a Show<'s, O>) -> Self {
        Self { show, shown: Vec::new() }
    }

    /// `None` if snapshots cannot be shown.
    pub(super) fn show(
        &mut self,
        snapshot: &Arc<ObservationSnapshot<O::Snapshot>>,
    ) -> Option<&RenderedSnapshot> {
        let known = self.shown.iter().position(|(shown, _)| Arc::ptr_eq(shown, snapshot));
        let at = known.unwrap_or_else(|| {
            self.shown.push((Arc::clone(snapshot), self.show.show(&snapshot.value)));
            self.shown.len() - 1
        });
        self.shown[at].1.as_ref()
    }
}

/// Compares each kept snapshot, and `last`, with the one before.
pub(super) fn changes<O: Observer>(
    kept: &SnapshotTrail<O::Snapshot>,
    last: Option<&Arc<ObservationSnapshot<O::Snapshot>>>,
    shower: &mut Shower<'_, '_, O>,
    began: Instant,
) -> Changes {
    let mut snapshots: Vec<_> = kept.spread.iter().chain(&kept.snapshots).collect();
    let newest = snapshots.last().map(|newest| newest.cycle);
    snapshots.extend(last.filter(|last| newest.is_none_or(|newest| newest < last.cycle)));
    if snapshots.len() < 2 {
        return Changes::default();
    }
    let mut trees = Vec::with_capacity(snapshots.len());
    let all = snapshots.len() as u64;
    // The newest first: the report shows it anyway.
    for snapshot in snapshots.into_iter().rev() {
        let Some(seen) = shower.show(snapshot) else { return Changes::default() };
        if seen.is_costly {
            return Changes { dropped: kept.dropped + all, costly: true, ..Changes::default() };
        }
        trees.push((snapshot, Tree::parse(&seen.text, seen.cut)));
    }
    trees.reverse();
    let mut changes = Changes { dropped: kept.dropped, ..Changes::default() };
    for pair in trees.windows(2).rev() {
        let [(_, before), (snapshot, after)] = pair else { continue };
        let at = snapshot.observed_at.saturating_duration_since(began);
        let mut found = Vec::new();
        diff(before, after, &mut |what| {
            if changes.shown.len() + found.len() < SHOWN {
                found.push(Changed { at, cycle: snapshot.cycle, what: what() });
            } else {
                changes.more += 1;
            }
        });
        changes.shown.splice(0..0, found);
    }
    changes
}
