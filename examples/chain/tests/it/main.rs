//! The chain's layers over nodes in memory, on the paused clock: one topic a file.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bodies;
mod calls;
mod catch_up;
mod checked;
mod common;
mod errors_print;
mod final_blocks;
mod follow;
mod graph;
mod graph_model;
mod lies;
mod logs;
mod nodes;
mod observer_model;
mod projection;
mod public_target;
mod troubles;
mod weight;
