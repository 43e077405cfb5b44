//! What a block of Bitcoin is made of.

use bitcoin::consensus::serialize;
use bitcoin::{OutPoint, TxOut};
use watchkeeper_chain::{Hash, Transaction};

/// A transaction with what it spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinTransaction {
    /// Its identity, without its witnesses.
    pub id: Hash,
    /// What it spends; empty in a coinbase.
    pub inputs: Vec<Input>,
    /// What it makes.
    pub outputs: Vec<TxOut>,
    /// Whether it is its block's first, which makes the reward.
    pub is_coinbase: bool,
}

/// An output that a transaction spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Which one.
    pub outpoint: OutPoint,
    /// What it was: its value, and the script that says who may spend it.
    pub spent: TxOut,
}

impl Transaction for BitcoinTransaction {
    fn id(&self) -> Hash {
        self.id
    }

    /// The outputs that it spends: another transaction with one of them replaces it.
    fn conflicts(&self) -> Vec<Vec<u8>> {
        self.inputs.iter().map(|input| serialize(&input.outpoint)).collect()
    }
}
