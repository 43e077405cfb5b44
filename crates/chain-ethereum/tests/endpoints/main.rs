//! Ethereum endpoints that are down, slow, broken or lie.

#![allow(clippy::unwrap_used, reason = "tests")]

mod adapter;
mod balance;
mod blocks;
mod fake;
mod gateways;
mod headers;
mod hiccups;
mod logs;
mod observed;
mod receipts;
mod system_transactions;
mod web_pages;
