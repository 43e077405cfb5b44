//! Pipelines: a file for each behaviour.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod common;
mod file_store;
mod flow;
#[cfg(unix)]
mod kill;
mod short;
