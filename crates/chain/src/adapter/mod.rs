//! Clients of one node of a chain.

mod logs;
mod memory;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::{Block, Detail, Hash, Header, Height, Transaction};
use watchkeeper::report::debug_as_text;

pub use logs::{
    InvalidRangeSize, Log, LogAddress, LogFilter, LogPiece, LogReader, LogScope, LogWalk, LogsError,
    OneBlock, RangeSize, WrongLogs,
};
pub use memory::{LogLimits, MemoryNode, Script};

/// One node of one chain, for the observer.
///
/// Each method is one question, which may take several requests, and may be dropped. The observer checks the answers: a node may lag, rewind, or lie.
/// `Ok(None)` means that the node has no such block, which is not an error.
#[async_trait]
pub trait ChainClient: Clone + Send + Sync + 'static {
    /// What a block is made of.
    type Transaction: Transaction;

    /// Which chain the node is on. Two nodes of one chain give equal answers.
    async fn identity(&self) -> Result<ChainIdentity, ChainError>;

    /// The last block of the node's best chain.
    async fn head(&self) -> Result<Header, ChainError>;

    /// The last block that the node will never disconnect; `None` if the chain has no finality, or none yet.
    async fn finalised(&self) -> Result<Option<Header>, ChainError>;

    /// The header of this hash, on any branch.
    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError>;

    /// The header at this height of the node's own branch.
    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError>;

    /// The block of this hash, on any branch: its transactions, and their results if `detail` asks for them.
    async fn block(&self, hash: Hash, detail: Detail)
    -> Result<Option<Block<Self::Transaction>>, ChainError>;

    /// All logs of these blocks that match the filter, by height and by their position in the block. `Ok(None)` if the
    /// node does not have one of the blocks; no logs for a range without blocks.
    ///
    /// One question: nodes limit the blocks and the logs of an answer, with [`ChainError::RangeTooLarge`], and many
    /// answer a range that ends above their head with what they have. [`LogReader`] asks for long ranges, and never
    /// above the head. A client is not required to have logs: by default the answer is [`ChainError::NoLogs`].
    async fn logs(&self, _filter: &LogFilter, _scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        Err(ChainError::NoLogs)
    }
}

/// Which chain a node is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainIdentity {
    /// The chain's own name or number.
    pub id: String,
    /// Its first block.
    pub genesis: Hash,
}

/// Why a node did not answer a question. The text contains no secret of an endpoint, such as a key in its address.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no connection, or the server has no node to ask right now, as with HTTP status 503.
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
    /// The node limits the rate of requests.
    #[error("{endpoint} limits the rate of requests{}", ask_again_in(*retry_after))]
    RateLimited {
        /// Host and port.
        endpoint: String,
        /// When it may be asked again, if the node returned that.
        retry_after: Option<Duration>,
    },
    /// The node cannot answer this question right now: it is overloaded or out of step, or does not have a block yet.
    #[error("{endpoint} cannot answer {method} right now (ask again later): {reason}")]
    Busy {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's reason.
        reason: String,
    },
    /// The node refused the question.
    #[error("{endpoint} refused {method}: {reason}")]
    Refused {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's reason.
        reason: String,
    },
    /// The node had what was asked for, and has dropped it.
    #[error("{endpoint} no longer has what {method} asks for (ask a node that keeps all blocks): {reason}")]
    Pruned {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's reason.
        reason: String,
    },
    /// The answer cannot be read.
    #[error("{endpoint} answered {method} with what cannot be read (is it a node of this chain?): {reason}")]
    Malformed {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// Where the answer is wrong.
        reason: String,
    },
    /// The answer contradicts the question, itself or an earlier answer.
    #[error("{endpoint} answered {method} with what cannot be true (ask another node): {reason}")]
    Untrue {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The contradiction.
        reason: String,
    },
    /// The node does not answer for so many blocks at once, or not with so many logs.
    #[error(
        "{endpoint} refused {method} for the size of its answer (ask for fewer blocks at once, or, for a single one, \
         another node): {reason}"
    )]
    RangeTooLarge {
        /// Host and port.
        endpoint: String,
        /// The method.
        method: &'static str,
        /// The node's reason.
        reason: String,
        /// For how many blocks it would answer, if the node states that. It need not be true.
        at_most: Option<u64>,
    },
    /// The client has no logs.
    #[error("this client has no logs: ask one that has, such as that of Ethereum")]
    NoLogs,
    /// The node's branch has more headers beside the canonical branch than are kept of one node.
    #[error(
        "{endpoint} is on a branch of which more than {limit} headers are beside the canonical one: it is not followed \
         further (give ChainConfig::headers_off_branch more if the node is right)"
    )]
    TooManyHeaders {
        /// The node.
        endpoint: String,
        /// How many are kept.
        limit: usize,
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
    /// Whether the same question may succeed a little later. A refused, pruned, malformed or untrue answer stays so
    /// until the node changes.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::TimedOut { .. }
            | Self::RateLimited { .. }
            | Self::Busy { .. } => true,
            Self::Refused { .. }
            | Self::Pruned { .. }
            | Self::Malformed { .. }
            | Self::Untrue { .. }
            | Self::RangeTooLarge { .. }
            | Self::NoLogs
            | Self::TooManyHeaders { .. }
            | Self::Empty { .. } => false,
        }
    }
}

/// The end of a text that says when to ask again, for people: `: ask again in 5 s`, in whole seconds, rounded up; empty
/// if that is not known.
pub fn ask_again_in(after: Option<Duration>) -> impl fmt::Display {
    let seconds = |after: Duration| after.as_secs() + u64::from(after.subsec_nanos() > 0);
    after.map_or_else(String::new, |after| format!(": ask again in {} s", seconds(after)))
}
