//! The command on real nodes. Run by `cargo xtask test --only chains`.

#![allow(clippy::unwrap_used, reason = "tests")]

#[allow(dead_code, reason = "shared with the tests of the adapter, which need more of it")]
#[path = "../../../../crates/chain-ethereum/tests/anvil/common.rs"]
mod common;
mod demo;
mod follow;
mod forks;
