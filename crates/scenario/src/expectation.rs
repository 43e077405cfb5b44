//! What has to hold.

use watchkeeper::{DynError, async_trait};

use crate::{Application, RunContext};

/// What has to hold, during the workloads or after them.
///
/// The `Display` of an error may have many lines, as that of `watchkeeper::wait::Unmet` has. Each step runs in its own
/// task, concurrently with the same step of the other expectations. After a step has failed, no other step of this
/// expectation is called.
#[async_trait]
pub trait Expectation<A: Application>: Send + 'static {
    /// Its name in reports; unique among the expectations of a scenario.
    fn name(&self) -> &str;

    /// Gets ready. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot judge: the run fails before anything is captured.
    async fn init(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Begins to observe, right before the workloads start: the place to subscribe, take a mark or
    /// begin a wait. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot observe: the run fails before a workload starts.
    async fn start_capture(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Checks whether the expectation can still hold: each second while workloads run and the nodes settle, when the
    /// last workload has ended, at the end of the cooldown, and, if nothing has failed, once more after workloads were
    /// drained. A slow check delays no check of another expectation. Default: checks nothing, and the report counts no
    /// checks.
    ///
    /// # Errors
    ///
    /// It cannot hold any more: the workloads are ended, and the run fails.
    async fn check_during_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        context.checks_nothing();
        Ok(())
    }

    /// Judges, after the workloads have ended.
    ///
    /// # Errors
    ///
    /// It does not hold.
    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError>;
}
