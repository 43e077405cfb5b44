//! Deployers with real processes of the tests' own.

#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(feature = "local")]

mod app;
#[path = "../contract/mod.rs"]
mod contract;
mod control;
mod ends;
mod mistakes;
mod node;
mod ports;
mod starts;
