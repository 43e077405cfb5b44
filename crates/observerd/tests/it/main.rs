//! The service by its public interface.

#![allow(clippy::unwrap_used, reason = "tests")]

mod check;
mod commands;
mod expect;
mod import;
mod replay;
mod runs;
