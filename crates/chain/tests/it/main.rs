//! The chain's layers over nodes in memory, on the paused clock: one topic a file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bodies;
mod calls;
mod catch_up;
mod checked;
mod common;
mod details;
mod errors_print;
mod fast;
mod final_blocks;
mod flapping;
mod follow;
mod graph;
mod graph_model;
mod lies;
mod logs;
mod lost_branches;
mod nodes;
mod observer_model;
mod projection;
mod proofs;
mod public_target;
mod resumed_tip;
mod troubles;
mod waits_by_source;
mod weight;
