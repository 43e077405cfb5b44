//! Nodes in containers of an engine on this machine, started by docker-compose; Linux, with the feature `compose`.
//!
//! [`ComposeDeployer`] builds the images and runs the services of a Compose file; a [`ComposeProgram`] says what they
//! mean. [`ContainerNodes`] finds the containers by label and follows them, also those that something else has started.
//!
//! | label | on | is |
//! |---|---|---|
//! | [`watchkeeper.cluster`](CLUSTER_LABEL) | containers, networks, volumes | `${COMPOSE_PROJECT_NAME}` |
//! | [`watchkeeper.node`](NODE_LABEL) | containers | the name of the node, such as `n1` |
//! | [`watchkeeper.port`](PORT_LABEL) | containers | the port called `client`, as a number |
//! | `watchkeeper.port.NAME` | containers | the port called `NAME` |
//! | `watchkeeper.image` | images | the application's name, so that old ones can be removed |
//!
//! Everything that is made has the cluster's label, so that what is left can be counted and found:
//! `docker ps --all --filter label=watchkeeper.cluster`.

mod cluster;
mod command;
mod control;
mod deployer;
mod engine;
mod manifest;
mod nodes;
mod partition;
mod program;
mod project;

use watchkeeper::DynError;
use watchkeeper_scenario::DeployError;

pub use bollard;
pub use command::{Ended, run_within};
pub use deployer::ComposeDeployer;
pub use nodes::{CLUSTER_LABEL, ContainerError, ContainerNodes, NODE_LABEL, PORT_LABEL};
pub use program::{ComposeProgram, first_services, quoted};

/// The deployer's name in messages.
const NAME: &str = "compose";

fn failed(step: &str, source: impl Into<DynError>) -> DeployError {
    DeployError::Failed { deployer: NAME.to_owned(), step: step.to_owned(), source: source.into() }
}

fn unavailable(missing: impl Into<String>, fix: &str) -> DeployError {
    DeployError::Unavailable { deployer: NAME.to_owned(), missing: missing.into(), fix: fix.to_owned() }
}
