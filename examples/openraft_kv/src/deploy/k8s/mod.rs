//! Nodes as pods on Kubernetes.
//!
//! [`K8sDeployer`] applies the manifests of `deploy/k8s` and waits until the pods serve.
//! [`PodSources`] follows pods by label, also alone, for a cluster that somebody else has deployed.

mod control;
mod deployer;
mod error;
mod forward;
mod manifests;
mod options;
mod pod;
mod pods;
mod space;

pub use deployer::K8sDeployer;
pub use error::K8sError;
pub use manifests::Manifests;
pub use options::{K8sFlags, K8sOptions};
pub use pod::PodView;
pub use pods::{PodSelection, PodSources, Reach};
