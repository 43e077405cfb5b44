//! What is sent for a review.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::{MAX_HISTORY, ReviewError};
use super::facts::{Facts, input, is_same};
use super::rules::READ;
use crate::operation::Operation;

/// An operation, and what was done before it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewRequest {
    /// The operation, as it would be recorded.
    #[schema(value_type = ReviewedOperation)]
    pub op: Box<RawValue>,
    /// What was done before it, oldest first, at most 1,000. Absent, the service takes what it has recorded of the operation's
    /// `staffer_id`, if it has one.
    #[serde(default)]
    #[schema(value_type = Option<Vec<PastOperation>>, max_items = 1_000)]
    pub history: Option<Vec<Box<RawValue>>>,
    /// Whether the history is what the service has: the operation itself is not in it.
    #[serde(skip)]
    pub(super) is_fetched: bool,
}

impl ReviewRequest {
    /// Reads a body.
    ///
    /// # Errors
    ///
    /// [`ReviewError::NotJson`], [`ReviewError::NotARequest`].
    pub fn read(text: &str) -> Result<Self, ReviewError> {
        serde_json::from_str(text).map_err(|error| {
            if error.is_data() {
                return ReviewError::NotARequest;
            }
            ReviewError::NotJson { line: error.line(), column: error.column() }
        })
    }

    /// The operation, and the entries of its history that count.
    pub(super) fn facts(&self, now: Timestamp) -> Result<(Facts, Vec<Facts>), ReviewError> {
        let op = Facts::read(self.op.get(), now)?;
        let text = self.op.get();
        let entries = self.history.as_deref().unwrap_or_default();
        if entries.len() > MAX_HISTORY {
            return Err(ReviewError::TooLong { count: entries.len() });
        }
        let mut counted = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let past = Operation::of_text(entry.get()).ok_or(ReviewError::History { index })?;
            if op.staffer.is_empty() || past.staffer.is_empty() || past.staffer == op.staffer {
                counted.push(entry.get());
            }
        }
        if !self.is_fetched && counted.last().is_some_and(|last| is_itself(text, last)) {
            counted.pop();
        }
        // What is old is checked, and not read further: messages are normalised.
        let read = counted.len().saturating_sub(READ - 1);
        let history = counted[read..].iter().filter_map(|text| Facts::read_past(text)).collect();
        Ok((op, history))
    }
}

/// Whether an entry of a history that was sent is the operation itself: with its time.
fn is_itself(op: &str, entry: &str) -> bool {
    let (Some(one), Some(other)) = (Operation::of_text(op), Operation::of_text(entry)) else { return false };
    !one.timestamp_text.is_empty() && is_same((&one, input(op)), (&other, input(entry)))
}

/// An operation in a request for a review: what the rules read of it. More fields are allowed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "its schema is used")]
pub struct ReviewedOperation {
    /// What was called.
    #[schema(min_length = 1, max_length = 1_024, pattern = r"\S")]
    endpoint: String,
    /// Whether it succeeded. An absent one is `false`.
    success: Option<bool>,
    /// The error's message.
    error: Option<String>,
    /// What it was called with.
    input_summary: Option<String>,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0)]
    duration_ms: Option<f64>,
    /// When it happened, RFC 3339.
    #[schema(format = DateTime)]
    timestamp: Option<String>,
    /// Who did it.
    #[schema(max_length = 256)]
    staffer_id: Option<String>,
    /// Who reports it.
    #[schema(max_length = 256)]
    source: Option<String>,
}

/// An operation of a history. The same fields are read as of the reviewed one; one that has another type counts as absent.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "its schema is used")]
pub struct PastOperation {
    /// What was called.
    #[schema(min_length = 1, pattern = r"\S")]
    endpoint: String,
}
