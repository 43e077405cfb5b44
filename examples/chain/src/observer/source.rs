//! What is observed: the nodes.

use crate::adapter::ChainClient;

/// Whose node it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// One of ours: where there are some, they decide, and public ones do not.
    Local,
    /// One of the public network, by which ours are measured.
    Public,
}

/// A node as the source of an observation.
#[derive(Clone, Debug)]
pub struct ChainSource<C> {
    /// How it is talked to.
    pub client: C,
    /// Whose it is.
    pub group: Group,
}

impl<C: ChainClient> ChainSource<C> {
    /// One of our nodes.
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
