//! The service by its public interface: over HTTP, and as a program.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

mod events;
mod full_disk;
mod program;
mod recording;
mod shell;
mod smoke;
mod store;
mod streams;
//! The service by its public interface.
mod check;
mod commands;
mod import;
mod replay;
mod runs;
mod escalation;
mod analysis;
mod tail;
