//! What is observed: the nodes.

use crate::adapter::ChainClient;

/// Whose node it is, which says whether it decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// A local node, one under test: if the source set has any, they decide, and public nodes do not.
    Local,
    /// A node of the public network, with which local nodes are compared.
    Public,
}

/// A node as the source of an observation.
#[derive(Clone, Debug)]
pub struct ChainSource<C> {
    /// The client that sends the requests.
    pub client: C,
    /// Local or public.
    pub group: Group,
}

impl<C: ChainClient> ChainSource<C> {
    /// A local node.
    #[must_use]
    pub fn local(client: C) -> Self {
        Self { client, group: Group::Local }
    }

    /// A node of the public network.
    #[must_use]
    pub fn public(client: C) -> Self {
        Self { client, group: Group::Public }
    }
}
