//! The store in containers, on a real engine: the one at `DOCKER_HOST`, else at the default socket.
//!
//! Not part of `cargo test`: `cargo xtask test --only containers` brings an engine and runs this.
//! Without an engine every test fails and says so.

#![allow(clippy::unwrap_used, reason = "tests")]

mod cleanup;
mod common;
#[path = "../../../../crates/deploy/tests/contract/mod.rs"]
mod contract;
mod faults;
mod labels;
mod mistakes;
