//! Child processes of tests.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
mod group;
mod output;
mod parent;
mod pause;
mod refused;
