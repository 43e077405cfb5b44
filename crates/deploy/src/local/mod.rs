//! Nodes as child processes on this machine.
mod cluster;
mod control;
mod deployer;
mod directory;
mod error;
mod launch;
mod lookup;
mod node;
mod ports;
mod program;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use cluster::LocalCluster;
pub use deployer::LocalDeployer;
pub use error::LocalError;
pub use program::{LocalNode, NodeProgram, Readiness};

/// The deployer's name in messages.
const NAME: &str = "local";

/// Locks `mutex`, also after a panic of another holder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
