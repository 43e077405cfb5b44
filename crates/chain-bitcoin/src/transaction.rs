//! The transactions of a Bitcoin block.

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, ScriptBuf, TxOut};
use watchkeeper_chain::projection::wallet::{self, Amount, UtxoTransaction};
use watchkeeper_chain::{Hash, Transaction};

use crate::convert::shown;

/// A transaction with the outputs that it spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BitcoinTransaction {
    /// The hash of the transaction without its witnesses.
    pub id: Hash,
    /// The outputs that it spends; empty in a coinbase.
    pub inputs: Vec<Input>,
    /// The outputs that it makes.
    pub outputs: Vec<TxOut>,
    /// Whether it is the first of its block, which makes the reward.
    pub is_coinbase: bool,
}

/// An output that a transaction spends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The identity of the output.
    pub outpoint: OutPoint,
    /// The output: its value, and the script of its owner.
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

/// The script of a coin stands for its owner.
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
