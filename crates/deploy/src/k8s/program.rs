//! What an application says of its pods.

use watchkeeper::DynError;
use watchkeeper_scenario::Application;

use super::pod::NodePod;
use crate::NodeAccess;

/// How an application runs in the pods of a `StatefulSet`.
///
/// # Examples
///
/// ```
/// use watchkeeper_deploy::k8s::{K8sProgram, NodePod, PodChanges};
/// use watchkeeper_deploy::{NodeAccess, NodeAddress};
/// use watchkeeper_scenario::{Application, DynError, async_trait};
///
/// struct Shop;
/// impl Application for Shop {
///     type Deployment = u64; // how many nodes
///     type NodeClient = String; // where one is
/// }
///
/// #[async_trait]
/// impl NodeAccess<Shop> for Shop {
///     fn client(&self, at: &NodeAddress) -> Result<String, DynError> {
///         Ok(at.port("http").ok_or("name the port of its container `http`")?.to_owned())
///     }
///
///     async fn probe(&self, node: &String) -> Result<(), DynError> {
///         Ok(tokio::net::TcpStream::connect(node).await.map(drop)?)
///     }
/// }
///
/// impl K8sProgram<Shop> for Shop {
///     fn pod(&self) -> NodePod {
///         NodePod::new("shop", ["http"])
///     }
///
///     fn changes(&self, nodes: &u64, cluster: &str) -> Result<PodChanges, DynError> {
///         let arguments = vec![format!("--cluster={cluster}")];
///         Ok(PodChanges { arguments, ..PodChanges::replicas(*nodes) })
///     }
/// }
///
/// assert_eq!(Shop.changes(&3, "shop-1").unwrap().arguments, ["--cluster=shop-1"]);
/// assert_eq!((Shop.pod().name)(1), "n1");
/// ```
pub trait K8sProgram<A: Application>: NodeAccess<A> {
    /// Which container of a pod is the node, which ports of it are reached, and what the node is called.
    fn pod(&self) -> NodePod;

    /// What a deployment changes in the `StatefulSet`. `cluster` is the cluster's name, and that of its namespace.
    ///
    /// # Errors
    ///
    /// The deployment is invalid; the text says why.
    fn changes(&self, deployment: &A::Deployment, cluster: &str) -> Result<PodChanges, DynError>;
}

/// What a deployment changes in the manifest of the `StatefulSet`; all but the count of replicas is of the node's
/// container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodChanges {
    /// How many pods, from 1 to 10,000.
    pub replicas: u64,
    /// What is added to the arguments; nothing.
    pub arguments: Vec<String>,
    /// Variables that are set, in place of those of the same name; none.
    pub environment: Vec<(String, String)>,
}

impl PodChanges {
    /// So many pods, otherwise as in the manifest.
    #[must_use]
    pub fn replicas(replicas: u64) -> Self {
        Self { replicas, arguments: Vec::new(), environment: Vec::new() }
    }
}
