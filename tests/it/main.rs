//! The runtime's behaviour, one file each, on tokio's paused clock unless a test says otherwise.
//!
//! One binary: linking is what costs.
#![allow(clippy::unwrap_used, unreachable_pub, reason = "tests")]
#![allow(
    clippy::items_after_statements,
    clippy::needless_pass_by_value,
    clippy::type_complexity,
    reason = "tables of cases and helpers stand where a test needs them"
)]

mod allocations;
mod any_handle;
mod background_start;
mod blocked_poll;
mod bounded;
mod check;
mod common;
mod configured;
mod consistent_status;
mod consumer;
mod control_errors;
mod controls;
mod cursors;
mod destructors;
mod double_drops;
mod dropped;
mod ended;
mod errors_print;
mod escaped;
mod fail_fast;
mod failures;
mod fan_out;
mod feed_gaps;
mod feed_live;
mod feed_per_source;
mod feeds;
mod first_cycle;
mod first_observer;
mod freshness;
mod frozen;
mod group;
mod history;
mod interrupted;
mod invalid_config;
mod invariants;
mod json_events;
mod logging;
mod no_tokio;
mod other_executors;
mod own_observer;
mod panics_in_tasks;
mod parents;
mod paused_clock;
mod per_source;
mod poll_error;
mod poll_now;
mod providers;
mod public_api;
mod readmes;
mod rebuild;
mod retry;
mod shared_names;
mod shutdown;
mod source_set;
mod stop;
mod stop_often;
mod subscriptions;
mod taps;
mod tick_grid;
mod transactional;
mod undriven;
mod until;
mod wait_changes;
mod wait_outcomes;
mod wait_reports;
mod waits_clock;
mod waits_events;
mod waits_freshness;
mod waits_hold;
mod waits_live;
mod waits_marks;
mod waits_of_sets;
mod waits_of_sources;
mod waits_see_all;
mod waits_stable;
mod waits_start;
mod waits_verdicts;
mod wake;
mod wakers;
mod watching;
mod wrappers;
