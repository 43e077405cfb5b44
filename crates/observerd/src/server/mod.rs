//! HTTP: connections, who may call, and what is answered.

pub mod accept;
mod activity;
pub(crate) mod analysis;
mod answers;
pub(crate) mod app;
pub mod auth;
mod authority;
pub mod bodies;
mod connection;
mod document;
pub(crate) mod events;
pub(crate) mod health;
pub mod hosts;
pub(crate) mod metrics;
mod plain;
pub mod problem;
pub mod query;
pub mod rate;
mod raw;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod routes;
pub(crate) mod scrape;
pub mod shell;
mod socket;
pub mod streams;
pub mod token;
