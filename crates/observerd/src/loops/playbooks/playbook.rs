//! A playbook: what consolidation finds.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Two or three endpoints that succeed one after the other, again and again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Playbook {
    /// The first 16 hexadecimal digits of a SHA-256 over the steps: the same after a restart.
    pub id: String,
    /// The endpoints, in order: two or three.
    pub steps: Vec<String>,
    /// How often all steps succeeded within the window.
    pub successes: u64,
    /// How often the last step was tried after the others had succeeded.
    pub attempts: u64,
    /// Successes by attempts: 0 to 1.
    pub rate: f64,
    /// The median of the time that the operations of a success took, as their `duration_ms` say; of a step that was repeated, the
    /// last operation counts. Absent if no success says it of each step.
    pub median_ms: Option<f64>,
    /// The sequence of the operation that completed the newest success.
    pub last_sequence: u64,
    /// Its timestamp.
    pub last_timestamp: String,
    /// How many threads of work had a success: `staffer_id`s, and sources of operations that have none.
    pub threads: u64,
}
