//! The source provider and the deployer for Kubernetes against a fake of the API server.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../app/mod.rs"]
mod app;
mod deploying;
mod ending;
mod fake;
mod fixture;
mod following;
mod kubelet;
mod node;

use std::time::Duration;

/// The limit of every wait.
const SOON: Duration = Duration::from_secs(20);
