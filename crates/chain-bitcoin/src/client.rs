//! The client with which the observer asks a node.

use std::sync::Arc;

use async_trait::async_trait;
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{Block, Detail, Hash, Header, Height};

use crate::kernel::Kernel;
use crate::opened::Opened;
use crate::transaction::BitcoinTransaction;

/// Asks a [`RegtestNode`](crate::RegtestNode), stopped or not; clones ask the same node.
///
/// The consensus library answers on tokio's blocking threads. A request that is dropped
/// still runs to its end there. Bitcoin has no finality, so [`finalised`](ChainClient::finalised) is always `None`.
///
/// A block's spent outputs come from the undo data, which a node has for each block that was ever on its best
/// chain. Of other blocks it knows the header only, and refuses a request for the block.
#[derive(Clone, Debug)]
pub struct BitcoinClient {
    pub(crate) node: Arc<Opened>,
}

impl BitcoinClient {
    async fn ask<V: Send + 'static>(
        &self,
        method: &'static str,
        question: impl FnOnce(&Kernel) -> Result<V, ChainError> + Send + 'static,
    ) -> Result<V, ChainError> {
        let node = Arc::clone(&self.node);
        let answered = tokio::task::spawn_blocking(move || {
            let unreachable = |reason| ChainError::Unreachable { endpoint: node.endpoint(), reason };
            node.read(|kernel| match kernel.map(|kernel| (kernel, kernel.broken())) {
                Some((kernel, None)) => question(kernel),
                Some((_, Some(reason))) => Err(unreachable(reason)),
                None => Err(unreachable("the node is stopped".to_owned())),
            })
        });
        answered.await.unwrap_or_else(|error| {
            Err(ChainError::Refused { endpoint: self.node.endpoint(), method, reason: error.to_string() })
        })
    }
}

#[async_trait]
impl ChainClient for BitcoinClient {
    type Transaction = BitcoinTransaction;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        self.ask("identity", Kernel::identity).await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.ask("head", Kernel::head).await
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        Ok(None)
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.ask("header", move |kernel| Ok(kernel.header(hash))).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.ask("header_at", move |kernel| kernel.header_at(height)).await
    }

    async fn block(&self, hash: Hash, _: Detail) -> Result<Option<Block<BitcoinTransaction>>, ChainError> {
        self.ask("block", move |kernel| kernel.block(hash)).await
    }
}
