//! The store as an application that deployers start.

#[cfg(feature = "compose")]
pub mod compose;
pub mod k8s;
mod local;

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::{DynError, async_trait};
use watchkeeper_deploy::{NodeAccess, NodeAddress};
use watchkeeper_scenario::{Application, NodeClients};

use crate::api::{Formed, Member};
use crate::{ClientError, NodeClient};

pub use local::local_deployer;

/// The key-value store, for `watchkeeper_scenario`.
#[derive(Clone, Copy, Debug)]
pub struct RaftKv;

impl Application for RaftKv {
    type Deployment = Deployment;
    type NodeClient = NodeClient;
}

/// The name of the port where a node serves.
const CLIENT_PORT: &str = "client";

#[async_trait]
impl NodeAccess<Self> for RaftKv {
    /// Addresses are reused: a client whose node has a number talks only to that node.
    fn client(&self, at: &NodeAddress) -> Result<NodeClient, DynError> {
        let client = NodeClient::new(at.port(CLIENT_PORT).ok_or("it has no port called client")?);
        Ok(if at.number > 0 { client.expecting(at.cluster.as_str(), at.number) } else { client })
    }

    async fn probe(&self, client: &NodeClient) -> Result<(), DynError> {
        Ok(client.health().await.map(drop)?)
    }
}

/// What a deployer starts: nodes called `n1`, `n2` and so on, in no cluster yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// How many nodes, at least 1; 3.
    pub nodes: u64,
    /// More flags for every node, such as `--heartbeat-ms`, `100`.
    pub node_flags: Vec<String>,
}

impl Default for Deployment {
    fn default() -> Self {
        Self { nodes: 3, node_flags: Vec::new() }
    }
}

/// Why the nodes did not become one cluster.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// There is no node.
    #[error("there is no node to form a cluster from: deploy at least one")]
    NoNodes,
    /// A node refused or did not answer.
    #[error("{node} does not form the cluster: check that it runs, and try again")]
    Node {
        /// Which node.
        node: String,
        /// What it answered.
        source: ClientError,
    },
}

crate::errors::debug_is_the_text!(FormError);

/// Forms a cluster of the nodes through the first of them, and waits for a leader.
///
/// The members are named by the addresses that the nodes use among themselves, which need not be those
/// of the clients.
///
/// # Errors
///
/// [`FormError`]: there is no node, one does not answer, or there was no leader `within` this time.
pub async fn form(clients: &NodeClients<NodeClient>, within: Duration) -> Result<Formed, FormError> {
    let deadline = Instant::now() + within;
    let nodes = clients.all();
    let first = nodes.first().ok_or(FormError::NoNodes)?;
    let refused = |node: &str| {
        let node = node.to_owned();
        move |source| FormError::Node { node, source }
    };
    let mut members = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let state = node.source.state().await.map_err(refused(&node.name))?;
        members.push(Member { node_id: state.node_id, addr: state.public_addr });
    }
    loop {
        match first.source.init(members.clone()).await {
            // The members are set; the node itself waits for the election.
            Err(ClientError::NotLeader { leader: None, .. } | ClientError::TimedOut { .. })
                if Instant::now() < deadline => {}
            formed => return formed.map_err(refused(&first.name)),
        }
    }
}
