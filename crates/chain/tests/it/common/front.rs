//! Clients in front of a node in memory, each of which changes a few answers.

use async_trait::async_trait;
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{Block, Detail, Hash, Header, Height};

use super::{Named, Node};

/// What a client changes; all other answers are those of its node.
#[async_trait]
pub(crate) trait InFront: Clone + Send + Sync + 'static {
    fn node(&self) -> &Node;

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.node().header_at(height).await
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        self.node().block(hash, detail).await
    }
}

/// The client; it has no logs.
#[derive(Clone, Debug)]
pub(crate) struct Front<T>(pub(crate) T);

#[async_trait]
impl<T: InFront> ChainClient for Front<T> {
    type Transaction = Named;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        self.0.node().identity().await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.0.node().head().await
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.0.node().finalised().await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.0.node().header(hash).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.0.header_at(height).await
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        self.0.block(hash, detail).await
    }
}
