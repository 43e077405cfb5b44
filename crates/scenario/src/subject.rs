//! The subject of a failure.

use std::fmt;

use crate::text::{name, quoted};

/// What failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// The deployer, or its cluster.
    Deployer(String),
    /// A factory; that of `with_observer` has the name of the observer.
    Factory(String),
    /// A workload.
    Workload(String),
    /// An expectation.
    Expectation(String),
    /// An observer.
    Observer(String),
    /// An extension, by its type.
    Extension(String),
    /// The deployment, a value of the app.
    Deployment,
    /// The run as a whole.
    Run,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deployer(name) => write!(f, "deployer {}", quoted(name)),
            Self::Factory(name) => write!(f, "factory {}", quoted(name)),
            Self::Workload(name) => write!(f, "workload {}", quoted(name)),
            Self::Expectation(name) => write!(f, "expectation {}", quoted(name)),
            Self::Observer(name) => write!(f, "observer {}", quoted(name)),
            Self::Extension(type_name) => write!(f, "extension {}", name(type_name)),
            Self::Deployment => f.write_str("the deployment"),
            Self::Run => f.write_str("the run"),
        }
    }
}
