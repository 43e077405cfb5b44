//! The service by its public interface: over HTTP, and as a program.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

mod analysis;
mod check;
mod commands;
mod day;
mod escalation;
mod events;
mod expect;
mod full_disk;
mod fuzzed;
mod import;
mod loops;
mod program;
mod recording;
mod replay;
mod runs;
mod shell;
mod smoke;
mod store;
mod streams;
mod tail;
