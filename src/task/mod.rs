//! What runs any machine in a task: this folder uses nothing of observation, nor the reasons of its machine's end.
//!
//! A [`Machine`](inbox::Machine) decides. The [`Inbox`](inbox::Inbox) feeds it what happens, in a fixed order of
//! precedence: the stop, then controls, then the outcome of the work in flight, then wakes, then the clock. A
//! [`Lifetime`](lifetime::Lifetime) is what the outside holds: it asks for the stop and knows the end, which is
//! published in any case. A [`Deadline`](deadline::Deadline) comes even when the executor does not.

pub(crate) mod deadline;
pub(crate) mod inbox;
pub(crate) mod lifetime;
pub(crate) mod wake;
