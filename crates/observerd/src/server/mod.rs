//! HTTP: connections, who may call, and what is answered.

pub mod accept;
mod activity;
pub mod auth;
mod authority;
pub mod bodies;
mod connection;
pub mod hosts;
mod plain;
pub mod problem;
pub mod query;
pub mod rate;
mod raw;
pub mod shell;
mod socket;
pub mod streams;
pub mod token;
