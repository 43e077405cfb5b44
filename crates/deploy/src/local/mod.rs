//! Nodes as child processes on this machine; Linux.
//!
//! [`LocalDeployer`] starts the programs of an application as its [`NodeProgram`] says, and returns a [`LocalCluster`].
//! Every action of [`NodeControl`](watchkeeper_scenario::NodeControl) but `isolate` and `rejoin` is supported: nodes on one
//! machine share its network. To cut nodes off, use the deployer for containers.
//!
//! ```
//! use std::process::Command;
//!
//! use watchkeeper_deploy::local::{LocalDeployer, LocalNode, NodeProgram, Readiness};
//! use watchkeeper_deploy::{NodeAccess, NodeAddress};
//! use watchkeeper_scenario::{Application, DynError, RunningCluster, async_trait};
//!
//! struct Sleepers; // each node is a shell that sleeps
//!
//! impl Application for Sleepers {
//!     type Deployment = u64; // how many
//!     type NodeClient = String; // the address
//! }
//!
//! #[async_trait]
//! impl NodeAccess<Sleepers> for Sleepers {
//!     fn client(&self, at: &NodeAddress) -> Result<String, DynError> {
//!         Ok(at.port("client").ok_or("no port")?.to_owned())
//!     }
//!
//!     async fn probe(&self, _: &String) -> Result<(), DynError> {
//!         Ok(()) // a real one asks the node
//!     }
//! }
//!
//! impl NodeProgram<Sleepers> for Sleepers {
//!     fn nodes(&self, deployment: &u64) -> u64 {
//!         *deployment
//!     }
//!
//!     fn ports(&self) -> &[&str] {
//!         &["client"]
//!     }
//!
//!     fn command(&self, node: &LocalNode<'_>, _: &u64) -> Result<Command, DynError> {
//!         let mut command = Command::new("sh");
//!         let script = "echo \"listening on $0, one of $1\"; exec sleep 60";
//!         command.args(["-c", script, node.port("client")?, &node.all.len().to_string()]).current_dir(node.data);
//!         Ok(command)
//!     }
//!
//!     fn readiness(&self) -> Readiness {
//!         Readiness::Line("listening on".to_owned())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), DynError> {
//! let cluster = LocalDeployer::new(Sleepers).start(&3).await?;
//! let (clients, control) = (cluster.node_clients(), cluster.node_control());
//! assert_eq!(clients.names(), ["n1", "n2", "n3"]);
//! let address = clients.get("n2").ok_or("no n2")?;
//! assert!(cluster.log("n2").await.is_some_and(|log| log == format!("listening on {address}, one of 3")));
//!
//! control.pause("n3").await?; // SIGSTOP: it takes connections and answers nothing
//! control.kill("n2").await?; // SIGKILL
//! assert_eq!(cluster.pid("n2"), None);
//! control.start("n2").await?; // with its data and on its port
//! assert!(cluster.pid("n2").is_some());
//! cluster.shut_down().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Ports
//!
//! Each port is held by a socket that is bound with `SO_REUSEADDR` and never listens. The kernel gives such a port to no
//! other `bind` to port 0 and to no outgoing connection, of any program, so that no other test and no client can take it
//! while a node starts, is down or restarts. The node itself can listen on it.
//!
//! - The server has to set `SO_REUSEADDR`, as Go, Rust's std and tokio, Java, Node.js, nginx, redis and `PostgreSQL` do
//!   on Linux. One that does not gets "address in use": let it bind port 0 and print it, with [`Readiness::Address`].
//! - A program that names the port itself can take it while the node is down; the log of the node says so.
//! - Only TCP on 127.0.0.1 is reserved. A server that listens on all addresses can use the port too.
//! - With the kernel's `net.ipv4.ip_autobind_reuse` set, which it is not by default, the system may give the port away.
//!
//! # What is left when a test ends
//!
//! | the test | processes | the temporary directory |
//! |---|---|---|
//! | shuts the cluster down, drops it, or panics | none, when that returns | removed |
//! | is killed with `SIGKILL` | none: the kernel kills each node, and a guard its children | removed by the next cluster |
//! | aborts, or exits without destructors | the same | the same |
//!
//! A process that moves to another process group (by `setsid` or `setpgid`), as a daemon does, is left: see
//! [`while_parent_lives`](watchkeeper_process::while_parent_lives).

mod cluster;
mod control;
mod deployer;
mod directory;
mod error;
mod launch;
mod lookup;
mod names;
mod node;
mod ports;
mod program;

use std::sync::{Mutex, MutexGuard, PoisonError};

use watchkeeper::DynError;
use watchkeeper_scenario::DeployError;

pub use cluster::LocalCluster;
pub use deployer::LocalDeployer;
pub use error::LocalError;
pub use program::{LocalNode, NodeProgram, Readiness};

/// The deployer's name in messages.
const NAME: &str = "local";

/// Locks `mutex`, also after a panic of another holder.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}
