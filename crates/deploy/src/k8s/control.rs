//! Actions on pods.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Preconditions};
use tokio::time::{Instant, timeout, timeout_at};
use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::{Application, NodeAction, NodeControl, NodeControlError};

use super::error::K8sError;
use super::pods::PodSources;
use crate::access::asked;
use crate::{NodeAccess, ready};

/// The deployer's name.
pub(super) const NAME: &str = "k8s";

/// The actions on pods of a `StatefulSet`, which replaces every pod that ends.
///
/// So a node can be killed and restarted, and [`start`](NodeControl::start) only waits until the set
/// has made the pod. Stop, pause and isolate are unsupported: a pod that ends is replaced, nothing
/// outside its machine can freeze it, and whether a `NetworkPolicy` has an effect depends on the
/// cluster's network, which does not say.
pub(super) struct K8sControl<A: Application> {
    pub(super) pods: Api<Pod>,
    pub(super) sources: Arc<PodSources<A>>,
    pub(super) access: Arc<dyn NodeAccess<A>>,
    pub(super) nodes: Vec<String>,
    pub(super) gone_within: Duration,
}

#[async_trait]
impl<A: Application> NodeControl for K8sControl<A> {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        self.nodes.clone()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        self.check(node)?;
        let deadline = Instant::now() + within;
        let not_ready = |last| NodeControlError::NotReady { node: node.to_owned(), within, last };
        let listed = self.sources.when(|seen| seen.serves(node));
        match timeout_at(deadline, listed).await {
            Ok(Ok(_)) => {}
            Ok(Err(ended)) => return Err(not_ready(ended.to_string())),
            Err(_) => return Err(not_ready(self.sources.seen().waits_for(node))),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let serves = ready(left, async || match self.sources.clients().get(node) {
            Some(client) => asked(&*self.access, &client).await.map_err(DynError::from),
            None => Err(DynError::from("its pod was lost again")),
        });
        serves.await.map_err(|unmet| {
            let last = unmet.reason().unwrap_or("its pod is ready, but does not answer");
            not_ready(last.to_owned())
        })
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        self.made(NodeAction::Start, node).await
    }

    /// Deletes the pod with the grace period of its manifest; the set replaces it. After a kill, waits for the next pod.
    async fn restart(&self, node: &str) -> Result<(), NodeControlError> {
        self.check(node)?;
        if self.sources.pods().contains_key(node) {
            self.delete(NodeAction::Restart, node, None).await
        } else {
            self.made(NodeAction::Restart, node).await
        }
    }

    /// Deletes the pod without a grace period; the set replaces it.
    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.delete(NodeAction::Kill, node, Some(0)).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.impossible(NodeAction::Stop, node))
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.impossible(NodeAction::Pause, node))
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.impossible(NodeAction::Resume, node))
    }

    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.impossible(NodeAction::Isolate, node))
    }

    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.impossible(NodeAction::Rejoin, node))
    }
}

impl<A: Application> K8sControl<A> {
    fn check(&self, node: &str) -> Result<(), NodeControlError> {
        if self.nodes.iter().any(|known| known == node) { Ok(()) } else { Err(self.unknown(node)) }
    }

    fn impossible(&self, action: NodeAction, node: &str) -> NodeControlError {
        match self.check(node) {
            Ok(()) => self.unsupported(action, node),
            Err(unknown) => unknown,
        }
    }

    /// Waits until the set has made the node's pod.
    async fn made(&self, action: NodeAction, node: &str) -> Result<(), NodeControlError> {
        self.check(node)?;
        let made = self.sources.when(|seen| seen.pods.contains_key(node));
        let failed = |source: Arc<K8sError>| failed(action, node, source);
        let Ok(made) = timeout(self.gone_within, made).await else {
            return Err(failed(Arc::new(K8sError::NoPod { node: node.to_owned() })));
        };
        made.map(drop).map_err(failed)
    }

    /// Deletes the node's current pod, and waits until that one is gone.
    async fn delete(
        &self,
        action: NodeAction,
        node: &str,
        grace_seconds: Option<u32>,
    ) -> Result<(), NodeControlError> {
        self.check(node)?;
        let failed = |source: Arc<K8sError>| failed(action, node, source);
        self.sources.follows().map_err(failed)?;
        let Some(pod) = self.sources.pods().get(node).cloned() else {
            return Err(failed(Arc::new(K8sError::NoPod { node: node.to_owned() })));
        };
        let parameters = DeleteParams {
            grace_period_seconds: grace_seconds,
            preconditions: Some(Preconditions { uid: Some(pod.uid.clone()), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        delete(&self.pods, &pod.name, &parameters).await.map_err(|error| failed(Arc::new(error)))?;
        let gone = self.sources.when(|seen| seen.pods.get(node).is_none_or(|now| now.uid != pod.uid));
        let Ok(gone) = timeout(self.gone_within, gone).await else {
            let (what, within) = (format!("pod {}", pod.name), self.gone_within);
            return Err(failed(Arc::new(K8sError::NotGone { what, within })));
        };
        gone.map(drop).map_err(failed)
    }
}

/// Deletes the pod, unless it was deleted or replaced already: the watch does not show it yet.
fn delete<'a>(
    pods: &'a Api<Pod>,
    name: &'a str,
    parameters: &'a DeleteParams,
) -> BoxFuture<'a, Result<(), K8sError>> {
    let deletion = async move {
        let deleted = pods.delete(name, parameters).await;
        match deleted.map_err(K8sError::of(format!("delete the pod {name}"))) {
            Ok(_) | Err(K8sError::NotFound { .. } | K8sError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    };
    deletion.boxed()
}

fn failed(action: NodeAction, node: &str, source: Arc<K8sError>) -> NodeControlError {
    NodeControlError::Failed { action, node: node.to_owned(), source: source.into() }
}
