//! Actions on the containers of a cluster.

mod cuts;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    KillContainerOptions, LogsOptions, StartContainerOptions, StopContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{Mutex, Notify};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use watchkeeper::report::error_chain;
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, async_trait};
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_scenario::{Application, NodeAction, NodeControl, NodeControlError};

use self::cuts::Cut;
use super::NAME;
use super::engine;
use super::nodes::ContainerNodes;
use super::partition::{self, Running, Traffic};
use crate::NodeAddress;
use crate::shared::LogEnd;

/// How often a node is asked whether it serves.
const INTERVAL: Duration = Duration::from_millis(50);
/// How long the engine may take to say why a node was not ready in time.
const LAST_LOOK: Duration = Duration::from_secs(1);
/// Seconds that a node may take to stop when it is asked to.
const STOP_SECONDS: i32 = 5;
/// The error of an action that needs a running node.
const IS_DOWN: &str = "it does not run: start it first";
/// The error of every action once the cluster was shut down.
const SHUT_DOWN: &str = "the cluster was shut down: deploy another one";
/// Lines of a log in a report.
const LOG_LINES: &str = "200";
/// How long the engine may take to send them.
const LOG_WITHIN: Duration = Duration::from_secs(10);

/// Sets what is done with a node's packets.
type SetTraffic = dyn Fn(Running, Traffic) -> BoxFuture<'static, Result<(), DynError>> + Send + Sync;

/// Acts on the containers that are labelled with a node's name.
pub(super) struct ContainerControl<A: Application> {
    docker: Docker,
    nodes: ContainerNodes<A>,
    set_traffic: Arc<SetTraffic>,
    cuts: Arc<std::sync::Mutex<BTreeMap<String, Arc<Mutex<Cut>>>>>,
    /// Cancelled when the cluster is shut down.
    down: CancellationToken,
}

/// A node's client, and the address that it was made of.
type Reached<A> = (NodeAddress, <A as Application>::NodeClient);

impl<A: Application> Clone for ContainerControl<A> {
    fn clone(&self) -> Self {
        Self {
            docker: self.docker.clone(),
            nodes: self.nodes.clone(),
            set_traffic: Arc::clone(&self.set_traffic),
            cuts: Arc::clone(&self.cuts),
            down: self.down.clone(),
        }
    }
}

impl<A: Application> fmt::Debug for ContainerControl<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContainerControl").field("nodes", &self.nodes).finish_non_exhaustive()
    }
}

impl<A: Application> ContainerControl<A> {
    pub(super) fn new(docker: Docker, nodes: ContainerNodes<A>) -> Self {
        Self {
            docker,
            nodes,
            set_traffic: Arc::new(|node, traffic| Box::pin(partition::set(node, traffic))),
            cuts: Arc::default(),
            down: CancellationToken::new(),
        }
    }

    /// Makes every action fail from now on: the cluster was shut down.
    pub(super) fn end(&self) {
        self.down.cancel();
    }

    /// Updates the clients by the engine's events, and cuts restarted nodes off again.
    pub(super) async fn follow(self) {
        let event = Arc::new(Notify::new());
        let then = || {
            event.notify_one();
            ready(())
        };
        tokio::join!(self.nodes.clone().follow_and(then), self.keep_cut(Arc::clone(&event)));
    }

    fn is_down(&self) -> bool {
        self.down.is_cancelled()
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
        let mut lines = self.docker.logs(&container, Some(options));
        let mut log = LogEnd::default();
        let deadline = Instant::now() + LOG_WITHIN;
        loop {
            match timeout_at(deadline, lines.next()).await {
                Ok(Some(Ok(line))) => log.push(&line.into_bytes()),
                Ok(Some(Err(_))) | Err(_) if log.is_empty() => return None,
                // The end, or the engine broke off or hangs: what came before explains most.
                _ => return Some(log.into_text()),
            }
        }
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
        engine::state(&self.docker, container).await
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
impl<A: Application> NodeControl for ContainerControl<A> {
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
                let reached: Option<Reached<A>> = nodes.address(&name).zip(nodes.clients().get(&name));
                let source = reached.map(|reached| ObservedSource::new(&name, reached));
                Ok::<_, DynError>(source.into_iter().collect())
            }
        });
        let access = Arc::clone(self.nodes.access());
        let probe = move |node: ObservedSource<Reached<A>>| {
            let access = Arc::clone(&access);
            async move { access.probe(&node.source.1).await }
        };
        let observer = PerSource::new(probe).identity(|(at, _): &Reached<A>| at.ports.clone());
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
        let problem = self.nodes.problem().filter(|problem| problem.is_of(node));
        let problem = problem.map(|problem| error_chain(&*problem));
        let answer = failure.or(problem).unwrap_or_else(|| "it gave no answer".to_owned());
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
