//! The runtime's behaviour, one file each, on tokio's paused clock unless a test says otherwise.
//!
//! One binary: linking is what costs.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod background_start;
mod blocked_poll;
mod common;
mod fail_fast;
mod failures;
mod first_cycle;
mod group;
mod interrupted;
mod invalid_config;
mod no_tokio;
mod per_source;
mod poll_error;
mod providers;
mod public_api;
mod rebuild;
mod source_set;
mod stop;
mod stop_often;
mod transactional;
