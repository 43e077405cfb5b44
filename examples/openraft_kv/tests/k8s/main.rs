//! The Kubernetes source provider and deployer against a fake of the API server.

#![allow(clippy::unwrap_used, reason = "tests")]

mod fake;
mod following;

use std::time::Duration;

/// How long anything may take that is waited for.
const SOON: Duration = Duration::from_secs(20);
