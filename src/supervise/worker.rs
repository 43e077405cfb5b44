//! The worker that an app writes.

use std::convert::Infallible;

use super::handle::WeakSupervised;
use super::machine::Machine;
use crate::error::DynError;

/// Executes the commands of a [`Machine`], one at a time. It owns what they need: connections, files, buffers.
///
/// An error, a panic and a time-out are a [`Failure`](super::Failure), which the machine judges. Blocking work belongs
/// into [`tokio::task::spawn_blocking`]: a blocked thread cannot be cancelled.
///
/// To send to its own machine, a worker returns the event. Work that sends while it runs holds a
/// [`WeakSupervised`](super::WeakSupervised) and uses `try_send`: `send` would wait for room that nobody makes while
/// the machine holds events back.
///
/// # Cancel safety
///
/// The future of [`run`](Self::run) is dropped when the machine cancels the work, at the work limit, and when the life
/// ends; always before the next event is judged, so that no outcome comes late. What must survive that is kept in
/// `self`, and changed between two awaits.
pub trait Worker<M: Machine>: Send + 'static {
    /// Called once before its machine starts, with a handle that keeps no machine alive. By default, the handle is
    /// dropped. A worker that keeps it upgraded keeps the machine alive. A panic ends the life before its start.
    fn attach(&mut self, machine: WeakSupervised<M>) {
        drop(machine);
    }

    /// Executes one command and returns the event that follows from it, if there is one. Write it as a native
    /// `async fn`.
    ///
    /// # Errors
    ///
    /// The command failed: [`Machine::on_failure`].
    fn run(&mut self, command: M::Command)
    -> impl Future<Output = Result<Option<M::Event>, DynError>> + Send;
}

/// The worker of a machine without commands.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWorker;

/// The commands of a machine that needs no worker: there are none.
#[diagnostic::on_unimplemented(
    message = "this machine has commands of type `{Self}` and no worker that runs them",
    label = "no worker",
    note = "call `.worker(..)` before `.spawn()`, or make `Machine::Command` `std::convert::Infallible`"
)]
pub trait NeedsNoWorker: sealed::Sealed {}

impl NeedsNoWorker for Infallible {}

mod sealed {
    pub trait Sealed {}
    impl Sealed for std::convert::Infallible {}
}

impl<M: Machine> Worker<M> for NoWorker
where
    M::Command: NeedsNoWorker,
{
    async fn run(&mut self, _: M::Command) -> Result<Option<M::Event>, DynError> {
        Ok(None)
    }
}
