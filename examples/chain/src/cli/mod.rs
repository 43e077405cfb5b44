//! The command line's parts.

mod chain_id;
pub(crate) mod demo;
mod event;
pub(crate) mod follow;
mod tell;
pub(crate) mod usage;
mod wallets;
mod watched;
