//! What one stage has emitted and others have not consumed yet: nothing is lost between stages.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use watchkeeper::ObservationBatch;
use watchkeeper::subscription::Cursor;

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The batches from the slowest consumer on. Its writer waits while there are `capacity` of them.
pub(crate) struct Link<O> {
    capacity: u64,
    state: Mutex<LinkState<O>>,
}

struct LinkState<O> {
    batches: VecDeque<Arc<ObservationBatch<O>>>,
    /// The position after the last batch; `None` before its stage has started.
    next: Option<Cursor>,
    consumers: Vec<Consumer>,
    writer: Option<Waker>,
    is_closed: bool,
}

struct Consumer {
    /// The number of the batch after the last committed one; `None` before it has started.
    committed: Option<u64>,
    waker: Option<Waker>,
    /// Its reader was dropped, and commits nothing more.
    has_left: bool,
}

impl<O> LinkState<O> {
    fn oldest(&self) -> u64 {
        let next = self.next.map_or(0, |cursor| cursor.seq());
        next - self.batches.len() as u64
    }

    /// The number before which all consumers have committed.
    fn consumed(&self) -> u64 {
        let next = self.next.map_or(0, |cursor| cursor.seq());
        let oldest = self.oldest();
        let committed = self.consumers.iter().map(|consumer| consumer.committed.unwrap_or(oldest));
        committed.min().unwrap_or(next)
    }

    /// Room is made by those alone that have not left.
    fn has_room(&self, capacity: u64) -> bool {
        let (oldest, next) = (self.oldest(), self.next.map_or(0, |cursor| cursor.seq()));
        let readers = self.consumers.iter().filter(|consumer| !consumer.has_left);
        let slowest = readers.map(|consumer| consumer.committed.unwrap_or(oldest)).min();
        slowest.is_none_or(|slowest| next.saturating_sub(slowest) < capacity)
    }

    fn trim(&mut self) -> Vec<Arc<ObservationBatch<O>>> {
        let surplus = self.consumed().saturating_sub(self.oldest());
        self.batches.drain(..usize::try_from(surplus).unwrap_or(usize::MAX)).collect()
    }

    fn wakers(&mut self) -> Vec<Waker> {
        self.consumers.iter_mut().filter_map(|consumer| consumer.waker.take()).collect()
    }
}

/// Why a consumer cannot continue where it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotThere {
    /// The position is of another output.
    Foreign,
    /// The position is after the newest batch.
    Future { newest: u64 },
    /// The position is before the oldest batch.
    Gone { oldest: u64 },
    /// The stage has not started.
    NotStarted,
}

impl<O> Link<O> {
    pub(crate) fn new(capacity: usize) -> Self {
        let state = LinkState {
            batches: VecDeque::new(),
            next: None,
            consumers: Vec::new(),
            writer: None,
            is_closed: false,
        };
        Self { capacity: capacity as u64, state: Mutex::new(state) }
    }

    /// Adds a consumer, before anything starts.
    pub(crate) fn add_consumer(&self) -> usize {
        let mut state = lock(&self.state);
        state.consumers.push(Consumer { committed: None, waker: None, has_left: false });
        state.consumers.len() - 1
    }

    pub(crate) fn has_consumers(&self) -> bool {
        !lock(&self.state).consumers.is_empty()
    }

    /// The writer's stage has started: what it had emitted before is there again. `next` is the position after that.
    pub(crate) fn open(&self, next: Cursor, batches: Vec<Arc<ObservationBatch<O>>>) {
        let mut state = lock(&self.state);
        state.next = Some(next);
        state.batches = batches.into();
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn has_room(&self) -> bool {
        lock(&self.state).has_room(self.capacity)
    }

    /// Ready when there is room for another batch, or nobody will make room.
    pub(crate) fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.has_room(self.capacity) {
            return Poll::Ready(());
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Adds a batch. If no stage reads it, it is not kept.
    pub(crate) fn push(&self, next: Cursor, batch: Arc<ObservationBatch<O>>) {
        let mut state = lock(&self.state);
        state.next = Some(next);
        if state.consumers.is_empty() {
            return;
        }
        state.batches.push_back(batch);
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Nothing follows.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.is_closed = true;
        let wakers = state.wakers();
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn consumed(&self) -> u64 {
        lock(&self.state).consumed()
    }

    /// The number of the next batch.
    pub(crate) fn head(&self) -> Option<u64> {
        lock(&self.state).next.map(|cursor| cursor.seq())
    }

    /// Ready once the writer's stage has started or ended, with the position at which this consumer begins: `from`, or
    /// the oldest batch.
    pub(crate) fn poll_start(
        &self,
        consumer: usize,
        from: Option<Cursor>,
        context: &mut Context<'_>,
    ) -> Poll<Result<Cursor, NotThere>> {
        let mut state = lock(&self.state);
        let Some(next) = state.next else {
            if state.is_closed {
                return Poll::Ready(Err(NotThere::NotStarted));
            }
            state.consumers[consumer].waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        let oldest = state.oldest();
        let begin = match from {
            Some(cursor) if cursor.instance() != next.instance() => Err(NotThere::Foreign),
            Some(cursor) if cursor.seq() > next.seq() => Err(NotThere::Future { newest: next.seq() }),
            Some(cursor) if cursor.seq() < oldest => Err(NotThere::Gone { oldest }),
            Some(cursor) => Ok(cursor),
            None => Ok(next.at(oldest)),
        };
        drop(state);
        if let Ok(cursor) = begin {
            self.committed(consumer, cursor.seq());
        }
        Poll::Ready(begin)
    }

    /// The consumer's reader was dropped.
    pub(crate) fn leave(&self, consumer: usize) {
        let mut state = lock(&self.state);
        state.consumers[consumer].has_left = true;
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }

    /// The batch at `at`; `None` after the end.
    pub(crate) fn poll_batch(
        &self,
        consumer: usize,
        at: u64,
        context: &mut Context<'_>,
    ) -> Poll<Option<Arc<ObservationBatch<O>>>> {
        let mut state = lock(&self.state);
        let place = at.checked_sub(state.oldest()).and_then(|place| usize::try_from(place).ok());
        if let Some(batch) = place.and_then(|place| state.batches.get(place)) {
            return Poll::Ready(Some(Arc::clone(batch)));
        }
        if state.is_closed {
            return Poll::Ready(None);
        }
        state.consumers[consumer].waker = Some(context.waker().clone());
        Poll::Pending
    }

    /// This consumer has committed everything before batch `number`.
    pub(crate) fn committed(&self, consumer: usize, number: u64) {
        let mut state = lock(&self.state);
        state.consumers[consumer].committed = Some(number);
        let consumed = state.trim();
        let writer = if state.has_room(self.capacity) { state.writer.take() } else { None };
        drop(state);
        drop(consumed);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}
