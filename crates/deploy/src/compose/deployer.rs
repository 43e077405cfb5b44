//! Starts the services of a Compose file.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::async_trait;
use watchkeeper::report::error_chain;
use watchkeeper_scenario::{Application, DeployError, Deployer, NodeControl, RunningCluster};

use super::cluster::ComposeCluster;
use super::control::ContainerControl;
use super::manifest::Manifest;
use super::nodes::{ContainerNodes, NODE_LABEL};
use super::program::ComposeProgram;
use super::project::{Compose, Project};
use super::{NAME, engine, failed};
use crate::NodeAccess;
use crate::ready::check_time_out;
use crate::shared::with_log_tail;

/// Starts an application in containers, on the engine that `DOCKER_HOST` names or on the default one.
///
/// The folder has a Compose file (`compose.yaml`, `compose.yml`, `docker-compose.yml` or `docker-compose.yaml`; of several
/// the first) and, if images are built, their `Dockerfile`. Each service that the [`ComposeProgram`] chooses is a node, with
/// the labels of [the module](super).
///
/// Nodes are reached by their containers' addresses and no port of the host is used: the engine must run on this machine,
/// and on Linux. Isolating a node needs root, `nsenter` and `iptables`.
///
/// The images have 4 minutes to be built ([`build_within`](Self::build_within)), `docker-compose up` has 90 s
/// ([`up_within`](Self::up_within)), all nodes together have 30 s to serve ([`ready_within`](Self::ready_within)), and
/// `down` has 90 s. What takes longer is killed, and what it made is taken down.
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
    limits: Limits,
}

/// How long each part of a deployment may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    build: Duration,
    up: Duration,
    ready: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let [build, up, ready] = [240, 90, 30].map(Duration::from_secs);
        Self { build, up, ready }
    }
}

impl<A> Clone for ComposeDeployer<A> {
    fn clone(&self) -> Self {
        let Self { app, folder, host, program, limits } = self;
        let (app, folder, host) = (app.clone(), folder.clone(), host.clone());
        Self { app, folder, host, program: Arc::clone(program), limits: *limits }
    }
}

impl<A> fmt::Debug for ComposeDeployer<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, folder, host, limits, .. } = self;
        f.debug_struct("ComposeDeployer")
            .field("app", app)
            .field("folder", folder)
            .field("host", host)
            .field("limits", limits)
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
            limits: Limits::default(),
        }
    }

    /// Uses the engine at `host`, such as `unix:///var/run/docker.sock`.
    #[must_use]
    pub fn with_engine(self, host: impl Into<String>) -> Self {
        Self { host: host.into(), ..self }
    }

    /// How long the build of the images may take, more than zero and at most 24 h. Default: 4 minutes.
    #[must_use]
    pub fn build_within(self, within: Duration) -> Self {
        Self { limits: Limits { build: within, ..self.limits }, ..self }
    }

    /// How long the containers may take to be made and started, with the pull of their images: more than zero and at most
    /// 24 h. Default: 90 s. A deployment that is dropped meanwhile has at most 90 s left, for which the end of the runtime
    /// waits.
    #[must_use]
    pub fn up_within(self, within: Duration) -> Self {
        Self { limits: Limits { up: within, ..self.limits }, ..self }
    }

    /// How long all nodes together may take to serve, more than zero and at most 24 h. Default: 30 s.
    #[must_use]
    pub fn ready_within(self, within: Duration) -> Self {
        Self { limits: Limits { ready: within, ..self.limits }, ..self }
    }

    async fn up(&self, deployment: &A::Deployment) -> Result<ComposeCluster<A>, DeployError> {
        check_name(&self.app)?;
        let Limits { build, up, ready } = self.limits;
        check_time_out("build_within", build)?;
        check_time_out("up_within", up)?;
        check_time_out("ready_within", ready)?;
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
                compose.build(&manifest, &services, build).await?;
                engine::forget_old_images(&docker, &self.app).await;
                compose
            }
        };

        let mut project = Project::up(compose, services.clone(), up).await?;
        let access: Arc<dyn NodeAccess<A>> = Arc::clone(&self.program) as _;
        let nodes = ContainerNodes::new(docker.clone(), project.name(), access);
        let control = ContainerControl::new(docker.clone(), nodes.clone());
        match served(&nodes, &control, &services, &manifest, ready).await {
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
    within: Duration,
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
    let deadline = Instant::now() + within;
    for node in &names {
        let left = deadline.saturating_duration_since(Instant::now());
        let problem = tokio::select! {
            ready = control.wait_ready(node, left) => match ready {
                Ok(()) => continue,
                Err(error) => error.to_string(),
            },
            () = control.exit(node) => format!("{node} has ended"),
        };
        return Err(failed(step, explained(control, node, &problem).await));
    }
    // The first may have ended while the last one started.
    for node in &names {
        if let Err(error) = control.runs(node).await {
            let problem = format!("{node} has ended: {error}");
            return Err(failed(step, explained(control, node, &problem).await));
        }
    }
    Ok(())
}

/// The problem of a node, with the end of its log.
async fn explained<A: Application>(control: &ContainerControl<A>, node: &str, problem: &str) -> String {
    with_log_tail(problem, control.log(node).await.as_deref())
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

    #[tokio::test]
    async fn a_limit_of_no_time_or_over_a_day_is_refused_by_its_name() {
        type Set = fn(ComposeDeployer<Counting>, Duration) -> ComposeDeployer<Counting>;
        let folder = folder();
        let setters: [(&str, Set); 3] = [
            ("build_within", ComposeDeployer::build_within),
            ("up_within", ComposeDeployer::up_within),
            ("ready_within", ComposeDeployer::ready_within),
        ];
        for (name, set) in setters {
            for within in [Duration::ZERO, Duration::from_secs(24 * 60 * 60 + 1)] {
                let deployer = set(ComposeDeployer::new("counting", folder.path(), Counting), within);
                let error = deployer.deploy(&1).await.err().unwrap();
                assert!(matches!(error, DeployError::InvalidDeployment(_)), "{error:?}");
                assert!(error.to_string().contains(&format!("{name} is {within:?}: ")), "{error}");
            }
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
