//! The command line's parts.

pub(crate) mod demo;
pub(crate) mod follow;
mod tell;
mod wallets;
mod watched;
