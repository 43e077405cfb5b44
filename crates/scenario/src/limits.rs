//! How long the phases of a run may take.

use std::time::Duration;

use watchkeeper::runtime::MAX_DURATION;

/// The time-out of each phase, and two lengths.
///
/// Each must be more than zero and at most 24 h: for others `build` returns an error that names
/// the field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For the deployer to bring the nodes up. Default: 2 min.
    pub deploy: Duration,
    /// For all factories, and again for all `init`s. Default: 1 min.
    pub prepare: Duration,
    /// For all `start_capture`s, which run concurrently. Default: 30 s.
    pub start_capture: Duration,
    /// For the workloads that are not endless. Default: 5 min.
    pub workloads: Duration,
    /// The interval of `check_during_capture` of each expectation while workloads run and the nodes settle. If a check
    /// takes longer, the next one begins when it has ended. It is also called when the last workload has ended, at the
    /// end of the cooldown, and, if nothing has failed, after workloads were drained. Default: 1 s.
    pub check_interval: Duration,
    /// For each call of `check_during_capture`, which runs concurrently with workloads and other checks. Default: 10 s.
    pub check: Duration,
    /// For workloads to end after they were cancelled; after that they are aborted. Default: 10 s.
    pub drain: Duration,
    /// For all `evaluate`s, which run concurrently. Default: 2 min. Must be longer than the window of
    /// any wait in them: a wait that is cut off has no report.
    pub evaluate: Duration,
    /// For the observers to stop, and again for the nodes to go down. Default: 1 min.
    pub cleanup: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            deploy: Duration::from_secs(120),
            prepare: Duration::from_secs(60),
            start_capture: Duration::from_secs(30),
            workloads: Duration::from_secs(300),
            check_interval: Duration::from_secs(1),
            check: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            evaluate: Duration::from_secs(120),
            cleanup: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// The first invalid field, with its value.
    pub(crate) fn wrong(&self) -> Option<(&'static str, Duration)> {
        let Self {
            deploy,
            prepare,
            start_capture,
            workloads,
            check_interval,
            check,
            drain,
            evaluate,
            cleanup,
        } = *self;
        [
            ("Limits::deploy", deploy),
            ("Limits::prepare", prepare),
            ("Limits::start_capture", start_capture),
            ("Limits::workloads", workloads),
            ("Limits::check_interval", check_interval),
            ("Limits::check", check),
            ("Limits::drain", drain),
            ("Limits::evaluate", evaluate),
            ("Limits::cleanup", cleanup),
        ]
        .into_iter()
        .find(|(_, value)| !is_valid(*value))
    }
}

pub(crate) fn is_valid(value: Duration) -> bool {
    !value.is_zero() && value <= MAX_DURATION
}
