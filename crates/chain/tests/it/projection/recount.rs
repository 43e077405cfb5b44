//! Balances, recounted from the first block.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use watchkeeper_chain::projection::wallet::{Account, Amount, Balance, Ledger, OutPoint, Utxo};
use watchkeeper_chain::{Block, Height};

use super::{Address, Coins, Payment, numbered};

const CONFIRMATIONS: u64 = 3;
const MATURITY: u64 = 4;
const ADDRESSES: [Address; 6] = ['a', 'b', 'c', 'd', 'e', 'f'];

/// A ledger that is recounted from the first block, with plain collections only.
pub(super) trait Recount: Ledger<Address = Address> {
    fn ledger() -> Self;

    /// A transaction that is valid after `branch`, made of three numbers.
    fn make(
        branch: &[Arc<Block<Self::Transaction>>],
        also: &[Self::Transaction],
        number: u64,
        seed: (u16, u16, u16),
    ) -> Option<Self::Transaction>;

    /// Whether a transaction may be in the block after `branch`.
    fn is_valid(
        branch: &[Arc<Block<Self::Transaction>>],
        also: &[Self::Transaction],
        transaction: &Self::Transaction,
    ) -> bool;

    /// The balance of addresses after `branch`.
    fn recount(branch: &[Arc<Block<Self::Transaction>>], addresses: &[Address]) -> Balance;
}

type Unspent = BTreeMap<OutPoint, (Address, Amount, Height, bool)>;

fn unspent(branch: &[Arc<Block<Coins>>], also: &[Coins]) -> Unspent {
    let mut coins = Unspent::new();
    let next = branch.last().map_or(0, |block| block.header.height + 1);
    let blocks = branch.iter().map(|block| (block.header.height, &block.transactions[..]));
    for (height, transactions) in blocks.chain([(next, also)]) {
        for transaction in transactions {
            for coin in &transaction.inputs {
                coins.remove(coin);
            }
            for (output, (owner, value)) in (0..).zip(&transaction.outputs) {
                let Some(owner) = owner else { continue };
                let coin = OutPoint { transaction: transaction.id, output };
                coins.insert(coin, (*owner, *value, height, transaction.inputs.is_empty()));
            }
        }
    }
    coins
}

impl Recount for Utxo<Coins> {
    fn ledger() -> Self {
        Self::new(CONFIRMATIONS).maturity(MATURITY)
    }

    fn make(
        branch: &[Arc<Block<Coins>>],
        also: &[Coins],
        number: u64,
        (from, to, how): (u16, u16, u16),
    ) -> Option<Coins> {
        let owner = |number: u16| Some(ADDRESSES[usize::from(number) % ADDRESSES.len()]);
        let coins = unspent(branch, also);
        let next = branch.last().map_or(0, |block| block.header.height + 1);
        let spendable: Vec<_> =
            coins.iter().filter(|(_, (_, _, height, reward))| !reward || height + MATURITY <= next).collect();
        let id = numbered(1_000_000 + number);
        if spendable.is_empty() || how % 4 == 0 {
            return Some(Coins {
                id,
                inputs: Vec::new(),
                outputs: vec![(owner(to), 50 + Amount::from(how % 7))],
            });
        }
        let (coin, (payer, value, ..)) = spendable[usize::from(from) % spendable.len()];
        let paid = value * Amount::from(how % 5) / 5;
        let fee = (value - paid).min(1);
        let outputs = vec![(owner(to), paid), (None, 0), (Some(*payer), value - paid - fee)];
        Some(Coins { id, inputs: vec![*coin], outputs })
    }

    fn is_valid(branch: &[Arc<Block<Coins>>], also: &[Coins], transaction: &Coins) -> bool {
        let coins = unspent(branch, also);
        let next = branch.last().map_or(0, |block| block.header.height + 1);
        transaction.inputs.iter().all(|coin| {
            coins.get(coin).is_some_and(|(_, _, height, reward)| !reward || height + MATURITY <= next)
        })
    }

    fn recount(branch: &[Arc<Block<Coins>>], addresses: &[Address]) -> Balance {
        let next = branch.last().map_or(0, |block| block.header.height + 1);
        let mut balance = Balance::default();
        for (owner, value, height, reward) in unspent(branch, &[]).into_values() {
            if !addresses.contains(&owner) {
                continue;
            }
            let class = if reward && height + MATURITY > next {
                &mut balance.immature
            } else if next - height < CONFIRMATIONS {
                &mut balance.pending
            } else {
                &mut balance.confirmed
            };
            *class += value;
            balance.total += value;
        }
        Balance { spendable: balance.confirmed, ..balance }
    }
}

/// The balance of every account before its first transaction.
pub(super) const OPENING: Amount = 1000;

fn balances(branch: &[Arc<Block<Payment>>], also: &[Payment]) -> HashMap<Address, (Amount, u64)> {
    let mut all: HashMap<_, _> = ADDRESSES.iter().map(|address| (*address, (OPENING, 0))).collect();
    for payment in branch.iter().flat_map(|block| &block.transactions).chain(also) {
        if let Some(from) = payment.from {
            let (balance, sent) = all.get_mut(&from).unwrap();
            *balance = (*balance + payment.minted) - payment.value - payment.fee;
            *sent += 1;
        }
        if let Some(to) = payment.to {
            all.get_mut(&to).unwrap().0 += payment.value;
        }
    }
    all
}

impl Recount for Account<Payment> {
    fn ledger() -> Self {
        Self::new(CONFIRMATIONS)
    }

    fn make(
        branch: &[Arc<Block<Payment>>],
        also: &[Payment],
        number: u64,
        (from, to, how): (u16, u16, u16),
    ) -> Option<Payment> {
        let address = |number: u16| ADDRESSES[usize::from(number) % ADDRESSES.len()];
        let id = numbered(1_000_000 + number);
        if how % 9 == 0 {
            let (to, value) = (Some(address(to)), 5);
            return Some(Payment { id, from: None, nonce: 0, to, value, fee: 0, minted: 0 });
        }
        let from = address(from);
        let (balance, nonce) = balances(branch, also)[&from];
        let fee = 2;
        // A deposit: it may be passed on at once, in part or to the payer itself, and it may fail.
        let minted = if how % 5 == 0 { Amount::from(how % 300) } else { 0 };
        let balance = balance + minted;
        let value = if how % 10 == 0 { minted } else { Amount::from(how) };
        let value = value % balance.checked_sub(fee)?.max(1);
        let failed = how % 11 == 0;
        let (to, value) = if failed { (None, 0) } else { (Some(address(to)), value) };
        Some(Payment { id, from: Some(from), nonce, to, value, fee, minted })
    }

    fn is_valid(branch: &[Arc<Block<Payment>>], also: &[Payment], payment: &Payment) -> bool {
        payment.from.is_none_or(|from| {
            let (balance, nonce) = balances(branch, also)[&from];
            nonce == payment.nonce && balance + payment.minted >= payment.value + payment.fee
        })
    }

    fn recount(branch: &[Arc<Block<Payment>>], addresses: &[Address]) -> Balance {
        let all = balances(branch, &[]);
        let total: Amount = addresses.iter().map(|address| all[address].0).sum();
        let next = branch.last().map_or(0, |block| block.header.height + 1);
        let young = branch.iter().filter(|block| next - block.header.height < CONFIRMATIONS);
        let young = young.flat_map(|block| &block.transactions);
        let is_own = |address: Option<Address>| address.is_some_and(|address| addresses.contains(&address));
        let received = young.map(|payment| {
            let kept = payment.minted.saturating_sub(payment.value + payment.fee);
            let paid = if is_own(payment.to) { payment.value } else { 0 };
            paid + if is_own(payment.from) { kept } else { 0 }
        });
        let pending = received.sum::<Amount>().min(total);
        let confirmed = total - pending;
        Balance { immature: 0, pending, confirmed, spendable: confirmed, total }
    }
}
