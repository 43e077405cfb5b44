//! Pipelines: a file for each behaviour.

#![allow(missing_docs, clippy::unwrap_used, clippy::unnecessary_wraps, reason = "tests")]

mod common;
mod drain;
mod file_store;
mod flow;
mod graph;
mod isolation;
#[cfg(unix)]
mod kill;
mod lag;
mod letters;
mod making;
mod merge;
mod metrics;
mod model;
mod outputs;
mod policies;
mod pressure;
mod repeated;
mod retry;
mod short;
mod starting;
