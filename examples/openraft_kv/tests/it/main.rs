//! Real node processes, started, broken and looked at from outside.

mod api;
mod children;
mod cluster;
mod common;
mod config;
mod durability;
mod membership;
mod orphans;
mod start;
mod storage;
