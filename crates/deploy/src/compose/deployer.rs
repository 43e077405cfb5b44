//! Starts the services of a Compose file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::async_trait;
use watchkeeper::report::{error_chain, one_line};
use watchkeeper_scenario::{Application, DeployError, Deployer, NodeControl, RunningCluster};

use super::cluster::ComposeCluster;
use super::control::ContainerControl;
use super::manifest::Manifest;
use super::nodes::{ContainerNodes, NODE_LABEL};
use super::program::ComposeProgram;
use super::project::{Compose, Project, UP_WITHIN};
use super::{NAME, engine, failed};
use crate::NodeAccess;

/// How long the nodes may take to serve, all together.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How many lines of a node's log explain why it does not serve.
const LOG_TAIL_LINES: usize = 3;
/// Bytes shown of each.
const LOG_LINE: usize = 1000;

/// Starts an application in containers, on the engine that `DOCKER_HOST` names or on the default one.
///
/// The folder has a `docker-compose.yml` and, if images are built, their `Dockerfile`. Each service that the
/// [`ComposeProgram`] chooses is a node, with the labels of [the module](super).
///
/// Nodes are reached by their containers' addresses and no port of the host is used: the engine must run on this machine,
/// and on Linux. Isolating a node needs root, `nsenter` and `iptables`.
///
/// The images have 4 minutes to be built, `docker-compose up` and `down` 90 s each, and then all nodes together 30 s to
/// serve. What takes longer is killed, and what it made is taken down.
///
/// # What is left
///
/// A cluster that is dropped, and a deployment whose future is dropped, is taken down by a `docker-compose down` that
/// outlives this process and is not waited for. Only `SIGKILL` leaves containers: see [the module](super).
///
/// # Examples
///
/// ```no_run
/// use watchkeeper_deploy::compose::{ComposeDeployer, ComposeProgram};
/// use watchkeeper_scenario::{Application, DeployError, Deployer};
///
/// # async fn up<A: Application>(shop: impl ComposeProgram<A>, deployment: A::Deployment) -> Result<(), watchkeeper::DynError> {
/// let deployer = ComposeDeployer::new("shop", "deploy/compose", shop);
/// let cluster = deployer.deploy(&deployment).await?;
/// cluster.node_control().isolate("n2").await?; // packets are dropped, nothing is refused
/// cluster.shut_down().await?;
/// # Ok(())
/// # }
/// ```
pub struct ComposeDeployer<A> {
    app: String,
    folder: PathBuf,
    host: String,
    program: Arc<dyn ComposeProgram<A>>,
}

impl<A> Clone for ComposeDeployer<A> {
    fn clone(&self) -> Self {
        let Self { app, folder, host, program } = self;
        Self { app: app.clone(), folder: folder.clone(), host: host.clone(), program: Arc::clone(program) }
    }
}

impl<A> fmt::Debug for ComposeDeployer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, folder, host, .. } = self;
        f.debug_struct("ComposeDeployer")
            .field("app", app)
            .field("folder", folder)
            .field("host", host)
            .finish_non_exhaustive()
    }
}

impl<A: Application> ComposeDeployer<A> {
    /// Uses the files of `folder`. The clusters are called after `app`: lower-case letters, digits, `-` and `_`.
    #[must_use]
    pub fn new(app: impl Into<String>, folder: impl Into<PathBuf>, program: impl ComposeProgram<A>) -> Self {
        Self {
            app: app.into(),
            folder: folder.into(),
            host: engine::default_host(),
            program: Arc::new(program),
        }
    }

    /// Uses the engine at `host`, such as `unix:///var/run/docker.sock`.
    #[must_use]
    pub fn with_engine(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    async fn up(&self, deployment: &A::Deployment) -> Result<ComposeCluster<A>, DeployError> {
        check_name(&self.app)?;
        let manifest = Manifest::of(&self.folder)?;
        let docker = engine::connect(&self.host).await?;
        let environment = self.program.environment(deployment);
        let compose = Compose::find(&self.host, &manifest.compose_file, &self.app, environment).await?;
        let in_file = compose.services().await?;
        let services = self.chosen(deployment, &in_file, &manifest)?;
        let compose = match self.program.build_context(&self.folder).await? {
            None => compose,
            Some(context) => {
                let compose = compose.with_context(&context);
                compose.build(&manifest, &services).await?;
                engine::forget_old_images(&docker, &self.app).await;
                compose
            }
        };

        let mut project = Project::up(compose, services.clone(), UP_WITHIN).await?;
        let access: Arc<dyn NodeAccess<A>> = Arc::clone(&self.program) as _;
        let nodes = ContainerNodes::new(docker.clone(), project.name(), access);
        let control = ContainerControl::new(docker.clone(), nodes.clone());
        match served(&nodes, &control, &services, &manifest).await {
            Ok(()) => Ok(ComposeCluster::new(docker, project, nodes, control)),
            Err(error) => {
                // What failed first comes first.
                Err(match project.down().await {
                    Ok(()) => error,
                    Err(left) => {
                        let left = project.left(&left);
                        failed("wait for its nodes", format!("{}; {left}", error_chain(&error)))
                    }
                })
            }
        }
    }

    /// The services of a deployment, at least one, and all of them in the file.
    fn chosen(
        &self,
        deployment: &A::Deployment,
        in_file: &[String],
        manifest: &Manifest,
    ) -> Result<Vec<String>, DeployError> {
        let invalid = |problem: String| {
            DeployError::InvalidDeployment(format!("{}: {problem}", manifest.compose_file.display()))
        };
        let chosen =
            self.program.services(deployment, in_file).map_err(|error| invalid(error_chain(&*error)))?;
        if chosen.is_empty() {
            return Err(invalid("it means no service: a cluster has at least one".to_owned()));
        }
        match chosen.iter().find(|service| !in_file.contains(service)) {
            None => Ok(chosen),
            Some(absent) => {
                Err(invalid(format!("there is no service {absent}: name one of {}", in_file.join(", "))))
            }
        }
    }
}

#[async_trait]
impl<A: Application> Deployer<A> for ComposeDeployer<A> {
    fn name(&self) -> &str {
        NAME
    }

    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError> {
        Ok(Box::new(self.up(deployment).await?))
    }
}

/// Compose would change other names, or refuse them where nothing says which name is meant.
fn check_name(app: &str) -> Result<(), DeployError> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
    if app.starts_with(|c: char| c.is_ascii_alphanumeric()) && app.chars().all(is_of_name) {
        return Ok(());
    }
    let problem = "Compose allows lower-case letters, digits, - and _, and a letter or digit first";
    Err(DeployError::InvalidDeployment(format!("the application is called {app:?}: {problem}")))
}

/// Waits until each of `services` is found and serves.
async fn served<A: Application>(
    nodes: &ContainerNodes<A>,
    control: &ContainerControl<A>,
    services: &[String],
    manifest: &Manifest,
) -> Result<(), DeployError> {
    let step = "wait for its nodes";
    let named = nodes.of_services().await.map_err(|error| failed(step, error))?;
    let mut names = Vec::with_capacity(services.len());
    for service in services {
        let name = named.get(service).ok_or_else(|| DeployError::InvalidManifest {
            path: manifest.compose_file.clone(),
            problem: format!(
                "the service {service} has no label {NODE_LABEL}: add it, with the name of its node"
            ),
        })?;
        names.push(name);
    }
    nodes.refresh().await.map_err(|error| failed(step, error))?;
    let deadline = Instant::now() + READY_WITHIN;
    for node in &names {
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
    for node in &names {
        if let Err(error) = control.runs(node).await {
            let problem = format!("{node} has ended: {error}");
            return Err(failed(step, with_log_tail(control, node, &problem).await));
        }
    }
    Ok(())
}

/// The problem of a node, with the end of its log.
async fn with_log_tail<A: Application>(control: &ContainerControl<A>, node: &str, problem: &str) -> String {
    let log = control.log(node).await.unwrap_or_default();
    let last: Vec<String> =
        log.lines().filter(|line| !line.is_empty()).map(|line| one_line(line, LOG_LINE)).collect();
    let last = last[last.len().saturating_sub(LOG_TAIL_LINES)..].join(" / ");
    format!("{problem}; the end of its log: {last}")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use watchkeeper::DynError;

    use super::super::first_services;
    use super::*;
    use crate::app::Counting;

    impl ComposeProgram<Counting> for Counting {
        fn services(&self, nodes: &u64, in_file: &[String]) -> Result<Vec<String>, DynError> {
            match nodes {
                7 => Ok(Vec::new()),
                8 => Ok(vec!["n8".to_owned()]),
                nodes => first_services(*nodes, in_file),
            }
        }
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("docker-compose.yml"), "services:\n").unwrap();
        folder
    }

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_one_line_with_its_fix() {
        let folder = folder();
        let nowhere = ComposeDeployer::new("counting", folder.path(), Counting);
        let nowhere = nowhere.with_engine("unix:///nowhere/docker.sock");
        let error = nowhere.deploy(&1).await.err().unwrap();
        assert!(matches!(error, DeployError::Unavailable { .. }), "{error:?}");
        let line = error.to_string();
        for word in
            ["the compose deployer is not available", "unix:///nowhere/docker.sock", "apt-get install"]
        {
            assert!(line.contains(word), "{line}");
        }
        assert_eq!(line.lines().count(), 1, "{line}");
    }

    #[tokio::test]
    async fn a_name_that_compose_would_change_is_refused() {
        let folder = folder();
        for name in ["", "Shop", "my shop", "-shop"] {
            let error = ComposeDeployer::new(name, folder.path(), Counting).deploy(&1).await.err().unwrap();
            assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error:?}");
            assert!(error.to_string().contains(&format!("called {name:?}: Compose allows")), "{error}");
        }
    }

    #[test]
    fn the_services_of_a_deployment_are_in_the_file() {
        let folder = folder();
        let manifest = Manifest::of(folder.path()).unwrap();
        let deployer = ComposeDeployer::new("counting", folder.path(), Counting);
        let in_file = ["n1", "n2", "n3"].map(str::to_owned);
        assert_eq!(deployer.chosen(&2, &in_file, &manifest).unwrap(), ["n1", "n2"]);
        for (nodes, words) in [
            (0, "0 nodes are asked for, and the file has 1 to 3"),
            (4, "docker-compose.yml: 4 nodes are asked for"),
            (7, "it means no service"),
            (8, "there is no service n8: name one of n1, n2, n3"),
        ] {
            let error = deployer.chosen(&nodes, &in_file, &manifest).unwrap_err();
            assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error:?}");
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
