//! The engine that runs containers.

use std::collections::HashMap;
use std::env;

use bollard::Docker;
use bollard::query_parameters::PruneImagesOptions;
use watchkeeper_scenario::DeployError;

use super::unavailable;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// What a Dockerfile labels the images of an application with: its name.
const IMAGE_LABEL: &str = "watchkeeper.image";
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

/// Removes the images of `app` that lost their name to a newer one and that no container uses.
pub(super) async fn forget_old_images(docker: &Docker, app: &str) {
    let label = format!("{IMAGE_LABEL}={app}");
    let filters = [("dangling", "true"), ("label", &*label)];
    let filters = filters.map(|(filter, value)| (filter.to_owned(), vec![value.to_owned()]));
    let pruned =
        docker.prune_images(Some(PruneImagesOptions { filters: Some(HashMap::from(filters)) })).await;
    if let Err(error) = pruned {
        tracing::debug!(%error, "old images stay");
    }
}
