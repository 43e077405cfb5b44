//! The runtime's behaviour, one file each, on tokio's paused clock unless a test says otherwise.
//!
//! One binary: linking is what costs.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]

mod any_handle;
mod background_start;
mod blocked_poll;
mod common;
mod consistent_status;
mod control_errors;
mod controls;
mod cursors;
mod destructors;
mod dropped;
mod ended;
mod errors_print;
mod fail_fast;
mod failures;
mod fan_out;
mod first_cycle;
mod freshness;
mod group;
mod history;
mod interrupted;
mod invalid_config;
mod invariants;
mod logging;
mod no_tokio;
mod other_executors;
mod own_observer;
mod panics_in_tasks;
mod per_source;
mod poll_error;
mod providers;
mod public_api;
mod rebuild;
mod retry;
mod shutdown;
mod source_set;
mod stop;
mod stop_often;
mod subscriptions;
mod tick_grid;
mod transactional;
mod wait_outcomes;
mod wait_reports;
mod waits_events;
mod waits_freshness;
mod waits_hold;
mod waits_live;
mod waits_of_sources;
mod waits_see_all;
mod waits_stable;
mod waits_start;
mod wake;
mod watching;
