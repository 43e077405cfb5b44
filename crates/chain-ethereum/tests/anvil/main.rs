//! The Ethereum adapter, and the observer, on real nodes. Run by `cargo xtask test --only chains`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod adapter;
mod common;
mod faults;
mod heads;
mod logs;
mod observed;
mod process;
mod reorgs;
mod watched;
