//! Acting on the containers of a cluster.

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, LogsOptions, StartContainerOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::{StreamExt, TryStreamExt};
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource, source_fn};
use watchkeeper_scenario::{DynError, NodeAction, NodeControl, NodeControlError, async_trait};

use super::NAME;
use super::nodes::ContainerNodes;
use super::partition::{self, Traffic};
use crate::NodeClient;

/// How often a node is asked whether it serves.
const INTERVAL: Duration = Duration::from_millis(50);
/// Seconds that a node may take to stop when it is asked to.
const STOP_SECONDS: i32 = 5;
/// How much of a log is kept for a report.
const LOG_LINES: &str = "200";

/// Acts on the containers that are labelled with a node's name.
#[derive(Clone, Debug)]
pub(super) struct ContainerControl {
    docker: Docker,
    nodes: ContainerNodes,
}

impl ContainerControl {
    pub(super) fn new(docker: Docker, nodes: ContainerNodes) -> Self {
        Self { docker, nodes }
    }

    /// The newest lines of `node`'s log.
    pub(super) async fn log(&self, node: &str) -> Option<String> {
        let container = self.nodes.container(node).await.ok()??;
        let options =
            LogsOptions { stdout: true, stderr: true, tail: LOG_LINES.to_owned(), ..LogsOptions::default() };
        let lines: Vec<LogOutput> = self.docker.logs(&container, Some(options)).try_collect().await.ok()?;
        Some(lines.iter().map(LogOutput::to_string).collect())
    }

    /// Returns when the container of `node` does not run.
    pub(super) async fn exit(&self, node: &str) {
        if let Ok(Some(container)) = self.nodes.container(node).await {
            // An error is an exit too: a code that is not 0, or a container that is gone.
            self.docker.wait_container(&container, None::<WaitContainerOptions>).next().await;
        }
    }

    /// Does `act` to the container of `node`; afterwards the node's client is true.
    async fn act<F>(
        &self,
        action: NodeAction,
        node: &str,
        act: impl FnOnce(String) -> F + Send,
    ) -> Result<(), NodeControlError>
    where
        F: Future<Output = Result<(), DynError>> + Send,
    {
        let failed = |source| NodeControlError::Failed { action, node: node.to_owned(), source };
        let container = self.nodes.container(node).await.map_err(|error| failed(error.into()))?;
        let container = container.ok_or_else(|| self.unknown(node))?;
        act(container).await.map_err(failed)?;
        self.nodes.refresh().await.map_err(|error| failed(error.into()))
    }

    async fn state(&self, container: &str) -> Result<ContainerState, EngineError> {
        let inspected = self.docker.inspect_container(container, None::<InspectContainerOptions>).await?;
        Ok(inspected.state.unwrap_or_default())
    }

    /// The process that is the node, as the host numbers it.
    async fn pid(&self, container: &str) -> Result<i64, DynError> {
        let pid = self.state(container).await?.pid.filter(|pid| *pid > 0);
        pid.ok_or_else(|| "it does not run: start it first".into())
    }

    async fn set_traffic(
        &self,
        action: NodeAction,
        node: &str,
        traffic: Traffic,
    ) -> Result<(), NodeControlError> {
        let set = async |container: String| partition::set(self.pid(&container).await?, traffic).await;
        self.act(action, node, set).await
    }
}

#[async_trait]
impl NodeControl for ContainerControl {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.clients().names()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let not_ready = |last: String| NodeControlError::NotReady { node: node.to_owned(), within, last };
        let found = self.nodes.container(node).await.map_err(|error| not_ready(error.to_string()))?;
        let container = found.ok_or_else(|| self.unknown(node))?;
        let (name, nodes) = (node.to_owned(), self.nodes.clone());
        let current = source_fn(move || {
            let (name, nodes) = (name.clone(), nodes.clone());
            async move {
                nodes.refresh().await?;
                let client = nodes.clients().get(&name);
                Ok(client.map(|client| ObservedSource::new(&name, client)).into_iter().collect())
            }
        });
        let probe = |node: ObservedSource<NodeClient>| async move { Ok(node.source.health().await?) };
        let observer =
            PerSource::new(INTERVAL, probe).identity(|client: &NodeClient| client.addr().to_owned());
        let config = ObservationConfig { interval: INTERVAL, ..ObservationConfig::default() };
        let runtime = ObservationRuntime::start(current, observer, config)
            .await
            .map_err(|error| not_ready(error.to_string()))?;
        let handle = runtime.handle();
        let served = handle
            .eventually("the node serves", |seen| {
                !seen.is_empty() && seen.iter().all(|node| node.value.is_some() && !node.is_failing())
            })
            .or_now()
            .within(within)
            .await;
        let failure = handle.latest_snapshot().and_then(|seen| {
            let failure = seen.value.get(node)?.facts.last_failure.as_ref()?;
            Some(failure.message.clone())
        });
        let _ = runtime.stop().await;
        if served.is_ok() {
            return Ok(());
        }
        let status = self.state(&container).await.ok().and_then(|state| state.status);
        let status = status.map_or_else(|| "gone".to_owned(), |status| status.to_string());
        let answer = failure.unwrap_or_else(|| "it gave no answer".to_owned());
        Err(not_ready(format!("its container is {status}; {answer}")))
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let start = async |container: String| {
            Ok(self.docker.start_container(&container, None::<StartContainerOptions>).await?)
        };
        self.act(NodeAction::Start, node, start).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        let options = StopContainerOptions { t: Some(STOP_SECONDS), ..StopContainerOptions::default() };
        let stop =
            async |container: String| Ok(self.docker.stop_container(&container, Some(options)).await?);
        self.act(NodeAction::Stop, node, stop).await
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
        let kill =
            async |container: String| Ok(self.docker.kill_container(&container, Some(options)).await?);
        self.act(NodeAction::Kill, node, kill).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        let pause = async |container: String| Ok(self.docker.pause_container(&container).await?);
        self.act(NodeAction::Pause, node, pause).await
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        let resume = async |container: String| Ok(self.docker.unpause_container(&container).await?);
        self.act(NodeAction::Resume, node, resume).await
    }

    /// Cuts the node off from everything outside its container, observers on the host included.
    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        self.set_traffic(NodeAction::Isolate, node, Traffic::Dropped).await
    }

    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        self.set_traffic(NodeAction::Rejoin, node, Traffic::Passed).await
    }
}
