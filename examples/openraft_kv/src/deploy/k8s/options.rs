//! How a cluster is deployed.

use std::path::PathBuf;
use std::time::Duration;

/// The image that the nodes run, unless another is named.
const DEFAULT_IMAGE: &str = "localhost/openraft_kv:latest";

/// How pods are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reach {
    /// By their own addresses: from inside the cluster, or where its network is routed to.
    PodIp,
    /// By a port of this machine for each pod, forwarded through the API server.
    PortForward,
}

/// How `K8sDeployer` deploys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct K8sOptions {
    /// The kubeconfig; `None` is that of `kubectl`, or inside a pod its service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig; `None` is its current one.
    pub context: Option<String>,
    /// The namespace, which is made and deleted, and must not exist before; `None` is a new name.
    pub namespace: Option<String>,
    /// The image of the nodes, which the cluster must be able to get; `localhost/openraft_kv:latest`.
    pub image: String,
    /// A directory with other manifests; `None` is those that are part of the program.
    pub manifests: Option<PathBuf>,
    /// How the pods are reached; `None` is their addresses inside a pod, forwarded ports elsewhere.
    pub reach: Option<Reach>,
    /// How long the API server may take for its first answer; 10 s.
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
            image: DEFAULT_IMAGE.to_owned(),
            manifests: None,
            reach: None,
            answer_within: Duration::from_secs(10),
            ready_within: Duration::from_secs(180),
            gone_within: Duration::from_secs(120),
        }
    }
}

/// The flags of a command that deploys on Kubernetes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct K8sFlags {
    /// Image of the nodes, one that the Kubernetes cluster can get [default: `localhost/openraft_kv:latest`]
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<String>,
    /// Kubeconfig of the Kubernetes cluster [default: that of kubectl]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub context: Option<String>,
    /// How pods are reached [default: pod-ip inside a pod, port-forward elsewhere]
    #[arg(long, value_name = "HOW")]
    pub reach: Option<Reach>,
}

impl From<K8sFlags> for K8sOptions {
    fn from(flags: K8sFlags) -> Self {
        let defaults = Self::default();
        Self {
            image: flags.image.unwrap_or(defaults.image),
            kubeconfig: flags.kubeconfig,
            context: flags.context,
            reach: flags.reach,
            ..defaults
        }
    }
}
