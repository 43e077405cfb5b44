//! What an Ethereum block is made of.

use alloy::primitives::{Address, U256};

use crate::{Hash, Transaction};

/// A transaction in a block, with what became of it.
///
/// The account `from` loses `fee`, and if the transaction `succeeded`, `value` goes from `from` to `to`. With
/// that the balances of accounts that no contract pays are exact. What contracts send, withdrawals of stake
/// and the fees that block producers earn are no transactions, and not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthereumTransaction {
    /// Its identity.
    pub hash: Hash,
    /// Who signed it.
    pub from: Address,
    /// Who gets the value: also the contract that it creates. `None` if it failed to create one.
    pub to: Option<Address>,
    /// How much was meant to go over, in wei.
    pub value: U256,
    /// How many transactions of `from` came before.
    pub nonce: u64,
    /// What `from` paid for the work and for blobs, in wei, whether or not it succeeded. What rollups charge for
    /// their parent chain is not in it.
    pub fee: U256,
    /// Whether it did what it was meant to do.
    pub succeeded: bool,
}

impl Transaction for EthereumTransaction {
    fn id(&self) -> Hash {
        self.hash
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        vec![[self.from.as_slice(), &self.nonce.to_be_bytes()].concat()]
    }
}
