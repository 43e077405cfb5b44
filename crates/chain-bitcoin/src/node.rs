//! A node with its own chain, in this process.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use crate::client::BitcoinClient;
use crate::error::NodeError;
use crate::kernel::Kernel;
use crate::opened::Opened;

/// A node of Bitcoin's regtest chain, where anyone can mine, in this process.
///
/// It keeps its chain in its data directory, and has no network: it knows the blocks that were
/// [submitted](Self::submit). It stays open until it is [stopped](Self::stop), or until it and all its
/// clients are dropped; the last drop blocks while the chain is written to disk.
///
/// # Cancel safety
///
/// The methods run on tokio's blocking threads. A call that is dropped is still carried out.
#[derive(Debug)]
pub struct RegtestNode {
    shared: Arc<Opened>,
}

impl RegtestNode {
    /// Opens a data directory, new or not.
    ///
    /// # Errors
    ///
    /// [`NodeError::Directory`] and [`NodeError::Open`]: it cannot be used, or another node has it open.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, NodeError> {
        let shared = Arc::new(Opened::new(directory.into()));
        let node = Self { shared };
        node.start().await?;
        Ok(node)
    }

    /// A client for the observer. It still asks this node after a stop and a start.
    #[must_use]
    pub fn client(&self) -> BitcoinClient {
        BitcoinClient { node: Arc::clone(&self.shared) }
    }

    /// Has the node check a block and keep it. On the heaviest branch it becomes the head, if its
    /// transactions may be made; on another one they are checked once that is the heaviest.
    ///
    /// # Errors
    ///
    /// [`NodeError::Rejected`]: this block or one below it breaks a rule. A block that is known and good is
    /// none.
    pub async fn submit(&self, block: &bitcoin::Block) -> Result<(), NodeError> {
        let block = block.clone();
        self.work("submit", move |kernel, shared| match kernel {
            Some(kernel) => kernel.submit(&block),
            None => Err(NodeError::Stopped { endpoint: shared.endpoint() }),
        })
        .await
    }

    /// Closes the data directory once the running requests are answered. For its clients the node is then
    /// unreachable. Nothing happens if the node is stopped.
    ///
    /// # Errors
    ///
    /// [`NodeError::Unfinished`]: tokio is shutting down.
    pub async fn stop(&self) -> Result<(), NodeError> {
        self.work("stop", |kernel, _| {
            *kernel = None;
            Ok(())
        })
        .await
    }

    /// Opens the data directory again. Nothing happens if the node is not stopped.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub async fn start(&self) -> Result<(), NodeError> {
        self.work("start", |kernel, shared| {
            if kernel.is_none() {
                *kernel = Some(Kernel::open(&shared.directory)?);
            }
            Ok(())
        })
        .await
    }

    async fn work(
        &self,
        what: &'static str,
        work: impl FnOnce(&mut Option<Kernel>, &Opened) -> Result<(), NodeError> + Send + 'static,
    ) -> Result<(), NodeError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::task::spawn_blocking(move || {
            let mut kernel = shared.kernel.write().unwrap_or_else(PoisonError::into_inner);
            work(&mut kernel, &shared)
        });
        done.await.unwrap_or_else(|error| {
            Err(NodeError::Unfinished { endpoint: self.shared.endpoint(), what, reason: error.to_string() })
        })
    }
}
