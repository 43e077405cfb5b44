//! Reading every batch in order.

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use watchkeeper_fsm::StopReason;

use crate::cursor::Cursor;
use crate::error::CursorError;
use crate::error_text::debug_as_text;
use crate::history::{Drained, Head, History, ObservationBatch};
use crate::shield::shielded;
use crate::sync::watch;

/// Batches taken under one lock of the history.
const DRAIN: usize = 32;

/// Every batch from a position on, in order, each exactly once.
///
/// Shaped like tokio's broadcast receiver: [`recv`](Self::recv) returns batches, and tells of what
/// is not a batch as a [`RecvError`]. A subscription reads the runtime's shared history at its own
/// pace; one that falls behind `history_limit` is told exactly how many batches it missed, then
/// goes on. It is also a [`Stream`], which yields the same and ends behind `Closed`.
///
/// A subscription holds at most 32 batches that the history may already have dropped.
///
/// # Examples
///
/// ```
/// # use watchkeeper::{ObservationHandle, Observer, RecvError};
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
    head: watch::Receiver<Head>,
    next: u64,
    generation: u64,
    /// The head that the last look saw.
    seen: Option<Head>,
    ready: VecDeque<Arc<ObservationBatch<E>>>,
    ended: bool,
    // Only for use as a stream: the wait for the next head.
    news: Option<Pin<Box<dyn Future<Output = ()> + Send + Sync>>>,
}

/// What a subscription is told instead of a batch.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecvError {
    /// The history no longer held the next batches. The next call goes on behind them.
    #[error("missed {missed} batches: read faster, or raise ObservationConfig::history_limit")]
    Lagged {
        /// Exactly how many batches were missed.
        missed: u64,
        /// Where the subscription goes on.
        resume: Cursor,
    },
    /// The observer's state was built anew; what follows starts over. Told between the last batch
    /// of the old generation and the first of the new one, also when there is none yet.
    #[error(
        "the observer's state was rebuilt as generation {generation}: start over from the latest snapshot"
    )]
    Rebuilt {
        /// The new generation.
        generation: u64,
    },
    /// The runtime has ended and everything it published was read.
    #[error("the runtime has stopped ({0}): start another one, and subscribe to that")]
    Closed(StopReason),
}

debug_as_text!(RecvError);

impl<E> Subscription<E> {
    /// Reads what is published from now on.
    pub(crate) fn from_now(history: Arc<History<E>>) -> Self {
        let mut head = history.watch_head();
        let Head { next_seq, generation, .. } = *head.borrow_and_update();
        Self::new(history, head, next_seq, generation)
    }

    /// Reads what was published behind `cursor`.
    pub(crate) fn from_cursor(history: Arc<History<E>>, cursor: Cursor) -> Result<Self, CursorError> {
        history.check(cursor)?;
        let head = history.watch_head();
        let Cursor { seq: next, generation, .. } = cursor;
        Ok(Self::new(history, head, next, generation))
    }

    fn new(history: Arc<History<E>>, head: watch::Receiver<Head>, next: u64, generation: u64) -> Self {
        let ready = VecDeque::new();
        Self { history, head, next, generation, seen: None, ready, ended: false, news: None }
    }

    /// The next batch.
    ///
    /// # Errors
    ///
    /// [`Lagged`](RecvError::Lagged) and [`Rebuilt`](RecvError::Rebuilt) are told once, then it
    /// goes on; [`Closed`](RecvError::Closed) is the end and is told again to whoever asks again.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn recv(&mut self) -> Result<Arc<ObservationBatch<E>>, RecvError> {
        loop {
            if let Some(item) = self.try_next() {
                return item;
            }
            // The history holds the sender and we hold the history: there is always another head.
            let _ = shielded(self.head.changed()).await;
        }
    }

    /// The next batch if there is one already: `None` means nothing new.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&mut self) -> Option<Result<Arc<ObservationBatch<E>>, RecvError>> {
        self.try_next()
    }

    /// Where this subscription stands: right behind what it has returned.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        let seq = self.ready.front().map_or(self.next, |batch| batch.seq);
        Cursor { instance: self.history.instance(), generation: self.generation, seq }
    }

    fn try_next(&mut self) -> Option<Result<Arc<ObservationBatch<E>>, RecvError>> {
        loop {
            if let Some(batch) = self.ready.front() {
                if batch.generation > self.generation {
                    return Some(self.rebuilt(batch.generation));
                }
                return self.ready.pop_front().map(Ok);
            }
            self.history.await_next();
            let head = *self.head.borrow_and_update();
            if self.next < head.next_seq {
                match self.history.drain(self.next, head.next_seq, DRAIN, &mut self.ready) {
                    Drained::Some => self.next += self.ready.len() as u64,
                    Drained::Lagged { oldest } => {
                        let missed = oldest - self.next;
                        self.next = oldest;
                        return Some(Err(RecvError::Lagged { missed, resume: self.cursor() }));
                    }
                }
                continue;
            }
            if head.generation > self.generation {
                return Some(self.rebuilt(head.generation));
            }
            if let Some(reason) = head.closed {
                return Some(Err(RecvError::Closed(reason)));
            }
            // An announcement between `await_next` and this look has taken the request with it. Two looks
            // that see the same head have none between them.
            if self.seen.replace(head) == Some(head) {
                return None;
            }
        }
    }

    fn rebuilt(&mut self, generation: u64) -> Result<Arc<ObservationBatch<E>>, RecvError> {
        self.generation = generation;
        Err(RecvError::Rebuilt { generation })
    }
}

impl<E: Send + Sync + 'static> Stream for Subscription<E> {
    type Item = Result<Arc<ObservationBatch<E>>, RecvError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        loop {
            if let Some(item) = self.try_next() {
                self.news = None;
                self.ended = matches!(item, Err(RecvError::Closed(_)));
                return Poll::Ready(Some(item));
            }
            if self.news.is_none() {
                // A copy that has seen what we have seen.
                let mut head = self.head.clone();
                self.news = Some(Box::pin(async move {
                    let _ = shielded(head.changed()).await;
                }));
            }
            if let Some(news) = &mut self.news {
                ready!(news.as_mut().poll(context));
                self.news = None;
            }
        }
    }
}

impl<E> std::fmt::Debug for Subscription<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
