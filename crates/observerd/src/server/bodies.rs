//! Bodies of requests: within a time, a size, and the memory of all of them together.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use watchkeeper::report::error_chain;

use super::problem::Problem;
use crate::config::LimitsConfig;

/// After how many seconds a request may be sent again for which there was no memory.
const RETRY: u64 = 1;

/// The smallest buffer of a body whose length is not known.
const FIRST: usize = 4 * 1024;

/// The memory for bodies.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// A permit is a byte.
    permits: Arc<Semaphore>,
    total: usize,
    limit: Duration,
}

impl Bodies {
    /// As much memory as the limits say.
    #[must_use]
    pub fn new(limits: &LimitsConfig) -> Self {
        let total = limits.bodies.min(u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(total)), total, limit: limits.body }
    }

    /// How many bytes are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.total - self.permits.available_permits().min(self.total)
    }

    /// Reads a body of at most `most` bytes. Memory is taken as the bytes come; the permit returns it when it is dropped: keep it as long
    /// as the bytes, or what was made of them.
    ///
    /// # Errors
    ///
    /// - 413 if the body is larger than `most`, at once if `content_length` says so;
    /// - 408 if it was not there in time;
    /// - 503 if there is no memory for it now: nothing waits, so that nothing can wait for ever;
    /// - 400 if it ended early or was not encoded well.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, its memory is free.
    pub async fn read(
        &self,
        body: Body,
        content_length: Option<u64>,
        most: usize,
    ) -> Result<(Bytes, OwnedSemaphorePermit), Problem> {
        let most = most.min(self.total);
        let known = match content_length {
            None => None,
            Some(length) => Some(
                usize::try_from(length)
                    .ok()
                    .filter(|length| *length <= most)
                    .ok_or_else(|| too_large(most))?,
            ),
        };
        if known.is_some_and(|length| length > self.permits.available_permits()) {
            return Err(overloaded());
        }
        let mut read = Reading { bytes: Vec::new(), permit: self.take(0)?, most: known.unwrap_or(most) };
        let deadline = Instant::now() + self.limit;
        match timeout_at(deadline, self.collect(body, &mut read)).await {
            Ok(Ok(())) => Ok((Bytes::from(read.bytes), read.permit)),
            Ok(Err(problem)) => Err(problem),
            Err(_) => Err(self.too_slow()),
        }
    }

    /// Memory for something else, such as an answer.
    ///
    /// # Errors
    ///
    /// 503 if there is no memory for it now.
    pub fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        self.take(bytes.min(self.total))
    }

    /// Takes more memory for what was made of a body.
    ///
    /// # Errors
    ///
    /// 503 if there is no memory for it now, 413 if there never is.
    pub fn take_more(&self, permit: &mut OwnedSemaphorePermit, bytes: usize) -> Result<(), Problem> {
        if permit.num_permits().saturating_add(bytes) > self.total {
            return Err(too_large(self.total));
        }
        permit.merge(self.take(bytes)?);
        Ok(())
    }

    async fn collect(&self, mut body: Body, read: &mut Reading) -> Result<(), Problem> {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Ok(data) = frame.into_data() else { continue };
            let length = read.bytes.len() + data.len();
            if length > read.most {
                return Err(too_large(read.most));
            }
            if length > read.bytes.capacity() {
                let capacity = length.max(read.bytes.capacity() * 2).max(FIRST).min(read.most);
                read.permit.merge(self.take(capacity - read.bytes.capacity())?);
                read.bytes.reserve_exact(capacity - read.bytes.len());
            }
            read.bytes.extend_from_slice(&data);
        }
        Ok(())
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).map_err(|_| overloaded())?;
        Arc::clone(&self.permits).try_acquire_many_owned(bytes).map_err(|_| overloaded())
    }

    fn too_slow(&self) -> Problem {
        let detail = format!(
            "the body was not there within {}: send it faster, or in smaller parts",
            humantime::format_duration(self.limit)
        );
        Problem::new(StatusCode::REQUEST_TIMEOUT, "slow-body", "The request was too slow", detail)
    }
}

/// The length of a request's body if it is known.
#[must_use]
pub fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Refuses a body that is packed: it would be recorded as it is.
///
/// # Errors
///
/// 415.
pub fn is_plain(headers: &HeaderMap) -> Result<(), Problem> {
    let is_packed = |coding: &http::HeaderValue| !coding.as_bytes().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(header::CONTENT_ENCODING).iter().any(is_packed) {
        return Ok(());
    }
    let detail = "the body has a Content-Encoding, and none is supported: send it as it is";
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "unsupported-encoding",
        "The body is packed",
        detail,
    ))
}

/// A body that is being read. There is a permit for each byte of the buffer.
struct Reading {
    bytes: Vec<u8>,
    permit: OwnedSemaphorePermit,
    most: usize,
}

fn too_large(most: usize) -> Problem {
    let detail = format!("a body has at most {most} bytes here: send it in smaller parts");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large", detail)
}

fn overloaded() -> Problem {
    let detail = "other requests use the memory for bodies and answers: send it again later";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "The service has too much to do", detail)
        .retry_after(RETRY)
}

fn broken(error: &axum::Error) -> Problem {
    let detail = format!("the body ended early or is not encoded well: {}", error_chain(error));
    Problem::new(StatusCode::BAD_REQUEST, "broken-body", "The body is broken", detail)
}

#[cfg(test)]
mod tests;
