//! The engine that runs containers.
//!
//! Most of what it is asked is behind boxed futures of functions without type parameters: so a request, and the reading
//! of a large answer, is compiled once, in this crate, and not again for each application.

use std::collections::HashMap;
use std::env;

use bollard::Docker;
use bollard::errors::Error as EngineError;
use bollard::models::{ContainerState, ContainerSummary, EventMessage};
use bollard::query_parameters::{
    EventsOptions, InspectContainerOptions, ListContainersOptions, ListNetworksOptions, ListVolumesOptions,
    PruneImagesOptions,
};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use watchkeeper_scenario::DeployError;

use super::unavailable;

/// What the engine will answer.
type Answer<'a, T> = BoxFuture<'a, Result<T, EngineError>>;

const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";
/// What a Dockerfile labels the images of an application with: its name.
const IMAGE_LABEL: &str = "watchkeeper.image";
const FIX: &str = "start one with `dockerd` (Debian: apt-get install docker.io docker-compose iptables) \
                   or name one by DOCKER_HOST";

/// Where `DOCKER_HOST` says that the engine is, else the default socket.
pub(super) fn default_host() -> String {
    env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| DEFAULT_HOST.to_owned())
}

pub(super) fn connect(host: &str) -> BoxFuture<'_, Result<Docker, DeployError>> {
    connected(host).boxed()
}

async fn connected(host: &str) -> Result<Docker, DeployError> {
    let silent = |error| unavailable(format!("no container engine answers at {host} ({error})"), FIX);
    let docker = Docker::connect_with_host(host).map_err(silent)?;
    docker.negotiate_version().await.map_err(silent)
}

/// Removes the images of `app` that lost their name to a newer one and that no container uses.
pub(super) fn forget_old_images<'a>(docker: &'a Docker, app: &'a str) -> BoxFuture<'a, ()> {
    prune_images(docker, app).boxed()
}

async fn prune_images(docker: &Docker, app: &str) {
    let label = format!("{IMAGE_LABEL}={app}");
    let filters = [("dangling", "true"), ("label", &*label)];
    let filters = filters.map(|(filter, value)| (filter.to_owned(), vec![value.to_owned()]));
    let pruned =
        docker.prune_images(Some(PruneImagesOptions { filters: Some(HashMap::from(filters)) })).await;
    if let Err(error) = pruned {
        tracing::debug!(%error, "old images stay");
    }
}

/// The containers; unless the options say otherwise, those that run.
pub(super) fn containers(
    docker: &Docker,
    options: Option<ListContainersOptions>,
) -> Answer<'_, Vec<ContainerSummary>> {
    docker.list_containers(options).boxed()
}

pub(super) fn state<'a>(docker: &'a Docker, container: &'a str) -> Answer<'a, ContainerState> {
    let state = async move {
        let inspected = docker.inspect_container(container, None::<InspectContainerOptions>).await?;
        Ok(inspected.state.unwrap_or_default())
    };
    state.boxed()
}

pub(super) fn events(
    docker: &Docker,
    options: EventsOptions,
) -> BoxStream<'_, Result<EventMessage, EngineError>> {
    docker.events(Some(options)).boxed()
}

/// How many containers, networks and volumes carry this label, `NAME=VALUE`.
pub(super) fn count(docker: &Docker, label: String) -> Answer<'_, [usize; 3]> {
    let count = async move {
        let filters = || Some(HashMap::from([("label".to_owned(), vec![label.clone()])]));
        let containers =
            ListContainersOptions { all: true, filters: filters(), ..ListContainersOptions::default() };
        let containers = docker.list_containers(Some(containers)).await?;
        let networks = docker.list_networks(Some(ListNetworksOptions { filters: filters() })).await?;
        let volumes = docker.list_volumes(Some(ListVolumesOptions { filters: filters() })).await?;
        Ok([containers.len(), networks.len(), volumes.volumes.unwrap_or_default().len()])
    };
    count.boxed()
}
