//! A namespace of our own, and its end.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Config};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::error::K8sError;

/// Tells our namespace from one of the same name that somebody else has made.
const RUN: &str = "watchkeeper/run";
/// How long a drop may take to ask for the deletion.
const FAREWELL: Duration = Duration::from_secs(5);

/// A namespace that is deleted, with all that is in it, when this is dropped.
///
/// The drop asks for the deletion and does not wait for its end. It blocks for that one request,
/// in a thread of its own: it needs no runtime, and works while one is going down.
pub(super) struct Space {
    config: Config,
    client: Client,
    name: String,
    run: String,
    gone: AtomicBool,
}

/// The labels of the namespace of this run.
pub(super) fn labels(run: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(RUN.to_owned(), run.to_owned())])
}

impl Space {
    /// Makes the namespace, which must carry the [`labels`] of `run`.
    pub(super) async fn create(
        config: Config,
        client: Client,
        namespace: &Namespace,
        run: String,
    ) -> Result<Self, K8sError> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        // Before the request: when that is dropped half-way, the namespace may exist all the same.
        let space = Self { config, client: client.clone(), name, run, gone: AtomicBool::new(false) };
        let created = Api::<Namespace>::all(client).create(&PostParams::default(), namespace).await;
        match created.map_err(K8sError::of(format!("make the namespace {}", space.name))) {
            Ok(_) => Ok(space),
            Err(error) => {
                // Refused for one of these, it was not made; anything else leaves that open.
                let refused = matches!(
                    error,
                    K8sError::Unauthorized { .. }
                        | K8sError::Forbidden { .. }
                        | K8sError::NotFound { .. }
                        | K8sError::Conflict { .. }
                );
                space.gone.store(refused, Ordering::Release);
                Err(error)
            }
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Deletes the namespace and waits until it is gone.
    pub(super) async fn remove(&self, within: Duration) -> Result<(), K8sError> {
        let Some(uid) = request_removal(self.client.clone(), &self.name, &self.run).await? else {
            self.gone.store(true, Ordering::Release);
            return Ok(());
        };
        let api = Api::<Namespace>::all(self.client.clone());
        let gone = async {
            let mut states = pin!(watch_object(api, &self.name).default_backoff());
            while let Some(state) = states.next().await {
                match state {
                    Ok(Some(namespace)) if namespace.metadata.uid.as_ref() == Some(&uid) => {}
                    Ok(_) => return,
                    Err(error) => debug!(%error, "cannot watch the namespace; retrying"),
                }
            }
        };
        match timeout(within, gone).await {
            Ok(()) => {
                self.gone.store(true, Ordering::Release);
                Ok(())
            }
            Err(_) => Err(K8sError::NotGone { what: format!("namespace {}", self.name), within }),
        }
    }
}

/// Asks for the deletion of the namespace if it is that of `run`; its uid, or `None` if it is gone.
async fn request_removal(client: Client, name: &str, run: &str) -> Result<Option<String>, K8sError> {
    let doing = format!("delete the namespace {name}");
    let api = Api::<Namespace>::all(client);
    let Some(found) = api.get_opt(name).await.map_err(K8sError::of(doing.as_str()))? else {
        return Ok(None);
    };
    let labels = found.metadata.labels.unwrap_or_default();
    if labels.get(RUN).map(String::as_str) != Some(run) {
        return Err(K8sError::NotOurs { namespace: name.to_owned() });
    }
    let uid = found.metadata.uid;
    let ours = Preconditions { uid: uid.clone(), ..Preconditions::default() };
    match api.delete(name, &DeleteParams::background().preconditions(ours)).await.map_err(K8sError::of(doing))
    {
        Ok(_) => Ok(uid),
        Err(K8sError::NotFound { .. }) => Ok(None),
        // Its content is being deleted already.
        Err(K8sError::Conflict { .. }) if found.metadata.deletion_timestamp.is_some() => Ok(uid),
        Err(error) => Err(error),
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if self.gone.load(Ordering::Acquire) {
            return;
        }
        let (config, name, run) = (self.config.clone(), self.name.clone(), self.run.clone());
        let farewell = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| error.to_string())?;
            runtime.block_on(async {
                let client = Client::try_from(config).map_err(|error| error.to_string())?;
                match timeout(FAREWELL, request_removal(client, &name, &run)).await {
                    Ok(Ok(_)) => Ok(()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err(format!("no answer within {FAREWELL:?}")),
                }
            })
        });
        if let Ok(Err(reason)) = farewell.join() {
            warn!(namespace = self.name, reason, "the namespace is left behind: delete it with kubectl");
        }
    }
}
