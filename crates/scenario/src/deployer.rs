//! Deployers, and the clusters that they bring up.

use std::path::PathBuf;
use std::sync::Arc;

use watchkeeper::report::one_line;
use watchkeeper::{DynError, async_trait};

use crate::text::{bounded, name};
use crate::{Application, NodeClients, NodeControl};
use watchkeeper::report::debug_as_text;

/// Brings clusters of an application up.
#[async_trait]
pub trait Deployer<A: Application>: Send + Sync {
    /// Its name in messages, such as "local" or "compose".
    fn name(&self) -> &str;

    /// Starts the nodes and returns when each can be reached.
    ///
    /// When it fails, or when its future is dropped, nothing is left running.
    ///
    /// # Errors
    ///
    /// [`DeployError`].
    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError>;
}

/// A running cluster.
///
/// Dropping it takes the nodes down, as far as that is possible without waiting.
#[async_trait]
pub trait RunningCluster<A: Application>: Send + Sync + 'static {
    /// The current clients; the cluster keeps them current while nodes restart, join and leave.
    fn node_clients(&self) -> NodeClients<A::NodeClient>;

    /// The actions on single nodes.
    fn node_control(&self) -> Arc<dyn NodeControl>;

    /// The newest lines of the log of `node`, for a report. Default: no log is kept.
    async fn log(&self, _node: &str) -> Option<String> {
        None
    }

    /// Takes everything down and returns when nothing is left. May be called again.
    ///
    /// # Errors
    ///
    /// [`DeployError`]: something is left; the error names it.
    async fn shut_down(&self) -> Result<(), DeployError>;
}

/// Why a cluster did not come up, or did not go down.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// Something that the deployer needs is missing.
    #[error("the {} deployer is not available: {}; {}", name(deployer), bounded(missing), bounded(fix))]
    Unavailable {
        /// Which deployer.
        deployer: String,
        /// What is missing.
        missing: String,
        /// How to get it.
        fix: String,
    },
    /// The deployment is invalid.
    #[error("the deployment cannot be brought up: {}", bounded(.0))]
    InvalidDeployment(String),
    /// A manifest or Compose file has a mistake.
    #[error("{}: {}", one_line(&path.to_string_lossy(), 2_000), bounded(problem))]
    InvalidManifest {
        /// The file.
        path: PathBuf,
        /// Where the mistake is, and how to fix it.
        problem: String,
    },
    /// The deployer, or the cluster it brought up, panicked.
    #[error("the {} deployer panicked: {}", name(deployer), bounded(message))]
    Panicked {
        /// Which deployer.
        deployer: String,
        /// The message of the panic.
        message: String,
    },
    /// The parent of the cluster was cancelled before the cluster was up. Nothing is left running.
    #[error(
        "the {} deployer was cancelled by its parent: start another cluster, with a parent that is not cancelled",
        name(deployer)
    )]
    Cancelled {
        /// Which deployer.
        deployer: String,
    },
    /// A step failed.
    #[error("the {} deployer could not {}", name(deployer), bounded(step))]
    Failed {
        /// Which deployer.
        deployer: String,
        /// The step that failed, such as "start n1".
        step: String,
        /// Why.
        source: DynError,
    },
}

debug_as_text!(DeployError);
