//! How one kind of chain moves value.

use std::fmt;
use std::hash::Hash as StdHash;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error_text::debug_as_text;
use crate::{Hash, Header, Height, Transaction};

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

/// What an owner of value can be called: any type of such a kind.
pub trait Address:
    Clone + Eq + Ord + StdHash + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

impl<A> Address for A where
    A: Clone + Eq + Ord + StdHash + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}

/// How one kind of chain moves value: what a transaction changes, and what wallets make of it.
///
/// Two are here: [`Utxo`](super::Utxo) where value is in coins, [`Account`](super::Account) where it is in
/// balances.
pub trait Ledger: Clone + fmt::Debug + Send + Sync + 'static {
    /// What blocks are made of.
    type Transaction: Transaction;
    /// Who owns value.
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

    /// Whom a change concerns.
    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, Self::Address>;

    /// The coin that a change makes, for a later change to spend it by name.
    fn made(&self, change: &Self::Change) -> Option<OutPoint>;

    /// Makes a change to the wallet that it concerns, in `block`, and says what moved.
    ///
    /// # Errors
    ///
    /// [`Fault`]: the wallet does not have what it is to give. It is left as it was.
    fn apply(&self, wallet: &mut Self::Wallet, change: &Self::Change, block: &Header)
    -> Result<Moved, Fault>;

    /// The coins of a wallet, by name; none where value is in balances.
    fn coins(&self, wallet: &Self::Wallet) -> Vec<OutPoint>;

    /// What a wallet has, right in front of the block of height `next`.
    fn balance(&self, wallet: &Self::Wallet, next: Height) -> Balance;
}

/// Whom a change concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a, A> {
    /// Whoever has this address.
    Address(&'a A),
    /// Whoever owns this coin.
    Coin(&'a OutPoint),
}

/// What a change moved into a wallet or out of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// What came in.
    pub credited: Amount,
    /// What went out, fees included.
    pub debited: Amount,
    /// Whether what came in was nobody's before: a block's reward.
    pub minted: bool,
}

/// What a wallet has at a block.
///
/// On the chain `immature`, `pending` and `confirmed` sum up to `total`. Where transactions are on their way
/// ([`balance_with`](super::WalletsView::balance_with)), `pending` and `spendable` are told as if the next block had
/// them, and the others as they are on the chain: the sum then says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Rewards that the next block may not spend yet.
    pub immature: Amount,
    /// Came in fewer blocks ago than the ledger's `confirmations`. What is on its way to the wallet adds to it, change
    /// too, and what is taken from what is pending is missing in it: it can be less than without.
    pub pending: Amount,
    /// Is at least that deep.
    pub confirmed: Amount,
    /// What of `confirmed` is not being spent by what is on its way; without that, all of it.
    pub spendable: Amount,
    /// All there is on the chain, whatever its class, without what is on its way.
    pub total: Amount,
}

/// A wallet that did what it cannot have done: what is known of it is incomplete.
///
/// Its opening was wrong, it began before the height it is followed from, or value came to it by ways that no
/// transaction shows. From that block on, on that branch, its balance is unknown.
#[derive(Clone, PartialEq, Eq, Serialize, serde::Deserialize, thiserror::Error)]
pub enum Fault {
    /// More left than there was.
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
    /// A coin is spent that is not there.
    #[error("block {block:.8} at height {height} spends output {} of {:.8}, which its branch does not have: follow the wallet from an earlier height, or give it that coin", coin.output, coin.transaction)]
    NoCoin {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
        /// The coin.
        coin: OutPoint,
    },
    /// There is more than can be counted.
    #[error(
        "block {block:.8} at height {height} gives a wallet more than can be counted: compare the block with that of another node"
    )]
    Overflow {
        /// In which block.
        block: Hash,
        /// Its height.
        height: Height,
    },
}

debug_as_text!(Fault);
