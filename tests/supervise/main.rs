//! Supervised machines: a file for each theme.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod bad_input;
mod basics;
mod common;
mod ends;
mod failures;
mod faults;
mod gateway;
mod model;
mod restarts;
mod statig;
mod stress;
mod timing;
mod waits;
