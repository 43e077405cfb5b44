//! The journal by its public interface, on real files and on faulty ones.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

mod appending;
mod bad_input;
mod faults;
mod faulty;
mod plain;
mod reading;
mod recovering;
mod rotating;
