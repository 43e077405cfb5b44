//! Subscriptions, which read every batch in order.

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use futures_core::Stream;
use watchkeeper_fsm::StopReason;

use crate::cursor::First;
use crate::publish::history::{Head, History, NextBatches, ObservationBatch};
use crate::report::debug_as_text;
use crate::waiting::WakerSlot;

pub use crate::cursor::{Cursor, PositionError, PositionProblem, Resume};
pub use crate::error::CursorError;
pub use crate::tap::{Record, RecordKind, SourcesChanged, Tap, TapError, TapLimits};

/// The most batches that are taken under one lock of the history.
const DRAIN: usize = 32;

/// Every batch from a position on, in order, each exactly once.
///
/// The interface is that of tokio's broadcast receiver: [`recv`](Self::recv) returns a batch, or a [`RecvError`]. A
/// subscription reads the runtime's shared history at its own pace. If it falls behind by more than `history_limit`,
/// it returns the exact number of missed batches, then continues. It is also a [`Stream`], which yields the same
/// items and ends after `Closed`.
///
/// `examples/subscribe.rs` shows a cursor, a lag and a rebuild; `examples/resume.rs` a cursor of an earlier process.
///
/// A subscription holds at most 32 batches that the history may already have dropped.
///
/// # Examples
///
/// ```
/// # use watchkeeper::{ObservationHandle, Observer};
/// # use watchkeeper::subscription::RecvError;
/// async fn print_all<O: Observer<Event = String>>(handle: ObservationHandle<O>) {
///     let mut subscription = handle.subscribe();
///     loop {
///         match subscription.recv().await {
///             Ok(batch) => println!("cycle {}: {:?}", batch.cycle, batch.events),
///             Err(RecvError::Lagged { missed, .. }) => println!("missed {missed} batches"),
///             Err(RecvError::Rebuilt { generation }) => println!("starting over: generation {generation}"),
///             Err(RecvError::Closed(reason)) => return println!("the end: {reason}"),
///         }
///     }
/// }
/// # fn main() {}
/// ```
pub struct Subscription<E> {
    history: Arc<History<E>>,
    next: u64,
    generation: u64,
    ready: VecDeque<Arc<ObservationBatch<E>>>,
    /// The stream has yielded `Closed`.
    ended: bool,
    place: WakerSlot,
}

/// Returned by a subscription instead of a batch.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The history no longer held the next batches. The next call continues after them.
    #[error("missed {missed} batches: read faster, or raise ObservationConfig::history_limit")]
    Lagged {
        /// The exact number of missed batches.
        missed: u64,
        /// The position at which the subscription continues.
        resume: Cursor,
    },
    /// The observer's state was built again, and later batches start over. Returned after the last batch of the old
    /// generation, even before the new generation has a batch.
    #[error(
        "the observer's state was rebuilt as generation {generation}: start over from the latest snapshot"
    )]
    Rebuilt {
        /// The new generation.
        generation: u64,
    },
    /// The runtime has ended, and all its batches were read.
    #[error("the runtime has stopped ({0}): start another one, and subscribe to that")]
    Closed(StopReason),
}

debug_as_text!(RecvError);

impl<E> Subscription<E> {
    /// Reads the batches that are published from now on.
    pub(crate) fn from_now(history: Arc<History<E>>) -> Self {
        let Head { next_seq, generation, .. } = history.head();
        Self::new(history, next_seq, generation)
    }

    /// Reads the batches that were published after `cursor`.
    pub(crate) fn from_cursor(history: Arc<History<E>>, cursor: Cursor) -> Result<Self, CursorError> {
        history.check(cursor)?;
        Ok(Self::new(history, cursor.seq, cursor.generation))
    }

    fn new(history: Arc<History<E>>, next: u64, generation: u64) -> Self {
        Self { history, next, generation, ready: VecDeque::new(), ended: false, place: WakerSlot::default() }
    }

    /// Waits for the next batch.
    ///
    /// # Errors
    ///
    /// [`Lagged`](RecvError::Lagged) and [`Rebuilt`](RecvError::Rebuilt) are returned once, and the next call
    /// continues. [`Closed`](RecvError::Closed) is the end, and every later call returns it again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call takes no batch.
    #[inline]
    pub async fn recv(&mut self) -> Result<Arc<ObservationBatch<E>>, RecvError> {
        if let Some(batch) = self.next_ready() {
            return Ok(batch);
        }
        poll_fn(|context| self.poll_refill(context)).await
    }

    /// The next batch without waiting; `None` if there is nothing new.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<Arc<ObservationBatch<E>>, RecvError>> {
        match self.next_ready() {
            Some(batch) => Some(Ok(batch)),
            None => self.refill(None),
        }
    }

    /// The position after everything that was returned so far. After `Lagged`, reading continues there.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let seq = self.ready.front().map_or(self.next, |batch| batch.seq);
        Cursor { instance: self.history.instance(), generation: self.generation, seq }
    }

    /// The next batch that was already taken from the history, unless `Rebuilt` has to be returned first.
    #[inline]
    fn next_ready(&mut self) -> Option<Arc<ObservationBatch<E>>> {
        if self.ready.front()?.generation > self.generation {
            return None;
        }
        self.ready.pop_front()
    }

    #[inline(never)]
    fn poll_refill(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Arc<ObservationBatch<E>>, RecvError>> {
        match self.refill(Some(context.waker())) {
            Some(item) => Poll::Ready(item),
            None => Poll::Pending,
        }
    }

    /// Reads the history. `None` means that there is nothing new; then `waker` is woken when there is.
    fn refill(&mut self, waker: Option<&Waker>) -> Option<Result<Arc<ObservationBatch<E>>, RecvError>> {
        if let Some(batch) = self.ready.front() {
            let generation = batch.generation;
            return Some(self.rebuilt(generation));
        }
        let position = (self.next, self.generation);
        match self.history.look(position, DRAIN, &mut self.ready, (&mut self.place, waker)) {
            NextBatches::Batches => {
                self.next += self.ready.len() as u64;
                self.try_recv()
            }
            NextBatches::Lagged { oldest } => {
                let mut oldest = oldest;
                let First { generation, seq, .. } = self.history.first();
                // A cursor of an earlier process's generation is valid up to the recorded point alone: its reader gets
                // the new generation there, and then the count of what this process has dropped.
                if self.generation < generation {
                    if self.next >= seq {
                        return Some(self.rebuilt(generation));
                    }
                    oldest = seq;
                }
                let missed = oldest - self.next;
                self.next = oldest;
                Some(Err(RecvError::Lagged { missed, resume: self.cursor() }))
            }
            NextBatches::Nothing(head) if head.generation > self.generation => {
                Some(self.rebuilt(head.generation))
            }
            NextBatches::Nothing(head) => head.closed.map(|reason| Err(RecvError::Closed(reason))),
        }
    }

    #[cold]
    fn rebuilt(&mut self, generation: u64) -> Result<Arc<ObservationBatch<E>>, RecvError> {
        self.generation = generation;
        Err(RecvError::Rebuilt { generation })
    }
}

impl<E> Drop for Subscription<E> {
    fn drop(&mut self) {
        self.history.leave(&mut self.place);
    }
}

impl<E: Send + Sync + 'static> Stream for Subscription<E> {
    type Item = Result<Arc<ObservationBatch<E>>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = match self.next_ready() {
            Some(batch) => Ok(batch),
            None => ready!(self.poll_refill(context)),
        };
        self.ended = matches!(item, Err(RecvError::Closed(_)));
        Poll::Ready(Some(item))
    }
}

impl<E> std::fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
