//! The nodes as they can be reached now.

use watchkeeper::{DynError, ObservedSource, SharedSources, SourceProvider, async_trait};

/// The current set of node clients, by node name; clones share the set.
///
/// A deployer keeps it true: a node that restarts elsewhere gets another client under the same
/// name, one that joins or leaves is inserted or removed. It is a [`SourceProvider`], so an
/// observer over it follows restarts without being told.
#[derive(Debug)]
pub struct NodeClients<C> {
    nodes: SharedSources<C>,
}

impl<C> Clone for NodeClients<C> {
    fn clone(&self) -> Self {
        Self { nodes: self.nodes.clone() }
    }
}

impl<C> Default for NodeClients<C> {
    fn default() -> Self {
        Self { nodes: SharedSources::default() }
    }
}

impl<C: Clone> NodeClients<C> {
    /// An empty set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The client of the node called `node`.
    #[must_use]
    pub fn get(&self, node: &str) -> Option<C> {
        self.nodes.get().into_iter().find(|known| known.name == node).map(|known| known.source)
    }

    /// All nodes, with their names.
    #[must_use]
    pub fn all(&self) -> Vec<ObservedSource<C>> {
        self.nodes.get()
    }

    /// The names of all nodes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.nodes.get().into_iter().map(|node| node.name).collect()
    }

    /// Adds a node, or replaces the client of the node called so and returns the old one.
    pub fn insert(&self, node: &str, client: C) -> Option<C> {
        self.nodes.insert(node, client)
    }

    /// Takes a node out of the set.
    #[allow(clippy::must_use_candidate, reason = "removing is the point; the client is a courtesy")]
    pub fn remove(&self, node: &str) -> Option<C> {
        self.nodes.remove(node)
    }

    /// Replaces the whole set.
    pub fn replace(&self, nodes: Vec<ObservedSource<C>>) {
        self.nodes.replace(nodes);
    }
}

#[async_trait]
impl<C: Clone + Send + Sync + 'static> SourceProvider<C> for NodeClients<C> {
    async fn sources(&self) -> Result<Vec<ObservedSource<C>>, DynError> {
        self.nodes.sources().await
    }
}
