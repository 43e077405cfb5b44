//! Observers that ride a test framework's lifecycle.
//!
//! An [`Application`] says what is deployed and how a node is talked to; a [`Deployer`] returns a
//! [`RunningCluster`] with its [`NodeClients`] and its [`NodeControl`].

mod application;
mod clients;
mod control;
mod deployer;

pub use application::Application;
pub use clients::NodeClients;
pub use control::{NodeAction, NodeControl, NodeControlError};
pub use deployer::{DeployError, Deployer, RunningCluster};
pub use watchkeeper::{DynError, async_trait};
