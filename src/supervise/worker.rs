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
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper::DynError;
/// use watchkeeper::supervise::{Machine, Out, Reaction, Worker, supervise};
///
/// #[derive(Clone, Debug, PartialEq)]
/// enum State { Empty, Fetching, Has(u32) }
///
/// #[derive(Debug)]
/// enum Event { Wanted, Fetched(u32) }
///
/// #[derive(Debug)]
/// struct Fetch;
///
/// struct Cache(State);
///
/// impl Machine for Cache {
///     type State = State;
///     type Event = Event;
///     type Command = Fetch;
///
///     fn state(&self) -> State {
///         self.0.clone()
///     }
///
///     fn handle(&mut self, event: Event, out: &mut Out<Fetch>) -> Reaction<Event> {
///         match event {
///             Event::Wanted if self.0 == State::Empty => {
///                 out.run(Fetch);
///                 self.0 = State::Fetching;
///             }
///             Event::Wanted => return Reaction::Stayed,
///             Event::Fetched(value) => self.0 = State::Has(value),
///         }
///         Reaction::Moved
///     }
/// }
///
/// struct Client;
///
/// impl Worker<Cache> for Client {
///     async fn run(&mut self, _: Fetch) -> Result<Option<Event>, DynError> {
///         Ok(Some(Event::Fetched(7))) // ask a server here
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), DynError> {
/// let cache = supervise(Cache(State::Empty)).worker(Client).work_timeout(Duration::from_secs(1)).spawn()?;
/// cache.send(Event::Wanted).await?;
/// cache.wait_for("it has the value", |state| *state == State::Has(7)).within(Duration::from_secs(5)).await?;
/// # Ok(())
/// # }
/// ```
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
