//! Failed cycles.

use std::fmt;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
pub use watchkeeper_fsm::{Cause, Stage as ObservationFailureStage};

use crate::error_text::debug_as_text;
use crate::text::{MESSAGE, one_line};

/// One failed cycle.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ObservationFailure {
    /// The generation that was current.
    pub generation: u64,
    /// The cycle that failed; its number is used up.
    pub cycle: u64,
    /// When the failure was recorded, on tokio's clock.
    pub observed_at: Instant,
    /// The same moment on the wall, for display.
    pub system_time: SystemTime,
    /// How long the cycle ran before it failed.
    pub elapsed: Duration,
    /// How many sources were known.
    pub source_count: usize,
    /// What was being done.
    pub stage: ObservationFailureStage,
    /// How it failed.
    pub cause: Cause,
    /// The error with all its causes, or what the panic said: at most 1 KiB. What is longer ends in the count
    /// of what was cut. `Display` escapes it.
    pub message: String,
    /// Which consecutive failure this is, from 1.
    pub consecutive: u64,
}

/// One line, escaped.
impl fmt::Display for ObservationFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cycle {} failed in {}: {}", self.cycle, self.stage, one_line(&self.message, MESSAGE))
    }
}

impl std::error::Error for ObservationFailure {}

debug_as_text!(ObservationFailure);
