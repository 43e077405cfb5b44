//! The namespace of one run, and its deletion.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::watch_object;
use kube::{Api, Client, Config};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tracing::{debug, warn};

use super::error::K8sError;

/// Distinguishes our namespace from another one of the same name.
const RUN: &str = "watchkeeper/run";
/// How long a drop may take to request the deletion.
const DELETE_TIMEOUT: Duration = Duration::from_secs(5);

/// A namespace that is deleted, with all that is in it, when this is dropped.
///
/// The drop requests the deletion and does not wait for its end. Inside a tokio runtime it does not block either: the
/// request is made on a blocking thread, which the runtime waits for when it shuts down. Elsewhere the drop waits for
/// that one request, 5 s at the most.
pub(super) struct OwnedNamespace {
    config: Config,
    client: Client,
    name: String,
    run: String,
    /// Whether there may be anything to delete.
    may_exist: AtomicBool,
}

/// The labels of the namespace of this run.
pub(super) fn labels(run: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(RUN.to_owned(), run.to_owned())])
}

impl OwnedNamespace {
    /// A namespace that is not made yet.
    pub(super) fn new(config: Config, client: Client, name: &str, run: String) -> Self {
        Self { config, client, name: name.to_owned(), run, may_exist: AtomicBool::new(false) }
    }

    /// Makes it from `namespace`, which must have the [`labels`] of this run.
    pub(super) fn create<'a>(&'a self, namespace: &'a Namespace) -> BoxFuture<'a, Result<(), K8sError>> {
        self.created(namespace).boxed()
    }

    async fn created(&self, namespace: &Namespace) -> Result<(), K8sError> {
        // Before the request: if that is dropped, the namespace may exist.
        self.may_exist.store(true, Ordering::Release);
        let created =
            Api::<Namespace>::all(self.client.clone()).create(&PostParams::default(), namespace).await;
        let created = created.map_err(K8sError::of(format!("make the namespace {}", self.name)));
        let is_refused = matches!(
            created,
            Err(K8sError::Unauthorized { .. }
                | K8sError::Forbidden { .. }
                | K8sError::NotFound { .. }
                | K8sError::Conflict { .. })
        );
        if is_refused {
            // It was not made; after any other error it may exist.
            self.may_exist.store(false, Ordering::Release);
        }
        created.map(drop)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Deletes the namespace and waits until it is gone.
    pub(super) fn remove(&self, within: Duration) -> BoxFuture<'_, Result<(), K8sError>> {
        self.removed_within(within).boxed()
    }

    async fn removed_within(&self, within: Duration) -> Result<(), K8sError> {
        if !self.may_exist.load(Ordering::Acquire) {
            return Ok(());
        }
        let not_gone = |_| K8sError::NotGone { what: format!("namespace {}", self.name), within };
        timeout(within, self.removed()).await.map_err(not_gone)??;
        self.may_exist.store(false, Ordering::Release);
        Ok(())
    }

    async fn removed(&self) -> Result<(), K8sError> {
        let Some(uid) = request_removal(self.client.clone(), &self.name, &self.run).await? else {
            return Ok(());
        };
        let api = Api::<Namespace>::all(self.client.clone());
        let mut states = pin!(watch_object(api, &self.name).default_backoff());
        while let Some(state) = states.next().await {
            match state {
                Ok(Some(namespace)) if namespace.metadata.uid.as_ref() == Some(&uid) => {}
                Ok(_) => return Ok(()),
                Err(error) => debug!(%error, "cannot watch the namespace; retrying"),
            }
        }
        Ok(())
    }
}

/// Requests the deletion of the namespace if it is that of `run`. Returns its uid, or `None` if it does not exist.
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

impl Drop for OwnedNamespace {
    fn drop(&mut self) {
        if !self.may_exist.load(Ordering::Acquire) {
            return;
        }
        let farewell =
            Farewell { config: Some(self.config.clone()), name: self.name.clone(), run: self.run.clone() };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(move || drop(farewell))),
            Err(_) => drop(farewell),
        }
    }
}

/// Requests the deletion when it is dropped: a runtime that shuts down drops the work that it no longer starts.
struct Farewell {
    config: Option<Config>,
    name: String,
    run: String,
}

impl Farewell {
    fn request(config: Config, name: &str, run: &str) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let client = Client::try_from(config).map_err(|error| error.to_string())?;
            match timeout(DELETE_TIMEOUT, request_removal(client, name, run)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {DELETE_TIMEOUT:?}")),
            }
        })
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let Some(config) = self.config.take() else { return };
        let (name, run) = (self.name.clone(), self.run.clone());
        // On a new thread, since this one may be inside a runtime.
        let asked = std::thread::spawn(move || Self::request(config, &name, &run)).join();
        if let Ok(Err(reason)) = asked {
            let namespace = &self.name;
            warn!(
                namespace,
                reason, "the namespace is left: delete it with `kubectl delete namespace {namespace}`"
            );
        }
    }
}
