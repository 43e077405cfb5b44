//! Starting a node: what all nodes of a cluster share.

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

/// How long what a process has printed may take to be read once it has ended.
const LAST_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// How much is shown of a line that is not a node's, in bytes.
const LINE: usize = 200;

/// What it takes to start a node of one cluster. The last node that has it takes the directory with it.
#[derive(Debug)]
pub(super) struct Launcher {
    pub(super) name: String,
    pub(super) program: PathBuf,
    pub(super) options: ClusterOptions,
    pub(super) http: Http,
    pub(super) directory: Directory,
    /// Cancelled when the cluster is to go: no action goes on then.
    pub(super) closing: CancellationToken,
}

/// A process that was started and has yet to say where it listens.
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
            // Its first line, whatever it says.
            Process::start(command, "")
        });
        match spawned {
            Ok((process, ready)) => Ok(Launched { id, process, ready }),
            Err(source) => Err(ClusterError::Spawn { id, program: self.program.clone(), source }),
        }
    }

    /// Waits until the process says where it listens, and returns that.
    pub(super) async fn ready(
        &self,
        launched: Launched,
        deadline: Instant,
    ) -> Result<(Process, String), ClusterError> {
        let Launched { id, process, ready } = launched;
        let mut exit = process.exit();
        let said = async {
            let mut line = pin!(ready.line());
            tokio::select! {
                biased;
                line = &mut line => line,
                // What has left its process group may hold the output open for ever.
                _ = exit.wait() => timeout(LAST_LINE_TIMEOUT, line).await.unwrap_or_else(|_| Err(String::new())),
            }
        };
        let line = match timeout_at(deadline, said).await {
            Ok(Ok(line)) => line,
            // It has ended, or only closed its output: then it is as good as silent.
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

    /// The error of a node that ended before all were up.
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
