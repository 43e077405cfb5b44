//! A cluster of errors: what analysis finds, and what is escalated.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Failed operations of one endpoint whose messages are the same but for numbers, ids and other variable parts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// The first 16 hexadecimal digits of a SHA-256 over endpoint and message: the same after a restart.
    pub id: String,
    /// The endpoint.
    pub endpoint: String,
    /// The normalised message: variable parts are placeholders such as `<num>`.
    pub message: String,
    /// How many operations of the window are in it.
    pub count: u64,
    /// The share of its endpoint's operations of the window: 0 to 1.
    pub share: f64,
    /// How many there were in a minute: those after the earliest one, by the time from the earliest to the latest timestamp, which
    /// counts as at least a second. Of one, 0.
    pub per_minute: f64,
    /// The sequence of its oldest operation in the window.
    pub first_sequence: u64,
    /// The sequence of its newest one.
    pub last_sequence: u64,
    /// The timestamp of the oldest one.
    pub first_timestamp: String,
    /// The timestamp of the newest one.
    pub last_timestamp: String,
    /// The message of the newest one as it came, at most 500 bytes, on one line. Empty if it had none.
    pub example: String,
    /// The sources of its operations: the first 10 in the order of the alphabet.
    pub sources: Vec<String>,
}
