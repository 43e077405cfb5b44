//! The command line's parts.

mod chain_id;
pub(crate) mod demo;
mod event;
pub(crate) mod follow;
mod report;
pub(crate) mod usage;
mod wallets;
mod watched;
