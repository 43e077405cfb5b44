//! Nodes as pods of a Kubernetes cluster, with the feature `k8s`.
//!
//! [`K8sDeployer`] applies [`Manifests`] in a namespace of their own and waits until the pods serve; a [`K8sProgram`]
//! says what a deployment changes in them. [`PodSources`] follows pods by label, also for a cluster that something else
//! has deployed.

// A request to the API server is behind a boxed future of a function without type parameters: so it, and the reading of
// its answer, is compiled once, in this crate, and not again for each application.

mod connect;
mod control;
mod deployer;
mod error;
mod forward;
mod manifests;
mod names;
mod options;
mod pod;
mod pods;
mod program;
mod space;

pub use deployer::K8sDeployer;
pub use error::K8sError;
pub use kube;
pub use manifests::Manifests;
pub use options::{K8sOptions, Reach};
pub use pod::{NodePod, PodView};
pub use pods::{PodSelection, PodSources};
pub use program::{K8sProgram, PodChanges};
