//! One attempt, and what its answer means.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use watchkeeper::report::{error_chain, one_line};

use crate::outgoing::{Answer, Connector, OutgoingError, OutgoingUrl};

/// The most bytes of an error.
pub(super) const MOST_ERROR: usize = 500;

/// Posts a document once.
#[async_trait]
pub(super) trait Poster: Send + Sync + 'static {
    async fn post(&self, key: &str, body: Bytes) -> Result<(), PostFailure>;
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PostFailure {
    pub(super) next: Next,
    pub(super) message: String,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another attempt, not before this time.
    Retry { after: Duration },
    /// None.
    GiveUp,
    /// Another one after the longest pause: a name resolves to something else, or somebody must mend the settings.
    Refused,
}

/// Posts to the webhook.
pub(super) struct Webhook {
    pub(super) connector: Connector,
    pub(super) url: OutgoingUrl,
    pub(super) timeout: Duration,
}

#[async_trait]
impl Poster for Webhook {
    async fn post(&self, key: &str, body: Bytes) -> Result<(), PostFailure> {
        let mut headers = HeaderMap::new();
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert(HeaderName::from_static("idempotency-key"), key);
        }
        judged(&self.url, self.connector.post_json(&self.url, body, headers, self.timeout).await)
    }
}

/// What an answer means.
pub(super) fn judged(url: &OutgoingUrl, answer: Result<Answer, OutgoingError>) -> Result<(), PostFailure> {
    let (next, message) = match answer {
        Ok(Answer { status: 200..=299, .. }) => return Ok(()),
        Ok(Answer { status, retry_after }) => {
            let next = match status {
                429 | 503 => Next::Retry { after: retry_after.unwrap_or_default() },
                408 | 500..=599 => Next::Retry { after: Duration::ZERO },
                _ => Next::GiveUp,
            };
            (next, format!("{url}: answered {status}"))
        }
        Err(error) => {
            let next = match &error {
                error if error.is_refusal() => Next::Refused,
                OutgoingError::Redirect { .. } => Next::GiveUp,
                _ => Next::Retry { after: Duration::ZERO },
            };
            (next, error_chain(&error))
        }
    };
    Err(PostFailure { next, message: one_line(&message, MOST_ERROR) })
}
