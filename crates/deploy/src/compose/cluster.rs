//! A cluster of containers that is up.

use std::sync::Arc;

use bollard::Docker;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use watchkeeper::async_trait;
use watchkeeper_scenario::{Application, DeployError, NodeClients, NodeControl, RunningCluster};

use super::control::ContainerControl;
use super::engine;
use super::failed;
use super::nodes::{CLUSTER_LABEL, ContainerNodes};
use super::project::Project;

/// See [`ComposeDeployer`](super::ComposeDeployer).
pub(super) struct ComposeCluster<A: Application> {
    docker: Docker,
    name: String,
    nodes: ContainerNodes<A>,
    control: ContainerControl<A>,
    project: Mutex<Option<Project>>,
    /// Follows the containers; it ends when this is dropped.
    _follower: JoinSet<()>,
}

impl<A: Application> ComposeCluster<A> {
    pub(super) fn new(
        docker: Docker,
        project: Project,
        nodes: ContainerNodes<A>,
        control: ContainerControl<A>,
    ) -> Self {
        let mut follower = JoinSet::new();
        follower.spawn(control.clone().follow());
        let name = project.name().to_owned();
        Self { docker, name, nodes, control, project: Mutex::new(Some(project)), _follower: follower }
    }
}

#[async_trait]
impl<A: Application> RunningCluster<A> for ComposeCluster<A> {
    fn node_clients(&self) -> NodeClients<A::NodeClient> {
        self.nodes.clients()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::new(self.control.clone())
    }

    async fn log(&self, node: &str) -> Option<String> {
        self.control.log(node).await
    }

    async fn shut_down(&self) -> Result<(), DeployError> {
        let step = "take its containers down";
        self.control.end();
        let mut project = self.project.lock().await;
        if let Some(up) = project.as_mut() {
            up.down().await?;
        }
        *project = None;
        let label = format!("{CLUSTER_LABEL}={}", self.name);
        match engine::count(&self.docker, label.clone()).await.map_err(|error| failed(step, error))? {
            [0, 0, 0] => Ok(()),
            [containers, networks, volumes] => {
                let left = format!(
                    "{containers} containers, {networks} networks and {volumes} volumes labelled {label} are left: \
                     remove them by hand"
                );
                Err(failed(step, left))
            }
        }
    }
}
