//! Ethereum endpoints that are down, slow, broken or lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod adapter;
mod balance;
mod blocks;
mod command;
mod fake;
mod logs;
mod observed;
