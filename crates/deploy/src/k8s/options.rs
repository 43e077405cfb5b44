//! How a cluster is deployed.

use std::path::PathBuf;
use std::time::Duration;

/// How pods are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// By their own addresses: from inside the cluster, or where its network is routed to.
    PodIp,
    /// By ports of this machine for each pod, forwarded through the API server.
    PortForward,
}

/// How [`K8sDeployer`](super::K8sDeployer) deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K8sOptions {
    /// The kubeconfig; `None` is that of `kubectl`, or inside a pod its service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; `None` is its current one.
    pub context: Option<String>,
    /// The namespace, which is made and deleted, and must not exist before; `None` is a new name, which begins with that
    /// of the manifest.
    pub namespace: Option<String>,
    /// The image of the nodes, which the cluster must be able to get; `None` is that of the manifest.
    pub image: Option<String>,
    /// How the pods are reached; `None` is their addresses inside a pod, forwarded ports elsewhere.
    pub reach: Option<Reach>,
    /// How long the API server may take for its first answer, and for a node's log; 10 s.
    pub answer_within: Duration,
    /// How long the pods may take to be ready, with the pull of the image; 180 s.
    pub ready_within: Duration,
    /// How long a pod or the namespace may take to be gone; 120 s.
    pub gone_within: Duration,
}

impl Default for K8sOptions {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            context: None,
            namespace: None,
            image: None,
            reach: None,
            answer_within: Duration::from_secs(10),
            ready_within: Duration::from_secs(180),
            gone_within: Duration::from_secs(120),
        }
    }
}
