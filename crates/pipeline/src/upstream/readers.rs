//! The readers of each kind of upstream.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use watchkeeper::subscription::{Cursor, RecvError, Subscription};

use super::{Chunk, Items, OwnedItems, Reader};
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
    /// The position before the first batch and how many of its items are committed, until something has come.
    resumed: Option<(Cursor, u64)>,
    /// A rebuild that follows the gap that was returned last.
    rebuilt: Option<u64>,
}

impl<E> Subscribed<E> {
    pub(super) fn new(subscription: Subscription<E>, done: u64) -> Self {
        let resumed = Some((subscription.cursor(), done));
        Self { subscription, resumed, rebuilt: None }
    }
}

/// How many items of the batch after `start` are committed, if it is the one that `resumed` names.
fn done(resumed: Option<(Cursor, u64)>, start: Cursor, items: usize) -> usize {
    let done = resumed.filter(|(next, _)| *next == start).map_or(0, |(_, done)| done);
    usize::try_from(done).unwrap_or(usize::MAX).min(items)
}

impl<E: Send + Sync + 'static> Reader<E> for Subscribed<E> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<E>>> {
        let before = self.subscription.cursor();
        if let Some(generation) = self.rebuilt.take() {
            let items = Items::Mark(Item::Rebuilt { generation });
            return Poll::Ready(Some(Chunk {
                items,
                start: batch(before),
                done: 0,
                end: batch(before),
                is_numbered: false,
            }));
        }
        let next = ready!(Pin::new(&mut self.subscription).poll_next(context));
        let resumed = self.resumed.take();
        let after = self.subscription.cursor();
        let mark = |item| {
            let items = Items::Mark(item);
            Chunk { items, start: batch(before), done: 0, end: batch(after), is_numbered: false }
        };
        Poll::Ready(match next {
            Some(Ok(read)) => {
                let start = after.at(read.seq);
                let done = done(resumed, start, read.events.len());
                Some(Chunk {
                    items: Items::Batch(read),
                    start: batch(start),
                    done,
                    end: batch(after),
                    is_numbered: false,
                })
            }
            Some(Err(RecvError::Lagged { missed, .. })) => Some(mark(Item::Lagged { missed })),
            Some(Err(RecvError::Rebuilt { generation })) if resumed.is_some_and(|(_, done)| done > 0) => {
                // The rest of the batch is lost with its generation. A stage that starts again after this mark still has to
                // get the other one, so it ends where it began.
                self.rebuilt = Some(generation);
                let items = Items::Mark(Item::Lagged { missed: 1 });
                Some(Chunk { items, start: batch(before), done: 0, end: batch(before), is_numbered: false })
            }
            Some(Err(RecvError::Rebuilt { generation })) => Some(mark(Item::Rebuilt { generation })),
            Some(Err(RecvError::Closed(_))) | None => None,
        })
    }

    fn start(&self) -> u64 {
        self.subscription.cursor().seq()
    }
}

/// The output of a stage.
pub(super) struct Linked<O> {
    link: Arc<Link<O>>,
    consumer: usize,
    next: Cursor,
    resumed: Option<(Cursor, u64)>,
}

impl<O> Linked<O> {
    pub(super) fn new(link: Arc<Link<O>>, consumer: usize, next: Cursor, done: u64) -> Self {
        Self { link, consumer, next, resumed: Some((next, done)) }
    }
}

impl<O: Send + Sync + 'static> Reader<O> for Linked<O> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<O>>> {
        let Some(read) = ready!(self.link.poll_batch(self.consumer, self.next.seq(), context)) else {
            return Poll::Ready(None);
        };
        let done = done(self.resumed.take(), self.next, read.events.len());
        let start = batch(self.next);
        self.next = self.next.at(read.seq + 1);
        Poll::Ready(Some(Chunk {
            items: Items::Batch(read),
            start,
            done,
            end: batch(self.next),
            is_numbered: false,
        }))
    }

    fn start(&self) -> u64 {
        self.next.seq()
    }

    fn is_stage(&self) -> bool {
        true
    }

    fn committed(&mut self, position: UpstreamPosition) {
        self.link.committed(self.consumer, position.number());
    }
}

impl<O> Drop for Linked<O> {
    fn drop(&mut self) {
        self.link.leave(self.consumer);
    }
}

/// A stream.
pub(super) struct Streamed<T> {
    stream: Pin<Box<dyn Stream<Item = T> + Send>>,
    /// How many items were read.
    count: u64,
    /// What was read of the piece so far: kept if the stream panics.
    piece: OwnedItems<T>,
    is_over: bool,
}

impl<T> Streamed<T> {
    pub(super) fn new(stream: Pin<Box<dyn Stream<Item = T> + Send>>, count: u64) -> Self {
        Self { stream, count, piece: OwnedItems(Vec::new()), is_over: false }
    }
}

impl<T: Send + Sync + 'static> Reader<T> for Streamed<T> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<T>>> {
        while !self.is_over && self.piece.0.len() < PIECE {
            match self.stream.as_mut().poll_next(context) {
                Poll::Ready(Some(item)) => self.piece.0.push(item),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending if self.piece.0.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        if self.piece.0.is_empty() {
            return Poll::Ready(None);
        }
        let items = OwnedItems(std::mem::take(&mut self.piece.0));
        let start = UpstreamPosition::Count(self.count);
        self.count += items.0.len() as u64;
        let end = UpstreamPosition::Count(self.count);
        Poll::Ready(Some(Chunk { items: Items::Owned(items), start, done: 0, end, is_numbered: false }))
    }

    fn start(&self) -> u64 {
        self.count
    }
}

/// A log whose items come with cursors.
pub(super) struct Logged<T> {
    stream: Pin<Box<dyn Stream<Item = (Item<T>, Cursor)> + Send>>,
    /// The position after the last item; `None` before the first one.
    next: Option<Cursor>,
    /// What was read already: kept if the stream panics.
    piece: OwnedItems<T>,
    /// The item that does not go with those before it.
    held: Option<(Item<T>, Cursor)>,
    is_over: bool,
}

impl<T> Logged<T> {
    pub(super) fn new(
        stream: Pin<Box<dyn Stream<Item = (Item<T>, Cursor)> + Send>>,
        next: Option<Cursor>,
    ) -> Self {
        Self { stream, next, piece: OwnedItems(Vec::new()), held: None, is_over: false }
    }
}

impl<T: Send + Sync + 'static> Reader<T> for Logged<T> {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Chunk<T>>> {
        while self.held.is_none() && !self.is_over && self.piece.0.len() < PIECE {
            match self.stream.as_mut().poll_next(context) {
                Poll::Ready(Some((Item::Event(event), after)))
                    if self.piece.0.is_empty()
                        || self.next.is_some_and(|next| next.at(next.seq() + 1) == after) =>
                {
                    self.piece.0.push(event);
                    self.next = Some(after);
                }
                Poll::Ready(Some(other)) => self.held = Some(other),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending if self.piece.0.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            }
        }
        let (items, end) = match (self.piece.0.is_empty(), self.next) {
            (false, Some(end)) => (Items::Owned(OwnedItems(std::mem::take(&mut self.piece.0))), end),
            _ => match self.held.take() {
                Some((Item::Event(event), after)) => {
                    self.next = Some(after);
                    (Items::Owned(OwnedItems(vec![event])), after)
                }
                Some((Item::Lagged { missed }, after)) => {
                    let start = self
                        .next
                        .replace(after)
                        .unwrap_or_else(|| after.at(after.seq().saturating_sub(missed)));
                    let items = Items::Mark(Item::Lagged { missed });
                    let (start, end) = (batch(start), batch(after));
                    return Poll::Ready(Some(Chunk { items, start, done: 0, end, is_numbered: true }));
                }
                Some((Item::Rebuilt { generation }, after)) => {
                    let start = self.next.replace(after).unwrap_or(after);
                    let items = Items::Mark(Item::Rebuilt { generation });
                    let (start, end) = (batch(start), batch(after));
                    return Poll::Ready(Some(Chunk { items, start, done: 0, end, is_numbered: true }));
                }
                None => return Poll::Ready(None),
            },
        };
        let start = batch(end.at(end.seq().saturating_sub(items.len() as u64)));
        Poll::Ready(Some(Chunk { items, start, done: 0, end: batch(end), is_numbered: true }))
    }

    fn start(&self) -> u64 {
        self.next.map_or(0, |next| next.seq())
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
            let map = |items: &[T]| {
                let mut mapped = OwnedItems(Vec::with_capacity(items.len()));
                for item in items {
                    mapped.0.push((self.function)(item));
                }
                Items::Owned(mapped)
            };
            match &chunk.items {
                Items::Batch(batch) => map(&batch.events),
                Items::Owned(items) => map(&items.0),
                Items::Mark(mark) => Items::Mark(*mark),
            }
        }));
        match mapped {
            Ok(items) => {
                let Chunk { start, done, end, is_numbered, .. } = chunk;
                Poll::Ready(Some(Chunk { items, start, done, end, is_numbered }))
            }
            Err(panic) => {
                self.chunk = Some(chunk);
                resume_unwind(panic)
            }
        }
    }

    fn start(&self) -> u64 {
        self.inner.start()
    }

    fn is_stage(&self) -> bool {
        self.inner.is_stage()
    }

    fn committed(&mut self, position: UpstreamPosition) {
        self.inner.committed(position);
    }
}
