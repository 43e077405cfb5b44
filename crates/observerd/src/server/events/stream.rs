//! Operations as server-sent events.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, header};
use tokio::sync::{OwnedSemaphorePermit, broadcast};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use watchkeeper_journal::{Cursor, Journal, JournalReader, ReadError, ReadFrom};

use crate::filter::Filter;
use crate::live::{Item, Live, Part};

/// After so long without an event there is a comment, with the position as its id.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The most bytes that are read from the journal for one write, but for the last event.
const CHUNK: usize = 64 * 1024;

/// The most records that are read for one write.
const MOST_READ: usize = 5_000;

/// One reader's stream. First it reads the journal; from its end on it gets what all readers get, without a gap between.
pub(crate) struct EventStream {
    journal: Journal,
    filter: Filter,
    identity: Cursor,
    /// `None` where it has caught up.
    reader: Option<JournalReader>,
    parts: broadcast::Receiver<Arc<Part>>,
    /// The position after all that was read.
    cursor: Cursor,
    stop: CancellationToken,
    heartbeat: Instant,
    is_begun: bool,
    _slot: OwnedSemaphorePermit,
}

impl EventStream {
    pub(crate) fn new(
        journal: &Journal,
        live: &Live,
        reader: JournalReader,
        filter: Filter,
        stop: CancellationToken,
        slot: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            journal: journal.clone(),
            filter,
            identity: journal.oldest(),
            // Before the journal is read to its end: what comes after it is in here.
            parts: live.subscribe(),
            cursor: reader.cursor(),
            reader: Some(reader),
            stop,
            heartbeat: Instant::now() + HEARTBEAT,
            is_begun: false,
            _slot: slot,
        }
    }

    pub(crate) fn into_response(self) -> Response {
        let chunks = stream::unfold(self, |mut stream| async move {
            let chunk = stream.next().await?;
            Some((Ok::<_, Infallible>(chunk), stream))
        });
        let mut response = Response::new(Body::from_stream(chunks));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // A proxy must not collect what is to be read at once.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    async fn next(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.is_begun, true) {
            return Some(Bytes::from(format!("retry: 1000\nid: {}\n\n", self.cursor)));
        }
        loop {
            let read = if self.reader.is_some() { self.read_journal().await } else { self.read_live().await };
            match read {
                Read::Text(text) if text.is_empty() => {}
                Read::Text(text) => {
                    self.heartbeat = Instant::now() + HEARTBEAT;
                    return Some(text);
                }
                Read::Nothing => return Some(self.beat()),
                Read::End => return None,
            }
        }
    }

    /// A comment. Its id is the position also where the filter has taken nothing since.
    fn beat(&mut self) -> Bytes {
        self.heartbeat = Instant::now() + HEARTBEAT;
        Bytes::from(format!(": heartbeat\nid: {}\n\n", self.cursor))
    }

    async fn read_journal(&mut self) -> Read {
        let Some(reader) = &mut self.reader else { return Read::Text(Bytes::new()) };
        let mut text = String::new();
        for _ in 0..MOST_READ {
            let read = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Read::End,
                read = timeout(HEARTBEAT, reader.next_existing()) => read,
            };
            match read {
                Err(_) if text.is_empty() => return Read::Nothing,
                Ok(Ok(Some(item))) => {
                    self.cursor = reader.cursor();
                    if let Some(item) = Item::if_taken(&item, self.identity, &self.filter) {
                        item.write(&mut text);
                    }
                    if text.len() >= CHUNK {
                        break;
                    }
                }
                Ok(Ok(None)) => {
                    self.reader = None;
                    break;
                }
                Ok(Err(error)) if text.is_empty() => return self.failed(&error),
                // What was read goes out first. A slow disk is asked again, and an error comes again.
                Err(_) | Ok(Err(_)) => break,
            }
        }
        if text.is_empty() && Instant::now() >= self.heartbeat {
            return Read::Nothing;
        }
        tokio::task::yield_now().await;
        Read::Text(Bytes::from(text))
    }

    /// The reader connects again with the last id.
    fn failed(&self, error: &ReadError) -> Read {
        tracing::error!(%error, cursor = %self.cursor, "a stream has ended, because the journal cannot be read");
        Read::End
    }

    async fn read_live(&mut self) -> Read {
        let part = tokio::select! {
            biased;
            () = self.stop.cancelled() => return Read::End,
            part = self.parts.recv() => part,
            () = sleep_until(self.heartbeat) => return Read::Nothing,
        };
        match part {
            Ok(part) if part.first > self.cursor.seq() => self.go_back(),
            Ok(part) => Read::Text(self.take(&part)),
            Err(broadcast::error::RecvError::Closed) => Read::End,
            Err(broadcast::error::RecvError::Lagged(_)) => self.go_back(),
        }
    }

    /// What this reader has missed is in the journal.
    fn go_back(&mut self) -> Read {
        match self.journal.reader(ReadFrom::Cursor(self.cursor)) {
            Ok(reader) => {
                self.reader = Some(reader);
                Read::Text(Bytes::new())
            }
            Err(_) => Read::End,
        }
    }

    fn take(&mut self, part: &Part) -> Bytes {
        let next = self.cursor.seq();
        if part.after.seq() <= next {
            return Bytes::new();
        }
        self.cursor = part.after;
        if part.first == next && self.filter.is_open() {
            return part.rendered().text.clone();
        }
        let mut text = String::new();
        for item in part.rendered().items.iter().filter(|item| item.number >= next) {
            if item.is_gap || self.filter.takes(item.operation.as_ref()) {
                item.write(&mut text);
            }
        }
        Bytes::from(text)
    }
}

enum Read {
    /// Empty: go on.
    Text(Bytes),
    /// There was nothing for as long as a heartbeat.
    Nothing,
    End,
}

#[cfg(test)]
mod tests;
