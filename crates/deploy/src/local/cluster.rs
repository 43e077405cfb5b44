//! The running processes of a local cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::{Barrier, Mutex};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use watchkeeper::async_trait;
use watchkeeper_process::Process;
use watchkeeper_scenario::{Application, DeployError, NodeClients, NodeControl, RunningCluster};

use super::control::LocalControl;
use super::directory::IN_A_REPORT;
use super::launch::Launcher;
use super::node::NodeProcess;
use super::{LocalError, failed, lock, names};
use crate::NodeAddress;

/// A cluster of child processes; [`RunningCluster`] has most of what it does.
///
/// Dropping it kills and reaps every process, paused ones too, and removes the directory unless it was given; that
/// blocks for a few milliseconds and needs no runtime. Running actions end with [`LocalError::ShutDown`].
pub struct LocalCluster<A: Application> {
    up: Mutex<Option<Up<A>>>,
    /// Locked while a node is added.
    adding: Mutex<()>,
    closing: CancellationToken,
    clients: NodeClients<A::NodeClient>,
    control: Arc<LocalControl<A>>,
    directory: PathBuf,
}

/// What goes down: the processes before the directory and the ports.
struct Up<A: Application> {
    nodes: Vec<Arc<NodeProcess<A>>>,
    launcher: Arc<Launcher<A>>,
}

impl<A: Application> Drop for Up<A> {
    fn drop(&mut self) {
        self.launcher.closing.cancel();
        for node in &self.nodes {
            node.kill_now();
        }
    }
}

/// The number of a node that is added, which it loses again if it does not start.
struct Reserved<'a, A: Application> {
    launcher: &'a Launcher<A>,
    number: u64,
    is_kept: bool,
}

impl<A: Application> Reserved<'_, A> {
    fn keep(mut self) {
        self.is_kept = true;
    }
}

impl<A: Application> Drop for Reserved<'_, A> {
    fn drop(&mut self) {
        if !self.is_kept {
            lock(&self.launcher.addresses).remove(&self.number);
        }
    }
}

impl<A: Application> LocalCluster<A> {
    /// Starts all nodes and waits until each is ready; one that ends before the last is ready fails the start.
    pub(super) async fn start(launcher: Launcher<A>, names: &[String]) -> Result<Self, (String, LocalError)> {
        let launcher = Arc::new(launcher);
        let clients = NodeClients::new();
        let control = Arc::new(LocalControl::new(launcher.closing.clone()));
        let deadline = Instant::now() + launcher.start_within;
        let mut launched = Vec::with_capacity(names.len());
        for (number, name) in (1..).zip(names) {
            launcher.reserve(number, name).map_err(|error| (name.clone(), error))?;
        }
        for (number, name) in (1..).zip(names) {
            launched.push(launcher.launch(number, name).map_err(|error| (name.clone(), error))?);
        }
        let all_ready = Barrier::new(launched.len());
        let starting = launched.into_iter().map(async |launched| {
            let name = launched.at.node.clone();
            let ready = async {
                let (process, at) = launcher.ready(launched, deadline).await?;
                alive_until(&launcher, &all_ready, process, at).await
            };
            ready.await.map_err(|error| (name, error))
        });
        let started = futures_util::future::try_join_all(starting).await?;
        let mut nodes = Vec::with_capacity(started.len());
        for (process, at) in started {
            let node = NodeProcess::new(&launcher, &clients, &at, process);
            let node = Arc::new(node.map_err(|error| (at.node.clone(), error))?);
            control.add(&node);
            nodes.push(node);
        }
        let directory = launcher.directory.path().to_owned();
        let closing = launcher.closing.clone();
        let up = Mutex::new(Some(Up { nodes, launcher }));
        Ok(Self { up, adding: Mutex::default(), closing, clients, control, directory })
    }

    /// Starts one more node, which gets the next number, and returns its name once it is ready.
    ///
    /// What it is to the others is up to them: most clusters have to be asked to add a member, before or after. The
    /// clients have it at once, so that an observer over them finds it. One node is added at a time.
    ///
    /// # Errors
    ///
    /// [`DeployError`] as for the start of all nodes; then there is no such node. [`LocalError::ShutDown`] as soon as the
    /// cluster goes down.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, there is no such node.
    pub async fn add_node(&self) -> Result<String, DeployError> {
        let _turn = self.adding.lock().await;
        let up = self.up.lock().await;
        let Some(launcher) = up.as_ref().map(|up| Arc::clone(&up.launcher)) else {
            return Err(failed("add a node", LocalError::ShutDown));
        };
        drop(up);
        let number = lock(&launcher.addresses).keys().last().map_or(1, |last| last + 1);
        let name = launcher.program.name(number);
        let known = self.control.find(&name).map(|_| format!("two nodes are called {name:?}"));
        if let Some(problem) = names::problem(&name).or(known) {
            return Err(DeployError::InvalidDeployment(problem));
        }
        let reserved = Reserved { launcher: &launcher, number, is_kept: false };
        let starting = async {
            let deadline = Instant::now() + launcher.start_within;
            launcher.reserve(number, &name)?;
            let (process, at) = launcher.ready(launcher.launch(number, &name)?, deadline).await?;
            NodeProcess::new(&launcher, &self.clients, &at, process)
        };
        let started = tokio::select! {
            biased;
            () = launcher.closing.cancelled() => Err(LocalError::ShutDown),
            started = starting => started,
        };
        let node = Arc::new(started.map_err(|error| failed(&format!("start {name}"), error))?);
        reserved.keep();
        self.control.add(&node);
        if let Some(up) = self.up.lock().await.as_mut() {
            up.nodes.push(node);
        }
        Ok(name)
    }

    /// The process number of a node that runs, for a debugger.
    #[must_use]
    pub fn pid(&self, node: &str) -> Option<u32> {
        self.control.find(node)?.ok()?.pid()
    }

    /// Where data and logs are: `n1/data/`, `n1/log` and so on.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

impl<A: Application> fmt::Debug for LocalCluster<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.control.nodes();
        let mut cluster = f.debug_struct("LocalCluster");
        cluster.field("nodes", &nodes).field("directory", &self.directory).finish_non_exhaustive()
    }
}

/// Waits until all nodes are ready, and this one has not ended.
async fn alive_until<A: Application>(
    launcher: &Launcher<A>,
    all_ready: &Barrier,
    process: Process,
    at: NodeAddress,
) -> Result<(Process, NodeAddress), LocalError> {
    let mut exit = process.exit();
    tokio::select! {
        biased;
        status = exit.wait() => return Err(launcher.died(&at.node, &process, status).await),
        _ = all_ready.wait() => {}
    }
    Ok((process, at))
}

#[async_trait]
impl<A: Application> RunningCluster<A> for LocalCluster<A> {
    fn node_clients(&self) -> NodeClients<A::NodeClient> {
        self.clients.clone()
    }

    fn node_control(&self) -> Arc<dyn NodeControl> {
        Arc::clone(&self.control) as Arc<dyn NodeControl>
    }

    async fn log(&self, node: &str) -> Option<String> {
        let up = self.up.lock().await;
        let up = up.as_ref()?;
        up.nodes
            .iter()
            .any(|known| known.name() == node)
            .then(|| up.launcher.directory.log_tail(node, IN_A_REPORT))
    }

    /// Running actions on nodes end with [`LocalError::ShutDown`].
    async fn shut_down(&self) -> Result<(), DeployError> {
        self.closing.cancel();
        let _adding = self.adding.lock().await;
        let mut up = self.up.lock().await;
        for node in up.iter().flat_map(|up| &up.nodes) {
            node.close().await;
        }
        let Some(gone) = up.take() else { return Ok(()) };
        // Removes the directory, which blocks for some milliseconds.
        let gone = tokio::task::spawn_blocking(move || drop(gone)).await;
        gone.map_err(|error| failed("remove the nodes' directory", error))
    }
}
