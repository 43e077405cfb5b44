//! Workloads.

use watchkeeper::{DynError, async_trait};

use crate::{Application, RunContext};

/// An action on the nodes, or a load, while they are observed.
#[async_trait]
pub trait Workload<A: Application>: Send + 'static {
    /// Its name in reports; unique among the workloads of a scenario.
    fn name(&self) -> &str;

    /// Whether it runs until it is cancelled. The run does not wait for such a workload, and fails if it ends before it
    /// is cancelled. Default: it is not endless.
    fn is_endless(&self) -> bool {
        false
    }

    /// Gets ready, before any capture starts. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Why it cannot work: the run fails without starting it.
    async fn init(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Does the work, in its own task, concurrently with the other workloads.
    ///
    /// When [`RunContext::cancelled`] resolves it should return `Ok` soon; otherwise its
    /// future is dropped at the deadline of the drain. An error or a panic ends the other workloads too.
    ///
    /// # Errors
    ///
    /// Any error: the run fails with it.
    async fn start(&mut self, context: &RunContext<A>) -> Result<(), DynError>;
}
