//! The health of a loop.

use serde::Serialize;
use utoipa::ToSchema;

/// One loop.
#[derive(Debug, Serialize, ToSchema)]
pub struct LoopHealth {
    /// Its name.
    pub name: String,
    /// The state of its machine.
    pub state: String,
    /// Whether its last success is recent.
    pub fresh: bool,
    /// How old it is, in seconds; `null` before the first.
    pub age_seconds: Option<f64>,
    /// The last cycle.
    pub cycle: u64,
    /// The last error, on one line, if no success came after it.
    pub last_error: Option<String>,
}

impl LoopHealth {
    pub(crate) fn warning(&self) -> Option<String> {
        let name = &self.name;
        match &self.last_error {
            Some(error) => Some(format!("loop {name} fails: {error}")),
            None if !self.fresh => Some(format!("loop {name} is stale")),
            None => None,
        }
    }
}
