//! Brings local clusters up.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use watchkeeper::async_trait;
use watchkeeper_scenario::{Application, DeployError, Deployer, RunningCluster};

use super::directory::Directory;
use super::launch::Launcher;
use super::{LocalCluster, LocalError, NAME, NodeProgram, failed, names};
use crate::ready::check_time_out;

/// Starts the nodes of an application as child processes: kill is `SIGKILL`, pause is `SIGSTOP`, each node keeps a log.
///
/// See [the module](crate::local) for an example, and for what is left when a test is killed.
pub struct LocalDeployer<A: Application> {
    program: Arc<dyn NodeProgram<A>>,
    directory: Option<PathBuf>,
    start_within: Duration,
    stop_within: Duration,
}

impl<A: Application> LocalDeployer<A> {
    /// Starts nodes as `program` says.
    #[must_use]
    pub fn new(program: impl NodeProgram<A>) -> Self {
        Self {
            program: Arc::new(program),
            directory: None,
            start_within: Duration::from_secs(30),
            stop_within: Duration::from_secs(5),
        }
    }

    /// How long all nodes together may take to be ready: more than zero, and at most 24 h. Default: 30 s.
    #[must_use]
    pub fn start_within(self, within: Duration) -> Self {
        Self { start_within: within, ..self }
    }

    /// How long a node may take to stop when it is asked to, more than zero and at most 24 h; then it is killed. Default: 5 s.
    #[must_use]
    pub fn stop_within(self, within: Duration) -> Self {
        Self { stop_within: within, ..self }
    }

    /// Puts data and logs into this directory, which must not exist yet and is kept. Default: a temporary one, which is
    /// removed with the cluster.
    #[must_use]
    pub fn in_directory(self, path: impl Into<PathBuf>) -> Self {
        Self { directory: Some(path.into()), ..self }
    }

    /// Deploys as [`Deployer::deploy`] does, and returns the cluster as its own type: with
    /// [`add_node`](LocalCluster::add_node) and [`pid`](LocalCluster::pid).
    ///
    /// # Errors
    ///
    /// [`DeployError::InvalidDeployment`]: no or too many nodes, a name that is no file name, two nodes or ports of one
    /// name, a mark with a line break, a time-out that is zero or over 24 h. [`DeployError::Failed`] with the
    /// [`LocalError`] otherwise. Then nothing is left running.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing is left.
    pub async fn start(&self, deployment: &A::Deployment) -> Result<LocalCluster<A>, DeployError> {
        check_time_out("start_within", self.start_within)?;
        check_time_out("stop_within", self.stop_within)?;
        let names = names::all(&*self.program, deployment).map_err(DeployError::InvalidDeployment)?;
        let directory = Directory::make(self.directory.as_deref()).map_err(|source| {
            let path = self.directory.clone().unwrap_or_else(std::env::temp_dir);
            failed("make the nodes' directory", LocalError::Directory { path, source })
        })?;
        let launcher = Launcher {
            program: Arc::clone(&self.program),
            deployment: deployment.clone(),
            cluster: format!("local-{}", unique()),
            directory,
            start_within: self.start_within,
            stop_within: self.stop_within,
            addresses: Mutex::default(),
            ports: Mutex::default(),
            closing: CancellationToken::new(),
            gate: RwLock::default(),
        };
        let started = LocalCluster::start(launcher, &names).await;
        started.map_err(|(node, error)| failed(&format!("start {node}"), error))
    }
}

#[async_trait]
impl<A: Application> Deployer<A> for LocalDeployer<A> {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError> {
        Ok(Box::new(self.start(deployment).await?))
    }
}

impl<A: Application> fmt::Debug for LocalDeployer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program: _, directory, start_within, stop_within } = self;
        f.debug_struct("LocalDeployer")
            .field("directory", directory)
            .field("start_within", start_within)
            .field("stop_within", stop_within)
            .finish_non_exhaustive()
    }
}

/// A part of a name that no other cluster has.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
