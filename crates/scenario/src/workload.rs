//! What is done to the nodes.

use watchkeeper::{DynError, async_trait};

use crate::{Application, RunContext};

/// What is done to the nodes while they are observed.
#[async_trait]
pub trait Workload<A: Application>: Send + 'static {
    /// What it is called in reports; unique among a scenario's workloads.
    fn name(&self) -> &str;

    /// Whether it goes on until it is cancelled. Such a workload is not waited for; one that ends by itself
    /// before that fails the run.
    fn is_endless(&self) -> bool {
        false
    }

    /// Gets ready, before any capture starts. Default: does nothing.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from working: the run then fails without starting it.
    async fn init(&mut self, _context: &RunContext<A>) -> Result<(), DynError> {
        Ok(())
    }

    /// Works. Runs as a task of its own, beside the other workloads.
    ///
    /// When [`RunContext::cancelled`] resolves it should return soon, with `Ok`; otherwise its
    /// future is dropped at the drain's deadline. An error or a panic ends the other workloads too.
    ///
    /// # Errors
    ///
    /// Whatever went wrong: the run fails with it.
    async fn start(&mut self, context: &RunContext<A>) -> Result<(), DynError>;
}
