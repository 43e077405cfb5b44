//! Deployers for any application: child processes, containers by Compose, pods on Kubernetes.
//!
//! An application says once how a client of a node is made and whether a node serves: [`NodeAccess`]. Each deployer is a
//! feature and needs little more.

mod access;
#[cfg(feature = "compose")]
pub mod compose;
#[cfg(feature = "k8s")]
pub mod k8s;
#[cfg(feature = "local")]
pub mod local;
mod ready;
#[cfg(any(feature = "compose", feature = "k8s"))]
mod shared;

#[cfg(test)]
extern crate self as watchkeeper_deploy;

#[cfg(all(test, any(feature = "compose", feature = "k8s")))]
#[path = "../tests/app/mod.rs"]
mod app;

#[cfg(all(doctest, feature = "local"))]
#[doc = include_str!("../README.md")]
struct Readme;

pub use crate::access::{NodeAccess, NodeAddress};
pub use crate::ready::ready;
