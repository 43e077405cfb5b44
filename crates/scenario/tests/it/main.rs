//! What scenarios and manual clusters promise: the logic of the runner on tokio's paused clock with nodes in memory, and
//! the clean-up with real processes.
//!
//! One binary, because linking takes most of the time.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod blocked;
mod build_errors;
mod checks;
mod common;
mod context;
mod destructors;
mod destructors_dropped;
mod drain;
mod errors;
mod factories;
mod fail_fast;
mod false_pass;
mod invariants;
mod limits;
mod manual;
mod names;
mod order;
mod panics;
mod phases;
mod processes;
mod reports;
mod starts;
mod traced;
mod waits;
