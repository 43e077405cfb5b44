//! The store as child processes: this program again, as a node.

use std::path::PathBuf;
use std::process::Command;

use watchkeeper::{DynError, async_trait};
use watchkeeper_deploy::local::{LocalDeployer, LocalNode, NodeProgram, Readiness};
use watchkeeper_deploy::{NodeAccess, NodeAddress};

use super::{CLIENT_PORT, Deployment, RaftKv};
use crate::NodeClient;
use crate::api::Ready;

/// Starts the store as child processes of this `openraft_kv`; `None` is the program that is running.
///
/// It needs nothing installed.
#[must_use]
pub fn local_deployer(program: Option<PathBuf>) -> LocalDeployer<RaftKv> {
    LocalDeployer::new(LocalProgram { program })
}

struct LocalProgram {
    program: Option<PathBuf>,
}

#[async_trait]
impl NodeAccess<RaftKv> for LocalProgram {
    fn client(&self, at: &NodeAddress) -> Result<NodeClient, DynError> {
        RaftKv.client(at)
    }

    async fn probe(&self, client: &NodeClient) -> Result<(), DynError> {
        RaftKv.probe(client).await
    }
}

impl NodeProgram<RaftKv> for LocalProgram {
    fn nodes(&self, deployment: &Deployment) -> u64 {
        deployment.nodes
    }

    fn ports(&self) -> &[&str] {
        &[CLIENT_PORT]
    }

    fn command(&self, node: &LocalNode<'_>, deployment: &Deployment) -> Result<Command, DynError> {
        let program = match &self.program {
            Some(program) => program.clone(),
            None => std::env::current_exe()?,
        };
        let mut command = Command::new(program);
        command
            .args(["node", "--id", &node.at.number.to_string(), "--cluster", &node.at.cluster])
            .args(["--listen", node.port(CLIENT_PORT)?, "--data-dir"])
            .arg(node.data)
            .args(&deployment.node_flags);
        Ok(command)
    }

    fn readiness(&self) -> Readiness {
        Readiness::Address(r#"{"node_id":"#.to_owned())
    }

    /// The line also shows that it is this node.
    fn address(&self, line: &str, at: &mut NodeAddress) -> Result<(), DynError> {
        let Ready { node_id, listening } = serde_json::from_str(line)?;
        if node_id != at.number {
            return Err(format!("it is the line of node {node_id}").into());
        }
        at.ports.insert(CLIENT_PORT.to_owned(), listening);
        Ok(())
    }
}
