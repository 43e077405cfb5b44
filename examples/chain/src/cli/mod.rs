//! The command line's parts.

mod chain_id;
mod checkpoint;
mod condition;
pub(crate) mod demo;
mod event;
pub(crate) mod follow;
pub(crate) mod forks;
mod heads;
mod report;
mod retry;
mod setup;
pub(crate) mod usage;
mod wallets;
mod watched;
