//! The readers of each kind of upstream.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use watchkeeper::subscription::{Cursor, RecvError, Subscription};

use super::{Chunk, Items, Reader};
use crate::item::Item;
use crate::link::Link;
use crate::position::UpstreamPosition;

/// The most items of a stream that are committed together.
const PIECE: usize = 256;

fn batch(cursor: Cursor) -> UpstreamPosition {
    UpstreamPosition::Batch { cursor, done: 0 }
}

/// An observation.
pub(super) struct Subscribed<E> {
    subscription: Subscription<E>,
    /// The next batch and how many of its items are committed, until it has come.
    resumed: Option<(u64, u64)>,
}

impl<E> Subscribed<E> {
    pub(super) fn new(subscription: Subscription<E>, done: u64) -> Self {
        let resumed = (done > 0).then(|| (subscription.cursor().seq(), done));
        Self { subscription, resumed }
    }
}

/// How many items of a batch are committed, if it is the one that `resumed` names.
fn done(resumed: Option<(u64, u64)>, seq: u64, items: usize) -> usize {
    let done = resumed.filter(|(next, _)| *next == seq).map_or(0, |(_, done)| done);
    usize::try_from(done).unwrap_or(usize::MAX).min(items)
}

impl<E: Send + Sync + 'static> Reader<E> for Subscribed<E> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<E>>> {
        let before = self.subscription.cursor();
        let next = ready!(Pin::new(&mut self.subscription).poll_next(context));
        let after = self.subscription.cursor();
        let mark = |item| Chunk { items: Items::Mark(item), start: batch(before), done: 0, end: batch(after) };
        Poll::Ready(match next {
            Some(Ok(read)) => {
                let done = done(self.resumed.take(), read.seq, read.events.len());
                let start = batch(after.at(read.seq));
                Some(Chunk { items: Items::Batch(read), start, done, end: batch(after) })
            }
            Some(Err(RecvError::Lagged { missed, .. })) => Some(mark(Item::Lagged { missed })),
            Some(Err(RecvError::Rebuilt { generation })) => Some(mark(Item::Rebuilt { generation })),
            Some(Err(RecvError::Closed(_))) | None => None,
        })
    }

    fn number(&self) -> u64 {
        self.subscription.cursor().seq()
    }
}

/// The output of a stage.
pub(super) struct Linked<O> {
    link: Arc<Link<O>>,
    consumer: usize,
    next: Cursor,
    resumed: Option<(u64, u64)>,
}

impl<O> Linked<O> {
    pub(super) fn new(link: Arc<Link<O>>, consumer: usize, next: Cursor, done: u64) -> Self {
        Self { link, consumer, next, resumed: Some((next.seq(), done)) }
    }
}

impl<O: Send + Sync + 'static> Reader<O> for Linked<O> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<O>>> {
        let Some(read) = ready!(self.link.poll_batch(self.consumer, self.next.seq(), context)) else {
            return Poll::Ready(None);
        };
        let done = done(self.resumed.take(), read.seq, read.events.len());
        let start = batch(self.next);
        self.next = self.next.at(read.seq + 1);
        Poll::Ready(Some(Chunk { items: Items::Batch(read), start, done, end: batch(self.next) }))
    }

    fn number(&self) -> u64 {
        self.next.seq()
    }

    fn is_stage(&self) -> bool {
        true
    }

    fn committed(&mut self, position: UpstreamPosition) {
        self.link.committed(self.consumer, position.number());
    }
}

/// A stream.
pub(super) struct Streamed<T> {
    stream: Pin<Box<dyn Stream<Item = T> + Send>>,
    /// How many items were read.
    count: u64,
    /// What was read of the piece so far: kept if the stream panics.
    piece: Vec<T>,
    is_over: bool,
}

impl<T> Streamed<T> {
    pub(super) fn new(stream: Pin<Box<dyn Stream<Item = T> + Send>>, count: u64) -> Self {
        Self { stream, count, piece: Vec::new(), is_over: false }
    }
}

impl<T: Send + Sync + 'static> Reader<T> for Streamed<T> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<T>>> {
        while !self.is_over && self.piece.len() < PIECE {
            match self.stream.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => self.piece.push(item),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending if self.piece.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if self.piece.is_empty() {
            return Poll::Ready(None);
        }
        let items = std::mem::take(&mut self.piece);
        let start = UpstreamPosition::Count(self.count);
        self.count += items.len() as u64;
        let end = UpstreamPosition::Count(self.count);
        Poll::Ready(Some(Chunk { items: Items::Owned(items), start, done: 0, end }))
    }

    fn number(&self) -> u64 {
        self.count
    }
}

/// Another reader, with its items as another type.
pub(super) struct Mapped<T, U> {
    inner: Box<dyn Reader<T>>,
    function: Arc<dyn Fn(&T) -> U + Send + Sync>,
    /// What is to be mapped: kept if the function panics.
    chunk: Option<Chunk<T>>,
}

impl<T, U> Mapped<T, U> {
    pub(super) fn new(inner: Box<dyn Reader<T>>, function: Arc<dyn Fn(&T) -> U + Send + Sync>) -> Self {
        Self { inner, function, chunk: None }
    }
}

impl<T: Send + Sync + 'static, U: Send + Sync + 'static> Reader<U> for Mapped<T, U> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<U>>> {
        let chunk = match self.chunk.take() {
            Some(chunk) => chunk,
            None => match ready!(self.inner.poll_chunk(context)) {
                Some(chunk) => chunk,
                None => return Poll::Ready(None),
            },
        };
        let mapped = catch_unwind(AssertUnwindSafe(|| {
            let map = |items: &[T]| Items::Owned(items.iter().map(|item| (self.function)(item)).collect());
            match &chunk.items {
                Items::Batch(batch) => map(&batch.events),
                Items::Owned(items) => map(items),
                Items::Mark(mark) => Items::Mark(*mark),
            }
        }));
        match mapped {
            Ok(items) => {
                let Chunk { start, done, end, .. } = chunk;
                Poll::Ready(Some(Chunk { items, start, done, end }))
            }
            Err(panic) => {
                self.chunk = Some(chunk);
                resume_unwind(panic)
            }
        }
    }

    fn number(&self) -> u64 {
        self.inner.number()
    }

    fn is_stage(&self) -> bool {
        self.inner.is_stage()
    }

    fn committed(&mut self, position: UpstreamPosition) {
        self.inner.committed(position);
    }
}
