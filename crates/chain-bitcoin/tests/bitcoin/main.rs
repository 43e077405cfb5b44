//! Real blocks on the real consensus code: one topic a file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod blocks;
mod common;
mod inclusion;
mod reorgs;
mod restarts;
mod wallets;
