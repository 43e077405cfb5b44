//! Brings local clusters up.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_util::sync::CancellationToken;
use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::{Application, DeployError, Deployer, RunningCluster};

use super::directory::Directory;
use super::launch::Launcher;
use super::{LocalCluster, LocalError, NAME, NodeProgram};

/// How many nodes a cluster has at most.
const MOST: u64 = 64;
/// How long a name is at most.
const LONGEST: usize = 64;

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

    /// How long all nodes together may take to be ready. Default: 30 s.
    #[must_use]
    pub fn start_within(self, within: Duration) -> Self {
        Self { start_within: within, ..self }
    }

    /// How long a node may take to stop when it is asked to; then it is killed. Default: 5 s.
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
    /// name. [`DeployError::Failed`] with the [`LocalError`] otherwise. Then nothing is left running.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, nothing is left.
    pub async fn start(&self, deployment: &A::Deployment) -> Result<LocalCluster<A>, DeployError> {
        let names = self.names(deployment).map_err(DeployError::InvalidDeployment)?;
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
        };
        let started = LocalCluster::start(launcher, &names).await;
        started.map_err(|(node, error)| failed(&format!("start {node}"), error))
    }

    /// The names of the nodes, or what is wrong with the deployment.
    fn names(&self, deployment: &A::Deployment) -> Result<Vec<String>, String> {
        let nodes = self.program.nodes(deployment);
        if !(1..=MOST).contains(&nodes) {
            return Err(format!(
                "a local cluster has 1 to {MOST} nodes, and this one {nodes}: change the number"
            ));
        }
        let mut ports = BTreeSet::new();
        for port in self.program.ports() {
            if !ports.insert(port) {
                return Err(format!("two ports of a node are called {port:?}: give each its own name"));
            }
        }
        let names: Vec<String> = (1..=nodes).map(|number| self.program.name(number)).collect();
        let mut distinct = BTreeSet::new();
        for name in &names {
            if let Some(problem) = is_name(name) {
                return Err(problem);
            }
            if !distinct.insert(name) {
                return Err(format!("two nodes are called {name:?}: give each its own name"));
            }
        }
        Ok(names)
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

/// What is wrong with the name of a node, which is also that of its directory.
pub(super) fn is_name(name: &str) -> Option<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_name =
        !name.is_empty() && name.len() <= LONGEST && name.chars().all(is_plain) && !name.starts_with('.');
    (!is_name).then(|| {
        format!(
            "no node can be called {name:?}: use letters, digits, `-`, `_` and `.`, at most {LONGEST}, and no `.` first"
        )
    })
}

pub(super) fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}

/// A part of a name that no other cluster has.
fn unique() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
