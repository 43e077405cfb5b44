//! The loops of the service: each reads what was recorded, or records what it reads.

mod changes;
pub mod cluster;
pub mod health;

use watchkeeper::group::ObservationGroup;
use watchkeeper::report::one_line;

use health::LoopHealth;

/// The loops that run.
#[derive(Default)]
pub struct Loops {
    /// The runtimes.
    pub(crate) group: ObservationGroup,
}

impl Loops {
    /// The freshness of each.
    pub(crate) fn health(&self) -> Vec<LoopHealth> {
        let of = |status: watchkeeper::group::GroupStatus| LoopHealth {
            name: status.name.to_string(),
            state: format!("{:?}", status.state).to_lowercase(),
            fresh: status.freshness.is_fresh(),
            age_seconds: status.freshness.age().map(|age| age.as_secs_f64()),
            cycle: Some(status.cycle),
            last_error: status.last_error.map(|failure| one_line(&failure.message, 300)),
        };
        self.group.statuses().into_iter().map(of).collect()
    }
}
pub mod escalation;
mod digest;
pub mod errors;
mod first;
mod intern;
pub mod normalise;
pub mod playbooks;
pub mod recent;
pub mod tail;
