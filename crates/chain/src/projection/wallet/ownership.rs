//! Which wallet owns what, and what a block changes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rpds::VectorSync;
use serde::{Deserialize, Serialize};

use super::ledger::{Amount, Fault, Ledger, Moved, OutPoint, Target};
use crate::{Block, Detail, Header, Height};

/// A wallet that is to be followed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NewWallet<A, W> {
    /// Its name; unique.
    pub name: Arc<str>,
    /// The addresses whose value is the wallet's; at least one, each in one wallet only.
    pub addresses: Vec<A>,
    /// The height of the first block that matters to it.
    pub from: Height,
    /// What it has right before that block.
    pub opening: W,
}

/// A [`NewWallet`] of a ledger.
pub type WalletOf<L> = NewWallet<<L as Ledger>::Address, <L as Ledger>::Wallet>;

/// What moved between all followed wallets and all other owners, since the wallets are followed.
///
/// It is a sum over transactions, while balances are a sum over wallets: [`WalletsView::conserved`] compares the two.
///
/// [`WalletsView::conserved`]: super::WalletsView::conserved
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flow {
    /// What the wallets had to begin with.
    pub opened: Amount,
    /// New value: rewards and deposits.
    pub minted: Amount,
    /// What transactions paid to them in excess of what they took.
    pub came: Amount,
    /// What transactions took from them in excess of what they paid: payments to others, and fees.
    pub left: Amount,
}

impl Flow {
    pub(super) fn plus(self, other: Self) -> Self {
        Self {
            opened: self.opened.saturating_add(other.opened),
            minted: self.minted.saturating_add(other.minted),
            came: self.came.saturating_add(other.came),
            left: self.left.saturating_add(other.left),
        }
    }

    /// What the wallets must have together; `None` if more went out than there was.
    #[must_use]
    pub fn total(&self) -> Option<Amount> {
        self.opened.checked_add(self.minted)?.checked_add(self.came)?.checked_sub(self.left)
    }
}

/// What each wallet has at one block, by number.
pub(super) type Holdings<L> = VectorSync<Result<<L as Ledger>::Wallet, Fault>>;

/// A change to a followed wallet, and the wallet's number.
pub(super) type Numbered<L> = (u32, <L as Ledger>::Change);

/// Wallets by number, and what they own: facts that hold on every branch.
#[derive(Clone, Debug)]
pub(super) struct OwnershipIndex<L: Ledger> {
    pub(super) wallets: Vec<Arc<WalletOf<L>>>,
    addresses: HashMap<L::Address, u32>,
    coins: HashMap<OutPoint, Owned>,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    wallet: u32,
    /// How many kept blocks make it; being part of the root counts as one.
    makers: u32,
}

impl<L: Ledger> OwnershipIndex<L> {
    pub(super) fn new() -> Self {
        Self { wallets: Vec::new(), addresses: HashMap::new(), coins: HashMap::new() }
    }

    /// The number of the next wallet.
    pub(super) fn next(&self) -> u32 {
        u32::try_from(self.wallets.len()).unwrap_or(u32::MAX)
    }

    /// How many coins are known.
    #[cfg(test)]
    pub(super) fn coins(&self) -> usize {
        self.coins.len()
    }

    /// Adds a wallet that has `held` at the root.
    pub(super) fn register(&mut self, ledger: &L, wallet: Arc<WalletOf<L>>, held: &Result<L::Wallet, Fault>) {
        let number = self.next();
        self.addresses.extend(wallet.addresses.iter().map(|address| (address.clone(), number)));
        let coins = held.as_ref().map(|held| ledger.coins(held)).unwrap_or_default();
        self.coins.extend(coins.into_iter().map(|coin| (coin, Owned { wallet: number, makers: 1 })));
        self.wallets.push(wallet);
    }

    fn owner(&self, target: &Target<'_, L::Address>) -> Option<u32> {
        match target {
            Target::Address(address) => self.addresses.get(*address).copied(),
            Target::Coin(coin) => self.coins.get(*coin).map(|owned| owned.wallet),
        }
    }

    fn retain_coin(&mut self, coin: OutPoint, wallet: u32) {
        self.coins.entry(coin).or_insert(Owned { wallet, makers: 0 }).makers += 1;
    }

    /// Records the coins that a block made, from a record without the block.
    pub(super) fn restore(&mut self, ledger: &L, changes: &BlockChanges<L>) {
        for (number, change) in &*changes.made {
            if let Some(coin) = ledger.made(change) {
                self.retain_coin(coin, *number);
            }
        }
    }

    /// Forgets the coins that a block spent, once it is part of the root: no kept block needs them.
    pub(super) fn prune_final(&mut self, ledger: &L, changes: &BlockChanges<L>) {
        for (_, change) in &*changes.made {
            if let Target::Coin(coin) = ledger.target(change) {
                self.coins.remove(coin);
            }
        }
    }

    /// Forgets the coins that a block made, once its branch was dropped.
    pub(super) fn prune_orphaned(&mut self, ledger: &L, changes: &BlockChanges<L>) {
        for coin in changes.made.iter().filter_map(|(_, change)| ledger.made(change)) {
            if let Some(owned) = self.coins.get_mut(&coin) {
                owned.makers = owned.makers.saturating_sub(1);
                if owned.makers == 0 {
                    self.coins.remove(&coin);
                }
            }
        }
    }

    /// Applies `block` to `draft`, for the wallets from number `first` on.
    pub(super) fn fold(
        &mut self,
        ledger: &L,
        block: &Block<L::Transaction>,
        first: u32,
        draft: &mut Draft<L>,
    ) -> (BlockChanges<L>, Flow) {
        let (mut done, mut flow) = (Vec::new(), Flow::default());
        let matters = |wallet: &WalletOf<L>| wallet.from <= block.header.height;
        let mut unread = Vec::new();
        if block.detail == Detail::Header {
            let all = (0..).zip(&self.wallets).skip(first as usize).filter(|(_, wallet)| matters(wallet));
            unread = all.map(|(number, _)| number).collect();
            draft.leave_unread(&unread, &block.header);
        }
        for transaction in &block.transactions {
            let mut net = Net::default();
            for change in ledger.changes(transaction) {
                let Some(number) = self.owner(&ledger.target(&change)) else { continue };
                if number < first || !matters(&self.wallets[number as usize]) {
                    continue;
                }
                if let Some(coin) = ledger.made(&change) {
                    self.retain_coin(coin, number);
                }
                net.add(draft.apply(ledger, number, &change, &block.header));
                done.push((number, change));
            }
            flow = flow.plus(net.flow());
        }
        (BlockChanges { made: done.into(), unread: unread.into() }, flow)
    }
}

/// What one block did to followed wallets.
#[derive(Debug)]
pub(super) struct BlockChanges<L: Ledger> {
    pub(super) made: Arc<[Numbered<L>]>,
    /// The wallets to which the block may have done anything, since it was not read.
    pub(super) unread: Arc<[u32]>,
}

impl<L: Ledger> BlockChanges<L> {
    pub(super) fn none() -> Self {
        Self { made: Arc::new([]), unread: Arc::new([]) }
    }

    /// These changes, and those to other wallets.
    pub(super) fn and(&self, more: &Self) -> Self {
        let made = self.made.iter().chain(&*more.made).cloned().collect();
        Self { made, unread: self.unread.iter().chain(&*more.unread).copied().collect() }
    }

    /// These changes with the new numbers of their wallets, without those of wallets that have none.
    pub(super) fn renumbered(&self, numbers: &[Option<u32>]) -> Self {
        let new = |number: u32| numbers.get(number as usize).copied().flatten();
        let made = self.made.iter().filter_map(|(number, change)| Some((new(*number)?, change.clone())));
        Self { made: made.collect(), unread: self.unread.iter().filter_map(|number| new(*number)).collect() }
    }

    /// The numbers of all wallets that changed.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.made.iter().map(|(number, _)| *number).chain(self.unread.iter().copied())
    }
}

impl<L: Ledger> Clone for BlockChanges<L> {
    fn clone(&self) -> Self {
        Self { made: Arc::clone(&self.made), unread: Arc::clone(&self.unread) }
    }
}

/// Holdings that are being changed: a wallet that several blocks change is written once.
pub(super) struct Draft<L: Ledger> {
    holdings: Holdings<L>,
    touched: HashMap<u32, Result<L::Wallet, Fault>>,
}

impl<L: Ledger> Draft<L> {
    pub(super) fn new(holdings: Holdings<L>) -> Self {
        Self { holdings, touched: HashMap::new() }
    }

    /// Applies a change in `block` to a wallet; a wallet with a fault keeps it.
    fn apply(&mut self, ledger: &L, number: u32, change: &L::Change, block: &Header) -> Moved {
        let held = match self.touched.entry(number) {
            Entry::Occupied(held) => held.into_mut(),
            Entry::Vacant(place) => match self.holdings.get(number as usize) {
                Some(held) => place.insert(held.clone()),
                None => return Moved::default(),
            },
        };
        let Ok(wallet) = held else { return Moved::default() };
        ledger.apply(wallet, change, block).unwrap_or_else(|fault| {
            *held = Err(fault);
            Moved::default()
        })
    }

    /// Makes wallets unknown from a block on that was not read.
    fn leave_unread(&mut self, numbers: &[u32], block: &Header) {
        let Header { hash, height, .. } = *block;
        for number in numbers {
            let Some(held) = self.holdings.get(*number as usize) else { continue };
            let held = self.touched.entry(*number).or_insert_with(|| held.clone());
            if held.is_ok() {
                *held = Err(Fault::Unread { block: hash, height });
            }
        }
    }

    /// Applies the recorded changes of a block again, and returns what moved, as if they were of one transaction.
    pub(super) fn replay(&mut self, ledger: &L, changes: &BlockChanges<L>, block: &Header) -> Flow {
        self.leave_unread(&changes.unread, block);
        let mut net = Net::default();
        for (number, change) in &*changes.made {
            net.add(self.apply(ledger, *number, change, block));
        }
        net.flow()
    }

    pub(super) fn finish(mut self) -> Holdings<L> {
        for (number, held) in self.touched {
            self.holdings.set_mut(number as usize, held);
        }
        self.holdings
    }
}

/// What one transaction moves, all wallets together.
#[derive(Default)]
struct Net {
    credited: Amount,
    debited: Amount,
    minted: Amount,
}

impl Net {
    fn add(&mut self, moved: Moved) {
        let into = if moved.minted { &mut self.minted } else { &mut self.credited };
        *into = into.saturating_add(moved.credited);
        self.debited = self.debited.saturating_add(moved.debited);
    }

    fn flow(&self) -> Flow {
        Flow {
            opened: 0,
            minted: self.minted,
            came: self.credited.saturating_sub(self.debited),
            left: self.debited.saturating_sub(self.credited),
        }
    }
}
