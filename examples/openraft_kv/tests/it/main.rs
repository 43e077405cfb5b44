//! Real node processes, started, broken and observed from outside.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod children;
mod cluster;
mod common;
mod config;
#[path = "../../../../crates/deploy/tests/contract/mod.rs"]
mod contract;
mod deployer;
mod durability;
mod membership;
mod observed;
mod orphans;
mod show;
mod start;
mod storage;
