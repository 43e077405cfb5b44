//! The socket of a connection: a deadline for writes, and problem documents for the requests that hyper refuses by itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::activity::Activity;
use super::raw;

/// A socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    stream: T,
    activity: Arc<Activity>,
    /// For how long a write may make no progress.
    limit: Duration,
    stall: Option<Pin<Box<Sleep>>>,
    is_stalled: bool,
    /// Bytes came since the last answer.
    has_received: bool,
    /// In place of an answer that hyper wrote by itself.
    refusal: Vec<u8>,
    sent: usize,
}

impl<T> Socket<T> {
    pub(crate) fn new(stream: T, activity: Arc<Activity>, limit: Duration) -> Self {
        Self {
            stream,
            activity,
            limit,
            stall: None,
            is_stalled: false,
            has_received: false,
            refusal: Vec::new(),
            sent: 0,
        }
    }

    /// Whether bytes came after the last answer: the head of a request, in part.
    pub(crate) fn has_received(&self) -> bool {
        self.has_received
    }

    pub(crate) fn into_inner(self) -> T {
        self.stream
    }

    /// Renews the deadline at progress, and ends the write when it is over.
    fn watch(&mut self, cx: &mut Context<'_>, write: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if write.is_ready() {
            self.is_stalled = false;
            return write;
        }
        let limit = self.limit;
        let stall = self.stall.get_or_insert_with(|| Box::pin(sleep(limit)));
        if !self.is_stalled {
            self.is_stalled = true;
            stall.as_mut().reset(Instant::now() + limit);
        }
        ready!(stall.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the client reads nothing: the connection is closed",
        )))
    }

    /// Hyper writes although no request is open: it refuses a head. Keeps a problem to be sent instead.
    fn refuse(&mut self, written: &[u8]) {
        if self.refusal.is_empty() {
            self.refusal = raw::answer(&raw::refused_head(written));
        }
    }
}

impl<T: AsyncWrite + Unpin> Socket<T> {
    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.refusal.len() {
            let write = Pin::new(&mut self.stream).poll_write(cx, &self.refusal[self.sent..]);
            match ready!(self.watch(cx, write))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                count => self.sent += count,
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Socket<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.has_received |= buffer.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Socket<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.activity.is_quiet() {
            self.refuse(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        let write = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, write)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.activity.is_quiet() {
            self.refuse(slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, write)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.activity.flushed() {
            self.has_received = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
