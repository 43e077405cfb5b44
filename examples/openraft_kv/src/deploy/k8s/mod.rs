//! Nodes as pods on Kubernetes.

mod error;
mod forward;
mod pod;
mod pods;

pub use error::K8sError;
pub use pod::PodView;
pub use pods::{PodSelection, PodSources, Reach};
