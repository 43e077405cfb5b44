//! The actions on the nodes of a local cluster, by name.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use watchkeeper::async_trait;
use watchkeeper_scenario::{Application, NodeAction, NodeControl, NodeControlError};

use super::launch::reason;
use super::node::NodeProcess;
use super::{LocalError, NAME, lock};
use crate::ready;

/// Does not keep the processes alive.
pub(super) struct LocalControl<A: Application> {
    nodes: Mutex<Vec<(String, Weak<NodeProcess<A>>)>>,
    closing: CancellationToken,
}

impl<A: Application> LocalControl<A> {
    pub(super) fn new(closing: CancellationToken) -> Self {
        Self { nodes: Mutex::default(), closing }
    }

    pub(super) fn add(&self, node: &Arc<NodeProcess<A>>) {
        lock(&self.nodes).push((node.name().to_owned(), Arc::downgrade(node)));
    }

    /// The node, or why it cannot be acted on.
    pub(super) fn find(&self, node: &str) -> Option<Result<Arc<NodeProcess<A>>, LocalError>> {
        let nodes = lock(&self.nodes);
        let (_, found) = nodes.iter().find(|(name, _)| name == node)?;
        Some(found.upgrade().ok_or(LocalError::ShutDown))
    }

    fn known(&self, node: &str) -> Result<Result<Arc<NodeProcess<A>>, LocalError>, NodeControlError> {
        self.find(node).ok_or_else(|| self.unknown(node))
    }

    /// An action on one node waits for no other node.
    async fn act(
        &self,
        action: NodeAction,
        node: &str,
        act: impl AsyncFnOnce(&NodeProcess<A>) -> Result<(), LocalError>,
    ) -> Result<(), NodeControlError> {
        let done = match self.known(node)? {
            Ok(known) => act(&known).await,
            Err(error) => Err(error),
        };
        done.map_err(|error| NodeControlError::Failed { action, node: node.to_owned(), source: error.into() })
    }

    /// Nodes on one machine share its network, which cannot be cut between them.
    fn no_network(&self, action: NodeAction, node: &str) -> NodeControlError {
        match self.known(node) {
            Ok(_) => self.unsupported(action, node),
            Err(unknown) => unknown,
        }
    }
}

#[async_trait]
impl<A: Application> NodeControl for LocalControl<A> {
    fn deployer(&self) -> &str {
        NAME
    }

    fn nodes(&self) -> Vec<String> {
        lock(&self.nodes).iter().map(|(name, _)| name.clone()).collect()
    }

    async fn wait_ready(&self, node: &str, within: Duration) -> Result<(), NodeControlError> {
        let not_ready = |last| NodeControlError::NotReady { node: node.to_owned(), within, last };
        let known = self.known(node)?.map_err(|error| not_ready(error.to_string()))?;
        let waiting = async {
            let Err(unmet) = ready(within, || known.serves()).await else { return Ok(()) };
            // It may have ended during a question that nobody answers any more.
            Err(not_ready(known.down().await.unwrap_or_else(|| reason(&unmet))))
        };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => Err(not_ready(LocalError::ShutDown.to_string())),
            waited = waiting => waited,
        }
    }

    async fn start(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Start, node, async |known: &NodeProcess<A>| known.start().await).await
    }

    async fn stop(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Stop, node, async |known: &NodeProcess<A>| known.stop().await).await
    }

    async fn restart(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Restart, node, async |known: &NodeProcess<A>| known.restart().await).await
    }

    async fn kill(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Kill, node, async |known: &NodeProcess<A>| known.kill().await).await
    }

    async fn pause(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Pause, node, async |known: &NodeProcess<A>| known.pause().await).await
    }

    async fn resume(&self, node: &str) -> Result<(), NodeControlError> {
        self.act(NodeAction::Resume, node, async |known: &NodeProcess<A>| known.resume().await).await
    }

    async fn isolate(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.no_network(NodeAction::Isolate, node))
    }

    async fn rejoin(&self, node: &str) -> Result<(), NodeControlError> {
        Err(self.no_network(NodeAction::Rejoin, node))
    }
}
