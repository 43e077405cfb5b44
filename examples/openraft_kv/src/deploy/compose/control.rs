//! Actions on the containers of a cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    InspectContainerOptions, KillContainerOptions, LogsOptions, StartContainerOptions, StopContainerOptions,
    WaitContainerOptions,
};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt, TryStreamExt};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use watchkeeper::source::source_fn;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_scenario::{DynError, NodeAction, NodeControl, NodeControlError, async_trait};

use super::NAME;
use super::nodes::ContainerNodes;
use super::partition::{self, Running, Traffic};
use crate::NodeClient;
use crate::sync::lock;

/// How often a node is asked whether it serves.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long the engine may take to say why a node was not ready in time.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Seconds that a node may take to stop when it is asked to.
const STOP_SECONDS: i32 = 5;
/// How often it is checked that cut nodes are still cut off, in addition to the engine's events.
const CUT_AGAIN: Duration = Duration::from_secs(1);
/// The error of an action that needs a running node.
const IS_DOWN: &str = "it does not run: start it first";
/// The error of every action once the cluster was shut down.
const SHUT_DOWN: &str = "the cluster was shut down: deploy another one";
/// Lines of a log in a report.
const LOG_LINES: &str = "200";

/// Sets what is done with a node's packets.
type SetTraffic = dyn Fn(Running, Traffic) -> BoxFuture<'static, Result<(), DynError>> + Send + Sync;

/// Acts on the containers that are labelled with a node's name.
#[derive(Clone)]
pub(super) struct ContainerControl {
    docker: Docker,
    nodes: ContainerNodes,
    set_traffic: Arc<SetTraffic>,
    cuts: Arc<std::sync::Mutex<BTreeMap<String, Arc<Mutex<Cut>>>>>,
    is_down: Arc<AtomicBool>,
}

/// Whether a node is to be cut off, and the process whose network was cut last.
#[derive(Debug, Default)]
struct Cut {
    is_wanted: bool,
    of: Option<Running>,
    /// Why the node is not cut off although it is to be.
    problem: Option<String>,
}

/// Why a node was not cut off again.
#[derive(Debug)]
enum NotCut {
    /// It has restarted, and its new network cannot be cut.
    Failed(DynError),
    /// The engine does not say what runs: the cut may still hold.
    Unknown(DynError),
}

impl NotCut {
    fn after_a_start(&self) -> String {
        match self {
            Self::Failed(error) => format!("it was started, and is no longer cut off ({error})"),
            Self::Unknown(error) => {
                format!("it was started, and whether it is cut off again is not known yet ({error})")
            }
        }
    }
}

impl fmt::Debug for ContainerControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerControl").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl ContainerControl {
    pub(super) fn new(docker: Docker, nodes: ContainerNodes) -> Self {
        Self {
            docker,
            nodes,
            set_traffic: Arc::new(|node, traffic| Box::pin(partition::set(node, traffic))),
            cuts: Arc::default(),
            is_down: Arc::default(),
        }
    }

    /// Makes every action fail from now on: the cluster was shut down.
    pub(super) fn end(&self) {
        self.is_down.store(true, Ordering::Release);
    }

    /// Updates the clients by the engine's events, and cuts restarted nodes off again.
    pub(super) async fn follow(self) {
        let nodes = self.nodes.clone();
        let then = || {
            let control = self.clone();
            async move { control.cut_again().await }
        };
        tokio::join!(nodes.follow_and(then), self.keep_cut());
    }

    /// Cuts off again without an event as well: after a cut that failed there may be none.
    async fn keep_cut(&self) {
        while !self.is_down() {
            sleep(CUT_AGAIN).await;
            self.cut_again().await;
        }
    }

    fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Acquire)
    }

    /// A restarted node has a new network, in which nothing is cut: cuts it for the nodes that are to be cut off.
    async fn cut_again(&self) {
        let nodes: Vec<String> = lock(&self.cuts).keys().cloned().collect();
        for node in nodes {
            if self.is_down() {
                return;
            }
            // What fails is kept with the cut, and tried again.
            if let Err(NotCut::Unknown(error)) = self.cut_one_again(&node).await {
                tracing::debug!(node, %error, "whether a node is still cut off is not known; asking again");
            }
        }
    }

    /// Waits only for other changes to this node's cut.
    async fn cut_one_again(&self, node: &str) -> Result<(), NotCut> {
        let cut = self.cut(node);
        let mut cut = cut.lock().await;
        if !cut.is_wanted {
            return Ok(());
        }
        // Without an answer of the engine, what was known of the cut stays.
        let now = self.what_runs(node).await.map_err(NotCut::Unknown)?;
        let Some(now) = now.filter(|now| cut.of.as_ref() != Some(now)) else {
            cut.problem = None;
            return Ok(());
        };
        if let Err(error) = self.set_traffic(now.clone(), Traffic::Dropped).await {
            let problem = error.to_string();
            // A node that is being removed fails too.
            if cut.problem.as_ref() != Some(&problem) && !self.is_down() {
                tracing::error!(
                    node,
                    problem,
                    "a node that was cut off has restarted and is no longer cut off; trying again"
                );
            }
            cut.problem = Some(problem);
            return Err(NotCut::Failed(error));
        }
        tracing::info!(node, "a node that was cut off has restarted, and is cut off again");
        (cut.of, cut.problem) = (Some(now), None);
        Ok(())
    }

    async fn what_runs(&self, node: &str) -> Result<Option<Running>, DynError> {
        match self.nodes.container(node).await? {
            Some(container) => Ok(self.running(&container).await?),
            None => Ok(None),
        }
    }

    /// Sets the traffic of the node's network, which must not be shared.
    async fn set_traffic(&self, node: Running, traffic: Traffic) -> Result<(), DynError> {
        if let Some(sharer) = self.nodes.shares_network(&node.container).await? {
            return Err(sharer.into());
        }
        (self.set_traffic)(node, traffic).await
    }

    /// Why a node that serves is not ready: it is to be cut off.
    async fn not_cut_off(&self, node: &str) -> Option<String> {
        let cut = lock(&self.cuts).get(node).cloned()?;
        let Ok(cut) = timeout(LAST_LOOK, cut.lock()).await else {
            return Some(
                "it serves, and whether it is cut off is not known: its cut is still being set".to_owned(),
            );
        };
        if !cut.is_wanted {
            return None;
        }
        Some(match &cut.problem {
            Some(problem) => {
                format!("it was cut off, and is no longer since it has restarted ({problem})")
            }
            None => "it is to be cut off, but it served: it was cut off meanwhile, or has restarted and is not cut off \
                     again yet"
                .to_owned(),
        })
    }

    fn cut(&self, node: &str) -> Arc<Mutex<Cut>> {
        Arc::clone(lock(&self.cuts).entry(node.to_owned()).or_default())
    }

    /// Fails if a node does not run.
    pub(super) async fn runs(&self, node: &str) -> Result<(), DynError> {
        let container = self.nodes.container(node).await?.ok_or("its container is gone")?;
        let state = self.state(&container).await?;
        if state.running == Some(true) {
            return Ok(());
        }
        Err(state.status.map_or("it has ended".to_owned(), |is| format!("its container is {is}")).into())
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

    /// Runs `act` on the container of `node`, then updates the clients, if the engine answers.
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
        if self.is_down() {
            return Err(failed(SHUT_DOWN.into()));
        }
        let container = self.nodes.container(node).await.map_err(|error| failed(error.into()))?;
        let container = container.ok_or_else(|| self.unknown(node))?;
        act(container).await.map_err(failed)?;
        if let Err(error) = self.nodes.refresh().await {
            // The action is done; the next event of the engine updates the clients.
            tracing::warn!(node, %error, "{action} was done, and the engine does not say where its nodes are now");
        }
        Ok(())
    }

    /// Succeeds if the container is paused, or not, as requested; else returns the reason.
    async fn is_as_wanted(&self, container: &str, paused: bool, error: EngineError) -> Result<(), DynError> {
        let state = self.state(container).await?;
        if state.running != Some(true) {
            return Err(IS_DOWN.into());
        }
        if state.paused.unwrap_or_default() == paused { Ok(()) } else { Err(error.into()) }
    }

    async fn state(&self, container: &str) -> Result<ContainerState, EngineError> {
        let inspected = self.docker.inspect_container(container, None::<InspectContainerOptions>).await?;
        Ok(inspected.state.unwrap_or_default())
    }

    /// The process that is the node, if it runs.
    async fn running(&self, container: &str) -> Result<Option<Running>, EngineError> {
        let state = self.state(container).await?;
        let pid = state.pid.filter(|pid| *pid > 0 && state.running == Some(true));
        Ok(pid.map(|pid| Running {
            container: container.to_owned(),
            pid,
            started_at: state.started_at.unwrap_or_default(),
        }))
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

    /// Answers within [`LAST_LOOK`] after `within`, also when the engine hangs.
    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let deadline = Instant::now() + within;
        let not_ready = |last: String| NodeControlError::NotReady { node: node.to_owned(), within, last };
        if self.is_down() {
            return Err(not_ready(SHUT_DOWN.to_owned()));
        }
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
                Ok::<_, DynError>(
                    client.map(|client| ObservedSource::new(&name, client)).into_iter().collect(),
                )
            }
        });
        let probe =
            |node: ObservedSource<NodeClient>| async move { Ok::<_, DynError>(node.source.health().await?) };
        let observer = PerSource::new(probe).identity(|client: &NodeClient| client.addr().to_owned());
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
            // A cut would keep us out as well: an answer shows that there was none.
            return self.not_cut_off(node).await.map_or(Ok(()), |problem| Err(not_ready(problem)));
        }
        let status = match timeout(LAST_LOOK, self.state(&container)).await {
            Ok(state) => {
                state.ok().and_then(|state| state.status).map_or("gone".to_owned(), |is| is.to_string())
            }
            Err(_) => "not known to the engine in time".to_owned(),
        };
        let answer = failure.unwrap_or_else(|| "it gave no answer".to_owned());
        Err(not_ready(format!("its container is {status}; {answer}")))
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        let start = async |container: String| {
            self.docker.start_container(&container, None::<StartContainerOptions>).await?;
            self.cut_one_again(node).await.map_err(|not_cut| not_cut.after_a_start().into())
        };
        self.act(NodeAction::Start, node, start).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        let options = StopContainerOptions { t: Some(STOP_SECONDS), ..StopContainerOptions::default() };
        let stop = async |container: String| {
            if self.state(&container).await?.paused == Some(true) {
                return Err("it is paused: resume it first, or kill it".into());
            }
            Ok(self.docker.stop_container(&container, Some(options)).await?)
        };
        self.act(NodeAction::Stop, node, stop).await
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        let options = KillContainerOptions { signal: "SIGKILL".to_owned() };
        let kill =
            async |container: String| Ok(self.docker.kill_container(&container, Some(options)).await?);
        self.act(NodeAction::Kill, node, kill).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        let pause = async |container: String| match self.docker.pause_container(&container).await {
            Ok(()) => Ok(()),
            Err(error) => self.is_as_wanted(&container, true, error).await,
        };
        self.act(NodeAction::Pause, node, pause).await
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        let resume = async |container: String| match self.docker.unpause_container(&container).await {
            Ok(()) => Ok(()),
            Err(error) => self.is_as_wanted(&container, false, error).await,
        };
        self.act(NodeAction::Resume, node, resume).await
    }

    /// Cuts the node off from everything outside its container, observers on the host included, until
    /// [`rejoin`](NodeControl::rejoin): a restart in between is cut off again, some milliseconds after its start.
    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        let isolate = async |container: String| {
            let cut = self.cut(node);
            let mut cut = cut.lock().await;
            let running = self.running(&container).await?.ok_or(IS_DOWN)?;
            self.set_traffic(running.clone(), Traffic::Dropped).await?;
            *cut = Cut { is_wanted: true, of: Some(running), problem: None };
            Ok(())
        };
        self.act(NodeAction::Isolate, node, isolate).await
    }

    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        let rejoin = async |container: String| {
            let cut = self.cut(node);
            let mut cut = cut.lock().await;
            match self.running(&container).await? {
                Some(running) => self.set_traffic(running, Traffic::Passed).await?,
                // The cut ended with its network; it is not made again.
                None if cut.is_wanted => {}
                None => return Err(IS_DOWN.into()),
            }
            *cut = Cut::default();
            Ok(())
        };
        self.act(NodeAction::Rejoin, node, rejoin).await
    }
}

#[cfg(test)]
mod tests;
