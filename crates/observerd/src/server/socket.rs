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

type Probe<T> = fn(&T, &[u8]) -> io::Result<usize>;

/// A socket as hyper sees it.
#[derive(Debug)]
pub(crate) struct Socket<T> {
    stream: T,
    activity: Arc<Activity>,
    /// For how long a write may make no progress.
    limit: Duration,
    /// Writes what the system takes at the end of that time, which may be less than what wakes a writer.
    probe: Option<Probe<T>>,
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
            probe: None,
            stall: None,
            is_stalled: false,
            has_received: false,
            refusal: Vec::new(),
            sent: 0,
        }
    }

    /// The same with a probe, so that a slow client makes progress by each byte that it reads.
    pub(crate) fn probed_by(self, probe: Probe<T>) -> Self {
        Self { probe: Some(probe), ..self }
    }

    /// Whether a problem was, or is to be, sent in place of an answer that hyper wrote by itself.
    pub(crate) fn has_refused(&self) -> bool {
        !self.refusal.is_empty()
    }

    /// Whether bytes came after the last answer: the head of a request, in part.
    pub(crate) fn has_received(&self) -> bool {
        self.has_received
    }

    pub(crate) fn into_inner(self) -> T {
        self.stream
    }

    /// Renews the deadline at progress, and ends the write when it is over.
    fn watch(
        &mut self,
        cx: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        if let Some(probe) = self.probe
            && !bytes.is_empty()
            && let Ok(sent @ 1..) = probe(&self.stream, bytes)
        {
            self.is_stalled = false;
            return Poll::Ready(Ok(sent));
        }
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
            match ready!(self.watch(cx, write, &[]))? {
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
        self.watch(cx, write, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.activity.is_quiet() {
            self.refuse(first(slices));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        let write = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, write, first(slices))
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

/// The first slice that has bytes.
fn first<'a>(slices: &'a [IoSlice<'_>]) -> &'a [u8] {
    slices.iter().find(|slice| !slice.is_empty()).map_or(&[], |slice| slice)
}

#[cfg(test)]
mod tests;
