//! Blocks that a node accepts.

mod key;
mod spend;

use bitcoin::absolute::LockTime;
use bitcoin::block::{Block, Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::pow::CompactTarget;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
};
use watchkeeper_chain::Height;

use crate::convert::{header, stored};
use watchkeeper::report::debug_as_text;

pub use key::Key;
pub use spend::{Coin, Spend, SpendError};

/// The bits of every block of regtest: two hashes on average.
const BITS: u32 = 0x207f_ffff;
/// The subsidy of regtest halves after this many blocks.
const HALVING: Height = 150;
const FIRST_SUBSIDY: Amount = Amount::from_int_btc(50);

/// Makes blocks of the regtest chain, on any parent.
///
/// No two of its blocks are the same. Another miner with the same key makes the same blocks.
#[derive(Clone, Debug)]
pub struct Miner {
    pays: ScriptBuf,
    made: u64,
}

/// A block that was made.
#[derive(Clone, Debug)]
pub struct Mined {
    /// The header, which names the parent.
    pub header: watchkeeper_chain::Header,
    /// The whole block, to be submitted.
    pub block: Block,
    /// The reward; the hundredth block on top of this one may spend it first.
    pub reward: Coin,
}

impl Miner {
    /// Makes blocks whose rewards this key may spend.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self { pays: key.script(), made: 0 }
    }

    /// Makes a block on `parent`, one second later, which includes `spends` in their order. The node decides
    /// whether they are valid.
    ///
    /// # Errors
    ///
    /// [`MineError`]: no block can follow this parent, or the block has no nonce.
    pub fn mine(&mut self, parent: &watchkeeper_chain::Header, spends: &[Spend]) -> Result<Mined, MineError> {
        self.made += 1;
        let height = parent.height.saturating_add(1);
        let time = u32::try_from(parent.time.saturating_add(1)).map_err(|_| MineError::Beyond { height })?;
        let label = i64::try_from(height).map_err(|_| MineError::Beyond { height })?;
        let reward = spends
            .iter()
            .fold(subsidy(height), |sum, spend| sum.checked_add(spend.fee).unwrap_or(Amount::MAX));
        let coinbase = self.coinbase(label, reward);
        let output = coinbase.output[0].clone();
        let others = spends.iter().map(|spend| spend.transaction.clone());
        let mut block = Block {
            header: Header {
                version: Version::from_consensus(0x2000_0000),
                prev_blockhash: BlockHash::from_byte_array(stored(parent.hash)),
                merkle_root: TxMerkleNode::all_zeros(),
                time,
                bits: CompactTarget::from_consensus(BITS),
                nonce: 0,
            },
            txdata: std::iter::once(coinbase).chain(others).collect(),
        };
        commit(&mut block);
        if !solve(&mut block.header) {
            return Err(MineError::Unsolved { height });
        }
        let reward = Coin { outpoint: OutPoint::new(block.txdata[0].compute_txid(), 0), output };
        Ok(Mined { header: header(&block.header, height), block, reward })
    }

    fn coinbase(&self, height: i64, reward: Amount) -> Transaction {
        let label = Builder::new().push_int(height).push_slice(self.made.to_le_bytes());
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: label.into_script(),
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[RESERVED]),
            }],
            output: vec![TxOut { value: reward, script_pubkey: self.pays.clone() }],
        }
    }
}

/// The witness of a coinbase, which holds no data yet.
const RESERVED: [u8; 32] = [0; 32];
/// The beginning of the output with the hash of all witnesses: it cannot be spent, and 36 bytes follow, of which
/// the first four identify it.
const COMMITMENT: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Writes the hash of all witnesses into the coinbase, and that of all transactions into the header.
fn commit(block: &mut Block) {
    if let Some(root) = block.witness_root() {
        let commitment = Block::compute_witness_commitment(&root, &RESERVED);
        let script = [&COMMITMENT[..], commitment.as_byte_array()].concat();
        let output = TxOut { value: Amount::ZERO, script_pubkey: script.into() };
        block.txdata[0].output.push(output);
    }
    if let Some(root) = block.compute_merkle_root() {
        block.header.merkle_root = root;
    }
}

/// Finds a nonce; returns whether there is one.
fn solve(header: &mut Header) -> bool {
    let target = header.target();
    (0..=u32::MAX).any(|nonce| {
        header.nonce = nonce;
        target.is_met_by(header.block_hash())
    })
}

/// The subsidy of a block of this height.
fn subsidy(height: Height) -> Amount {
    let halvings = u32::try_from(height / HALVING).unwrap_or(u32::MAX);
    Amount::from_sat(FIRST_SUBSIDY.to_sat().checked_shr(halvings).unwrap_or_default())
}

/// Why no block was made.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MineError {
    /// A header cannot hold its time or height.
    #[error("block {height} would be later or higher than a header can hold: is its parent a real block?")]
    Beyond {
        /// The block's height.
        height: Height,
    },
    /// No nonce gives a hash below the target.
    #[error("block {height} has no nonce that solves it: make another one")]
    Unsolved {
        /// The block's height.
        height: Height,
    },
}

debug_as_text!(MineError);
