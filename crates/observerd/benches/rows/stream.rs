//! One reader of server-sent events.

use std::net::SocketAddr;
use std::time::Instant;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::writer::{connect, request};

/// What it has received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// When each operation came, in microseconds: the first one has sequence 0.
    pub(crate) at: Vec<u64>,
    /// Events that are not the next operation: gaps, repetitions, others.
    pub(crate) wrong: usize,
}

pub(crate) struct Stream {
    body: Incoming,
    line: Vec<u8>,
    /// The position in the last id.
    position: usize,
    received: Received,
}

impl Stream {
    /// Opens it, and reads its first id.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut connection = connect(address).await;
        let request = request(address, "GET", "/v1/observer/events", "");
        let response = connection.send_request(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        let first = body.frame().await.expect("a first id").expect("a frame").into_data().expect("data");
        assert!(first.starts_with(b"retry:"));
        Self { body, line: Vec::new(), position: 0, received: Received::default() }
    }

    /// Reads until so many operations have come, or it is cancelled.
    pub(crate) async fn read(&mut self, count: usize, began: Instant) {
        while self.received.at.len() < count {
            let Some(Ok(frame)) = self.body.frame().await else { return };
            let now = began.elapsed().as_micros() as u64;
            let Ok(data) = frame.into_data() else { continue };
            for part in data.split_inclusive(|byte| *byte == b'\n') {
                self.line.extend_from_slice(part);
                if self.line.ends_with(b"\n") {
                    self.line(now);
                    self.line.clear();
                }
            }
        }
    }

    fn line(&mut self, now: u64) {
        if let Some(id) = self.line.strip_prefix(b"id: ") {
            let digits = id.rsplit(|byte| *byte == b'.').next().unwrap_or_default().trim_ascii();
            let position = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            self.position = position.expect("an id with a position");
        } else if let Some(name) = self.line.strip_prefix(b"event: ") {
            // An id is the position after its event.
            if name == b"operation\n" && self.position == self.received.at.len() + 1 {
                self.received.at.push(now);
            } else {
                self.received.wrong += 1;
            }
        }
    }

    pub(crate) fn into_received(self) -> Received {
        self.received
    }
}
