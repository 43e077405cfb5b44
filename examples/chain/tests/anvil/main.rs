//! The Ethereum adapter on real nodes. Run by `cargo xtask test --only chains`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod adapter;
mod common;
mod faults;
mod heads;
mod process;
mod reorgs;
