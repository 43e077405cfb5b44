//! The lifecycle machine of Watchkeeper: events in, commands out.
//!
//! An observation runtime fetches its sources, polls them through an observer, publishes what it
//! found and waits for the next tick. [`Lifecycle`] decides when each of these happens and what
//! follows when one of them fails, and it does nothing else: it performs no I/O, waits for nothing and
//! knows neither clock nor chance. Whoever drives it hands in an [`Event`] for whatever happened, and
//! carries out, in order, the [`Command`]s that come back.
//!
//! A **cycle** is one source refresh and one `poll`; where there is no observer state yet, or it was
//! lost, `init` takes the place of `poll`. Every [`State`] is of one of three sorts:
//!
//! - *working*: `Starting`, `Refreshing`, `Polling`. One unit of work is in flight, never two, and its
//!   outcome moves the machine on. `PollNow`, `Pause` and `Resume` are remembered until the cycle ends.
//! - *waiting*: `Idle` after a success, `Failed` after a failure. A tick is armed, or it is paused.
//! - *stopped*: the end. Nothing is answered but by [`Command::Rejected`].
//!
//! An error leaves the observer state as it is. A poll that timed out or panicked may have left it half
//! changed: the driver is told to [forget](Command::Forget) it, and the next cycle builds a new one, of
//! a new generation.
//!
//! Every event may come in every state. One that means nothing there, such as the outcome of work
//! that was cancelled, changes nothing and is answered with [`Command::Rejected`].
//!
//! The specification is a table, in `table.rs`. The tests try every event in every state and compare
//! what happens with that table; the diagram in `ARCHITECTURE.md` is drawn from it. What that takes is
//! a kit for any machine: [`spec`].
//!
//! # Examples
//!
//! A first cycle, which builds the observer's state:
//!
//! ```
//! use watchkeeper_fsm::{Command, Event, Lifecycle, Options, State};
//!
//! let mut lifecycle = Lifecycle::new(Options::default());
//!
//! let [Command::Refresh { work, cycle: 0 }] = *lifecycle.handle(Event::Start) else {
//!     panic!("a lifecycle begins with its sources");
//! };
//! let [Command::Init { work, cycle: 0 }] = *lifecycle.handle(Event::Refreshed { work }) else {
//!     panic!("there is no observer state yet");
//! };
//! assert_eq!(lifecycle.state(), State::Starting);
//!
//! let commands = lifecycle.handle(Event::Initialized { work });
//! assert_eq!(*commands, [Command::Publish { cycle: 0, generation: 1 }, Command::Arm]);
//! assert_eq!(lifecycle.state(), State::Idle);
//! ```

mod command;
mod event;
mod lifecycle;
mod machine;
pub mod spec;
mod state;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub use command::{Command, Commands};
pub use event::{Cause, Event, Stage, WorkId};
pub use lifecycle::{Lifecycle, Options};
pub use state::{State, StateKind, StopReason};
