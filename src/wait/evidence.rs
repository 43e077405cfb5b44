//! The evidence that a wait collects for its outcome and its report.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use super::changes::SnapshotTrail;
use super::outcome::Inconclusive;
use crate::panics::discard_logged;
use crate::publish::history::ObservationBatch;
use crate::publish::queue::Publication;
use crate::status::{ObservationSnapshot, Published};

/// How many spans of stale data a report prints.
const SPANS: usize = 8;
/// How many events a report shows.
const EVENTS: usize = 8;

pub(super) struct Evidence<S, E> {
    /// The status when the wait was made.
    pub(super) first: Arc<Published<S>>,
    /// The status of the last judged publication.
    pub(super) status: Arc<Published<S>>,
    /// When `status` was published, or read when the wait was made.
    at: Instant,
    /// How many snapshots were judged (publications for a state, refreshes for a source set).
    pub(super) judged: u64,
    pub(super) missed: u64,
    /// How many batches the history had lost when the wait was made.
    pub(super) lost_before: u64,
    /// Publications were missed after `status`.
    pub(super) gap: bool,
    /// How many snapshots were stale when they came.
    stale: u64,
    /// The last snapshot that counts was not judged, because nothing was known yet of some sources.
    unheard: bool,
    /// The last reason of the predicate.
    pub(super) reason: Option<String>,
    /// How many of the missed publications lie before the start.
    pub(super) missed_before: u64,
    /// The last judged snapshot, without data that was asked for before the start.
    pub(super) last: Option<Arc<ObservationSnapshot<S>>>,
    /// Snapshots to compare. They are whole: a view would show answers that do not count as absent.
    pub(super) kept: SnapshotTrail<S>,
    pub(super) violation: Option<Violation<S>>,
    pub(super) spans: StaleSpans,
    /// The newest judged events: their batch and their index in it.
    pub(super) events: VecDeque<(Arc<ObservationBatch<E>>, usize)>,
    pub(super) event_count: u64,
}

/// The first violation of a wait.
pub(super) struct Violation<S> {
    pub(super) at: Instant,
    /// `None` if the data turned stale.
    pub(super) snapshot: Option<Arc<ObservationSnapshot<S>>>,
}

/// The times when the data was stale.
#[derive(Clone, Debug, Default)]
pub(super) struct StaleSpans {
    /// Begin and end of each span; the last one may have no end.
    pub(super) shown: Vec<(Instant, Option<Instant>)>,
    /// How many more spans there were.
    pub(super) more: u64,
    open: bool,
}

impl StaleSpans {
    fn open(&mut self, from: Instant) {
        if !std::mem::replace(&mut self.open, true) {
            if self.shown.len() < SPANS {
                self.shown.push((from, None));
            } else {
                self.more += 1;
            }
        }
    }

    fn close(&mut self, at: Instant) {
        if std::mem::take(&mut self.open)
            && self.more == 0
            && let Some((_, until)) = self.shown.last_mut()
        {
            *until = Some(at);
        }
    }
}

impl<S, E> Evidence<S, E> {
    pub(super) fn new(first: Arc<Published<S>>, began: Instant) -> Self {
        Self {
            kept: SnapshotTrail::new(first.snapshot.as_ref()),
            status: Arc::clone(&first),
            first,
            at: began,
            judged: 0,
            missed: 0,
            lost_before: 0,
            gap: false,
            stale: 0,
            unheard: false,
            reason: None,
            missed_before: 0,
            last: None,
            violation: None,
            spans: StaleSpans::default(),
            events: VecDeque::new(),
            event_count: 0,
        }
    }

    /// Advances to the status of this publication; returns `true` if publications before it were missed.
    pub(super) fn advance(&mut self, began: Instant, publication: &Publication<S, E>) -> bool {
        self.lost(publication.missed);
        self.note_staleness(began, publication.at);
        self.status = Arc::clone(&publication.status);
        self.at = publication.at;
        if self.status.freshness(publication.at).is_fresh() {
            self.spans.close(publication.at);
        }
        std::mem::take(&mut self.gap)
    }

    /// `missed`: how many publications were missed so far.
    pub(super) fn lost(&mut self, missed: u64) {
        self.gap |= missed > self.missed;
        self.missed = missed;
    }

    /// Records that the data turned stale at or before `until`, if that is known.
    pub(super) fn note_staleness(&mut self, began: Instant, until: Instant) {
        if let Some(stale_at) = self.turned_stale(until) {
            self.spans.open(stale_at.max(began));
        }
    }

    /// When the data turned stale, if that was at or before `until`. Data that was stale when it came turned stale
    /// then.
    pub(super) fn turned_stale(&self, until: Instant) -> Option<Instant> {
        let stale_at = self.status.stale_at().filter(|stale_at| *stale_at <= until && !self.gap);
        stale_at.map(|stale_at| stale_at.max(self.at))
    }

    /// Drops the app's values one by one.
    pub(super) fn let_go(&mut self) {
        discard_logged(self.last.take(), "the last snapshot of a wait");
        discard_logged(self.violation.take(), "the snapshot that violated a wait");
        self.kept.let_go();
        for event in self.events.drain(..) {
            discard_logged(event, "a batch");
        }
    }

    /// A snapshot is judged.
    pub(super) fn saw(&mut self, view: &Arc<ObservationSnapshot<S>>, whole: &Arc<ObservationSnapshot<S>>) {
        self.judged += 1;
        self.unheard = false;
        self.last = Some(Arc::clone(view));
        self.kept.saw(whole);
    }

    /// A snapshot was stale when it came.
    pub(super) fn saw_stale(&mut self) {
        self.stale += 1;
    }

    /// A snapshot was not judged, because nothing is known yet of some sources.
    pub(super) fn saw_a_part(&mut self) {
        self.unheard = true;
    }

    /// The events of this batch that were asked for since the start are judged.
    pub(super) fn saw_events(&mut self, batch: &Arc<ObservationBatch<E>>, asked: impl Fn(&E) -> bool) {
        for (index, _) in batch.events.iter().enumerate().filter(|(_, event)| asked(event)) {
            self.event_count += 1;
            if self.events.len() == EVENTS {
                self.events.pop_front();
            }
            self.events.push_back((Arc::clone(batch), index));
        }
    }

    /// Why a wait without a violation until `end` is inconclusive, if it is.
    pub(super) fn doubt_at(&self, end: Instant) -> Option<Inconclusive> {
        self.doubt().or_else(|| {
            let stale = !self.status.freshness(end).is_fresh();
            stale.then_some(if self.status.paused { Inconclusive::Paused } else { Inconclusive::Stale })
        })
    }

    /// Why it is unknown whether the data was fresh since `known`, if it is unknown.
    pub(super) fn doubt_of_freshness(&self, known: &Published<S>) -> Option<Inconclusive> {
        if self.missed > 0 {
            return Some(Inconclusive::FellBehind { missed: self.missed });
        }
        let paused = self.status.paused && self.status.last_success.is_none();
        let doubt = if paused { Inconclusive::Paused } else { Inconclusive::NothingObserved };
        known.last_success.is_none().then_some(doubt)
    }

    /// Whether the data is fresh at `at`, and no publication was missed after `status`.
    pub(super) fn is_fresh_at(&self, at: Instant) -> bool {
        !self.gap && self.status.freshness(at).is_fresh()
    }

    /// Why a wait that was not met is inconclusive, if it is.
    pub(super) fn doubt(&self) -> Option<Inconclusive> {
        let missed = self.missed.saturating_sub(self.missed_before) + self.lost_before;
        if missed > 0 {
            Some(Inconclusive::FellBehind { missed })
        } else if self.unheard {
            Some(Inconclusive::SourcesNotAsked)
        } else if self.judged > 0 {
            None
        } else if self.stale > 0 {
            Some(Inconclusive::Stale)
        } else if self.status.paused {
            Some(Inconclusive::Paused)
        } else {
            Some(Inconclusive::NothingObserved)
        }
    }
}
