//! Why a call of a node failed.

use std::path::PathBuf;

use bitcoinkernel::{BlockValidationResult, KernelError};
use watchkeeper_chain::Hash;

use watchkeeper::report::debug_as_text;

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
