//! HTTP: connections, who may call, and what is answered.

pub(crate) mod app;
mod document;
pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod metrics;
mod params;
pub mod problem;
pub(crate) mod read;
pub(crate) mod record;
pub(crate) mod routes;
