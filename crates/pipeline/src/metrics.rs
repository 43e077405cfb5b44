//! The figures of the stages, as an observation.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use watchkeeper::{DynError, ObservedSource, PerSource};

use crate::stage::StageCore;
use crate::stage::state::StageState;

/// The figures of one stage since its pipeline was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageMetrics {
    /// The state.
    pub state: StageState,
    /// Committed items, also dead letters and those that were replayed.
    pub items: u64,
    /// Committed outputs.
    pub outputs: u64,
    /// Commits.
    pub commits: u64,
    /// Failed attempts, of items and of commits.
    pub errors: u64,
    /// Attempts after a failed one.
    pub retries: u64,
    /// The dead letters that there are.
    pub dead_letters: u64,
    /// How many batches its upstreams have published that it has not committed; `None` if one of them is a stream, or
    /// nothing is known of it yet.
    ///
    /// The stages are read one after another: that all lags are 0 says that all is done only if it is seen once more for
    /// each stage after the first, each time after a new [mark](watchkeeper::ObservationHandle::mark).
    pub lag: Option<u64>,
    /// The time in the handler, with the turns of other tasks in between.
    pub handler_time: Duration,
}

/// Reads the figures of a stage.
#[derive(Clone)]
pub struct StageProbe {
    core: Arc<StageCore>,
}

impl fmt::Debug for StageProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StageProbe").field("stage", &self.core.name).finish()
    }
}

/// The observer of a pipeline's metrics: one source for each stage, by its name.
pub type StageProbes = PerSource<StageProbe, StageMetrics>;

pub(crate) fn sources(stages: &[Arc<StageCore>]) -> Vec<(String, StageProbe)> {
    stages.iter().map(|core| (core.name.to_string(), StageProbe { core: Arc::clone(core) })).collect()
}

pub(crate) async fn figures(probe: ObservedSource<StageProbe>) -> Result<StageMetrics, DynError> {
    let StageCore { machine, shared, .. } = &*probe.source.core;
    Ok(StageMetrics {
        state: machine.state().state,
        items: shared.items.load(Relaxed),
        outputs: shared.outputs.load(Relaxed),
        commits: shared.commits.load(Relaxed),
        errors: shared.errors.load(Relaxed),
        retries: shared.retries.load(Relaxed),
        dead_letters: shared.dead_letter_count(),
        lag: shared.lag(),
        handler_time: Duration::from_nanos(shared.handler_nanos.load(Relaxed)),
    })
}
