//! The chain's layers over nodes in memory, on the paused clock: one topic a file.

mod catch_up;
mod common;
mod final_blocks;
mod follow;
mod graph;
mod nodes;
mod projection;
mod public_target;
