//! Runs any machine in a task. Nothing in this folder depends on observation or on the reasons of the machine's end.
//!
//! A [`Machine`](inbox::Machine) decides. The [`Inbox`](inbox::Inbox) feeds it events in a fixed order of precedence:
//! the stop, controls, the outcome of the work in flight, wakes, the clock. A [`Lifetime`](lifetime::Lifetime)
//! requests the stop from outside and knows the end, which is always published. A [`Deadline`](deadline::Deadline)
//! fires even if the executor does not run.

pub(crate) mod deadline;
pub(crate) mod inbox;
pub(crate) mod lifetime;
pub(crate) mod wake;
