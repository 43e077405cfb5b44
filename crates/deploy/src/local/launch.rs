//! Starts nodes, with what all nodes of a cluster share.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use watchkeeper::report::one_line;
use watchkeeper::wait::{Unmet, UnmetOutcome};
use watchkeeper_process::{Process, ReadyLine, while_parent_lives};
use watchkeeper_scenario::Application;

use super::directory::{Directory, IN_AN_ERROR, Tail};
use super::ports::ReservedPort;
use super::{LocalError, LocalNode, NodeProgram, Readiness, lock, lookup};
use crate::access::asked;
use crate::{NodeAddress, ready};

/// How long it may take to read what an ended process has printed.
const OUTPUT_WITHIN: Duration = Duration::from_secs(1);
/// Bytes kept of a line that is not a node's, and of the answer to a probe.
const LINE: usize = 2_000;

/// Starts the nodes of one cluster.
pub(super) struct Launcher<A: Application> {
    pub(super) program: Arc<dyn NodeProgram<A>>,
    pub(super) deployment: A::Deployment,
    pub(super) cluster: String,
    pub(super) directory: Directory,
    pub(super) start_within: Duration,
    pub(super) stop_within: Duration,
    /// The nodes by number.
    pub(super) addresses: Mutex<BTreeMap<u64, NodeAddress>>,
    pub(super) ports: Mutex<Vec<ReservedPort>>,
    /// Cancelled when the cluster is closed: every action ends then.
    pub(super) closing: CancellationToken,
    /// Read while a process is started and registered, written while the cluster goes down. App code runs outside of it.
    pub(super) gate: RwLock<()>,
}

/// A started process that may not be ready yet.
pub(super) struct Launched {
    pub(super) at: NodeAddress,
    pub(super) process: Arc<Process>,
    pub(super) line: ReadyLine,
}

impl<A: Application> Launcher<A> {
    /// Reserves the ports of a node.
    pub(super) fn reserve(&self, number: u64, node: &str) -> Result<(), LocalError> {
        let mut ports = BTreeMap::new();
        for name in self.program.ports() {
            let port = ReservedPort::new().map_err(|source| LocalError::Port {
                node: node.to_owned(),
                port: (*name).to_owned(),
                source,
            })?;
            ports.insert((*name).to_owned(), port.address().to_string());
            lock(&self.ports).push(port);
        }
        let at = NodeAddress { cluster: self.cluster.clone(), node: node.to_owned(), number, ports };
        lock(&self.addresses).insert(number, at);
        Ok(())
    }

    /// Gives the ports and the directory up. Processes are killed before, and `gate` is written.
    pub(super) fn give_up(&self) {
        self.directory.remove();
        let ports = std::mem::take(&mut *lock(&self.ports));
        drop(ports);
    }

    /// Delays the end of the cluster until the guard is dropped.
    fn is_open(&self) -> Result<RwLockReadGuard<'_, ()>, LocalError> {
        let open = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if self.closing.is_cancelled() { Err(LocalError::ShutDown) } else { Ok(open) }
    }

    fn make_data(&self, node: &str) -> Result<PathBuf, LocalError> {
        let _open = self.is_open()?;
        let made = self.directory.data(node);
        made.map_err(|source| LocalError::Directory { path: self.directory.path().join(node), source })
    }

    /// Starts a node whose ports are reserved. `register` gets the process before the cluster can go down: that kills what
    /// is registered, whatever becomes of the future that waits for it.
    pub(super) fn launch(
        &self,
        number: u64,
        node: &str,
        register: impl FnOnce(&Arc<Process>),
    ) -> Result<Launched, LocalError> {
        let data = self.make_data(node)?;
        let all: Vec<NodeAddress> = lock(&self.addresses).values().cloned().collect();
        let Some(at) = all.iter().find(|known| known.number == number) else {
            return Err(LocalError::ShutDown);
        };
        let local = LocalNode { at, data: &data, all: &all };
        let command = self
            .program
            .command(&local, &self.deployment)
            .map_err(|source| LocalError::Command { node: node.to_owned(), source })?;
        let program = || command.get_program().into();
        if let Some(reason) = lookup::problem(&command) {
            return Err(LocalError::NoProgram { node: node.to_owned(), program: program(), reason });
        }
        let mark = match self.program.readiness() {
            Readiness::Probe => String::new(),
            Readiness::Line(mark) | Readiness::Address(mark) => mark,
        };
        let _open = self.is_open()?;
        let log = self.directory.open_log(node).map_err(|source| LocalError::Log {
            node: node.to_owned(),
            path: self.directory.log(node),
            source,
        })?;
        match Process::start_logged(while_parent_lives(&command), &mark, log) {
            Ok((process, line)) => {
                let process = Arc::new(process);
                register(&process);
                Ok(Launched { at: at.clone(), process, line })
            }
            Err(source) => Err(LocalError::Spawn { node: node.to_owned(), program: program(), source }),
        }
    }

    /// Waits until the node is ready, and returns its process and its address.
    pub(super) async fn ready(
        &self,
        launched: Launched,
        deadline: Instant,
    ) -> Result<(Arc<Process>, NodeAddress), LocalError> {
        let Launched { mut at, process, line } = launched;
        let mut exit = process.exit();
        let ended = tokio::select! {
            biased;
            met = self.met(&mut at, &process, line, deadline) => met.map(|()| None)?,
            status = exit.wait() => Some(status),
        };
        match ended {
            None => Ok((process, at)),
            Some(status) => Err(self.died(&at.node, &process, status).await),
        }
    }

    /// Waits until the node is ready, as its program says it.
    async fn met(
        &self,
        at: &mut NodeAddress,
        process: &Process,
        line: ReadyLine,
        deadline: Instant,
    ) -> Result<(), LocalError> {
        let mark = match self.program.readiness() {
            Readiness::Probe => {
                let client = self.client(at)?;
                let within = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                let asked = ready(within, || self.asked(&client)).await;
                return asked.map_err(|unmet| self.not_ready(&at.node, &reason(&unmet)));
            }
            Readiness::Line(mark) | Readiness::Address(mark) => mark,
        };
        match timeout_at(deadline, line.line()).await {
            Ok(Ok(line)) => self.read_address(&line, at),
            Ok(Err(_)) => {
                // It has ended, or it only closed its output, after which no line can come.
                let ended = timeout_at(deadline, process.exit().wait()).await;
                let status = ended.map_err(|_| self.not_ready(&at.node, "it closed its output, and runs"))?;
                Err(self.died(&at.node, process, status).await)
            }
            Err(_) => Err(self.not_ready(&at.node, &format!("it printed no line with {mark:?}"))),
        }
    }

    fn read_address(&self, line: &str, at: &mut NodeAddress) -> Result<(), LocalError> {
        if !matches!(self.program.readiness(), Readiness::Address(_)) {
            return Ok(());
        }
        self.program.address(line, at).map_err(|source| LocalError::Address {
            node: at.node.clone(),
            line: one_line(line, LINE),
            source,
        })
    }

    pub(super) fn client(&self, at: &NodeAddress) -> Result<A::NodeClient, LocalError> {
        let made = self.program.client(at);
        made.map_err(|source| LocalError::Client { node: at.node.clone(), source })
    }

    /// One question whether the node serves; the error is the reason.
    pub(super) async fn asked(&self, client: &A::NodeClient) -> Result<(), String> {
        asked(&*self.program, client).await
    }

    /// The error of a node that ended before all were ready.
    pub(super) async fn died(&self, node: &str, process: &Process, status: Option<ExitStatus>) -> LocalError {
        let (status, tail) = self.end_of(node, process, status, IN_AN_ERROR).await;
        LocalError::DiedAtStart { node: node.to_owned(), status, log: self.directory.kept_log(node), tail }
    }

    /// How a node ended, and the last lines that it logged.
    pub(super) async fn end_of(
        &self,
        node: &str,
        process: &Process,
        status: Option<ExitStatus>,
        tail: Tail,
    ) -> (String, String) {
        // A process that has left its group may keep the output open.
        let _ = timeout(OUTPUT_WITHIN, process.output_ended()).await;
        let status = status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string());
        (status, self.directory.log_tail(node, tail))
    }

    fn not_ready(&self, node: &str, reason: &str) -> LocalError {
        LocalError::NotReady {
            node: node.to_owned(),
            after: self.start_within,
            reason: one_line(reason, LINE),
            log: self.directory.kept_log(node),
            tail: self.directory.log_tail(node, IN_AN_ERROR),
        }
    }
}

/// The last reason of a wait, in one sentence.
pub(super) fn reason(unmet: &Unmet) -> String {
    match (unmet.reason(), unmet.outcome()) {
        (Some(reason), _) => reason.to_owned(),
        (None, outcome @ UnmetOutcome::Invalid(_)) => outcome.to_string(),
        (None, _) => "it has not answered yet".to_owned(),
    }
}
