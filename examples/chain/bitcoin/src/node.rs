//! A node with its own chain, in this process.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use bitcoinkernel::{BlockValidationResult, KernelError};
use watchkeeper_chain::Hash;

use crate::client::BitcoinClient;
use crate::error_text::debug_as_text;
use crate::kernel::Kernel;

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
    shared: Arc<Shared>,
}

/// A node that may be stopped.
#[derive(Debug)]
pub(crate) struct Shared {
    directory: PathBuf,
    kernel: RwLock<Option<Kernel>>,
}

impl RegtestNode {
    /// Opens a data directory, new or not.
    ///
    /// # Errors
    ///
    /// [`NodeError::Directory`] and [`NodeError::Open`]: it cannot be used, or another node has it open.
    pub async fn open(directory: impl Into<PathBuf>) -> Result<Self, NodeError> {
        let shared = Arc::new(Shared { directory: directory.into(), kernel: RwLock::new(None) });
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
        work: impl FnOnce(&mut Option<Kernel>, &Shared) -> Result<(), NodeError> + Send + 'static,
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

impl Shared {
    /// The name of the node in errors.
    pub(crate) fn endpoint(&self) -> String {
        self.directory.display().to_string()
    }

    /// Asks the node under a read lock; blocks.
    pub(crate) fn read<V>(&self, ask: impl FnOnce(Option<&Kernel>) -> V) -> V {
        ask(self.kernel.read().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}

/// Why a call of a node failed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error("{} cannot be a data directory: {reason}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// The reason.
        reason: String,
    },
    /// The contents of the data directory cannot be opened.
    #[error(
        "the node in {} cannot be opened: does another one use it? The log of `bitcoinkernel`, at debug, says why",
        directory.display()
    )]
    Open {
        /// The directory.
        directory: PathBuf,
        /// The error of the consensus library.
        source: KernelError,
    },
    /// The node is stopped.
    #[error("the node in {endpoint} is stopped: start it first")]
    Stopped {
        /// Its data directory.
        endpoint: String,
    },
    /// The node cannot continue, for example because the disk is full.
    #[error("the node in {endpoint} broke down: {reason}; repair the cause, then stop and start it")]
    Broken {
        /// Its data directory.
        endpoint: String,
        /// The reason.
        reason: String,
    },
    /// A block cannot be read by the consensus library.
    #[error("block {hash} cannot be read: ask for one that was submitted, or submit it as it was mined")]
    Unread {
        /// The block.
        hash: Hash,
        /// The error of the consensus library.
        source: KernelError,
    },
    /// A block breaks a rule.
    #[error("block {hash} was rejected: {}", in_words(*rule))]
    Rejected {
        /// The submitted block, or a block below it.
        hash: Hash,
        /// The kind of rule.
        rule: BlockValidationResult,
    },
    /// The work was not finished.
    #[error("the node in {endpoint} did not {what}: {reason}")]
    Unfinished {
        /// Its data directory.
        endpoint: String,
        /// The work that was not finished.
        what: &'static str,
        /// The reason.
        reason: String,
    },
}

debug_as_text!(NodeError);

fn in_words(rule: BlockValidationResult) -> &'static str {
    match rule {
        BlockValidationResult::Unset => "no reason was given",
        BlockValidationResult::Consensus => "it breaks a rule of consensus",
        BlockValidationResult::CachedInvalid => "it was rejected before",
        BlockValidationResult::InvalidHeader => "its proof of work or its time is wrong",
        BlockValidationResult::Mutated => "its transactions are not those of its header",
        BlockValidationResult::MissingPrev => "its parent is not known: submit that first",
        BlockValidationResult::InvalidPrev => "its parent was rejected",
        BlockValidationResult::TimeFuture => "its time is too far ahead",
        BlockValidationResult::HeaderLowWork => "its branch has too little work",
    }
}
