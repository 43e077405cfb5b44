//! The Ethereum adapter, the observer and scenarios on real nodes. Run by `cargo xtask test --only chains`.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod adapter;
mod common;
mod deployer;
mod faults;
mod heads;
mod logs;
mod observed;
mod process;
mod reorgs;
mod scenario;
mod watched;
