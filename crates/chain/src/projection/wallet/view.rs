//! What wallets have, for readers.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rpds::HashTrieMapSync;

use super::in_flight;
use super::ledger::{Amount, Balance, Fault, Ledger, Target};
use super::ownership::{BlockChanges, Draft, Flow, Holdings, WalletOf};
use crate::projection::BranchPosition;
use crate::projection::window::{Branches, WindowBlock};
use crate::{Block, Detail, Hash, Header, Height};
use watchkeeper::report::debug_as_text;

/// The wallets at one block.
#[derive(Clone)]
pub(super) struct LedgerEntry<L: Ledger> {
    /// Inside an event with several blocks it is computed on the first question; at the root it is always set.
    holdings: OnceLock<Holdings<L>>,
    pub(super) flow: Flow,
    /// What the block changed in followed wallets.
    pub(super) changes: BlockChanges<L>,
    /// How much of the block was read.
    pub(super) detail: Detail,
    /// The block, for wallets that are added later; a root has none, nor a block that was not read in full.
    pub(super) block: Option<Arc<Block<L::Transaction>>>,
}

impl<L: Ledger> LedgerEntry<L> {
    pub(super) fn root(holdings: Holdings<L>, flow: Flow) -> Self {
        Self { holdings: holdings.into(), ..Self::new(flow, BlockChanges::none(), None) }
    }

    pub(super) fn new(
        flow: Flow,
        changes: BlockChanges<L>,
        block: Option<Arc<Block<L::Transaction>>>,
    ) -> Self {
        let detail = block.as_ref().map_or(Detail::Results, |block| block.detail);
        let block = block.filter(|block| block.detail == Detail::Results);
        Self { holdings: OnceLock::new(), flow, changes, detail, block }
    }

    pub(super) fn with(self, holdings: Holdings<L>) -> Self {
        Self { holdings: holdings.into(), ..self }
    }

    pub(super) fn read_as(self, detail: Detail) -> Self {
        Self { detail, ..self }
    }

    /// What each wallet has, if that was computed.
    pub(super) fn known(&self) -> Holdings<L> {
        self.holdings.get().cloned().unwrap_or_else(Holdings::<L>::new_sync)
    }

    /// Sets what was computed elsewhere.
    pub(super) fn know(&self, holdings: Holdings<L>) {
        // A value that is set already is the same.
        let _ = self.holdings.set(holdings);
    }
}

/// What each wallet has at a kept place. It is computed once, from the nearest place below where it is known.
pub(super) fn holdings<'a, L: Ledger>(
    ledger: &L,
    kept: &Branches<LedgerEntry<L>>,
    node: &'a WindowBlock<LedgerEntry<L>>,
) -> &'a Holdings<L> {
    // The poll may wait here for a reader, but no longer than its own computation would take: nothing inside blocks.
    node.value.holdings.get_or_init(|| {
        let (mut steps, mut walk, mut known) = (Vec::new(), Some(node), Holdings::<L>::new_sync());
        while let Some(node) = walk {
            if let Some(holdings) = node.value.holdings.get() {
                known = holdings.clone();
                break;
            }
            let Some(header) = &node.header else { break };
            steps.push((header, &node.value.changes));
            walk = kept.get(&header.parent).map(|parent| &**parent);
        }
        let mut draft = Draft::new(known);
        for (header, changes) in steps.into_iter().rev() {
            draft.replay(ledger, changes, header);
        }
        draft.finish()
    })
}

/// A followed wallet.
pub(super) struct FollowedWallet<L: Ledger> {
    pub(super) number: u32,
    pub(super) wallet: Arc<WalletOf<L>>,
}

impl<L: Ledger> Clone for FollowedWallet<L> {
    fn clone(&self) -> Self {
        Self { number: self.number, wallet: Arc::clone(&self.wallet) }
    }
}

/// Followed wallets at every kept block. A clone shares everything.
///
/// The cost of a question depends on what the wallet has, not on the length of the chain; it reads no block. The first
/// question about a block inside a batch of many computes all wallets there, once for all readers, from the changes of
/// the blocks below: at most 31, or all of a record after a restart. Other readers of that block wait meanwhile.
pub struct WalletsView<L: Ledger> {
    pub(super) ledger: L,
    pub(super) names: HashTrieMapSync<Arc<str>, FollowedWallet<L>>,
    pub(super) waiting: Arc<[Arc<str>]>,
    pub(super) reread: Arc<[(Arc<WalletOf<L>>, Fault)]>,
    pub(super) kept: Option<Branches<LedgerEntry<L>>>,
}

impl<L: Ledger> Clone for WalletsView<L> {
    fn clone(&self) -> Self {
        let Self { ledger, names, waiting, reread, kept } = self;
        let (ledger, names, kept) = (ledger.clone(), names.clone(), kept.clone());
        Self { ledger, names, waiting: Arc::clone(waiting), reread: Arc::clone(reread), kept }
    }
}

/// Why a balance is unknown.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BalanceError {
    /// The wallet was not added.
    #[error("no wallet is named {name:?}: add it first")]
    UnknownWallet {
        /// The name.
        name: String,
    },
    /// Its blocks up to the kept ones have not been read yet.
    #[error("wallet {name:?} waits for older blocks to be read: run WalletRequests::backfill")]
    Waiting {
        /// The name.
        name: String,
    },
    /// It is not followed at this height.
    #[error(
        "wallet {name:?} is followed from height {from} on: ask for that or more, or add it from a lower height"
    )]
    TooEarly {
        /// The name.
        name: String,
        /// The first block that matters to it.
        from: Height,
    },
    /// The block is not kept: never seen, or dropped.
    #[error(
        "block {hash:.8} is not kept, since it is on no known branch or below the kept window: ask for a newer one"
    )]
    UnknownBlock {
        /// Its hash.
        hash: Hash,
    },
    /// No block has come yet.
    #[error("no block has come yet: wait for the first one")]
    Nothing,
    /// The wallet's transactions contradict its opening.
    #[error("wallet {name:?} is no longer known: {fault}")]
    Faulty {
        /// The name.
        name: String,
        /// The contradiction.
        fault: Fault,
    },
}

debug_as_text!(BalanceError);

/// The sum of all wallets does not match what transactions moved, or is unknown.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unconserved {
    /// The sum of all wallets differs from what transactions moved.
    #[error(
        "after block {block:.8} wallets have {held} together, but began with {}, were given {} of rewards and {} by \
         others, and gave {} away: do not trust the balances, and begin again from an older block",
        flow.opened, flow.minted, flow.came, flow.left
    )]
    Differs {
        /// The block.
        block: Hash,
        /// The sum of all wallets.
        held: Amount,
        /// What transactions moved.
        flow: Flow,
    },
    /// A balance is unknown.
    #[error("the sum of all wallets is not known: {0}")]
    Unknown(#[from] BalanceError),
}

debug_as_text!(Unconserved);

impl<L: Ledger> WalletsView<L> {
    /// The place after the newest block.
    #[must_use]
    pub fn tip(&self) -> Option<BranchPosition> {
        self.kept.as_ref().map(Branches::tip)
    }

    /// The oldest place with known balances.
    #[must_use]
    pub fn root(&self) -> Option<BranchPosition> {
        self.kept.as_ref().map(Branches::root)
    }

    /// The wallets that are followed, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(|name| &**name)
    }

    /// The wallets that wait for older blocks.
    #[must_use]
    pub fn waiting(&self) -> &[Arc<str>] {
        &self.waiting
    }

    /// The kept blocks, on any branch, in no order.
    pub fn blocks(&self) -> impl Iterator<Item = Header> {
        self.kept.iter().flat_map(Branches::all).filter_map(|node| node.header)
    }

    /// What a wallet has at the tip.
    ///
    /// # Errors
    ///
    /// [`BalanceError`]: the balance is unknown, which does not mean zero.
    pub fn balance(&self, name: &str) -> Result<Balance, BalanceError> {
        let tip = self.tip().ok_or(BalanceError::Nothing)?;
        self.balance_at(name, tip.hash)
    }

    /// What a wallet has right after a kept block, on any branch.
    ///
    /// # Errors
    ///
    /// [`BalanceError`]: the balance is unknown, which does not mean zero.
    pub fn balance_at(&self, name: &str, block: Hash) -> Result<Balance, BalanceError> {
        let wallet = self.wallet_at(name, block)?;
        Ok(self.ledger.balance(wallet, self.node(block)?.place.next))
    }

    /// What a wallet has at the tip while transactions are in flight, that is in no block of the branch: what they
    /// spend is neither spendable nor pending any more, and what they pay is pending.
    ///
    /// They are given in the order in which they were sent. Of those that conflict, only the last one counts, such as a
    /// payment with a higher fee; what spends a coin of one that does not count does not count either, also if it is
    /// given later. One that is given twice counts once. What its ledger needs of a transaction has to be known: give the expected fee and success.
    ///
    /// # Errors
    ///
    /// [`BalanceError`]: the balance is unknown, for example because the wallet cannot pay for them.
    pub fn balance_with(&self, name: &str, in_flight: &[L::Transaction]) -> Result<Balance, BalanceError> {
        let tip = self.tip().ok_or(BalanceError::Nothing)?;
        let (known, node) = (self.known(name)?, self.node(tip.hash)?);
        let wallet = self.holding(known, node)?;
        let before = self.ledger.balance(wallet, tip.next);
        // As if all of them were in one block on top.
        let block = Header { hash: Hash([0; 32]), parent: tip.hash, height: tip.next, work: 0, time: 0 };
        let mut after = wallet.clone();
        for change in in_flight::changes(&self.ledger, in_flight) {
            if let Target::Address(address) = self.ledger.target(&change)
                && !known.wallet.addresses.contains(address)
            {
                continue;
            }
            match self.ledger.apply(&mut after, &change, &block) {
                // A coin of another owner.
                Ok(_) | Err(Fault::NoCoin { .. }) => {}
                Err(fault) => return Err(faulty(name, &fault)),
            }
        }
        let after = self.ledger.balance(&after, tip.next);
        Ok(Balance { pending: after.pending, spendable: after.confirmed.min(before.confirmed), ..before })
    }

    /// The ledger's state of a wallet right after a kept block: its coins, or its count of transactions.
    ///
    /// # Errors
    ///
    /// [`BalanceError`]: it is unknown.
    pub fn wallet_at(&self, name: &str, block: Hash) -> Result<&L::Wallet, BalanceError> {
        let (known, node) = (self.known(name)?, self.node(block)?);
        let from = known.wallet.from;
        if node.place.next < from {
            return Err(BalanceError::TooEarly { name: name.to_owned(), from });
        }
        self.holding(known, node)
    }

    /// Whether value is conserved at the tip: the sum of all wallets equals what they began with, plus what was minted
    /// and came in, minus what went out. Use it with [`handle.invariant`](watchkeeper::ObservationHandle::invariant),
    /// which checks it in every cycle and so through every reorg.
    ///
    /// # Errors
    ///
    /// [`Unconserved`]: the amounts that differ, or why they are unknown.
    pub fn conserved(&self) -> Result<(), Unconserved> {
        self.tip().map_or(Ok(()), |tip| self.conserved_at(tip.hash))
    }

    /// [`conserved`](Self::conserved) at a kept block, on any branch.
    ///
    /// # Errors
    ///
    /// [`Unconserved`].
    pub fn conserved_at(&self, block: Hash) -> Result<(), Unconserved> {
        let node = self.node(block)?;
        let mut held: Amount = 0;
        for known in self.names.values() {
            let wallet = self.holding(known, node)?;
            held = held.saturating_add(self.ledger.balance(wallet, node.place.next).total);
        }
        let flow = node.value.flow;
        if flow.total() == Some(held) { Ok(()) } else { Err(Unconserved::Differs { block, held, flow }) }
    }

    fn holding<'a>(
        &self,
        known: &FollowedWallet<L>,
        node: &'a WindowBlock<LedgerEntry<L>>,
    ) -> Result<&'a L::Wallet, BalanceError> {
        let name = &known.wallet.name;
        let kept = self.kept.as_ref().ok_or(BalanceError::Nothing)?;
        let held = holdings(&self.ledger, kept, node).get(known.number as usize);
        let held = held.ok_or_else(|| BalanceError::UnknownWallet { name: name.to_string() })?;
        held.as_ref().map_err(|fault| faulty(name, fault))
    }

    fn known(&self, name: &str) -> Result<&FollowedWallet<L>, BalanceError> {
        self.names.get(name).ok_or_else(|| {
            let name = name.to_owned();
            if self.waiting.iter().any(|waiting| **waiting == *name) {
                BalanceError::Waiting { name }
            } else {
                BalanceError::UnknownWallet { name }
            }
        })
    }

    fn node(&self, hash: Hash) -> Result<&WindowBlock<LedgerEntry<L>>, BalanceError> {
        let kept = self.kept.as_ref().ok_or(BalanceError::Nothing)?;
        kept.get(&hash).map(|node| &**node).ok_or(BalanceError::UnknownBlock { hash })
    }
}

fn faulty(name: &str, fault: &Fault) -> BalanceError {
    BalanceError::Faulty { name: name.to_owned(), fault: fault.clone() }
}

/// For reports: the tip, and what each wallet has there; of many only the first by name.
impl<L: Ledger> fmt::Debug for WalletsView<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let mut names: Vec<&str> = self.names().collect();
        names.sort_unstable();
        let balances: Vec<_> = names.iter().take(SHOWN).map(|name| (name, self.balance(name))).collect();
        let mut view = f.debug_struct("WalletsView");
        view.field("tip", &self.tip()).field("balances", &balances).field("waiting", &self.waiting);
        if names.len() > SHOWN {
            view.field("not_shown", &(names.len() - SHOWN));
        }
        view.finish_non_exhaustive()
    }
}
