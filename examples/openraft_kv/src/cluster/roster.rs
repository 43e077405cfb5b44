//! A shared view of the nodes of a local cluster.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use watchkeeper_process::Exit;

use crate::api::NodeId;
use crate::client::NodeClient;
use crate::sync::lock;

/// The nodes of a [`LocalCluster`](super::LocalCluster), for code that only talks to them.
///
/// Cheap to clone. It follows the cluster and does not keep it alive; once the cluster is dropped, no
/// node runs.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    nodes: Arc<Mutex<BTreeMap<NodeId, (NodeClient, Exit)>>>,
}

impl Roster {
    /// Clients of the nodes that run now, paused ones included, in the order of their numbers.
    #[must_use]
    pub fn running(&self) -> Vec<NodeClient> {
        self.clients(Exit::is_running)
    }

    /// Clients of all nodes that were ever started, also of those that are dead.
    #[must_use]
    pub fn all(&self) -> Vec<NodeClient> {
        self.clients(|_| true)
    }

    pub(super) fn admit(&self, id: NodeId, client: NodeClient, exit: Exit) {
        let mut nodes = lock(&self.nodes);
        nodes.insert(id, (client, exit));
    }

    fn clients(&self, wanted: impl Fn(&Exit) -> bool) -> Vec<NodeClient> {
        let nodes = lock(&self.nodes);
        let wanted = nodes.values().filter(|(_, exit)| wanted(exit));
        wanted.map(|(client, _)| client.clone()).collect()
    }
}
