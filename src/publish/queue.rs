//! The publications for each live wait and each tap.
//!
//! The publisher never runs a predicate: it appends once for all waits, and wakes them. Each wait reads at its own
//! pace; a publication that all waits have read is dropped. If more than 32 publications are kept for the slowest
//! wait, or if they pin more than 10,000 events and names, each wait moves its unread publications to its own queue.
//! That queue holds up to 1,024 publications, which pin up to 100,000 events and names. Beyond that, the wait loses
//! the newest publications and counts them; other waits lose nothing. All waits lose publications that a feed has
//! lost.
//!
//! A tap has its own queue from the beginning, with its own limits.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::time::Instant;

use crate::publish::history::ObservationBatch;
use crate::status::Published;
use crate::waiting::KEPT;

/// Publications that one wait may lag behind. Each pins a snapshot.
const BOUND: usize = 1024;

/// Events and names of changed source sets that the publications of one queue may pin. If nothing is pinned yet, a
/// publication of any size is accepted: otherwise a wait that keeps up could miss it.
const PINNED: usize = 100_000;

/// Publications that are kept for all waits together, and events and names that these may pin.
const RECENT: usize = 32;
const RECENT_PINNED: usize = 10_000;

/// Bytes that a tap counts for each publication, and for each name of a changed set in addition to the name's own.
const RECORD: usize = 512;
const NAME: usize = 32;

/// The status after one publication, its batch and its time.
pub(crate) struct Publication<S, E> {
    pub(crate) at: Instant,
    pub(crate) status: Arc<Published<S>>,
    pub(crate) batch: Option<Arc<ObservationBatch<E>>>,
    /// How many publications this reader had lost before.
    pub(crate) missed: u64,
    /// For a tap: the status before this publication, even if that one was lost.
    pub(crate) before: Option<Arc<Published<S>>>,
    /// For a tap: its counted bytes.
    pub(crate) counted: usize,
}

impl<S, E> Clone for Publication<S, E> {
    fn clone(&self) -> Self {
        Self {
            status: Arc::clone(&self.status),
            batch: self.batch.clone(),
            before: self.before.clone(),
            ..*self
        }
    }
}

impl<S, E> Publication<S, E> {
    pub(crate) const fn new(
        at: Instant,
        status: Arc<Published<S>>,
        batch: Option<Arc<ObservationBatch<E>>>,
    ) -> Self {
        Self { at, status, batch, missed: 0, before: None, counted: 0 }
    }

    /// How many events it pins, and how many names if they differ from those of `before`.
    fn pins(&self, before: Option<&Self>) -> usize {
        let names = &self.status.source_names;
        let changed = before.is_some_and(|before| !Arc::ptr_eq(&before.status.source_names, names));
        let names = if changed { names.len() } else { 0 };
        names + self.batch.as_ref().map_or(0, |batch| batch.events.len())
    }

    /// For a tap: about how many bytes it pins in addition to `before`.
    fn bytes(&self, before: &Published<S>) -> usize {
        let status = &self.status;
        let success = status.succeeded_since(before).map_or(0, |snapshot| snapshot.weight);
        let failure = status.failed_since(before).map_or(0, |failure| failure.message.len());
        let names = status.bytes_of_names(before);
        [success, failure, names].into_iter().fold(RECORD, usize::saturating_add)
    }
}

impl<S> Published<S> {
    /// About how many bytes its names take; 0 if they are those of `before`.
    fn bytes_of_names(&self, before: &Self) -> usize {
        let is_same_set = Arc::ptr_eq(&before.source_names, &self.source_names);
        if is_same_set { 0 } else { self.source_names.iter().map(|name| NAME + name.len()).sum() }
    }

    /// The status `before` without the values that this one has replaced, which no reader is shown.
    ///
    /// Called under the lock. No app value is dropped here: the publisher holds the replaced values.
    fn before_without_its_values(&self, before: Arc<Self>) -> Arc<Self> {
        let (succeeded, failed) =
            (self.succeeded_since(&before).is_some(), self.failed_since(&before).is_some());
        if !succeeded && !failed {
            return before;
        }
        let mut bare = Self::clone(&before);
        bare.last_error = None;
        if succeeded {
            bare.snapshot = None;
        }
        Arc::new(bare)
    }
}

/// A publication that is kept until all have read it.
struct Recent<S, E> {
    publication: Option<Publication<S, E>>,
    unread: usize,
}

impl<S, E> Recent<S, E> {
    /// Reads the publication for one more reader: a copy, or the original for the last one. A batch that the reader
    /// is not shown goes to `dropped`.
    fn read(&mut self, events: bool, dropped: &mut Dropped<S, E>) -> Option<Publication<S, E>> {
        self.unread -= 1;
        let is_last = self.unread == 0;
        let mut read = if is_last { self.publication.take() } else { self.publication.clone() }?;
        if !events && let Some(batch) = read.batch.take() {
            dropped.batches.push(batch);
        }
        Some(read)
    }
}

/// The next item of a tap.
pub(crate) enum Next<S, E> {
    Item(Publication<S, E>),
    /// The publications from the next one up to `last` were lost.
    Lost {
        last: u64,
    },
    Nothing,
}

/// App values to be dropped without the lock.
pub(crate) struct Dropped<S, E> {
    publications: Vec<Publication<S, E>>,
    batches: Vec<Arc<ObservationBatch<E>>>,
}

impl<S, E> Default for Dropped<S, E> {
    fn default() -> Self {
        Self { publications: Vec::new(), batches: Vec::new() }
    }
}

/// One wait or tap.
struct QueueReader<S, E> {
    /// The first unread publication, counted like [`Queues::first`].
    next: u64,
    /// Whether it reads events; other readers pin none.
    events: bool,
    /// Its own queue, once a reader has lagged behind.
    own: Option<Box<Own<S, E>>>,
}

/// The queue of one wait after a reader has lagged behind, or of a tap.
struct Own<S, E> {
    items: VecDeque<Publication<S, E>>,
    /// How many events and names the items pin; for a tap, how many bytes.
    pinned: usize,
    /// Set for a tap.
    tap: Option<TapState<S>>,
    missed: u64,
    /// The number of the first publication that was missed.
    missed_from: u64,
}

struct TapState<S> {
    records: usize,
    bytes: usize,
    /// The status right after the newest publication, lost or not.
    newest: Arc<Published<S>>,
}

impl<S, E> Own<S, E> {
    fn new(tap: Option<TapState<S>>) -> Self {
        Self { items: VecDeque::new(), pinned: 0, tap, missed: 0, missed_from: 0 }
    }

    fn push(&mut self, mut publication: Publication<S, E>, dropped: &mut Dropped<S, E>) {
        let (items, most, pins) = match &mut self.tap {
            Some(TapState { records, bytes, newest }) => {
                let before = std::mem::replace(newest, Arc::clone(&publication.status));
                // A lost success is pinned by the next publication and counted there. If nothing is held, that one
                // snapshot is not counted.
                let held = self.items.back().map_or(&before, |held| &held.status);
                publication.counted = publication.bytes(held).saturating_add(before.bytes_of_names(held));
                publication.before = Some(publication.status.before_without_its_values(before));
                (*records, *bytes, publication.counted)
            }
            None => (BOUND, PINNED, publication.pins(self.items.back())),
        };
        let pinned = self.pinned.saturating_add(pins);
        let has_room = self.items.len() < items && (pinned <= most || self.pinned == 0 || pins == 0);
        // The end of the runtime is kept in any case: nothing comes after it.
        if has_room || publication.status.is_over() {
            self.pinned = pinned;
            self.items.push_back(Publication { missed: self.missed, ..publication });
        } else {
            if self.missed == 0 {
                self.missed_from = publication.status.number;
            }
            self.missed += 1;
            dropped.publications.push(publication);
        }
    }
}

/// Identifies a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReaderId(usize);

/// The queues of one runtime, under the lock that orders its publications.
pub(crate) struct Queues<S, E> {
    recent: VecDeque<Recent<S, E>>,
    /// How many publications were removed from `recent`.
    first: u64,
    /// Events and names pinned since `recent` was empty: at least those that it pins now.
    pinned: usize,
    readers: Vec<Option<QueueReader<S, E>>>,
    free: Vec<usize>,
    /// Readers that are shown events.
    for_events: usize,
    /// The places of taps in `readers`.
    taps: Vec<usize>,
    dropped: Dropped<S, E>,
}

impl<S, E> Default for Queues<S, E> {
    fn default() -> Self {
        Self {
            recent: VecDeque::new(),
            first: 0,
            pinned: 0,
            readers: Vec::new(),
            free: Vec::new(),
            for_events: 0,
            taps: Vec::new(),
            dropped: Dropped::default(),
        }
    }
}

impl<S, E> Queues<S, E> {
    fn next(&self) -> u64 {
        self.first + self.recent.len() as u64
    }

    fn live(&self) -> usize {
        self.readers.len() - self.free.len()
    }

    /// Registers a wait for publications from now on, with or without their events.
    pub(crate) fn register(&mut self, events: bool) -> ReaderId {
        self.add(events, None)
    }

    /// Registers a tap. Its first publication follows the status `newest`.
    pub(crate) fn register_tap(
        &mut self,
        records: usize,
        bytes: usize,
        newest: Arc<Published<S>>,
    ) -> ReaderId {
        let own = Own::new(Some(TapState { records, bytes, newest }));
        let id = self.add(true, Some(Box::new(own)));
        self.taps.push(id.0);
        id
    }

    fn add(&mut self, events: bool, own: Option<Box<Own<S, E>>>) -> ReaderId {
        self.for_events += usize::from(events);
        let reader = Some(QueueReader { next: self.next(), events, own });
        if let Some(free) = self.free.pop() {
            self.readers[free] = reader;
            return ReaderId(free);
        }
        self.readers.push(reader);
        ReaderId(self.readers.len() - 1)
    }

    /// Adds a publication.
    pub(crate) fn publish(
        &mut self,
        at: Instant,
        status: &Published<S>,
        batch: Option<&Arc<ObservationBatch<E>>>,
    ) {
        let unread = self.live();
        if unread == 0 {
            return;
        }
        let batch = batch.filter(|_| self.for_events > 0).cloned();
        let publication = Publication::new(at, Arc::new(status.clone()), batch);
        let before = self.recent.back().and_then(|before| before.publication.as_ref());
        self.pinned += publication.pins(before);
        self.recent.push_back(Recent { publication: Some(publication), unread });
        if self.recent.len() > RECENT || self.pinned > RECENT_PINNED {
            (0..self.readers.len()).for_each(|reader| self.move_to_own(reader));
        }
        // A tap accepts or loses a publication at once.
        for tap in 0..self.taps.len() {
            self.move_to_own(self.taps[tap]);
        }
    }

    /// Records that every reader has missed this many publications, from number `first` on.
    pub(crate) fn lost(&mut self, first: u64, publications: u64) {
        if publications == 0 {
            return;
        }
        (0..self.readers.len()).for_each(|reader| self.move_to_own(reader));
        for reader in self.readers.iter_mut().flatten() {
            let own = reader.own.get_or_insert_with(|| Box::new(Own::new(None)));
            if own.missed == 0 {
                own.missed_from = first;
            }
            own.missed += publications;
        }
    }

    /// Moves a reader's unread publications to its own queue.
    fn move_to_own(&mut self, reader: usize) {
        let end = self.next();
        let Self { recent, first, readers, dropped, .. } = self;
        let Some(reader) = &mut readers[reader] else { return };
        if reader.next < end {
            let own = reader.own.get_or_insert_with(|| Box::new(Own::new(None)));
            for recent in recent.range_mut(index(reader.next, *first)..) {
                if let Some(publication) = recent.read(reader.events, dropped) {
                    own.push(publication, dropped);
                }
            }
            reader.next = end;
            self.trim();
        }
    }

    /// Removes publications that all have read.
    fn trim(&mut self) {
        while self.recent.front().is_some_and(|recent| recent.unread == 0) {
            self.recent.pop_front();
            self.first += 1;
        }
        if self.recent.is_empty() {
            self.pinned = 0;
        }
    }

    /// Takes all publications for a wait. Returns how many it has missed so far.
    pub(crate) fn take(&mut self, id: ReaderId, into: &mut VecDeque<Publication<S, E>>) -> u64 {
        debug_assert!(into.is_empty(), "taken publications are judged before the next are taken");
        let end = self.next();
        let Self { recent, first, readers, dropped, .. } = self;
        let Some(reader) = &mut readers[id.0] else { return 0 };
        let Some(own) = &mut reader.own else {
            let unread = recent.range_mut(index(reader.next, *first)..);
            into.extend(unread.filter_map(|recent| recent.read(reader.events, dropped)));
            reader.next = end;
            self.trim();
            return 0;
        };
        if reader.next == end {
            std::mem::swap(&mut own.items, into);
            own.pinned = 0;
            return own.missed;
        }
        self.move_to_own(id.0);
        self.take(id, into)
    }

    /// How many publications up to `number` a wait has missed. Call it before anything is taken.
    pub(crate) fn missed_until(&mut self, id: ReaderId, number: u64) -> u64 {
        self.move_to_own(id.0);
        let own = self.readers[id.0].as_ref().and_then(|reader| reader.own.as_ref());
        own.map_or(0, |own| {
            // Each number since the reader was registered is held, or was missed.
            let held = own.items.iter().take_while(|item| item.status.number <= number).count() as u64;
            let first = own.items.front().map_or(own.missed_from, |item| item.status.number - item.missed);
            (number + 1).saturating_sub(first).saturating_sub(held).min(own.missed)
        })
    }

    /// For a tap: the publication number `next`, or that it was lost.
    pub(crate) fn next_of_tap(&mut self, id: ReaderId, next: u64) -> Next<S, E> {
        let own = self.readers[id.0].as_mut().and_then(|reader| reader.own.as_mut());
        let Some(Own { items, pinned, tap: Some(tap), .. }) = own.map(|own| &mut **own) else {
            return Next::Nothing;
        };
        let come = items.front().map(|item| item.status.number);
        if come == Some(next)
            && let Some(publication) = items.pop_front()
        {
            *pinned = pinned.saturating_sub(publication.counted);
            return Next::Item(publication);
        }
        let last = come.map_or(tap.newest.number, |number| number.saturating_sub(1));
        if last >= next { Next::Lost { last } } else { Next::Nothing }
    }

    /// Removes a reader.
    pub(crate) fn close(&mut self, id: ReaderId) {
        self.move_to_own(id.0);
        if let Some(reader) = self.readers[id.0].take() {
            self.for_events -= usize::from(reader.events);
            self.free.push(id.0);
            if self.live() == 0 && self.free.len() > KEPT {
                (self.readers, self.free) = (Vec::new(), Vec::new());
            }
            self.taps.retain(|tap| *tap != id.0);
            self.dropped.publications.extend(reader.own.into_iter().flat_map(|own| own.items));
        }
    }

    /// Whether there is something to be dropped without the lock.
    pub(crate) fn has_dropped(&self) -> bool {
        !self.dropped.publications.is_empty() || !self.dropped.batches.is_empty()
    }

    /// Takes read and lost values, to be dropped without the lock.
    #[must_use]
    pub(crate) fn dropped(&mut self) -> Dropped<S, E> {
        std::mem::take(&mut self.dropped)
    }
}

/// The place of publication `next`. It exists: an unread publication is kept.
fn index(next: u64, first: u64) -> usize {
    usize::try_from(next - first).unwrap_or(usize::MAX)
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests;
