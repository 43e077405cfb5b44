//! Real node processes, started, broken and observed from outside.

#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod cluster;
mod common;
mod config;
mod deployer;
mod durability;
mod membership;
mod observed;
#[path = "../../../../crates/console/tests/support/screen.rs"]
mod screen;
mod show;
mod start;
mod storage;
