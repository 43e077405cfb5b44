//! Wallets written down, to go on from later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ledger::{Fault, Ledger};
use super::ownership::{Flow, Holdings, Numbered, WalletOf};
use super::requests::AddWalletError;
use super::view::{LedgerEntry, WalletsView, holdings};
use super::wallets::Wallets;
use crate::error_text::debug_as_text;
use crate::projection::BranchPosition;
use crate::projection::window::Window;
use crate::{Hash, Header};

/// Wallets at the root and what each block of the branch did to them: enough to go on from any block of it.
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
    flow: Flow,
}

/// A record of wallets cannot be gone on from.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongRecord {
    /// A block does not follow the one before.
    #[error("the record of wallets has a gap in front of block {block:.8}: begin anew without it")]
    Unlinked {
        /// The block.
        block: Hash,
    },
    /// A block changes a wallet that is not there.
    #[error(
        "the record of wallets has no wallet {number}, which block {block:.8} changes: begin anew without it"
    )]
    NoWallet {
        /// The block.
        block: Hash,
        /// The wallet's number.
        number: u32,
    },
    /// A wallet of the record is added already, or has what is another's.
    #[error("the record of wallets does not fit those that are followed: {0}")]
    Wallet(#[from] AddWalletError),
    /// There is something known already.
    #[error("wallets go on from a record before their first block, and from one record: begin with new ones")]
    Begun,
}

debug_as_text!(WrongRecord);

impl<L: Ledger> WalletsView<L> {
    /// Everything that is needed to go on from here, and from any kept block of the branch. `None` before the
    /// first block. Wallets
    /// that still wait for older blocks are not in it: add them again.
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
            Some(Step { header: node.header?, changes: Arc::clone(changes), flow: *flow })
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
    /// The branch, lowest first: where the observer is to start
    /// ([`Start::Known`](crate::Start::Known)), so that its first events go on from here.
    #[must_use]
    pub fn headers(&self) -> Vec<Header> {
        self.blocks.iter().map(|step| step.header).collect()
    }
}

impl<L: Ledger> Wallets<L> {
    /// Goes on from a record, at its tip, as if its blocks had just been folded. Wallets of the record are not
    /// to be added, neither before nor after.
    ///
    /// # Errors
    ///
    /// [`WrongRecord`]: it is not of one piece, or does not fit what is followed already. The desks of these
    /// wallets are then of no use any more.
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
        for Step { header, changes, flow } in blocks {
            if BranchPosition::before(&header) != window.seen.tip() {
                return Err(WrongRecord::Unlinked { block: header.hash });
            }
            if let Some((number, _)) = changes.iter().find(|(number, _)| *number as usize >= count) {
                return Err(WrongRecord::NoWallet { block: header.hash, number: *number });
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
