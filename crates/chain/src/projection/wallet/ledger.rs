//! How one kind of chain moves value.

use std::fmt;
use std::hash::Hash as StdHash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Hash, Header, Height, Transaction};
use watchkeeper::report::debug_as_text;

/// An amount in the chain's smallest unit: satoshi, wei.
pub type Amount = u128;

/// One output of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
pub struct OutPoint {
    /// Which transaction.
    pub transaction: Hash,
    /// Which of its outputs, from 0.
    pub output: u32,
}

/// Names an owner of value; implemented for every type with these bounds.
pub trait Address:
    Clone + Eq + Ord + StdHash + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<A> Address for A where
    A: Clone + Eq + Ord + StdHash + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// How one kind of chain moves value: what a transaction changes, and how wallets change with it.
///
/// Two are built in: [`Utxo`](super::Utxo) for coins, [`Account`](super::Account) for balances.
pub trait Ledger: Clone + fmt::Debug + Send + Sync + 'static {
    /// What blocks are made of.
    type Transaction: Transaction;
    /// The owner of value.
    type Address: Address;
    /// One thing that a transaction does.
    type Change: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What one wallet has at one block. A clone shares everything; the default has nothing.
    type Wallet: Clone
        + fmt::Debug
        + Default
        + PartialEq
        + Serialize
        + DeserializeOwned
        + Send
        + Sync
        + 'static;

    /// What a transaction does, in order.
    fn changes(&self, transaction: &Self::Transaction) -> Vec<Self::Change>;

    /// The owner that a change concerns.
    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, Self::Address>;

    /// The coin that a change makes; a later change spends it by name.
    fn made(&self, change: &Self::Change) -> Option<OutPoint>;

    /// Applies a change in `block` to the wallet that it concerns, and returns what moved.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the wallet does not have what the change takes. The wallet is unchanged.
    fn apply(&self, wallet: &mut Self::Wallet, change: &Self::Change, block: &Header)
    -> Result<Moved, Fault>;

    /// The coins of a wallet, by name; none for balances.
    fn coins(&self, wallet: &Self::Wallet) -> Vec<OutPoint>;

    /// What a wallet has right before the block of height `next`.
    fn balance(&self, wallet: &Self::Wallet, next: Height) -> Balance;
}

/// The owner that a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a, A> {
    /// The owner of this address.
    Address(&'a A),
    /// The owner of this coin.
    Coin(&'a OutPoint),
}

/// What a change moved into a wallet or out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// What came in.
    pub credited: Amount,
    /// What went out, fees included.
    pub debited: Amount,
    /// Whether what came in is new: a block's reward, a deposit.
    pub minted: bool,
}

/// What a wallet has at a block.
///
/// On the chain `immature`, `pending` and `confirmed` sum up to `total`. With transactions in flight
/// ([`balance_with`](super::WalletsView::balance_with)), `pending` and `spendable` are computed as if the next block
/// included them, and the others are as on the chain: the sum then has no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Rewards that the next block may not spend yet.
    pub immature: Amount,
    /// Came in fewer blocks ago than the ledger's `confirmations`. In-flight payments to the wallet add to it, change
    /// included; in-flight payments from pending value reduce it.
    pub pending: Amount,
    /// At least that deep.
    pub confirmed: Amount,
    /// The part of `confirmed` that no transaction in flight spends.
    pub spendable: Amount,
    /// All value on the chain, without transactions in flight.
    pub total: Amount,
}

/// A part of a transaction that a balance needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum UnknownPart {
    /// Whether it succeeded, and so whether its value moved.
    Success,
    /// The value.
    Value,
    /// The fee.
    Fee,
    /// What it mints.
    Minted,
}

impl fmt::Display for UnknownPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Success => "the success",
            Self::Value => "the value",
            Self::Fee => "the fee",
            Self::Minted => "what it mints",
        })
    }
}

/// A change that is impossible for a wallet, or unknown: what is known of the wallet is incomplete.
///
/// Its opening was wrong, it had transactions below the height it is followed from, value came to it in a way that no
/// transaction shows, or what a block did to it is unknown. From that block on, on that branch, its balance is unknown.
#[derive(Clone, PartialEq, Eq, Serialize, serde::Deserialize, thiserror::Error)]
pub enum Fault {
    /// A transaction takes more than the wallet has.
    #[error(
        "Overdrawn in block {block:.8} at height {height}: {taken} are taken from a wallet that has {had}; follow it \
         from an earlier height, or give what it had there"
    )]
    Overdrawn {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
        /// What the transaction takes.
        taken: Amount,
        /// What there was.
        had: Amount,
    },
    /// A transaction spends a coin that does not exist.
    #[error(
        "block {block:.8} at height {height} spends output {} of {:.8}, which its branch does not have: follow the \
         wallet from an earlier height, or give it that coin",
        coin.output, coin.transaction
    )]
    NoCoin {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
        /// The coin.
        coin: OutPoint,
    },
    /// The balance exceeds [`Amount`].
    #[error(
        "block {block:.8} at height {height} gives a wallet more than can be counted: compare the block with that of \
         another node"
    )]
    Overflow {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
    },
    /// A part of a transaction that pays the wallet, or that it pays, is unknown.
    #[error(
        "block {block:.8} at height {height} has transaction {transaction:.8}, of which {what} is unknown: start \
         again with a node that returns it, or follow the wallet from the next height, with what it has there"
    )]
    Unknown {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
        /// The transaction.
        transaction: Hash,
        /// What is unknown.
        what: UnknownPart,
    },
    /// The transactions of a block were not read: any of them may concern the wallet.
    #[error(
        "the transactions of block {block:.8} at height {height} were not read: start again with a node that returns \
         them, or follow the wallet from the next height, with what it has there"
    )]
    Unread {
        /// Which block.
        block: Hash,
        /// Its height.
        height: Height,
    },
}

impl Fault {
    /// Whether the block may be known in full when it is read again.
    pub(super) fn ends_when_read(&self) -> bool {
        matches!(self, Self::Unknown { .. } | Self::Unread { .. })
    }
}

debug_as_text!(Fault);
