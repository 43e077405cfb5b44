//! A cluster of child processes on this machine, to be broken on purpose.

mod directory;
mod error;
mod roster;

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, timeout, timeout_at};
use watchkeeper_process::{Process, ReadyLine, Signal};

use self::directory::Directory;
use crate::api::{Formed, Member, NodeId, Ready};
use crate::client::{ClientError, NodeClient};
use crate::http::Http;

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
    /// Leave the directory behind; `false`.
    pub keep_directory: bool,
    /// How long a node may take to be ready; 10 s.
    pub start_timeout: Duration,
    /// How long the cluster may take to form; 10 s.
    pub form_timeout: Duration,
    /// How long a node may take to stop when it is asked to; 5 s.
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
/// Each child has its own process group, so that Ctrl-C in a terminal reaches this process alone,
/// and dies with this process whatever ends it. Dropping the cluster kills and reaps every child,
/// paused ones too, and removes the directory unless it is to be kept; that blocks for a few
/// milliseconds and needs no runtime.
///
/// # Cancel safety
///
/// Every method may be dropped. A node that was not ready by then is killed.
#[derive(Debug)]
pub struct LocalCluster {
    // Before the directory: the fields are dropped in this order.
    nodes: BTreeMap<NodeId, LocalNode>,
    roster: Roster,
    name: String,
    program: PathBuf,
    options: ClusterOptions,
    http: Http,
    directory: Directory,
}

#[derive(Debug)]
struct LocalNode {
    process: Process,
    addr: String,
}

impl LocalCluster {
    /// Starts the nodes and waits until each serves. They are no cluster before
    /// [`form`](Self::form).
    ///
    /// # Errors
    ///
    /// [`ClusterError`]; nothing is left behind then.
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
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            roster: Roster::default(),
            // Ports are reused, and tests run side by side: nodes of two clusters must not talk.
            name: unique_name(),
            program,
            http: Http::new(),
            options,
            directory,
        };
        cluster.start_all().await?;
        Ok(cluster)
    }

    async fn start_all(&mut self) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.options.start_timeout;
        let mut starting = Vec::new();
        for id in 1..=self.options.nodes {
            starting.push((id, self.spawn(id, "127.0.0.1:0")?));
        }
        for (id, (process, ready)) in starting {
            self.admit(id, process, ready, deadline).await?;
        }
        Ok(())
    }

    /// Makes the nodes that run one cluster, by asking the first of them, and waits for a leader.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotFormed`] after the form timeout at the latest.
    pub async fn form(&self) -> Result<Formed, ClusterError> {
        let after = self.options.form_timeout;
        let deadline = Instant::now() + after;
        let running = self.clients();
        let members: Vec<Member> = running.iter().filter_map(member).collect();
        let first = running.first().ok_or(ClusterError::NotRunning { id: 1 })?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let patient = first.clone().with_timeout(left.min(self.options.request_timeout));
            match patient.init(members.clone()).await {
                Ok(formed) => return Ok(formed),
                // The members are set and the election lasts: the node waits for it, not we.
                Err(ClientError::NotLeader { leader: None, .. } | ClientError::TimedOut { .. })
                    if Instant::now() < deadline => {}
                Err(source) => return Err(ClusterError::NotFormed { after, source }),
            }
        }
    }

    /// Starts one more node, which is in no cluster yet, and returns its number.
    ///
    /// # Errors
    ///
    /// [`ClusterError`], as for [`start`](Self::start).
    pub async fn start_extra(&mut self) -> Result<NodeId, ClusterError> {
        let id = self.nodes.keys().last().map_or(1, |last| last + 1);
        self.launch(id, "127.0.0.1:0").await?;
        Ok(id)
    }

    /// Kills the node with `SIGKILL` and waits until it is gone.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub async fn kill(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.signal(id, Signal::KILL)?;
        self.node(id)?.process.exit().wait().await;
        Ok(())
    }

    /// Asks the node with `SIGTERM` to stop and waits until it is gone.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`],
    /// [`ClusterError::DidNotStop`] after the stop timeout.
    pub async fn terminate(&mut self, id: NodeId) -> Result<(), ClusterError> {
        let after = self.options.stop_timeout;
        self.signal(id, Signal::TERM)?;
        let mut exit = self.node(id)?.process.exit();
        match timeout(after, exit.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => Err(ClusterError::DidNotStop { id, after }),
        }
    }

    /// Stops the node with `SIGSTOP`: it takes connections and answers nothing.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub fn pause(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.running(id)?.pause().map_err(|source| ClusterError::Signal { id, source })
    }

    /// Lets a paused node go on with `SIGCONT`.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::NotRunning`].
    pub fn resume(&mut self, id: NodeId) -> Result<(), ClusterError> {
        self.signal(id, Signal::CONT)
    }

    /// Starts a node again that was killed, terminated or died, with its data and on its port.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`], [`ClusterError::StillRunning`];
    /// [`ClusterError::DiedAtStart`] if something else has the port by now, which its log says.
    pub async fn restart(&mut self, id: NodeId) -> Result<(), ClusterError> {
        let node = self.node(id)?;
        if node.process.exit().is_running() {
            return Err(ClusterError::StillRunning { id });
        }
        let addr = node.addr.clone();
        self.launch(id, &addr).await
    }

    /// A client of the node, which need not run.
    ///
    /// # Errors
    ///
    /// [`ClusterError::UnknownNode`].
    pub fn client(&self, id: NodeId) -> Result<NodeClient, ClusterError> {
        let node = self.node(id)?;
        Ok(self.client_at(id, &node.addr))
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
        let process = &self.nodes.get(&id)?.process;
        process.exit().is_running().then(|| process.pid())
    }

    /// The last lines that the node has logged; `None` if there is no such node.
    #[must_use]
    pub fn log_tail(&self, id: NodeId) -> Option<String> {
        self.nodes.contains_key(&id).then(|| self.directory.log_tail(id))
    }

    /// Where data and logs are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the directory behind when the cluster is dropped.
    pub fn keep_directory(&mut self) {
        self.directory.keep();
    }

    fn node(&self, id: NodeId) -> Result<&LocalNode, ClusterError> {
        self.nodes
            .get(&id)
            .ok_or_else(|| ClusterError::UnknownNode { id, known: self.nodes.keys().copied().collect() })
    }

    fn running(&self, id: NodeId) -> Result<&Process, ClusterError> {
        let process = &self.node(id)?.process;
        if process.exit().is_running() { Ok(process) } else { Err(ClusterError::NotRunning { id }) }
    }

    fn signal(&self, id: NodeId, signal: Signal) -> Result<(), ClusterError> {
        self.running(id)?.signal(signal).map_err(|source| ClusterError::Signal { id, source })
    }

    async fn launch(&mut self, id: NodeId, listen: &str) -> Result<(), ClusterError> {
        let deadline = Instant::now() + self.options.start_timeout;
        let (process, ready) = self.spawn(id, listen)?;
        self.admit(id, process, ready, deadline).await
    }

    fn spawn(&self, id: NodeId, listen: &str) -> Result<(Process, ReadyLine), ClusterError> {
        let spawned = self.directory.open_log(id).and_then(|log| {
            let mut command = Command::new(&self.program);
            command
                .args(["node", "--id", &id.to_string()])
                .args(["--cluster", &self.name])
                .args(["--listen", listen])
                .arg("--data-dir")
                .arg(self.directory.data(id))
                .args(["--exit-with-parent", &std::process::id().to_string()])
                .args(&self.options.node_flags)
                .stdin(Stdio::null())
                .stderr(log)
                .process_group(0);
            // Its first line, whatever it says.
            Process::start(command, "")
        });
        spawned.map_err(|source| ClusterError::Spawn { id, program: self.program.clone(), source })
    }

    /// Waits until the process says where it listens, and takes it in.
    async fn admit(
        &mut self,
        id: NodeId,
        process: Process,
        ready: ReadyLine,
        deadline: Instant,
    ) -> Result<(), ClusterError> {
        let line = match timeout_at(deadline, ready.line()).await {
            Ok(Ok(line)) => line,
            Ok(Err(_)) => {
                let status = process.exit().wait().await;
                return Err(ClusterError::DiedAtStart {
                    id,
                    status: status.map_or_else(|| "status unknown".to_owned(), |s| s.to_string()),
                    log: self.directory.log(id),
                    tail: self.directory.log_tail(id),
                });
            }
            Err(_) => {
                return Err(ClusterError::NotReady {
                    id,
                    after: self.options.start_timeout,
                    log: self.directory.log(id),
                    tail: self.directory.log_tail(id),
                });
            }
        };
        let addr = match serde_json::from_str::<Ready>(&line) {
            Ok(ready) if ready.node_id == id => ready.listening,
            _ => return Err(ClusterError::NotANode { id, line }),
        };
        let client = self.client_at(id, &addr);
        self.roster.admit(id, client, process.exit());
        self.nodes.insert(id, LocalNode { process, addr });
        Ok(())
    }

    fn client_at(&self, id: NodeId, addr: &str) -> NodeClient {
        NodeClient::sharing(self.http.clone(), addr)
            .expecting(self.name.as_str(), id)
            .with_timeout(self.options.request_timeout)
    }
}

fn member(client: &NodeClient) -> Option<Member> {
    Some(Member { node_id: client.id()?, addr: client.addr().to_owned() })
}

/// Distinguishes this cluster from every other one that may get its ports.
fn unique_name() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = now.unwrap_or_default().as_nanos();
    format!("local-{}-{nanos}", std::process::id())
}
