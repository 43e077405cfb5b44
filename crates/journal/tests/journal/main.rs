//! The journal by its public interface, on real files.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

mod appending;
mod bad_input;
mod fuzzed;
#[cfg(unix)]
mod kill;
mod plain;
mod reading;
mod recovering;
mod recovers;
mod rotating;
