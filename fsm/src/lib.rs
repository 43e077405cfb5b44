//! The lifecycle machine of Watchkeeper: events in, commands out.
//!
//! An observation runtime fetches its sources, polls them through an observer, publishes the result and waits
//! for the next tick. [`Lifecycle`] decides when each of these happens and what follows a failure. It
//! performs no I/O, waits for nothing, and uses neither clock nor randomness. Its driver passes in an
//! [`Event`] for everything that happens and executes the returned [`Command`]s in order.
//!
//! A **cycle** is one source refresh and one `poll`. While there is no observer state, `init` replaces
//! `poll`. Every [`State`] belongs to one of three groups:
//!
//! - *working*: `Starting`, `Refreshing`, `Polling`. One unit of work is in flight, and its outcome advances
//!   the cycle. `PollNow`, `Pause` and `Resume` are remembered until the cycle ends.
//! - *waiting*: `Idle` after a success, `Failed` after a failure. A tick is armed, unless it is paused.
//! - *stopped*: the end. Another `Stop` does nothing; every other event is rejected.
//!
//! An error keeps the observer state. A poll that timed out or panicked may have left it half changed:
//! [`Command::Forget`] drops it, and the next cycle builds a new one, of a new generation.
//!
//! Every event is allowed in every state. One without meaning there, such as the outcome of cancelled work,
//! changes nothing and is answered by [`Command::Rejected`].
//!
//! The specification is the table in `table.rs`. The tests try every event in every state and compare the
//! results with that table; the diagram in `ARCHITECTURE.md` is generated from it. [`spec`] has these checks
//! for any machine.
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
//!     panic!("a cycle begins with a source refresh");
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
mod options;
pub mod spec;
mod state;

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;

pub use command::{Command, Commands};
pub use event::{Cause, Event, Stage, StopReason, WorkId};
pub use lifecycle::Lifecycle;
pub use options::Options;
pub use state::{State, StateKind};
