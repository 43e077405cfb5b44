//! Talking to one node of a chain.

pub mod ethereum;
mod memory;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::error_text::debug_as_text;
use crate::{Block, Hash, Header, Height, Transaction};

pub use memory::{MemoryNode, Script};

/// One node of one chain, as the observer asks it.
///
/// Each method is one request, and may be dropped. Answers are checked by the observer: a node may lag,
/// rewind, or lie. `Ok(None)` says that the node knows no such block, which is not an error.
#[async_trait]
pub trait ChainClient: Clone + Send + Sync + 'static {
    /// What a block is made of.
    type Transaction: Transaction;

    /// Which chain the node is on. Two nodes of one chain give equal answers.
    async fn identity(&self) -> Result<ChainIdentity, ChainError>;

    /// The block that the node takes for the best.
    async fn head(&self) -> Result<Header, ChainError>;

    /// The last block that the node will never leave; `None` where the chain has no finality, or none yet.
    async fn finalised(&self) -> Result<Option<Header>, ChainError>;

    /// The header of this hash, on whatever branch.
    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError>;

    /// The header at this height of the node's own branch.
    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError>;

    /// The block of this hash with its transactions, on whatever branch.
    async fn block(&self, hash: Hash) -> Result<Option<Block<Self::Transaction>>, ChainError>;
}

/// Which chain a node is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainIdentity {
    /// The chain's own name or number.
    pub id: String,
    /// Its first block.
    pub genesis: Hash,
}

/// Why a node did not answer a question. No secret of an endpoint, such as a key in its address, is in
/// the text.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no connection, or whoever is there has no node to ask right now, such as HTTP status 503.
    #[error("{endpoint} is unreachable: {reason}")]
    Unreachable {
        /// Host and port.
        endpoint: String,
        /// Why.
        reason: String,
    },
    /// No answer came in time.
    #[error("{endpoint} gave no answer within {after:?}")]
    TimedOut {
        /// Host and port.
        endpoint: String,
        /// How long was waited.
        after: Duration,
    },
    /// The node asks for fewer questions.
    #[error("{endpoint} limits the rate of requests{}", retry(*retry_after))]
    RateLimited {
        /// Host and port.
        endpoint: String,
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// The node refused the question.
    #[error("{endpoint} refused {method}: {reason}")]
    Refused {
        /// Host and port.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// What it said.
        reason: String,
    },
    /// The node had what was asked for, and has thrown it away.
    #[error("{endpoint} no longer has what {method} asks for (ask a node that keeps all blocks): {reason}")]
    Pruned {
        /// Host and port.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// What it said.
        reason: String,
    },
    /// The answer cannot be read.
    #[error("{endpoint} answered {method} with what cannot be read (is it a node of this chain?): {reason}")]
    Malformed {
        /// Host and port.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// Where the answer is wrong.
        reason: String,
    },
    /// The answer contradicts the question, itself or an earlier answer.
    #[error("{endpoint} answered {method} with what cannot be true (ask another node): {reason}")]
    Untrue {
        /// Host and port.
        endpoint: String,
        /// What was asked.
        method: &'static str,
        /// What contradicts what.
        reason: String,
    },
    /// The chain has no block.
    #[error("{endpoint} has no block: its chain is empty")]
    Empty {
        /// Host and port.
        endpoint: String,
    },
}

debug_as_text!(ChainError);

impl ChainError {
    /// Whether the same question may have an answer a little later. What is refused, pruned, unreadable or untrue
    /// stays so until the node changes.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TimedOut { .. } | Self::RateLimited { .. })
    }
}

/// In whole seconds, rounded up.
fn retry(after: Option<Duration>) -> impl fmt::Display {
    let seconds = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
    after.map_or_else(String::new, |after| format!(": ask again in {} s", seconds(after)))
}
