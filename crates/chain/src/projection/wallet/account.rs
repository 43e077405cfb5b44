//! Value in balances: each transaction takes from one account and gives to another.

use std::fmt;
use std::marker::PhantomData;

use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use super::ledger::{Address, Amount, Balance, Fault, Ledger, Moved, OutPoint, Target, UnknownPart};
use crate::{Hash, Header, Height, Transaction};

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

    /// New value that the payer receives before it pays, also if the transaction has failed: a deposit from another
    /// chain. Default: none.
    fn minted(&self) -> Amount {
        0
    }

    /// What is unknown, if anything, of what the payer loses or is given. The payer's wallet then has a [`Fault`], and
    /// [`value`](Self::value), [`fee`](Self::fee) and [`minted`](Self::minted) do not count for it. Default: nothing.
    fn unknown_to_payer(&self) -> Option<UnknownPart> {
        None
    }

    /// What is unknown, if anything, of what the payee is paid. The wallet of [`to`](Self::to) then has a [`Fault`].
    /// Default: nothing.
    fn unknown_to_payee(&self) -> Option<UnknownPart> {
        None
    }
}

/// The ledger of a chain of accounts.
///
/// It uses the fields of transactions: payer, payee, value, fee and what is minted for the payer. It does not see
/// transfers inside a contract; a wallet that pays value it got that way has a [`Fault`]. So has the payer or payee of
/// a transaction of which a part is unknown.
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
        /// New value that it receives before it pays.
        #[serde(default)]
        minted: Amount,
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
    /// It pays or is paid, and how much is unknown.
    Unknown {
        /// The account.
        owner: A,
        /// The transaction.
        transaction: Hash,
        /// What is unknown of it.
        what: UnknownPart,
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

    /// Adds to the value that is not confirmed yet.
    fn receive(&mut self, value: Amount, height: Height) {
        if value > 0 {
            let young = self.young.get(&height).copied().unwrap_or_default();
            self.young.insert_mut(height, young.saturating_add(value));
        }
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
        let is_new = from.is_none();
        let unknown =
            |owner: T::Address, what| AccountChange::Unknown { owner, transaction: transaction.id(), what };
        // A sum that overflows exceeds every balance: it is reported as an overdraft.
        let paid = value.saturating_add(transaction.fee());
        let pays = |from| AccountChange::Debited { from, minted: transaction.minted(), value: paid };
        let debited = from.map(|from| match transaction.unknown_to_payer() {
            Some(what) => unknown(from, what),
            None => pays(from),
        });
        let credited = transaction.to().and_then(|to| match transaction.unknown_to_payee() {
            Some(what) => Some(unknown(to, what)),
            None => (value > 0).then_some(AccountChange::Credited { to, value, minted: is_new }),
        });
        debited.into_iter().chain(credited).collect()
    }

    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, T::Address> {
        match change {
            AccountChange::Debited { from: address, .. }
            | AccountChange::Credited { to: address, .. }
            | AccountChange::Unknown { owner: address, .. } => Target::Address(address),
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
            AccountChange::Debited { minted, value, .. } => {
                let had = wallet.balance.checked_add(*minted);
                let had = had.ok_or(Fault::Overflow { block: hash, height })?;
                let left = had.checked_sub(*value);
                wallet.balance = left.ok_or(Fault::Overdrawn { block: hash, height, taken: *value, had })?;
                wallet.sent += 1;
                // What is passed on at once is not received.
                wallet.receive(minted.saturating_sub(*value), height);
                Ok(Moved { credited: *minted, debited: *value, minted: true })
            }
            AccountChange::Credited { value, minted, .. } => {
                let sum = wallet.balance.checked_add(*value);
                wallet.balance = sum.ok_or(Fault::Overflow { block: hash, height })?;
                wallet.receive(*value, height);
                Ok(Moved { credited: *value, debited: 0, minted: *minted })
            }
            AccountChange::Unknown { transaction, what, .. } => {
                let (transaction, what) = (*transaction, *what);
                Err(Fault::Unknown { block: hash, height, transaction, what })
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
