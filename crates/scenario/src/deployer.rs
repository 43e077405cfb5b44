//! Deployers, and the clusters that they bring up.

use std::path::PathBuf;
use std::sync::Arc;

use watchkeeper::report::one_line;
use watchkeeper::{DynError, async_trait};

use crate::text::{bounded, name};
use crate::{Application, NodeClients, NodeControl};
use watchkeeper::report::debug_as_text;

/// Brings clusters of an application up.
///
/// Few have to write one: `watchkeeper-deploy` has deployers for child processes, containers by Compose and pods on
/// Kubernetes, to which an application only describes itself. By hand it is done where the nodes are something else, such as
/// servers in this process.
///
/// # Examples
///
/// A whole deployer. Its nodes are servers on real ports, as tasks of this process. What it does not have, such as a pause,
/// is [`Unsupported`](crate::NodeControlError::Unsupported) by itself.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::net::SocketAddr;
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
///
/// use tokio::io::AsyncWriteExt;
/// use tokio::net::{TcpListener, TcpStream};
/// use tokio::task::JoinHandle;
/// use watchkeeper::until;
/// use watchkeeper_scenario::{
///     Application, DeployError, Deployer, DynError, NodeAction, NodeClients, NodeControl, NodeControlError, RunningCluster,
///     Scenario, WorkloadEnd, async_trait,
/// };
///
/// struct Greeters; // each node says hello
///
/// impl Application for Greeters {
///     type Deployment = usize; // how many
///     type NodeClient = SocketAddr;
/// }
///
/// async fn listen(at: SocketAddr) -> std::io::Result<(SocketAddr, JoinHandle<()>)> {
///     let listener = TcpListener::bind(at).await?;
///     let at = listener.local_addr()?;
///     let serving = tokio::spawn(async move {
///         while let Ok((mut stream, _)) = listener.accept().await {
///             let _ = stream.write_all(b"hello").await;
///         }
///     });
///     Ok((at, serving))
/// }
///
/// struct InThisProcess;
///
/// #[async_trait]
/// impl Deployer<Greeters> for InThisProcess {
///     fn name(&self) -> &str {
///         "in-process"
///     }
///
///     async fn deploy(&self, nodes: &usize) -> Result<Box<dyn RunningCluster<Greeters>>, DeployError> {
///         // Dropped if a node fails, and then the others go down with it.
///         let cluster = Cluster(Running { clients: NodeClients::new(), tasks: Arc::default() });
///         for number in 1..=*nodes {
///             let name = format!("n{number}");
///             let listening = listen(([127, 0, 0, 1], 0).into()).await;
///             let (at, serving) = listening.map_err(|error| DeployError::Failed {
///                 deployer: self.name().to_owned(),
///                 step: format!("start {name}"),
///                 source: error.into(),
///             })?;
///             cluster.0.clients.insert(&name, at);
///             cluster.0.tasks.lock().unwrap().insert(name, serving);
///         }
///         Ok(Box::new(cluster))
///     }
/// }
///
/// /// What the cluster and its control share.
/// #[derive(Clone)]
/// struct Running {
///     clients: NodeClients<SocketAddr>,
///     tasks: Arc<Mutex<BTreeMap<String, JoinHandle<()>>>>,
/// }
///
/// impl Running {
///     /// Ends a node, and waits until its port is closed; `false` if it was down.
///     async fn end(&self, node: &str) -> bool {
///         let Some(task) = self.tasks.lock().unwrap().remove(node) else { return false };
///         task.abort();
///         let _ = task.await;
///         true
///     }
/// }
///
/// struct Cluster(Running);
///
/// impl Drop for Cluster {
///     fn drop(&mut self) {
///         self.0.tasks.lock().unwrap().values().for_each(JoinHandle::abort);
///     }
/// }
///
/// #[async_trait]
/// impl RunningCluster<Greeters> for Cluster {
///     fn node_clients(&self) -> NodeClients<SocketAddr> {
///         self.0.clients.clone()
///     }
///
///     fn node_control(&self) -> Arc<dyn NodeControl> {
///         Arc::new(self.0.clone())
///     }
///
///     async fn shut_down(&self) -> Result<(), DeployError> {
///         for node in self.0.clients.names() {
///             self.0.end(&node).await;
///         }
///         Ok(())
///     }
/// }
///
/// #[async_trait]
/// impl NodeControl for Running {
///     fn deployer(&self) -> &str {
///         "in-process"
///     }
///
///     fn nodes(&self) -> Vec<String> {
///         self.clients.names()
///     }
///
///     async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
///         let at = self.clients.get(node).ok_or_else(|| self.unknown(node))?;
///         let connected = until("it listens", || async { TcpStream::connect(at).await.map(|_| true) });
///         let not_ready = |last| NodeControlError::NotReady { node: node.to_owned(), within, last };
///         connected.within(within).await.map_err(|unmet| not_ready(unmet.to_string()))
///     }
///
///     async fn start(&self, node: &str) -> Result<(), NodeControlError> {
///         let at = self.clients.get(node).ok_or_else(|| self.unknown(node))?;
///         if self.tasks.lock().unwrap().contains_key(node) {
///             return Ok(());
///         }
///         let failed = |source: DynError| NodeControlError::Failed { action: NodeAction::Start, node: node.to_owned(), source };
///         let (_, serving) = listen(at).await.map_err(|error| failed(error.into()))?;
///         self.tasks.lock().unwrap().insert(node.to_owned(), serving);
///         Ok(())
///     }
///
///     async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
///         self.clients.get(node).ok_or_else(|| self.unknown(node))?;
///         let down = || NodeControlError::Failed { action: NodeAction::Kill, node: node.to_owned(), source: "it is down".into() };
///         if self.end(node).await { Ok(()) } else { Err(down()) }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let scenario = Scenario::<Greeters>::builder("a node comes back", 2).workload("kill n1", |context| async move {
///     let (n1, control) = (context.clients().get("n1").ok_or("no n1")?, context.control());
///     control.kill("n1").await?;
///     assert!(TcpStream::connect(n1).await.is_err());
///     control.start("n1").await?;
///     control.wait_ready("n1", Duration::from_secs(5)).await?;
///     assert!(matches!(control.pause("n1").await, Err(NodeControlError::Unsupported { .. })));
///     Ok(())
/// });
/// let report = scenario.build()?.run(&InThisProcess).await?;
/// assert_eq!(report.workloads[0].end, WorkloadEnd::Done);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Deployer<A: Application>: Send + Sync {
    /// Its name in messages, such as "local" or "compose".
    fn name(&self) -> &str;

    /// Starts the nodes and returns when each can be reached.
    ///
    /// When it fails, or when its future is dropped, nothing is left running.
    ///
    /// # Errors
    ///
    /// [`DeployError`].
    async fn deploy(&self, deployment: &A::Deployment) -> Result<Box<dyn RunningCluster<A>>, DeployError>;
}

/// A running cluster.
///
/// Dropping it takes the nodes down, as far as that is possible without waiting.
#[async_trait]
pub trait RunningCluster<A: Application>: Send + Sync + 'static {
    /// The current clients; the cluster keeps them current while nodes restart, join and leave.
    fn node_clients(&self) -> NodeClients<A::NodeClient>;

    /// The actions on single nodes.
    fn node_control(&self) -> Arc<dyn NodeControl>;

    /// The newest lines of the log of `node`, for a report. Default: no log is kept.
    async fn log(&self, _node: &str) -> Option<String> {
        None
    }

    /// Takes everything down and returns when nothing is left. May be called again.
    ///
    /// # Errors
    ///
    /// [`DeployError`]: something is left; the error names it.
    async fn shut_down(&self) -> Result<(), DeployError>;
}

/// Why a cluster did not come up, or did not go down.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum DeployError {
    /// Something that the deployer needs is missing.
    #[error("the {} deployer is not available: {}; {}", name(deployer), bounded(missing), bounded(fix))]
    Unavailable {
        /// Which deployer.
        deployer: String,
        /// What is missing.
        missing: String,
        /// How to get it.
        fix: String,
    },
    /// The deployment is invalid.
    #[error("the deployment cannot be brought up: {}", bounded(.0))]
    InvalidDeployment(String),
    /// A manifest or Compose file has a mistake.
    #[error("{}: {}", one_line(&path.to_string_lossy(), 2_000), bounded(problem))]
    InvalidManifest {
        /// The file.
        path: PathBuf,
        /// Where the mistake is, and how to fix it.
        problem: String,
    },
    /// The deployer, or the cluster it brought up, panicked.
    #[error("the {} deployer panicked: {}", name(deployer), bounded(message))]
    Panicked {
        /// Which deployer.
        deployer: String,
        /// The message of the panic.
        message: String,
    },
    /// The parent of the cluster was cancelled before the cluster was up. Nothing is left running.
    #[error(
        "the {} deployer was cancelled by its parent: start another cluster, with a parent that is not cancelled",
        name(deployer)
    )]
    Cancelled {
        /// Which deployer.
        deployer: String,
    },
    /// A step failed.
    #[error("the {} deployer could not {}", name(deployer), bounded(step))]
    Failed {
        /// Which deployer.
        deployer: String,
        /// The step that failed, such as "start n1".
        step: String,
        /// Why.
        source: DynError,
    },
}

debug_as_text!(DeployError);
