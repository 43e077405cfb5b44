//! What is sent for a review.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::error::ReviewError;
use super::facts::Facts;

/// The most entries of a history.
pub const MAX_HISTORY: usize = 1_000;

/// An operation, and what was done before it.
#[derive(Clone, Debug, Deserialize, ToSchema)]
pub struct ReviewRequest {
    /// The operation, as it would be recorded.
    #[schema(value_type = ReviewedOperation)]
    pub op: Box<RawValue>,
    /// What was done before it, oldest first, at most 1,000. Absent, the service takes what it has recorded of the operation's
    /// `staffer_id`, if it has one.
    #[serde(default)]
    #[schema(value_type = Option<Vec<ReviewedOperation>>, max_items = 1_000)]
    pub history: Option<Vec<Box<RawValue>>>,
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
        let entries = self.history.as_deref().unwrap_or_default();
        if entries.len() > MAX_HISTORY {
            return Err(ReviewError::TooLong { count: entries.len() });
        }
        let mut history = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            history.push(Facts::read_past(entry.get()).ok_or(ReviewError::History { index })?);
        }
        if history.last() == Some(&op) {
            history.pop();
        }
        if !op.staffer.is_empty() {
            history.retain(|past| past.staffer.is_empty() || past.staffer == op.staffer);
        }
        Ok((op, history))
    }
}

/// An operation in a request for a review: what the rules read of it. More fields are allowed.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "its schema is used")]
pub struct ReviewedOperation {
    /// What was called.
    #[schema(min_length = 1, max_length = 256, pattern = r"\S")]
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
    #[schema(max_length = 64)]
    staffer_id: Option<String>,
    /// Who reports it.
    #[schema(max_length = 64)]
    source: Option<String>,
}
