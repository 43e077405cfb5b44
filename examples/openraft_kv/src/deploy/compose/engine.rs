//! The engine that runs containers.

use std::env;

use bollard::Docker;
use watchkeeper_scenario::DeployError;

use super::unavailable;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
const FIX: &str = "start one with `dockerd` (Debian: apt-get install docker.io docker-compose iptables) \
                   or name one by DOCKER_HOST";

/// Where `DOCKER_HOST` says that the engine is, else the default socket.
pub(super) fn default_host() -> String {
    env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

pub(super) async fn connect(host: &str) -> Result<Docker, DeployError> {
    let silent = |error| unavailable(format!("no container engine answers at {host} ({error})"), FIX);
    let docker = Docker::connect_with_host(host).map_err(silent)?;
    docker.negotiate_version().await.map_err(silent)
}
