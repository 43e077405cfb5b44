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
use tokio::time::{Instant, timeout, timeout_at};
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource, source_fn};
use watchkeeper_scenario::{DynError, NodeAction, NodeControl, NodeControlError, async_trait};

use super::NAME;
use super::nodes::ContainerNodes;
use super::partition::{self, Traffic};
use crate::NodeClient;

/// How often a node is asked whether it serves.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long the engine may take to say why a node was not ready in time.
const LAST_LOOK: Duration = Duration::from_secs(1);
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

    /// Does `act` to the container of `node`; afterwards the node's client is true if the engine answers.
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
        if let Err(error) = self.nodes.refresh().await {
            // It is done all the same; whoever follows the engine's events learns where the node is.
            tracing::warn!(node, %error, "{action} was done, and the engine does not say where its nodes are now");
        }
        Ok(())
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

    /// Answers within [`LAST_LOOK`] behind `within`, also when the engine hangs.
    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let deadline = Instant::now() + within;
        let not_ready = |last: String| NodeControlError::NotReady { node: node.to_owned(), within, last };
        let silent = |_| not_ready("the engine does not answer".to_owned());
        let found = timeout_at(deadline, self.nodes.container(node)).await.map_err(silent)?;
        let found = found.map_err(|error| not_ready(error.to_string()))?;
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
        let started = timeout_at(deadline, ObservationRuntime::start(current, observer, config)).await;
        let runtime = started.map_err(silent)?.map_err(|error| not_ready(error.to_string()))?;
        let handle = runtime.handle();
        let served = handle
            .eventually("the node serves", |seen| {
                !seen.is_empty() && seen.iter().all(|node| node.value.is_some() && !node.is_failing())
            })
            .or_now()
            .within(deadline.saturating_duration_since(Instant::now()))
            .await;
        let failure = handle.latest_snapshot().and_then(|seen| {
            let failure = seen.value.get(node)?.facts.last_failure.as_ref()?;
            Some(failure.message.clone())
        });
        let _ = runtime.stop().await;
        if served.is_ok() {
            return Ok(());
        }
        let status = match timeout(LAST_LOOK, self.state(&container)).await {
            Ok(state) => {
                state.ok().and_then(|state| state.status).map_or("gone".to_owned(), |is| is.to_string())
            }
            Err(_) => "not told of by the engine".to_owned(),
        };
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::{StatusCode, Uri};
    use axum::response::{IntoResponse, Response};
    use futures_util::future::join_all;
    use tokio::net::TcpListener;
    use tokio_util::task::AbortOnDropHandle;

    use super::*;

    const SOON: Duration = Duration::from_secs(15);

    /// An engine that answers the first `lists` requests for its containers; then it is out of order.
    #[derive(Clone, Copy)]
    struct Engine {
        lists: usize,
        /// Out of order is silent, not an error.
        hangs: bool,
    }

    impl Engine {
        async fn serve(self) -> (ContainerControl, AbortOnDropHandle<()>) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let addr = listener.local_addr().unwrap();
            let asked = Arc::new(AtomicUsize::new(0));
            let answer = move |uri: Uri| self.answer(uri, Arc::clone(&asked));
            let serving = async move { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() };
            let docker = Docker::connect_with_host(&format!("tcp://{addr}")).unwrap();
            let control = ContainerControl::new(docker.clone(), ContainerNodes::new(docker, "cluster"));
            (control, AbortOnDropHandle::new(tokio::spawn(serving)))
        }

        async fn answer(self, uri: Uri, asked: Arc<AtomicUsize>) -> Response {
            if uri.path().ends_with("/kill") {
                return StatusCode::NO_CONTENT.into_response();
            }
            if uri.path().ends_with("/containers/json") && asked.fetch_add(1, Ordering::Relaxed) < self.lists
            {
                // One that has no address.
                let labels = r#"{"watchkeeper.node":"n1","watchkeeper.port":"4000"}"#;
                return format!(r#"[{{"Id":"c1","Labels":{labels}}}]"#).into_response();
            }
            if self.hangs { pending().await } else { StatusCode::INTERNAL_SERVER_ERROR.into_response() }
        }
    }

    #[tokio::test]
    async fn a_kill_that_worked_is_no_failure_when_the_engine_fails_behind_it() {
        let (control, _engine) = Engine { lists: 1, hangs: false }.serve().await;
        control.kill("n1").await.unwrap();
        let error = control.kill("n1").await.unwrap_err();
        assert_eq!(error.to_string(), "could not kill n1", "its container was not found");
    }

    #[tokio::test]
    async fn an_engine_that_hangs_does_not_prolong_the_wait_for_a_node() {
        let waits = [
            (0, "n1 was not ready within 2s: the engine does not answer"),
            (1, "n1 was not ready within 2s: the engine does not answer"),
            (2, "n1 was not ready within 2s: its container is not told of by the engine; it gave no answer"),
        ]
        .map(async |(lists, expected)| {
            let (control, _engine) = Engine { lists, hangs: true }.serve().await;
            let waited = control.wait_ready("n1", Duration::from_secs(2));
            let error = timeout(SOON, waited).await.expect("it ends in time").unwrap_err();
            assert_eq!(error.to_string(), expected, "after {lists} lists");
        });
        join_all(waits).await;
    }
}
