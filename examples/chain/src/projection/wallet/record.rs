//! Serialized wallets, to continue from after a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{Fault, Ledger};
use super::ownership::{BlockChanges, Flow, Holdings, Numbered, WalletOf};
use super::requests::AddWalletError;
use super::view::{LedgerEntry, WalletsView, holdings};
use super::wallets::Wallets;
use crate::projection::BranchPosition;
use crate::projection::window::Window;
use crate::{Hash, Header};
use watchkeeper::report::debug_as_text;

/// Wallets at the root, and what each block of the branch changed: enough to continue from any block of the branch.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct WalletsRecord<L: Ledger> {
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
    flow: Flow,
}

/// A record of wallets cannot be restored.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongRecord {
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
    /// Wallets that still wait for older blocks are not in the record: add them again.
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
        let steps = branch.filter_map(|node| {
            let LedgerEntry { changes, flow, .. } = &node.value;
            let BlockChanges { made, unread } = changes.clone();
            Some(Step { header: node.header?, changes: made, unread, flow: *flow })
        });
        Some(WalletsRecord {
            root: root.place,
            wallets: held.collect(),
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
}

impl<L: Ledger> Wallets<L> {
    /// Continues from a record, at its tip, as if its blocks had just been folded. Do not add the wallets of the
    /// record, neither before nor after.
    ///
    /// # Errors
    ///
    /// [`WrongRecord`]: the record is inconsistent, or does not fit the wallets that were added. The
    /// [`requests`](Self::requests) of these wallets are then closed.
    pub fn restore(mut self, record: WalletsRecord<L>) -> Result<Self, WrongRecord> {
        if self.window.is_some() {
            return Err(WrongRecord::Begun);
        }
        let WalletsRecord { root, wallets, flow, blocks } = record;
        let count = wallets.len();
        let (wallets, held): (Vec<_>, Holdings<L>) =
            wallets.into_iter().map(|held| (held.wallet, held.held)).unzip();
        for (wallet, held) in wallets.iter().zip(&held) {
            self.enter(Arc::clone(wallet), held);
        }
        let mut window = Window::new(root, None, LedgerEntry::root(held, flow));
        for Step { header, changes, unread, flow } in blocks {
            let changes = BlockChanges { made: changes, unread };
            if BranchPosition::before(&header) != window.seen.tip() {
                return Err(WrongRecord::Unlinked { block: header.hash });
            }
            if let Some(number) = changes.numbers().find(|number| *number as usize >= count) {
                return Err(WrongRecord::NoWallet { block: header.hash, number });
            }
            self.ownership.restore(&self.ledger, &changes);
            window.insert(header, LedgerEntry::new(flow, changes, None));
            window.lead_to(header.hash);
        }
        for wallet in wallets {
            self.requests.add(wallet)?;
        }
        self.window = Some(window);
        Ok(self)
    }
}
