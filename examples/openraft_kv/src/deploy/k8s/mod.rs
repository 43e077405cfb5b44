//! Nodes as pods on Kubernetes, with the feature `k8s`.
//!
//! `K8sDeployer` applies the manifests of `deploy/k8s` and waits until the pods serve.
//! `PodSources` follows pods by label, also for a cluster that something else has deployed.
//! The flags and options exist without the feature, so that a command without it can say what it lacks.

#[cfg(feature = "k8s")]
mod control;
#[cfg(feature = "k8s")]
mod deployer;
#[cfg(feature = "k8s")]
mod error;
#[cfg(feature = "k8s")]
mod forward;
#[cfg(feature = "k8s")]
mod manifests;
#[cfg(feature = "k8s")]
mod names;
mod options;
#[cfg(feature = "k8s")]
mod pod;
#[cfg(feature = "k8s")]
mod pods;
#[cfg(feature = "k8s")]
mod space;

#[cfg(feature = "k8s")]
pub use deployer::K8sDeployer;
#[cfg(feature = "k8s")]
pub use error::K8sError;
#[cfg(feature = "k8s")]
pub use manifests::Manifests;
pub use options::{K8sFlags, K8sOptions, Reach};
#[cfg(feature = "k8s")]
pub use pod::PodView;
#[cfg(feature = "k8s")]
pub use pods::{PodSelection, PodSources};
