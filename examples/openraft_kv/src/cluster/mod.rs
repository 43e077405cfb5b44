//! A cluster of child processes on this machine, to be broken on purpose.

mod directory;
mod error;
mod launch;
mod node;
mod roster;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::directory::Directory;
use self::launch::Launcher;
use crate::api::{Formed, Member, NodeId};
use crate::client::NodeClient;
use crate::http::Http;

pub(crate) use self::node::NodeProcess;
pub use error::ClusterError;
pub use roster::Roster;

/// How a local cluster is started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// How many nodes, 1 to 64; 3. They are numbered from 1.
    pub nodes: u64,
    /// The `openraft_kv` program; `None` is the one that is running.
    pub program: Option<PathBuf>,
    /// Where data and logs go, a directory that does not exist yet; `None` is a temporary one.
    pub directory: Option<PathBuf>,
    /// Whether the directory is kept; `false`.
    pub keep_directory: bool,
    /// How long a node may take to be ready; 10 s.
    pub start_timeout: Duration,
    /// How long the cluster may take to form; 10 s.
    pub form_timeout: Duration,
    /// How long a node may take to stop when it is asked to; 5 s. Then it is killed.
    pub stop_timeout: Duration,
    /// How long each request of a client may take; 3 s.
    pub request_timeout: Duration,
    /// More flags for every node, such as `--heartbeat-ms`, `100`.
    pub node_flags: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            nodes: 3,
            program: None,
            directory: None,
            keep_directory: false,
            start_timeout: Duration::from_secs(10),
            form_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(3),
            node_flags: Vec::new(),
        }
    }
}

/// Nodes as child processes, each with its own port, data directory and log.
///
/// Each child has its own process group, so that Ctrl-C in a terminal reaches only this process. A
/// child dies with this process, even if this process is killed. Dropping the cluster kills and reaps
/// every child, paused ones too, and removes the directory unless it is to be kept; that blocks for a
/// few milliseconds and needs no runtime. If this process is killed, a temporary directory stays with
/// its logs until the next cluster is started.
///
/// # Cancel safety
///
/// Every method may be dropped. A node that was not ready by then is killed, and so is one that was asked to stop.
#[derive(Debug)]
pub struct LocalCluster {
    // Before the launcher, which owns the directory: fields are dropped in this order.
    nodes: BTreeMap<NodeId, Arc<NodeProcess>>,
    roster: Roster,
    launcher: Arc<Launcher>,
}

impl LocalCluster {
    /// Starts the nodes and returns when each serves. They become a cluster by [`form`](Self::form).
    ///
    /// # Errors
    ///
    /// [`ClusterError`], also when a node that served ends while the others start; then no node is left.
    pub async fn start(options: ClusterOptions) -> Result<Self, ClusterError> {
        if !(1..=64).contains(&options.nodes) {
            return Err(ClusterError::Impossible {
                option: "nodes",
                reason: "a local cluster has 1 to 64 nodes",
            });
        }
        let program = match &options.program {
            Some(program) => program.clone(),
            None => std::env::current_exe().map_err(|source| ClusterError::Spawn {
                id: 1,
                program: "the running program".into(),
                source,
            })?,
        };
        let directory = Directory::make(options.directory.as_deref(), options.keep_directory)?;
        let launcher = Launcher {
            // Ports are reused, and tests run concurrently: nodes of two clusters must not talk.
            name: format!("local-{}", unique()),
            program,
            http: Http::new(),
            options,
            directory,
            closing: CancellationToken::new(),
        };
        let mut cluster =
            Self { nodes: BTreeMap::new(), roster: Roster::default(), launcher: Arc::new(launcher) };
        cluster.start_all().await?;
        Ok(cluster)
    }

    async fn start_all(&mut self) -> Result<(), ClusterError> {
        let deadline = self.deadline();
        let mut starting = Vec::new();
        for id in 1..=self.launcher.options.nodes {
            starting.push((id, self.launcher.launch(id, "127.0.0.1:0")?));
        }
        for (id, launched) in starting {
            let node = NodeProcess::admit(&self.launcher, &self.roster, id, launched, deadline).await?;
            self.nodes.insert(id, node);
        }
        // The first may have ended while the last one started.
        for (id, node) in &self.nodes {
            if !node.is_running() {
                let status = node.exit()?.wait().await;
                return Err(self.launcher.died(*id, status));
            }
        }
        Ok(())
    }

    /// Forms a cluster of the running nodes through the first of them, and waits for a leader.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotFormed`] after the form timeout at the latest.
    pub async fn form(&self) -> Result<Formed, ClusterError> {
        let after = self.launcher.options.form_timeout;
        let deadline = Instant::now() + after;
        let running = self.clients();
        let members: Vec<Member> = running.iter().filter_map(member).collect();
        let first = running.first().ok_or(ClusterError::NotRunning { id: 1 })?;
        first.form(&members, deadline).await.map_err(|source| ClusterError::NotFormed { after, source })
    }

    /// Starts one more node, which is in no cluster yet, and returns its number.
    ///
    /// # Errors
    ///
    /// [`ClusterError`], as for [`start`](Self::start).
    pub async fn start_extra(&mut self) -> Result<NodeId, ClusterError> {
        let id = self.nodes.keys().last().map_or(1, |last| last + 1);
        let deadline = self.deadline();
        let launched = self.launcher.launch(id, "127.0.0.1:0")?;
        let node = NodeProcess::admit(&self.launcher, &self.roster, id, launched, deadline).await?;
        self.nodes.insert(id, node);
        Ok(id)
    }

    /// Kills the node with `SIGKILL` and waits until it has ended.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub async fn kill(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.node(id)?.kill().await
    }

    /// Asks the node with `SIGTERM` to stop and waits until it has ended. After the stop timeout it is killed.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`]; [`ClusterError::DidNotStop`] at once for a paused
    /// node, which would stop when it is resumed, and for one that has not ended 5 s after it was killed.
    pub async fn terminate(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.node(id)?.terminate().await
    }

    /// Pauses the node with `SIGSTOP`: it accepts connections and answers nothing.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub fn pause(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.node(id)?.pause_now()
    }

    /// Resumes a paused node with `SIGCONT`.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub fn resume(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.node(id)?.resume_now()
    }

    /// Starts a node that has ended, with its data and on its port.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::StillRunning`];
    /// [`ClusterError::DiedAtStart`] if another process has the port by now, which its log says.
    pub async fn restart(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.node(id)?.start().await
    }

    /// A client of the node, which need not run.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`].
    pub fn client(&self, id: NodeId) -> Result<NodeClient, ClusterError> {
        self.node(id)?.client()
    }

    /// Clients of the nodes that run, paused ones included.
    #[must_use]
    pub fn clients(&self) -> Vec<NodeClient> {
        self.roster.running()
    }

    /// A view of the nodes that can be kept and shared, and does not keep the cluster alive.
    #[must_use]
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// The process id of a node that runs.
    #[must_use]
    pub fn pid(&self, id: NodeId) -> Option<u32> {
        self.nodes.get(&id)?.pid()
    }

    /// The last lines that the node has logged; `None` if there is no such node.
    #[must_use]
    pub fn log_tail(&self, id: NodeId) -> Option<String> {
        self.nodes.contains_key(&id).then(|| self.launcher.directory.log_tail(id))
    }

    /// Where data and logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.launcher.directory.path()
    }

    /// Keeps the directory when the cluster is dropped.
    pub fn keep_directory(&mut self) {
        self.launcher.directory.keep();
    }

    /// The nodes by number, for concurrent actions.
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, Arc<NodeProcess>> {
        &self.nodes
    }

    /// Ends all nodes, and the actions on them.
    pub(crate) async fn close(&self) {
        for node in self.nodes.values() {
            node.close().await;
        }
    }

    /// Cancelling it ends every running action; an action holds its node until then.
    pub(crate) fn closing(&self) -> CancellationToken {
        self.launcher.closing.clone()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.launcher.options.start_timeout
    }

    fn node(&self, id: NodeId) -> Result<&NodeProcess, ClusterError> {
        let known = || self.nodes.keys().copied().collect();
        self.nodes
            .get(&id)
            .map(|node| &**node)
            .ok_or_else(|| ClusterError::UnknownNode { id, known: known() })
    }
}

fn member(client: &NodeClient) -> Option<Member> {
    Some(Member { node_id: client.id()?, addr: client.addr().to_owned() })
}

/// A part of a name that no other cluster has.
pub(crate) fn unique() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    format!("{}-{}", std::process::id(), now.as_nanos())
}
