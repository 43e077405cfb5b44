//! What a block of Bitcoin is made of.

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, ScriptBuf, TxOut};
use watchkeeper_chain::projection::wallet::{self, Amount, UtxoTransaction};
use watchkeeper_chain::{Hash, Transaction};

use crate::convert::shown;

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

/// A coin is owned by its script, and who can spend that.
impl UtxoTransaction for BitcoinTransaction {
    type Address = ScriptBuf;

    fn inputs(&self) -> Vec<wallet::OutPoint> {
        let name = |input: &Input| wallet::OutPoint {
            transaction: shown(input.outpoint.txid.to_byte_array()),
            output: input.outpoint.vout,
        };
        self.inputs.iter().map(name).collect()
    }

    fn outputs(&self) -> Vec<(Option<ScriptBuf>, Amount)> {
        let owner =
            |output: &TxOut| Some(&output.script_pubkey).filter(|script| !script.is_op_return()).cloned();
        self.outputs.iter().map(|output| (owner(output), Amount::from(output.value.to_sat()))).collect()
    }

    fn is_reward(&self) -> bool {
        self.is_coinbase
    }
}
