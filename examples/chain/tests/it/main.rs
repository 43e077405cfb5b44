//! The chain's layers over nodes in memory, on the paused clock: one topic a file.

mod common;
mod follow;
mod projection;
