//! Coins, and the transactions that spend them.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use crate::convert::shown;
use crate::transaction::{BitcoinTransaction, Input};
use watchkeeper::report::debug_as_text;

/// An output that is not known to be spent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coin {
    /// The identity of the output.
    pub outpoint: OutPoint,
    /// Its value, and the script of its owner.
    pub output: TxOut,
}

/// A transaction that is ready for a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The transaction.
    pub transaction: Transaction,
    /// The outputs that its inputs spend, in their order.
    pub spent: Vec<TxOut>,
    /// The value that it leaves to the miner.
    pub fee: Amount,
}

impl Coin {
    pub(super) fn of(transaction: &Transaction, output: u32) -> Option<Self> {
        let made = transaction.output.get(usize::try_from(output).ok()?)?;
        Some(Self {
            outpoint: OutPoint { txid: transaction.compute_txid(), vout: output },
            output: made.clone(),
        })
    }
}

impl Spend {
    /// One of the outputs that it makes, counted from 0.
    #[must_use]
    pub fn coin(&self, output: u32) -> Option<Coin> {
        Coin::of(&self.transaction, output)
    }

    pub(super) fn unsigned(coins: &[Coin], outputs: &[TxOut]) -> Result<Self, SpendError> {
        let sum = |outputs: &mut dyn Iterator<Item = &TxOut>| {
            outputs.fold(Amount::ZERO, |sum, output| sum.checked_add(output.value).unwrap_or(Amount::MAX))
        };
        let have = sum(&mut coins.iter().map(|coin| &coin.output));
        let want = sum(&mut outputs.iter());
        let fee = have.checked_sub(want).ok_or(SpendError::TooLittle { have, want })?;
        let input = |coin: &Coin| TxIn {
            previous_output: coin.outpoint,
            script_sig: ScriptBuf::new(),
            sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
            witness: Witness::new(),
        };
        let transaction = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: coins.iter().map(input).collect(),
            output: outputs.to_vec(),
        };
        let spent = coins.iter().map(|coin| coin.output.clone()).collect();
        Ok(Self { transaction, spent, fee })
    }

    pub(super) fn signed(mut self, witnesses: Vec<Witness>) -> Self {
        for (input, witness) in self.transaction.input.iter_mut().zip(witnesses) {
            input.witness = witness;
        }
        self
    }
}

/// The transaction as a block that includes it will show it: follow it before it is included.
impl From<&Spend> for BitcoinTransaction {
    fn from(spend: &Spend) -> Self {
        let Spend { transaction, spent, .. } = spend;
        let inputs = transaction.input.iter().zip(spent);
        let inputs =
            inputs.map(|(input, spent)| Input { outpoint: input.previous_output, spent: spent.clone() });
        Self {
            id: shown(transaction.compute_txid().to_byte_array()),
            inputs: inputs.collect(),
            outputs: transaction.output.clone(),
            is_coinbase: false,
        }
    }
}

/// Why a transaction cannot be made.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpendError {
    /// The outputs are worth more than the coins.
    #[error("outputs worth {want} cannot be made of coins worth {have}: give it more coins")]
    TooLittle {
        /// The value of the coins.
        have: Amount,
        /// The value of the outputs.
        want: Amount,
    },
    /// A coin is another key's.
    #[error("{outpoint} is not this key's: sign with the key that was paid")]
    Foreign {
        /// The coin.
        outpoint: OutPoint,
    },
}

debug_as_text!(SpendError);
