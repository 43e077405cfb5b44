//! Where nodes come from.

use std::path::PathBuf;
use std::sync::Arc;

use watchkeeper::report::one_line;
use watchkeeper::{DynError, async_trait};

use crate::text::{debug_is_text, name, said};
use crate::{Application, NodeClients, NodeControl};

/// Brings clusters of an application up.
#[async_trait]
pub trait Deployer<A: Application>: Send + Sync {
    /// What it is called in messages: "local", "compose".
    fn name(&self) -> &str;

    /// Starts the nodes and returns when each can be talked to.
    ///
    /// When it fails, or when its future is dropped, nothing is left running.
    ///
    /// # Errors
    ///
    /// [`DeployError`].
    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError>;
}

/// Nodes that run.
///
/// Dropping it takes them down as well as that can be done without waiting.
#[async_trait]
pub trait RunningCluster<A: Application>: Send + Sync + 'static {
    /// The current clients; the cluster keeps them true while nodes restart, join and leave.
    fn node_clients(&self) -> NodeClients<A::NodeClient>;

    /// Acts on single nodes.
    fn node_control(&self) -> Arc<dyn NodeControl>;

    /// What `node` has logged, if that is kept: the newest lines, for a report.
    async fn log(&self, _node: &str) -> Option<String> {
        None
    }

    /// Takes everything down and returns when nothing is left. May be called again.
    ///
    /// # Errors
    ///
    /// [`DeployError`]: something is left, and the error says what.
    async fn shut_down(&self) -> Result<(), DeployError>;
}

/// Why a cluster did not come up, or did not go down.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// What the deployer needs is not here.
    #[error("the {} deployer is not available: {}; {}", name(deployer), said(missing), said(fix))]
    Unavailable {
        /// Which deployer.
        deployer: String,
        /// What is missing.
        missing: String,
        /// How to get it.
        fix: String,
    },
    /// The deployment makes no sense.
    #[error("the deployment cannot be brought up: {}", said(.0))]
    InvalidDeployment(String),
    /// A manifest or Compose file has a mistake.
    #[error("{}: {}", one_line(&path.to_string_lossy(), 2_000), said(problem))]
    InvalidManifest {
        /// The file.
        path: PathBuf,
        /// Where the mistake is, and how to mend it.
        problem: String,
    },
    /// The deployer, or the cluster it brought up, panicked.
    #[error("the {} deployer panicked: {}", name(deployer), said(message))]
    Panicked {
        /// Which deployer.
        deployer: String,
        /// What the panic said.
        message: String,
    },
    /// The parent of the cluster was cancelled before it was up: nothing is left of it.
    #[error(
        "the {} deployer was cancelled by its parent: start another cluster, with a parent that is not cancelled",
        name(deployer)
    )]
    Cancelled {
        /// Which deployer.
        deployer: String,
    },
    /// A step did not work.
    #[error("the {} deployer could not {}", name(deployer), said(step))]
    Failed {
        /// Which deployer.
        deployer: String,
        /// What it was about to do.
        step: String,
        /// Why it did not work.
        source: DynError,
    },
}

debug_is_text!(DeployError);
