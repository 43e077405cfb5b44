//! What needs nothing but Rust.

#![allow(clippy::unwrap_used, reason = "tests")]

mod endpoints;
