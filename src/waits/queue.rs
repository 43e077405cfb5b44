//! One bounded queue of publications for each live wait, and for each tap.
//!
//! The publisher never runs a predicate: it appends and wakes. A wait that does not keep up loses
//! the newest publications, and knows how many: it may lag behind by 1,024, which pin 100,000 events and names.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;
use watchkeeper_fsm::StateKind;

use crate::history::ObservationBatch;
use crate::status::Published;
use crate::sync::{Mutex, lock};
use crate::waiting::drop_waker;

/// Publications that one wait may lag behind. Each pins a snapshot.
const BOUND: usize = 1024;

/// Events, and names of changed source sets, that the publications of one queue may pin. Where nothing is pinned
/// yet, a publication is taken whatever it pins: else a wait that keeps up could miss it.
const PINNED: usize = 100_000;

/// Bytes that a tap counts for each publication, and for each name of a changed set beside its own.
const RECORD: usize = 512;
const NAME: usize = 32;

/// The status right behind one publication, its batch, and when it was published.
pub(crate) struct Publication<S, E> {
    pub(crate) at: Instant,
    pub(crate) status: Arc<Published<S>>,
    pub(crate) batch: Option<Arc<ObservationBatch<E>>>,
    /// How many publications the queue that holds this one had lost before.
    pub(crate) missed: u64,
    /// For a tap: the status before, also where that publication was lost.
    pub(crate) before: Option<Arc<Published<S>>>,
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

pub(crate) struct WaitQueue<S, E> {
    inner: Mutex<Inner<S, E>>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Of a wait for an event.
    Events,
    /// Of another wait: it pins no events.
    NoEvents,
    /// Of a tap, with its limits. What it pins are bytes.
    Tap { records: usize, bytes: usize },
}

/// What a tap finds.
pub(crate) enum Next<S, E> {
    Item(Publication<S, E>),
    /// All from the next one up to this one were lost.
    Lost {
        last: u64,
    },
    /// Its waker is woken by what comes.
    Nothing,
}

struct Inner<S, E> {
    items: VecDeque<Publication<S, E>>,
    /// How many events and names the items pin; for a tap, how many bytes.
    pinned: usize,
    /// For a tap: the status right behind the newest publication.
    newest: Option<Arc<Published<S>>>,
    waker: Option<Waker>,
    missed: u64,
    /// The number of the first publication that was missed; the others followed it, until the first take.
    missed_from: u64,
    closed: bool,
}

impl<S, E> Inner<S, E> {
    /// How many more events and names this publication would pin.
    fn pins(&self, publication: &Publication<S, E>) -> usize {
        let names = &publication.status.source_names;
        let changed = self.items.back().is_some_and(|last| !Arc::ptr_eq(&last.status.source_names, names));
        let names = if changed { names.len() } else { 0 };
        names + publication.batch.as_ref().map_or(0, |batch| batch.events.len())
    }
}

impl<S, E> Publication<S, E> {
    /// For a tap: about how many bytes it pins.
    fn bytes(&self) -> usize {
        let status = &self.status;
        let before = self.before.as_ref().unwrap_or(status);
        let success = status.succeeded_since(before).map_or(0, |snapshot| snapshot.weight);
        let failure = status.failed_since(before).map_or(0, |failure| failure.message.len());
        let is_same_set = Arc::ptr_eq(&before.source_names, &status.source_names);
        let names =
            if is_same_set { 0 } else { status.source_names.iter().map(|name| NAME + name.len()).sum() };
        [success, failure, names].into_iter().fold(RECORD, usize::saturating_add)
    }
}

impl<S, E> WaitQueue<S, E> {
    /// For a wait that is shown events.
    pub(crate) fn new() -> Arc<Self> {
        Self::of(Kind::Events)
    }

    /// For a wait that is shown snapshots and states alone: its publications come without their batches.
    pub(crate) fn without_events() -> Arc<Self> {
        Self::of(Kind::NoEvents)
    }

    /// For a tap.
    pub(crate) fn tap(records: usize, bytes: usize) -> Arc<Self> {
        Self::of(Kind::Tap { records, bytes })
    }

    fn of(kind: Kind) -> Arc<Self> {
        let inner = Inner {
            items: VecDeque::new(),
            pinned: 0,
            newest: None,
            waker: None,
            missed: 0,
            missed_from: 0,
            closed: false,
        };
        Arc::new(Self { inner: Mutex::new(inner), kind })
    }

    pub(crate) fn is_tap(&self) -> bool {
        matches!(self.kind, Kind::Tap { .. })
    }

    /// Publications come behind this status.
    pub(crate) fn begin(&self, status: &Arc<Published<S>>) {
        if self.is_tap() {
            lock(&self.inner).newest = Some(Arc::clone(status));
        }
    }

    /// Appends, and moves the waiter's waker to `wakers`; `false` when the wait is gone.
    fn push(&self, publication: &Publication<S, E>, wakers: &mut Vec<Waker>) -> bool {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return false;
        }
        let mut publication = Publication { missed: inner.missed, ..publication.clone() };
        let (items, most, pins) = match self.kind {
            Kind::Tap { records, bytes } => {
                publication.before = inner.newest.replace(Arc::clone(&publication.status));
                (records, bytes, publication.bytes())
            }
            Kind::Events => (BOUND, PINNED, inner.pins(&publication)),
            Kind::NoEvents => {
                publication.batch = None;
                (BOUND, PINNED, inner.pins(&publication))
            }
        };
        let pinned = inner.pinned.saturating_add(pins);
        let has_room = inner.items.len() < items && (pinned <= most || inner.pinned == 0 || pins == 0);
        // The end of the runtime is told in any case: nothing comes behind it.
        let is_last = publication.status.state.kind() == StateKind::Stopped;
        if has_room || is_last {
            inner.pinned = pinned;
            inner.items.push_back(publication);
        } else {
            if inner.missed == 0 {
                inner.missed_from = publication.status.number;
            }
            inner.missed += 1;
        }
        wakers.extend(inner.waker.take());
        true
    }

    /// Takes everything that has come, and has `waker` woken by what comes next. Returns how many
    /// publications were missed so far.
    pub(crate) fn take(&self, into: &mut VecDeque<Publication<S, E>>, waker: &Waker) -> u64 {
        debug_assert!(into.is_empty(), "taken publications are judged before the next are taken");
        let mut inner = lock(&self.inner);
        std::mem::swap(&mut inner.items, into);
        inner.pinned = 0;
        let known = inner.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { inner.waker.replace(waker.clone()) };
        let missed = inner.missed;
        drop(inner);
        // Dropping a waker may drop its task: not under our lock.
        drop(old);
        missed
    }

    /// For a tap: the publication number `next`, or that it was lost; else `waker` is woken by what comes.
    pub(crate) fn next(&self, next: u64, waker: &Waker) -> Next<S, E> {
        let mut inner = lock(&self.inner);
        let come = inner.items.front().map(|item| item.status.number);
        if come == Some(next)
            && let Some(publication) = inner.items.pop_front()
        {
            inner.pinned = inner.pinned.saturating_sub(publication.bytes());
            return Next::Item(publication);
        }
        let last = match come {
            Some(number) => number - 1,
            None => inner.newest.as_ref().map_or(0, |newest| newest.number),
        };
        if last >= next {
            return Next::Lost { last };
        }
        let known = inner.waker.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if known { None } else { inner.waker.replace(waker.clone()) };
        drop(inner);
        drop_waker(old);
        Next::Nothing
    }

    /// How many of the publications up to `number` were missed; to be asked before anything is taken.
    pub(crate) fn missed_until(&self, number: u64) -> u64 {
        let inner = lock(&self.inner);
        (number + 1).saturating_sub(inner.missed_from).min(inner.missed)
    }

    /// The wait is gone: nothing is queued any more, and what was is dropped here.
    pub(crate) fn close(&self) {
        let (items, rest) = {
            let mut inner = lock(&self.inner);
            inner.closed = true;
            (std::mem::take(&mut inner.items), (inner.newest.take(), inner.waker.take()))
        };
        drop((items, rest));
    }

    fn is_closed(&self) -> bool {
        lock(&self.inner).closed
    }
}

/// The queues of all live waits of one runtime.
pub(crate) struct Queues<S, E> {
    live: Vec<Arc<WaitQueue<S, E>>>,
    /// Closed queues are dropped by the next publication, or when there are this many queues.
    purge_at: usize,
}

impl<S, E> Default for Queues<S, E> {
    fn default() -> Self {
        Self { live: Vec::new(), purge_at: 64 }
    }
}

impl<S, E> Queues<S, E> {
    pub(crate) fn register(&mut self, queue: &Arc<WaitQueue<S, E>>) {
        if self.live.len() >= self.purge_at {
            self.live.retain(|queue| !queue.is_closed());
            self.purge_at = (2 * self.live.len()).max(64);
        }
        self.live.push(Arc::clone(queue));
    }

    pub(crate) fn push_all(
        &mut self,
        at: Instant,
        status: &Published<S>,
        batch: Option<&Arc<ObservationBatch<E>>>,
        wakers: &mut Vec<Waker>,
    ) {
        if self.live.is_empty() {
            return;
        }
        let publication = Publication {
            at,
            status: Arc::new(status.clone()),
            batch: batch.cloned(),
            missed: 0,
            before: None,
        };
        self.live.retain(|queue| queue.push(&publication, wakers));
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::task::Wake;

    use super::*;
    use crate::config::ObservationConfig;

    type Queue = WaitQueue<u64, u64>;

    fn publish(queues: &mut Queues<u64, u64>) -> Vec<Waker> {
        let (now, mut wakers) = (Instant::now(), Vec::new());
        let status = Published::before_the_start(now, &ObservationConfig::default());
        queues.push_all(now, &status, None, &mut wakers);
        wakers
    }

    /// A waker that is like no other.
    fn waker() -> Waker {
        struct Nobody;
        impl Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }
        Waker::from(Arc::new(Nobody))
    }

    #[test]
    fn who_looked_last_is_woken() {
        let mut queues = Queues::default();
        let queue = Queue::new();
        queues.register(&queue);
        let (first, last) = (waker(), waker());
        for polled_by in [&first, &last, &last] {
            queue.take(&mut VecDeque::new(), polled_by);
        }
        let woken = publish(&mut queues);
        assert_eq!(woken.len(), 1);
        assert!(woken[0].will_wake(&last) && !woken[0].will_wake(&first));
    }

    #[test]
    fn a_closed_queue_is_forgotten_by_the_next_publication() {
        let mut queues = Queues::default();
        let (closed, open) = (Queue::new(), Queue::new());
        queues.register(&closed);
        queues.register(&open);
        closed.close();
        publish(&mut queues);
        assert_eq!((Arc::strong_count(&closed), Arc::strong_count(&open)), (1, 2));
    }

    /// A runtime that is paused publishes nothing.
    #[test]
    fn closed_queues_do_not_pile_up_where_nothing_is_published() {
        let mut queues = Queues::default();
        let open: Vec<_> = (0..100).map(|_| Queue::new()).collect();
        for queue in &open {
            queues.register(queue);
        }
        let closed: Vec<_> = (0..10_000).map(|_| Queue::new()).collect();
        for queue in &closed {
            queues.register(queue);
            queue.close();
        }
        let kept = closed.iter().filter(|queue| Arc::strong_count(queue) > 1).count();
        assert!(kept <= 2 * open.len(), "{kept} closed queues are kept");
        assert!(open.iter().all(|queue| Arc::strong_count(queue) == 2), "those that are open stay");
    }
}
