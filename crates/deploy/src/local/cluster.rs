//! The running processes of a local cluster.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use tokio::sync::{Barrier, Mutex};
use tokio::time::Instant;
use watchkeeper::async_trait;
use watchkeeper_process::{Process, Signal};
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
    up: Arc<Up<A>>,
    /// Locked while a node is added.
    adding: Mutex<()>,
    clients: NodeClients<A::NodeClient>,
    control: Arc<LocalControl<A>>,
    directory: PathBuf,
}

/// What goes down. It waits for no action: one whose future is held and not polled would never end.
struct Up<A: Application> {
    /// Also one that is being added.
    nodes: std::sync::Mutex<Vec<Arc<NodeProcess<A>>>>,
    launcher: Arc<Launcher<A>>,
}

impl<A: Application> Up<A> {
    /// Kills and reaps the processes, then gives the directory and the ports up. A second call waits for the first one.
    ///
    /// Blocks for some milliseconds.
    fn down(&self) {
        self.launcher.closing.cancel();
        let _closed = self.launcher.gate.write().unwrap_or_else(PoisonError::into_inner);
        let processes: Vec<_> = lock(&self.nodes).iter().filter_map(|node| node.take()).collect();
        for process in &processes {
            // All at once, before the first is waited for. One that has ended gets no signal.
            let _ = process.signal(Signal::KILL);
        }
        for process in processes {
            process.kill_and_reap();
        }
        self.launcher.give_up();
    }
}

impl<A: Application> Drop for Up<A> {
    fn drop(&mut self) {
        self.down();
    }
}

impl<A: Application> Drop for LocalCluster<A> {
    fn drop(&mut self) {
        self.up.down();
    }
}

/// A node that is added, which is killed and loses its number again if it does not start.
struct Added<'a, A: Application> {
    up: &'a Up<A>,
    node: Arc<NodeProcess<A>>,
    number: u64,
    is_kept: bool,
}

impl<A: Application> Drop for Added<'_, A> {
    fn drop(&mut self) {
        if !self.is_kept {
            lock(&self.up.nodes).retain(|node| !Arc::ptr_eq(node, &self.node));
            lock(&self.up.launcher.addresses).remove(&self.number);
            if let Some(process) = self.node.take() {
                process.kill_and_reap();
            }
        }
    }
}

impl<A: Application> LocalCluster<A> {
    /// Starts all nodes and waits until each is ready; one that ends before the last is ready fails the start.
    pub(super) async fn start(launcher: Launcher<A>, names: &[String]) -> Result<Self, (String, LocalError)> {
        let launcher = Arc::new(launcher);
        let clients = NodeClients::new();
        let deadline = Instant::now() + launcher.start_within;
        let node =
            |(number, name): (u64, &String)| Arc::new(NodeProcess::new(&launcher, &clients, number, name));
        let nodes: Vec<_> = (1..).zip(names).map(node).collect();
        let up = Up { nodes: std::sync::Mutex::new(nodes.clone()), launcher: Arc::clone(&launcher) };
        for (number, name) in (1..).zip(names) {
            launcher.reserve(number, name).map_err(|error| (name.clone(), error))?;
        }
        let mut launched = Vec::with_capacity(nodes.len());
        for node in &nodes {
            launched.push(node.launch().map_err(|error| (node.name().to_owned(), error))?);
        }
        let all_ready = Barrier::new(nodes.len());
        let starting = launched.into_iter().map(async |launched| {
            let name = launched.at.node.clone();
            let ready = async {
                let (process, at) = launcher.ready(launched, deadline).await?;
                alive_until(&launcher, &all_ready, &process, &at).await.map(|()| at)
            };
            ready.await.map_err(|error| (name, error))
        });
        let started = futures_util::future::try_join_all(starting).await?;
        let control = Arc::new(LocalControl::new(launcher.closing.clone()));
        for (node, at) in nodes.iter().zip(started) {
            node.reached(&at).map_err(|error| (at.node.clone(), error))?;
            control.add(node);
        }
        let directory = launcher.directory.path().to_owned();
        Ok(Self { up: Arc::new(up), adding: Mutex::default(), clients, control, directory })
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
        let adding = async {
            let _turn = self.adding.lock().await;
            self.add().await
        };
        tokio::select! {
            biased;
            () = self.up.launcher.closing.cancelled() => Err(failed("add a node", LocalError::ShutDown)),
            added = adding => added,
        }
    }

    async fn add(&self) -> Result<String, DeployError> {
        let launcher = &self.up.launcher;
        let number = lock(&launcher.addresses).keys().last().map_or(1, |last| last + 1);
        if number > names::MOST {
            let problem = format!("a local cluster has at most {} nodes, and there are as many", names::MOST);
            return Err(DeployError::InvalidDeployment(problem));
        }
        let name = launcher.program.name(number);
        let known = self.control.find(&name).map(|_| format!("two nodes are called {name:?}"));
        if let Some(problem) = names::problem(&name).or(known) {
            return Err(DeployError::InvalidDeployment(problem));
        }
        let node = Arc::new(NodeProcess::new(launcher, &self.clients, number, &name));
        lock(&self.up.nodes).push(Arc::clone(&node));
        let mut added = Added { up: &self.up, node, number, is_kept: false };
        let starting = async {
            let deadline = Instant::now() + launcher.start_within;
            launcher.reserve(number, &name)?;
            let (_, at) = launcher.ready(added.node.launch()?, deadline).await?;
            added.node.reached(&at)
        };
        starting.await.map_err(|error| failed(&format!("start {name}"), error))?;
        added.is_kept = true;
        self.control.add(&added.node);
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
    process: &Process,
    at: &NodeAddress,
) -> Result<(), LocalError> {
    let mut exit = process.exit();
    tokio::select! {
        biased;
        status = exit.wait() => Err(launcher.died(&at.node, process, status).await),
        _ = all_ready.wait() => Ok(()),
    }
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
        let launcher = &self.up.launcher;
        let is_there = self.control.find(node).is_some() && !launcher.closing.is_cancelled();
        is_there.then(|| launcher.directory.log_tail(node, IN_A_REPORT))
    }

    /// Running actions on nodes end with [`LocalError::ShutDown`].
    async fn shut_down(&self) -> Result<(), DeployError> {
        self.up.launcher.closing.cancel();
        let up = Arc::clone(&self.up);
        if tokio::task::spawn_blocking(move || up.down()).await.is_err() {
            // The runtime shuts down, and runs nothing more on its threads.
            self.up.down();
        }
        Ok(())
    }
}
