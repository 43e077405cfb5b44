//! Value in balances: each transaction takes from one account and gives to another.

use std::fmt;
use std::marker::PhantomData;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::ledger::{Address, Amount, Balance, Fault, Ledger, Moved, OutPoint, Target};
use crate::{Header, Height, Transaction};

/// A transaction from account to account.
pub trait AccountTransaction: Transaction {
    /// The owner of a balance.
    type Address: Address;

    /// The payer; `None` for new value: a reward, a withdrawal from staking.
    fn from(&self) -> Option<Self::Address>;

    /// How many transactions the payer had sent before.
    fn nonce(&self) -> u64;

    /// The payee; `None` if there is none, as for a contract that is created without value.
    fn to(&self) -> Option<Self::Address>;

    /// What arrives: nothing if the transaction has failed.
    fn value(&self) -> Amount;

    /// What the payer pays beside the value, also if the transaction has failed.
    fn fee(&self) -> Amount;
}

/// The ledger of a chain of accounts.
///
/// It uses the fields of transactions: payer, payee, value and fee. It does not see transfers inside a contract; a
/// wallet that pays value it got that way has a [`Fault`].
pub struct Account<T> {
    confirmations: u64,
    transaction: PhantomData<fn() -> T>,
}

impl<T> Account<T> {
    /// A ledger where received value is confirmed this many blocks deep; 1 is in the tip.
    #[must_use]
    pub fn new(confirmations: u64) -> Self {
        Self { confirmations, transaction: PhantomData }
    }
}

impl<T> Clone for Account<T> {
    fn clone(&self) -> Self {
        Self { confirmations: self.confirmations, transaction: PhantomData }
    }
}

impl<T> fmt::Debug for Account<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("confirmations", &self.confirmations).finish_non_exhaustive()
    }
}

/// What a transaction does to an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountChange<A> {
    /// It pays.
    Debited {
        /// The account.
        from: A,
        /// Value and fee.
        value: Amount,
    },
    /// It is paid.
    Credited {
        /// The account.
        to: A,
        /// The value.
        value: Amount,
        /// Whether the value is new and has no payer.
        minted: bool,
    },
}

/// What one wallet has at one block.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "AccountRecord", into = "AccountRecord")]
pub struct AccountWallet {
    balance: Amount,
    sent: u64,
    /// Received value that may not be confirmed yet, by height.
    young: RedBlackTreeMapSync<Height, Amount>,
}

/// An [`AccountWallet`] as it is serialized.
#[derive(Serialize, Deserialize)]
struct AccountRecord {
    balance: Amount,
    sent: u64,
    young: Vec<(Height, Amount)>,
}

impl AccountWallet {
    /// A wallet that begins with this balance, all confirmed.
    #[must_use]
    pub fn with(balance: Amount) -> Self {
        Self { balance, ..Self::default() }
    }

    /// How many transactions it has sent since it is followed.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }
}

impl From<AccountRecord> for AccountWallet {
    fn from(AccountRecord { balance, sent, young }: AccountRecord) -> Self {
        Self { balance, sent, young: young.into_iter().collect() }
    }
}

impl From<AccountWallet> for AccountRecord {
    fn from(AccountWallet { balance, sent, young }: AccountWallet) -> Self {
        let young = young.iter().map(|(height, value)| (*height, *value)).collect();
        Self { balance, sent, young }
    }
}

impl<T: AccountTransaction> Ledger for Account<T> {
    type Transaction = T;
    type Address = T::Address;
    type Change = AccountChange<T::Address>;
    type Wallet = AccountWallet;

    fn changes(&self, transaction: &T) -> Vec<Self::Change> {
        let (from, value) = (transaction.from(), transaction.value());
        let minted = from.is_none();
        // A sum that overflows exceeds every balance: it is reported as an overdraft.
        let paid = value.saturating_add(transaction.fee());
        let debited = from.map(|from| AccountChange::Debited { from, value: paid });
        let credited = transaction.to().filter(|_| value > 0);
        let credited = credited.map(|to| AccountChange::Credited { to, value, minted });
        debited.into_iter().chain(credited).collect()
    }

    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, T::Address> {
        match change {
            AccountChange::Debited { from: address, .. } | AccountChange::Credited { to: address, .. } => {
                Target::Address(address)
            }
        }
    }

    fn made(&self, _: &Self::Change) -> Option<OutPoint> {
        None
    }

    fn apply(
        &self,
        wallet: &mut AccountWallet,
        change: &Self::Change,
        block: &Header,
    ) -> Result<Moved, Fault> {
        let Header { hash, height, .. } = *block;
        while let Some((&first, _)) = wallet.young.first()
            && first.saturating_add(self.confirmations) <= height
        {
            wallet.young.remove_mut(&first);
        }
        match change {
            AccountChange::Debited { value, .. } => {
                let had = wallet.balance;
                let left = had.checked_sub(*value);
                let left = left.ok_or(Fault::Overdrawn { block: hash, height, taken: *value, had })?;
                wallet.balance = left;
                wallet.sent += 1;
                Ok(Moved { credited: 0, debited: *value, minted: false })
            }
            AccountChange::Credited { value, minted, .. } => {
                let sum = wallet.balance.checked_add(*value);
                wallet.balance = sum.ok_or(Fault::Overflow { block: hash, height })?;
                let young = wallet.young.get(&height).copied().unwrap_or_default();
                wallet.young.insert_mut(height, young.saturating_add(*value));
                Ok(Moved { credited: *value, debited: 0, minted: *minted })
            }
        }
    }

    fn coins(&self, _: &AccountWallet) -> Vec<OutPoint> {
        Vec::new()
    }

    /// A payment reduces `confirmed` first: `confirmed` never includes young value.
    fn balance(&self, wallet: &AccountWallet, next: Height) -> Balance {
        let young =
            wallet.young.iter().filter(|(height, _)| height.saturating_add(self.confirmations) > next);
        let young = young.fold(0, |sum: Amount, (_, value)| sum.saturating_add(*value));
        let total = wallet.balance;
        let pending = young.min(total);
        let confirmed = total - pending;
        Balance { immature: 0, pending, confirmed, spendable: confirmed, total }
    }
}
