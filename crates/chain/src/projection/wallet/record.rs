//! Serialized wallets, to continue from after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{Amount, Fault, Ledger};
use super::ownership::{BlockChanges, Draft, Flow, Holdings, Numbered, WalletOf};
use super::requests::AddWalletError;
use super::view::{LedgerEntry, WalletsView, holdings};
use super::wallets::Wallets;
use crate::projection::BranchPosition;
use crate::projection::window::Window;
use crate::{Detail, Hash, Header};
use watchkeeper::report::debug_as_text;

/// What a record has, and what its parts mean. Records from before it was recorded have version 0: what deposits mint is
/// missing there.
const VERSION: u32 = 1;

/// Wallets at the root, and what each block of the branch changed: enough to continue from any block of the branch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct WalletsRecord<L: Ledger> {
    #[serde(default)]
    version: u32,
    root: BranchPosition,
    wallets: Vec<WalletShare<L>>,
    flow: Flow,
    blocks: Vec<Step<L>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct WalletShare<L: Ledger> {
    wallet: Arc<WalletOf<L>>,
    held: Result<L::Wallet, Fault>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Step<L: Ledger> {
    header: Header,
    changes: Arc<[Numbered<L>]>,
    #[serde(default)]
    unread: Arc<[u32]>,
    /// How much of the block was read. The default is that of a record that is refused.
    #[serde(default = "header")]
    detail: Detail,
    flow: Flow,
}

fn header() -> Detail {
    Detail::Header
}

impl<L: Ledger> Step<L> {
    fn changes(&self) -> BlockChanges<L> {
        BlockChanges { made: Arc::clone(&self.changes), unread: Arc::clone(&self.unread) }
    }
}

/// A record of wallets cannot be restored.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongRecord {
    /// Another version of this program wrote it.
    #[error(
        "the record of wallets has version {found}, this program reads {VERSION}: start again without the record"
    )]
    Version {
        /// Its version; 0 if it has none.
        found: u32,
    },
    /// A block is not the child of the one before.
    #[error("the record of wallets has a gap before block {block:.8}: start again without the record")]
    Unlinked {
        /// The block.
        block: Hash,
    },
    /// A block changes a wallet that is not there.
    #[error(
        "the record of wallets has no wallet {number}, which block {block:.8} changes: start again without the record"
    )]
    NoWallet {
        /// The block.
        block: Hash,
        /// The wallet's number.
        number: u32,
    },
    /// A wallet of the record was added before, or has an address or coin of another one.
    #[error("the record of wallets does not fit those that are followed: {0}")]
    Wallet(#[from] AddWalletError),
    /// These wallets have blocks, or were restored before.
    #[error("wallets can be restored once, before their first block: restore the record into new ones")]
    Begun,
}

debug_as_text!(WrongRecord);

impl<L: Ledger> WalletsView<L> {
    /// What is needed to continue from the tip, and from any kept block of the branch. `None` before the first block.
    /// Wallets that still wait for older blocks are not in the record: add them again, except those that
    /// [`restore`](Wallets::restore) lets wait.
    #[must_use]
    pub fn record(&self) -> Option<WalletsRecord<L>> {
        let kept = self.kept.as_ref()?;
        let mut branch = kept.branch();
        let root = branch.next()?;
        let mut known: Vec<_> = self.names.values().collect();
        known.sort_by_key(|known| known.number);
        let held = known.iter().zip(holdings(&self.ledger, kept, root));
        let held =
            held.map(|(known, held)| WalletShare { wallet: Arc::clone(&known.wallet), held: held.clone() });
        let reread = self.reread.iter().filter(|(wallet, _)| !self.names.contains_key(&wallet.name));
        let reread = reread
            .map(|(wallet, fault)| WalletShare { wallet: Arc::clone(wallet), held: Err(fault.clone()) });
        let steps = branch.filter_map(|node| {
            let LedgerEntry { changes, flow, detail, .. } = &node.value;
            let BlockChanges { made, unread } = changes.clone();
            Some(Step { header: node.header?, changes: made, unread, detail: *detail, flow: *flow })
        });
        Some(WalletsRecord {
            version: VERSION,
            root: root.place,
            wallets: held.chain(reread).collect(),
            flow: root.value.flow,
            blocks: steps.collect(),
        })
    }
}

impl<L: Ledger> WalletsRecord<L> {
    /// The branch, lowest first. Start the observer with it ([`Start::Known`](crate::Start::Known)), so that its first
    /// events continue from here.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        self.blocks.iter().map(|step| step.header).collect()
    }

    fn check(&self) -> Result<(), WrongRecord> {
        if self.version != VERSION {
            return Err(WrongRecord::Version { found: self.version });
        }
        let mut tip = self.root;
        for step in &self.blocks {
            let block = step.header.hash;
            if BranchPosition::before(&step.header) != tip {
                return Err(WrongRecord::Unlinked { block });
            }
            let is_missing = |number: &u32| *number as usize >= self.wallets.len();
            if let Some(number) = step.changes().numbers().find(is_missing) {
                return Err(WrongRecord::NoWallet { block, number });
            }
            tip = BranchPosition::behind(&step.header);
        }
        Ok(())
    }

    fn held(&self) -> Holdings<L> {
        self.wallets.iter().map(|share| share.held.clone()).collect()
    }

    /// Takes out the wallets of which a block was not read, or a part of a transaction is unknown. What the others moved
    /// is counted again, from the root on.
    fn take_unread(&mut self, ledger: &L) -> Vec<(Arc<WalletOf<L>>, Fault)> {
        let mut draft = Draft::new(self.held());
        for step in &self.blocks {
            draft.replay(ledger, &step.changes(), &step.header);
        }
        let mut unread = Vec::new();
        let (mut others, mut numbers) = (Vec::new(), Vec::new());
        for (share, held) in self.wallets.drain(..).zip(&draft.finish()) {
            match held {
                Err(fault) if fault.ends_when_read() => {
                    numbers.push(None);
                    unread.push((share.wallet, fault.clone()));
                }
                _ => {
                    numbers.push(u32::try_from(others.len()).ok());
                    others.push(share);
                }
            }
        }
        self.wallets = others;
        if !unread.is_empty() {
            self.renumber(ledger, &numbers);
        }
        unread
    }

    fn renumber(&mut self, ledger: &L, numbers: &[Option<u32>]) {
        let held = self.held();
        let total = |wallet| ledger.balance(wallet, self.root.next).total;
        let opened = held.iter().flatten().fold(0, |sum: Amount, wallet| sum.saturating_add(total(wallet)));
        let mut flow = Flow { opened, ..Flow::default() };
        self.flow = flow;
        let mut draft = Draft::new(held);
        for step in &mut self.blocks {
            let changes = step.changes().renumbered(numbers);
            flow = flow.plus(draft.replay(ledger, &changes, &step.header));
            (step.changes, step.unread, step.flow) = (changes.made, changes.unread, flow);
        }
    }
}

impl<L: Ledger> Wallets<L> {
    /// Continues from a record, at its tip, as if its blocks had just been folded. Do not add the wallets of the
    /// record, neither before nor after.
    ///
    /// Wallets of which a block was not read, or a part of a transaction was unknown, wait until their blocks are read
    /// again, from their own height on: run [`WalletRequests::backfill`](super::WalletRequests::backfill). A record that
    /// is made before that has these wallets too.
    ///
    /// # Errors
    ///
    /// [`WrongRecord`]: the record is inconsistent, or does not fit the wallets that were added. The
    /// [`requests`](Self::requests) of these wallets are then closed.
    pub fn restore(mut self, mut record: WalletsRecord<L>) -> Result<Self, WrongRecord> {
        if self.window.is_some() {
            return Err(WrongRecord::Begun);
        }
        record.check()?;
        self.reread = record.take_unread(&self.ledger).into();
        let WalletsRecord { root, wallets, flow, blocks, .. } = record;
        let (wallets, held): (Vec<_>, Holdings<L>) =
            wallets.into_iter().map(|held| (held.wallet, held.held)).unzip();
        for (wallet, held) in wallets.iter().zip(&held) {
            self.enter(Arc::clone(wallet), held);
        }
        let mut window = Window::new(root, None, LedgerEntry::root(held, flow));
        for step in blocks {
            let (header, changes) = (step.header, step.changes());
            self.ownership.restore(&self.ledger, &changes);
            window.insert(header, LedgerEntry::new(step.flow, changes, None).read_as(step.detail));
            window.lead_to(header.hash);
        }
        let reread = self.reread.iter().map(|(wallet, _)| Arc::clone(wallet));
        for wallet in wallets.into_iter().chain(reread) {
            self.requests.add(wallet)?;
        }
        self.window = Some(window);
        // What waits is shown at once.
        self.process();
        Ok(self)
    }
}
