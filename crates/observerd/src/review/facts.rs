//! What the rules read of an operation.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::loops::normalise::normalise;
use crate::operation::{Operation, OperationError};

/// One operation, with what the rules compare.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) endpoint: String,
    pub(super) is_success: bool,
    pub(super) has_error: bool,
    /// The normalised message.
    pub(super) message: String,
    /// None if it is empty.
    pub(super) input: Option<Input>,
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
        self.input.is_some() && self.endpoint == other.endpoint && self.input == other.input
    }
}

/// The SHA-256 of an `input_summary` with single spaces.
pub(super) type Input = [u8; 32];

pub(super) fn input(text: &str) -> Option<Input> {
    let fields: HashMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    let input: String = serde_json::from_str(fields.get("input_summary")?.get()).ok()?;
    let mut words = input.split_whitespace().peekable();
    words.peek()?;
    let mut sum = Sha256::new();
    for word in words {
        sum.update(word);
        sum.update(b" ");
    }
    Some(sum.finalize().into())
}

/// Whether a recorded operation is the one that is reviewed: all that the rules read is the same. A time that the latter does not say
/// may be any.
pub(super) fn is_same(reviewed: (&Operation, Option<Input>), recorded: (&Operation, Option<Input>)) -> bool {
    let (one, other) = (reviewed.0, recorded.0);
    let has_time = !one.timestamp_text.is_empty();
    reviewed.1 == recorded.1
        && one.endpoint == other.endpoint
        && one.success == other.success
        && one.error == other.error
        && one.staffer == other.staffer
        && one.source == other.source
        && one.duration_ms.map(f64::to_bits) == other.duration_ms.map(f64::to_bits)
        && (!has_time || one.timestamp == other.timestamp)
}
