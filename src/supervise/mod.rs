#![doc = include_str!("README.md")]

mod board;
mod builder;
mod failure;
mod handle;
mod machine;
mod name;
mod restart;
mod run;
mod supervisor;
mod transition;
mod wait;
mod watch;
mod worker;

pub use crate::config::Backoff;
pub use board::Condition;
pub use builder::{MachineBuilder, SuperviseError, supervise, supervise_with};
pub use failure::{Failure, FailureKind, Outcome};
pub use handle::{AskError, NotSent, RestartError, SendError, Supervised, WeakSupervised};
pub use machine::{Machine, Out, Reaction, WhileBusy};
pub use name::VariantName;
pub use restart::{Delays, FailureWindow, Restart};
pub use supervisor::UnhandledEvents;
pub use transition::{Transition, Trigger};
pub use wait::{StateWait, StateWaitBuilder};
pub use watch::StateWatch;
pub use worker::{NeedsNoWorker, NoWorker, Worker};
