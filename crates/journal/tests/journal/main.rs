//! The journal by its public interface, on real files and on faulty ones.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

mod appending;
mod bad_input;
mod checking;
mod faults;
mod faulty;
mod fuzzed;
mod importing;
#[cfg(unix)]
mod kill;
mod plain;
#[cfg(feature = "cli")]
mod program;
mod reading;
mod recovering;
mod recovers;
mod rotating;
mod run;
#[cfg(feature = "pipeline")]
mod upstream;
