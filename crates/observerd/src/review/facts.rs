//! What the rules read of an operation.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::value::RawValue;

use crate::loops::normalise::normalise;
use crate::operation::{Operation, OperationError};

/// The most bytes of an input that is compared.
const MAX_INPUT: usize = 4 * 1024;

/// One operation, with what the rules compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) endpoint: String,
    pub(super) is_success: bool,
    pub(super) has_error: bool,
    /// The normalised message.
    pub(super) message: String,
    /// Empty if it has none.
    pub(super) input: String,
    pub(super) staffer: String,
    pub(super) timestamp: Timestamp,
    duration_ms: Option<f64>,
}

impl Facts {
    /// Reads an operation as the service reads one that it records.
    pub(super) fn read(text: &str, now: Timestamp) -> Result<Self, OperationError> {
        Operation::read(text, now).map(|(operation, _)| Self::of(operation, text))
    }

    /// The same as of a record: only the endpoint must be there.
    pub(super) fn read_past(text: &str) -> Option<Self> {
        Operation::of_text(text).map(|operation| Self::of(operation, text))
    }

    fn of(operation: Operation, text: &str) -> Self {
        let Operation { endpoint, success, error, staffer, timestamp, duration_ms, .. } = operation;
        let has_error = !error.trim().is_empty();
        let message = normalise(&error);
        Self {
            endpoint,
            is_success: success,
            has_error,
            message,
            input: input(text),
            staffer,
            timestamp,
            duration_ms,
        }
    }

    /// Whether both failed in the same way.
    pub(super) fn failed_as(&self, other: &Self) -> bool {
        !self.is_success
            && !other.is_success
            && self.endpoint == other.endpoint
            && self.message == other.message
    }

    /// Whether both were asked for the same. An input that is not said is not the same.
    pub(super) fn asked_as(&self, other: &Self) -> bool {
        !self.input.is_empty() && self.endpoint == other.endpoint && self.input == other.input
    }
}

/// Its `input_summary`, with single spaces.
fn input(text: &str) -> String {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).unwrap_or_default();
    let input: Option<String> =
        fields.get("input_summary").and_then(|value| serde_json::from_str(value.get()).ok());
    let input = input.unwrap_or_default();
    let input = &input[..input.floor_char_boundary(MAX_INPUT)];
    input.split_whitespace().collect::<Vec<_>>().join(" ")
}
