//! What has to hold.

use watchkeeper::{DynError, async_trait};

use crate::{Application, RunContext};

/// What has to hold, during the workloads or after them.
///
/// An error's `Display` may have many lines: `watchkeeper::wait::Unmet` is such a report. Each step runs as
/// a task of its own, beside the same step of the other expectations. An expectation whose step failed
/// is not asked again.
#[async_trait]
pub trait Expectation<A: Application>: Send + 'static {
    /// What it is called in reports; unique among a scenario's expectations.
    fn name(&self) -> &str;

    /// Gets ready. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from judging: the run fails before anything is captured.
    async fn init(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Begins to look, right before the workloads start: the place to subscribe, to take a mark, to
    /// begin a wait. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from looking: the run fails before a workload starts.
    async fn start_capture(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Looks whether it can still hold: each second while workloads run and the nodes settle, when the last
    /// workload has ended, at the end of the cooldown, and, if nothing has failed, once more when workloads were
    /// drained. Each expectation keeps its own time: a slow check holds up no other. Default: it looks at nothing, and
    /// the report counts no checks.
    ///
    /// # Errors
    ///
    /// It is broken already: the workloads are ended, the run fails.
    async fn check_during_capture(&mut self, context: &RunContext<A>) -> Result<(), DynError> {
        context.looks_at_nothing();
        Ok(())
    }

    /// Judges, when the workloads have ended.
    ///
    /// # Errors
    ///
    /// It does not hold.
    async fn evaluate(&mut self, context: &RunContext<A>) -> Result<(), DynError>;
}
