//! What an application says of its nodes, whatever starts them.

use std::collections::BTreeMap;

use watchkeeper::{DynError, async_trait};
use watchkeeper_scenario::Application;

/// Where one node of a cluster is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeAddress {
    /// The cluster's name, which no other cluster has.
    pub cluster: String,
    /// The node's name, such as `n1`.
    pub node: String,
    /// Its number, from 1; 0 if it has none.
    pub number: u64,
    /// Host and port by the name of the port, such as `client`: `127.0.0.1:40000`.
    pub ports: BTreeMap<String, String>,
}

impl NodeAddress {
    /// Host and port of the port called `name`.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&str> {
        self.ports.get(name).map(String::as_str)
    }
}

/// How the nodes of an application are reached; the same for every deployer.
#[async_trait]
pub trait NodeAccess<A: Application>: Send + Sync + 'static {
    /// Makes a client of the node at this address. It is called again when the address changes.
    ///
    /// # Errors
    ///
    /// No client can be made of this address; the text says why.
    fn client(&self, at: &NodeAddress) -> Result<A::NodeClient, DynError>;

    /// Asks the node whether it serves.
    ///
    /// # Errors
    ///
    /// It does not serve yet; the last error is what is reported of a node that does not become ready.
    async fn probe(&self, client: &A::NodeClient) -> Result<(), DynError>;
}
