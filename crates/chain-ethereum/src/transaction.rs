//! What an Ethereum block is made of.

use alloy::primitives::{Address, U256};

use watchkeeper_chain::{Hash, Transaction};

/// A transaction in a block, with its result.
///
/// The account `from` loses `fee`, and if the transaction `succeeded`, `value` goes from `from` to `to`. With that the
/// balances of accounts that no contract pays are exact. Transfers inside contracts, withdrawals of stake and the fees
/// that block producers earn are no transactions, and not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthereumTransaction {
    /// Its identity.
    pub hash: Hash,
    /// The account that sends it, and signed it if it is [`signed`](Self::signed); the zero account if the node does not
    /// say.
    pub from: Address,
    /// The account that gets the value, or the contract that it creates. `None` if it failed to create one.
    pub to: Option<Address>,
    /// The value to transfer, in wei; `None` if the node does not say.
    pub value: Option<U256>,
    /// How many transactions of `from` came before; `None` if the node does not say.
    pub nonce: Option<u64>,
    /// Whether `from` signed it. Deposits, system transactions and the like are made by the chain itself.
    pub signed: bool,
    /// New value that `from` receives before it pays, in wei: a deposit from the parent chain. Deposits of the OP stack,
    /// and those of Arbitrum that are no retry, mint whether or not they succeed; retries of Arbitrum and priority
    /// transactions of zkSync only if they do. `None` if the node does not say, or this depends on a result that is
    /// unknown.
    pub minted: Option<U256>,
    /// What `from` paid for gas and blobs, in wei, whether or not it succeeded, without what rollups charge for their
    /// parent chain. Zero for what is paid on the parent chain, whether or not there is a receipt. `None` if it is
    /// unknown: there is no receipt, the fee is paid in a token, or the sender receives a part of it back and no field
    /// says how much.
    pub fee: Option<U256>,
    /// Whether it was executed without failure; `None` if its receipt is unknown.
    pub succeeded: Option<bool>,
}

impl Transaction for EthereumTransaction {
    fn id(&self) -> Hash {
        self.hash
    }

    fn conflicts(&self) -> Vec<Vec<u8>> {
        let nonce = self.nonce.filter(|_| self.signed);
        nonce.map(|nonce| [self.from.as_slice(), &nonce.to_be_bytes()].concat()).into_iter().collect()
    }
}
