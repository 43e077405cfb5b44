//! Deployers for any application: child processes, containers by Compose, pods on Kubernetes.
//!
//! An application says once how a client of a node is made and whether a node serves: [`NodeAccess`]. Each deployer is a
//! feature and needs little more.

mod access;
#[cfg(feature = "local")]
pub mod local;
mod ready;

pub use crate::access::{NodeAccess, NodeAddress};
pub use crate::ready::ready;
