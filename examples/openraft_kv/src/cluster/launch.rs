//! Starts nodes, with what all nodes of a cluster share.

use std::path::PathBuf;
use std::pin::pin;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use watchkeeper::report::one_line;
use watchkeeper_process::{Process, ReadyLine};

use super::directory::Directory;
use super::{ClusterError, ClusterOptions};
use crate::api::{NodeId, Ready};
use crate::client::NodeClient;
use crate::http::Http;

/// How long it may take to read what an ended process has printed.
const LAST_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes shown of a line that is not a node's.
const LINE: usize = 200;

/// Starts the nodes of one cluster. The directory is removed with the last reference to this.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) options: ClusterOptions,
    pub(super) http: Http,
    pub(super) directory: Directory,
    /// Cancelled when the cluster is closed: every action ends then.
    pub(super) closing: CancellationToken,
}

/// A started process that has not printed its address yet.
pub(super) struct Launched {
    id: NodeId,
    process: Process,
    ready: ReadyLine,
}

impl Launcher {
    pub(super) fn launch(&self, id: NodeId, listen: &str) -> Result<Launched, ClusterError> {
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
                .stderr(log);
            // An empty mark: any first line has it.
            Process::start(command, "")
        });
        match spawned {
            Ok((process, ready)) => Ok(Launched { id, process, ready }),
            Err(source) => Err(ClusterError::Spawn { id, program: self.program.clone(), source }),
        }
    }

    /// Waits until the process prints its address, and returns it.
    pub(super) async fn ready(
        &self,
        launched: Launched,
        deadline: Instant,
    ) -> Result<(Process, String), ClusterError> {
        let Launched { id, process, ready } = launched;
        let mut exit = process.exit();
        let first_line = async {
            let mut line = pin!(ready.line());
            tokio::select! {
                biased;
                line = &mut line => line,
                // A process that left its group may keep the output open.
                _ = exit.wait() => timeout(LAST_LINE_TIMEOUT, line).await.unwrap_or_else(|_| Err(String::new())),
            }
        };
        let line = match timeout_at(deadline, first_line).await {
            Ok(Ok(line)) => line,
            // It has ended, or it only closed its output, which counts as no answer.
            Ok(Err(_)) => match timeout_at(deadline, process.exit().wait()).await {
                Ok(status) => return Err(self.died(id, status)),
                Err(_) => return Err(self.not_ready(id)),
            },
            Err(_) => return Err(self.not_ready(id)),
        };
        match serde_json::from_str::<Ready>(&line) {
            Ok(ready) if ready.node_id == id => Ok((process, ready.listening)),
            _ => Err(ClusterError::NotANode { id, line: one_line(&line, LINE) }),
        }
    }

    pub(super) fn client(&self, id: NodeId, addr: &str) -> NodeClient {
        NodeClient::sharing(self.http.clone(), addr)
            .expecting(self.name.as_str(), id)
            .with_timeout(self.options.request_timeout)
    }

    /// The error of a node that ended before all were ready.
    pub(super) fn died(&self, id: NodeId, status: Option<ExitStatus>) -> ClusterError {
        ClusterError::DiedAtStart {
            id,
            status: status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string()),
            log: self.directory.log(id),
            tail: self.directory.log_tail(id),
        }
    }

    fn not_ready(&self, id: NodeId) -> ClusterError {
        ClusterError::NotReady {
            id,
            after: self.options.start_timeout,
            log: self.directory.log(id),
            tail: self.directory.log_tail(id),
        }
    }
}
