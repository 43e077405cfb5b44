//! Ethereum endpoints that are down, slow, broken or lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod adapter;
mod balance;
mod blocks;
mod command;
mod fake;
mod gateways;
mod headers;
mod hiccups;
mod logs;
#[allow(dead_code, unused_imports, reason = "some modes are for a start by hand")]
mod misbehaving;
mod observed;
mod receipts;
mod system_transactions;
mod web_pages;
