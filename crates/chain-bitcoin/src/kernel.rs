//! The part of the consensus library that a node needs. Every call blocks.

use std::collections::HashMap;
use std::fmt;
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash as _;
use bitcoin::pow::CompactTarget;
use bitcoin::{Amount, ScriptBuf, TxOut};
use bitcoinkernel::prelude::*;
use bitcoinkernel::{
    BlockHash, BlockSpentOutputs, BlockTreeEntry, BlockValidationResult, BlockValidationStateRef, ChainType,
    ChainstateManager, Context, KernelError, Log, Logger, TransactionSpentOutputsRef, ValidationMode,
};
use watchkeeper_chain::adapter::{ChainError, ChainIdentity};
use watchkeeper_chain::{Block, Hash, Header, Height};

use crate::convert::{shown, stored, work};
use crate::error::NodeError;
use crate::transaction::{BitcoinTransaction, Input};

/// An open data directory.
///
/// Most answers take several calls of the library, and a block submitted between them would change their
/// meaning: the lock around a `Kernel` gives a submission exclusive access.
pub(crate) struct Kernel {
    manager: ChainstateManager,
    notes: Arc<Mutex<Notes>>,
    /// The binding leaks each header that it returns, so each is asked for once. The map is not bounded: it keeps
    /// every header that was asked for.
    headers: Mutex<HashMap<Hash, Header>>,
    endpoint: String,
}

/// What the library reported while it worked.
#[derive(Debug, Default)]
struct Notes {
    /// The last block that broke a rule.
    rejected: Option<(Hash, BlockValidationResult)>,
    /// Why its answers can no longer be relied on.
    broken: Option<String>,
}

impl Kernel {
    pub(crate) fn open(directory: &Path) -> Result<Self, NodeError> {
        forward_log();
        let blocks = directory.join("blocks");
        let unusable = |reason| NodeError::Directory { directory: directory.to_owned(), reason };
        std::fs::create_dir_all(&blocks).map_err(|error| unusable(error.to_string()))?;
        let text = |path: &Path| path.to_str().map(str::to_owned);
        let (Some(data), Some(blocks)) = (text(directory), text(&blocks)) else {
            return Err(unusable("its name is not UTF-8".to_owned()));
        };

        let notes = Arc::new(Mutex::new(Notes::default()));
        let failed = |source| NodeError::Open { directory: directory.to_owned(), source };
        let context = listening(&notes).map_err(failed)?;
        let manager = ChainstateManager::new(&context, &data, &blocks).map_err(failed)?;
        let endpoint = directory.display().to_string();
        Ok(Self { manager, notes, headers: Mutex::default(), endpoint })
    }

    /// Why its answers can no longer be relied on; `None` if they can.
    pub(crate) fn broken(&self) -> Option<String> {
        locked(&self.notes).broken.clone()
    }

    pub(crate) fn submit(&self, block: &bitcoin::Block) -> Result<(), NodeError> {
        let hash = shown(block.block_hash().to_byte_array());
        let unread = |source| NodeError::Unread { hash, source };
        let block = bitcoinkernel::Block::new(&serialize(block)).map_err(unread)?;
        locked(&self.notes).rejected = None;
        let result = self.manager.process_block(&block);
        let mut notes = locked(&self.notes);
        if let Some(reason) = notes.broken.clone() {
            return Err(NodeError::Broken { endpoint: self.endpoint.clone(), reason });
        }
        match notes.rejected.take() {
            Some((hash, rule)) => Err(NodeError::Rejected { hash, rule }),
            None if result.is_rejected() => {
                Err(NodeError::Rejected { hash, rule: BlockValidationResult::Unset })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn identity(&self) -> Result<ChainIdentity, ChainError> {
        let genesis = self.header_at(0)?.ok_or_else(|| self.empty())?.hash;
        Ok(ChainIdentity { id: "regtest".to_owned(), genesis })
    }

    pub(crate) fn head(&self) -> Result<Header, ChainError> {
        let height = Height::try_from(self.manager.active_chain().height()).map_err(|_| self.empty())?;
        self.header_at(height)?.ok_or_else(|| self.empty())
    }

    pub(crate) fn header(&self, hash: Hash) -> Option<Header> {
        self.entry(hash).map(|entry| self.header_of(entry))
    }

    pub(crate) fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        let chain = self.manager.active_chain();
        let top = usize::try_from(chain.height()).map_err(|_| self.empty())?;
        let height = usize::try_from(height).ok().filter(|height| *height <= top);
        Ok(height.and_then(|height| chain.at_height(height)).map(|entry| self.header_of(entry)))
    }

    pub(crate) fn block(&self, hash: Hash) -> Result<Option<Block<BitcoinTransaction>>, ChainError> {
        let Some(entry) = self.entry(hash) else { return Ok(None) };
        let raw = self.manager.read_block_data(&entry).and_then(|block| block.consensus_encode());
        let raw = raw.map_err(|error| self.refused(format!("{hash}: {error}")))?;
        let block: bitcoin::Block = deserialize(&raw).map_err(|error| ChainError::Malformed {
            endpoint: self.endpoint.clone(),
            method: "block",
            reason: format!("{hash}: {error}"),
        })?;
        // The error does not say why. For each block on the best chain the undo data must exist.
        let spent = self.manager.read_spent_outputs(&entry).map_err(|error| {
            let why = if self.manager.active_chain().contains(&entry) {
                "what it spends cannot be read"
            } else {
                "it may never have been on the best chain: what it spends is not known"
            };
            self.refused(format!("{hash}: {why}: {error}"))
        })?;
        let transactions = transactions(&block, &spent).ok_or_else(|| ChainError::Untrue {
            endpoint: self.endpoint.clone(),
            method: "block",
            reason: format!("the spent outputs of {hash} are not those of its inputs"),
        })?;
        Ok(Some(Block::new(self.header_of(entry), transactions)))
    }

    fn entry(&self, hash: Hash) -> Option<BlockTreeEntry<'_>> {
        self.manager.get_block_tree_entry(&BlockHash::from(stored(hash)))
    }

    fn header_of(&self, entry: BlockTreeEntry<'_>) -> Header {
        let hash = shown(entry.block_hash().to_bytes());
        *locked(&self.headers).entry(hash).or_insert_with(|| {
            let header = entry.header();
            Header {
                hash,
                parent: shown(header.prev_hash().to_bytes()),
                height: Height::from(entry.height().unsigned_abs()),
                work: work(CompactTarget::from_consensus(header.bits())),
                time: u64::from(header.timestamp()),
            }
        })
    }

    fn empty(&self) -> ChainError {
        ChainError::Empty { endpoint: self.endpoint.clone() }
    }

    fn refused(&self, reason: String) -> ChainError {
        ChainError::Refused { endpoint: self.endpoint.clone(), method: "block", reason }
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// A block's transactions with their spent outputs; `None` if the two do not belong together.
fn transactions(block: &bitcoin::Block, spent: &BlockSpentOutputs) -> Option<Vec<BitcoinTransaction>> {
    let mut spent = spent.iter();
    let transactions: Option<Vec<_>> =
        block.txdata.iter().map(|made| transaction(made, &mut spent)).collect();
    transactions.filter(|_| spent.next().is_none())
}

fn transaction<'a>(
    made: &bitcoin::Transaction,
    spent: &mut impl Iterator<Item = TransactionSpentOutputsRef<'a>>,
) -> Option<BitcoinTransaction> {
    let is_coinbase = made.is_coinbase();
    let mut inputs = Vec::new();
    if !is_coinbase {
        let coins = spent.next()?;
        if coins.count() != made.input.len() {
            return None;
        }
        for (input, coin) in made.input.iter().zip(coins.coins()) {
            let output = coin.output();
            let value = Amount::from_sat(u64::try_from(output.value()).ok()?);
            let script_pubkey = ScriptBuf::from_bytes(output.script_pubkey().to_bytes());
            inputs.push(Input { outpoint: input.previous_output, spent: TxOut { value, script_pubkey } });
        }
    }
    let id = shown(made.compute_txid().to_byte_array());
    Some(BitcoinTransaction { id, inputs, outputs: made.output.clone(), is_coinbase })
}

/// A regtest context that notes rejections and fatal errors, on the thread that processes the block.
fn listening(notes: &Arc<Mutex<Notes>>) -> Result<Context, KernelError> {
    let breaks = || {
        let notes = Arc::clone(notes);
        move |reason: String| {
            locked(&notes).broken.get_or_insert(reason);
        }
    };
    let judged = Arc::clone(notes);
    let judge = move |block: bitcoinkernel::Block, state: BlockValidationStateRef<'_>| {
        if state.mode() != ValidationMode::Valid {
            locked(&judged).rejected = Some((shown(block.hash().to_bytes()), state.result()));
        }
    };
    Context::builder()
        .chain_type(ChainType::Regtest)
        .with_fatal_error_notification(breaks())
        .with_flush_error_notification(breaks())
        .with_block_checked_validation(judge)
        .build()
}

/// Forwards the library's log to tracing; a process has one such log.
fn forward_log() {
    struct ToTracing;

    impl Log for ToTracing {
        fn log(&self, message: &str) {
            tracing::debug!(target: "bitcoinkernel", "{}", message.trim_end());
        }
    }

    static ONCE: Once = Once::new();
    ONCE.call_once(|| match Logger::new(ToTracing) {
        // The logger lives as long as the process.
        Ok(logger) => mem::forget(logger),
        Err(error) => tracing::warn!(%error, "the log of the consensus library is lost"),
    });
}

fn locked<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
