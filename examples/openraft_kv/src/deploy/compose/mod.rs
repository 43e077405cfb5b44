//! The store in containers, started by docker-compose.
//!
//! [`ComposeDeployer`] builds the image and runs the Compose file; [`ContainerNodes`] finds the
//! containers by label and follows them. Everything that is made has the label
//! `watchkeeper.cluster` with the cluster's name, so that what is left can be counted and found:
//! `docker ps --all --filter label=watchkeeper.cluster`.

mod cluster;
mod control;
mod engine;
mod image;
mod manifest;
mod nodes;
mod partition;
mod project;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::report::one_line;
use watchkeeper_scenario::{DeployError, Deployer, DynError, NodeControl, RunningCluster, async_trait};

use self::cluster::ComposeCluster;
use self::control::ContainerControl;
use self::manifest::Manifest;
use self::project::{Compose, Project, UP_WITHIN};
use super::{Deployment, RaftKv};
use crate::errors::Chain;

pub use nodes::{CLUSTER_LABEL, ContainerError, ContainerNodes, NODE_LABEL, PORT_LABEL};

/// The deployer's name in messages.
const NAME: &str = "compose";
/// How long the nodes may take to serve, all together.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How many lines of a node's log explain why it does not serve.
const LOG_TAIL_LINES: usize = 3;
/// Bytes shown of each.
const LOG_LINE: usize = 1000;

/// Starts the store in containers, on the engine that `DOCKER_HOST` names or on the default one.
///
/// The image has only this package's program, linked statically. cargo builds it from the source of
/// this deployer: the first build takes about a minute, an image that is up to date a second.
///
/// Nodes are reached by their containers' addresses and no port of the host is used: the engine must
/// run on this machine, and on Linux.
///
/// # What is left
///
/// A cluster that is dropped, and a deployment whose future is dropped, is taken down by a
/// `docker-compose down` that outlives this process and is not waited for. Only `SIGKILL` leaves
/// containers: see [the module](self).
#[derive(Clone, Debug)]
pub struct ComposeDeployer {
    folder: PathBuf,
    host: String,
}

impl Default for ComposeDeployer {
    fn default() -> Self {
        Self::new()
    }
}

impl ComposeDeployer {
    /// Uses this package's own `deploy/compose`.
    #[must_use]
    pub fn new() -> Self {
        Self::with_folder(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/compose"))
    }

    /// Uses the `docker-compose.yml` and the `Dockerfile` of `folder`.
    #[must_use]
    pub fn with_folder(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), host: engine::default_host() }
    }

    /// Uses the engine at `host`, such as `unix:///var/run/docker.sock`.
    #[must_use]
    pub fn with_engine(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    async fn up(&self, deployment: &Deployment) -> Result<ComposeCluster, DeployError> {
        let manifest = Manifest::of(&self.folder)?;
        let docker = engine::connect(&self.host).await?;
        let compose = Compose::find(&self.host, &manifest.compose_file, &deployment.node_flags).await?;
        let services = chosen(compose.services().await?, deployment.nodes, &manifest.compose_file)?;
        let context = image::build(&manifest.dockerfile).await?;
        let compose = compose.with_context(context);
        compose.build(&manifest, &services).await?;
        engine::forget_old_images(&docker).await;

        let mut project = Project::up(compose, services.clone(), UP_WITHIN).await?;
        let nodes = ContainerNodes::new(docker.clone(), project.name());
        let control = ContainerControl::new(docker.clone(), nodes.clone());
        match served(&nodes, &control, &services).await {
            Ok(()) => Ok(ComposeCluster::new(docker, project, nodes, control)),
            Err(error) => {
                // What failed first comes first.
                Err(match project.down().await {
                    Ok(()) => error,
                    Err(left) => {
                        let left = project.left(&left);
                        failed("wait for its nodes", format!("{}; {left}", Chain(&error)))
                    }
                })
            }
        }
    }
}

#[async_trait]
impl Deployer<RaftKv> for ComposeDeployer {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, deployment: &Deployment) -> Result<Box<dyn RunningCluster<RaftKv>>, DeployError> {
        Ok(Box::new(self.up(deployment).await?))
    }
}

/// The first `nodes` of the services that the file has.
fn chosen(services: Vec<String>, nodes: u64, file: &Path) -> Result<Vec<String>, DeployError> {
    let wanted = usize::try_from(nodes).unwrap_or(usize::MAX);
    if wanted == 0 || wanted > services.len() {
        return Err(DeployError::InvalidDeployment(format!(
            "{nodes} nodes are asked for and {} has 1 to {}: ask for fewer, or add services to it",
            file.display(),
            services.len(),
        )));
    }
    Ok(services.into_iter().take(wanted).collect())
}

/// Waits until each of `services` is found and serves.
async fn served(
    nodes: &ContainerNodes,
    control: &ContainerControl,
    services: &[String],
) -> Result<(), DeployError> {
    let step = "wait for its nodes";
    nodes.refresh().await.map_err(|error| failed(step, error))?;
    let deadline = Instant::now() + READY_WITHIN;
    for node in services {
        let left = deadline.saturating_duration_since(Instant::now());
        let problem = tokio::select! {
            ready = control.wait_ready(node, left) => match ready {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
            () = control.exit(node) => format!("{node} has ended"),
        };
        return Err(failed(step, with_log_tail(control, node, &problem).await));
    }
    // The first may have ended while the last one started.
    for node in services {
        if let Err(error) = control.runs(node).await {
            let problem = format!("{node} has ended: {error}");
            return Err(failed(step, with_log_tail(control, node, &problem).await));
        }
    }
    Ok(())
}

/// The problem of a node, with the end of its log.
async fn with_log_tail(control: &ContainerControl, node: &str, problem: &str) -> String {
    let log = control.log(node).await.unwrap_or_default();
    let last: Vec<String> =
        log.lines().filter(|line| !line.is_empty()).map(|line| one_line(line, LOG_LINE)).collect();
    let last = last[last.len().saturating_sub(LOG_TAIL_LINES)..].join(" / ");
    format!("{problem}; the end of its log: {last}")
}

fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}

fn unavailable(missing: impl Into<String>, fix: &str) -> DeployError {
    DeployError::Unavailable { deployer: NAME.to_owned(), missing: missing.into(), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_one_line_with_its_fix() {
        let nowhere = ComposeDeployer::new().with_engine("unix:///nowhere/docker.sock");
        let error = nowhere.up(&Deployment::default()).await.unwrap_err();
        assert!(matches!(error, DeployError::Unavailable { .. }), "{error:?}");
        let line = error.to_string();
        for word in
            ["the compose deployer is not available", "unix:///nowhere/docker.sock", "apt-get install"]
        {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[test]
    fn as_many_services_are_chosen_as_nodes_are_asked_for() {
        let services = || ["n1", "n2", "n3"].map(str::to_owned).to_vec();
        let file = Path::new("docker-compose.yml");
        assert_eq!(chosen(services(), 2, file).unwrap(), ["n1", "n2"]);
        assert_eq!(chosen(services(), 3, file).unwrap().len(), 3);
        for impossible in [0, 4, u64::MAX] {
            let error = chosen(services(), impossible, file).unwrap_err().to_string();
            assert!(error.contains("docker-compose.yml has 1 to 3"), "{error}");
        }
    }
}
