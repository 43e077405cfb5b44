//! Value in coins: each transaction spends whole coins and makes new ones.

use std::fmt;
use std::marker::PhantomData;

use rpds::{HashTrieMapSync, RedBlackTreeMapSync};
use serde::{Deserialize, Serialize};

use super::ledger::{Address, Amount, Balance, Fault, Ledger, Moved, OutPoint, Target};
use crate::{Header, Height, Transaction};

/// A transaction that spends coins and makes coins.
pub trait UtxoTransaction: Transaction {
    /// The owner of a coin: a script, or an address.
    type Address: Address;

    /// The coins that it spends; none for a block's reward.
    fn inputs(&self) -> Vec<OutPoint>;

    /// The outputs that it makes, in order; `None` for an output that cannot be spent.
    fn outputs(&self) -> Vec<(Option<Self::Address>, Amount)>;

    /// Whether it is a block's reward.
    fn is_reward(&self) -> bool;
}

/// The ledger of a chain of coins.
pub struct Utxo<T> {
    maturity: u64,
    confirmations: u64,
    transaction: PhantomData<fn() -> T>,
}

impl<T> Utxo<T> {
    /// A ledger where a coin is confirmed this many blocks deep (1 is in the tip), with Bitcoin's maturity of 100
    /// blocks.
    #[must_use]
    pub fn new(confirmations: u64) -> Self {
        Self { maturity: 100, confirmations, transaction: PhantomData }
    }

    /// Lets a reward in a block of height `h` be spent from height `h + blocks` on.
    #[must_use]
    pub fn maturity(self, blocks: u64) -> Self {
        Self { maturity: blocks, ..self }
    }

    /// After how many blocks every coin is confirmed.
    fn youth(&self) -> u64 {
        self.maturity.max(self.confirmations)
    }
}

impl<T> Clone for Utxo<T> {
    fn clone(&self) -> Self {
        Self { maturity: self.maturity, confirmations: self.confirmations, transaction: PhantomData }
    }
}

impl<T> fmt::Debug for Utxo<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { maturity, confirmations, .. } = self;
        f.debug_struct("Utxo")
            .field("maturity", maturity)
            .field("confirmations", confirmations)
            .finish_non_exhaustive()
    }
}

/// What a transaction does to coins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum UtxoChange<A> {
    /// A coin is made.
    Made {
        /// Its name.
        coin: OutPoint,
        /// The owner.
        owner: A,
        /// Its value.
        value: Amount,
        /// Whether it is a block's reward.
        reward: bool,
    },
    /// A coin is spent.
    Spent {
        /// Its name.
        coin: OutPoint,
    },
}

/// A coin of a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coin {
    /// Its name.
    pub name: OutPoint,
    /// Its value.
    pub value: Amount,
    /// The height of the block that made it.
    pub height: Height,
    /// Whether it is a block's reward.
    pub reward: bool,
}

/// The coins of one wallet at one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Coin>", into = "Vec<Coin>")]
pub struct UtxoWallet {
    coins: HashTrieMapSync<OutPoint, Coin>,
    /// The coins that may not be confirmed yet, by height.
    young: RedBlackTreeMapSync<(Height, OutPoint), Coin>,
    total: Amount,
}

impl UtxoWallet {
    /// Its coins, in no order.
    pub fn coins(&self) -> impl Iterator<Item = &Coin> {
        self.coins.values()
    }

    /// Adds a coin, and returns the value of the coin that it replaces: one that is made twice, as two of Bitcoin's
    /// early rewards were, exists once. `None` if the sum overflows.
    fn add(&mut self, coin: Coin) -> Option<Amount> {
        let before = self.coins.get(&coin.name).copied();
        let lost = before.map_or(0, |before| before.value);
        self.total = (self.total - lost).checked_add(coin.value)?;
        if let Some(before) = before {
            self.young.remove_mut(&(before.height, before.name));
        }
        self.coins.insert_mut(coin.name, coin);
        self.young.insert_mut((coin.height, coin.name), coin);
        Some(lost)
    }

    /// Removes coins from `young` that are confirmed at this height.
    fn age(&mut self, height: Height, youth: u64) {
        while let Some((&key, _)) = self.young.first()
            && key.0.saturating_add(youth) <= height
        {
            self.young.remove_mut(&key);
        }
    }
}

impl From<Vec<Coin>> for UtxoWallet {
    /// Coins with which the sum would overflow are left out.
    fn from(coins: Vec<Coin>) -> Self {
        let mut wallet = Self::default();
        for coin in coins {
            let _ = wallet.add(coin);
        }
        wallet
    }
}

impl From<UtxoWallet> for Vec<Coin> {
    fn from(wallet: UtxoWallet) -> Self {
        let mut coins: Self = wallet.coins.values().copied().collect();
        coins.sort_by_key(|coin| (coin.height, coin.name));
        coins
    }
}

impl<T: UtxoTransaction> Ledger for Utxo<T> {
    type Transaction = T;
    type Address = T::Address;
    type Change = UtxoChange<T::Address>;
    type Wallet = UtxoWallet;

    fn changes(&self, transaction: &T) -> Vec<Self::Change> {
        let spent = transaction.inputs().into_iter().map(|coin| UtxoChange::Spent { coin });
        let (id, reward) = (transaction.id(), transaction.is_reward());
        let made = (0..).zip(transaction.outputs()).filter_map(|(output, (owner, value))| {
            let coin = OutPoint { transaction: id, output };
            Some(UtxoChange::Made { coin, owner: owner?, value, reward })
        });
        spent.chain(made).collect()
    }

    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, T::Address> {
        match change {
            UtxoChange::Made { owner, .. } => Target::Address(owner),
            UtxoChange::Spent { coin } => Target::Coin(coin),
        }
    }

    fn made(&self, change: &Self::Change) -> Option<OutPoint> {
        match change {
            UtxoChange::Made { coin, .. } => Some(*coin),
            UtxoChange::Spent { .. } => None,
        }
    }

    fn apply(&self, wallet: &mut UtxoWallet, change: &Self::Change, block: &Header) -> Result<Moved, Fault> {
        let Header { hash, height, .. } = *block;
        wallet.age(height, self.youth());
        match change {
            UtxoChange::Made { coin: name, value, reward, .. } => {
                let coin = Coin { name: *name, value: *value, height, reward: *reward };
                let lost = wallet.add(coin).ok_or(Fault::Overflow { block: hash, height })?;
                Ok(Moved { credited: *value, debited: lost, minted: *reward })
            }
            UtxoChange::Spent { coin } => {
                let Some(&Coin { name, value, height: made, .. }) = wallet.coins.get(coin) else {
                    return Err(Fault::NoCoin { block: hash, height, coin: *coin });
                };
                wallet.coins.remove_mut(&name);
                wallet.young.remove_mut(&(made, name));
                wallet.total -= value;
                Ok(Moved { credited: 0, debited: value, minted: false })
            }
        }
    }

    fn coins(&self, wallet: &UtxoWallet) -> Vec<OutPoint> {
        wallet.coins.keys().copied().collect()
    }

    fn balance(&self, wallet: &UtxoWallet, next: Height) -> Balance {
        let (mut immature, mut pending) = (0, 0);
        for coin in wallet.young.values() {
            if coin.reward && coin.height.saturating_add(self.maturity) > next {
                immature += coin.value;
            } else if coin.height.saturating_add(self.confirmations) > next {
                pending += coin.value;
            }
        }
        let confirmed = wallet.total - immature - pending;
        Balance { immature, pending, confirmed, spendable: confirmed, total: wallet.total }
    }
}
