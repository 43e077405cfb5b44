//! What an Ethereum block is made of.

use alloy::primitives::{Address, U256};

use crate::{Hash, Transaction};

/// A transaction in a block, with its result.
///
/// The account `from` loses `fee`, and if the transaction `succeeded`, `value` goes from `from` to `to`. With that the
/// balances of accounts that no contract pays are exact. Transfers inside contracts, withdrawals of stake and the fees
/// that block producers earn are no transactions, and not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthereumTransaction {
    /// Its identity.
    pub hash: Hash,
    /// The account that signed it.
    pub from: Address,
    /// The account that gets the value, or the contract that it creates. `None` if it failed to create one.
    pub to: Option<Address>,
    /// The value to transfer, in wei.
    pub value: U256,
    /// How many transactions of `from` came before.
    pub nonce: u64,
    /// What `from` paid for gas and blobs, in wei, whether or not it succeeded, without what rollups charge for their
    /// parent chain.
    pub fee: U256,
    /// Whether it was executed without failure.
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
