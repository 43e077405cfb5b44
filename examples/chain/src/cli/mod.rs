//! The command line's parts.

mod chain_id;
mod condition;
pub(crate) mod demo;
mod event;
pub(crate) mod follow;
mod heads;
mod report;
mod retry;
pub(crate) mod usage;
mod wallets;
mod watched;
