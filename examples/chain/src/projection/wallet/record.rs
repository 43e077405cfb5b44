//! Wallets written down, to go on from later.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::backfill::Backfill;
use super::book::{Flow, Numbered, WalletOf};
use super::ledger::{Fault, Ledger};
use super::view::{Entry, WalletsView};
use super::wallets::Wallets;
use crate::projection::Place;
use crate::projection::window::Window;
use crate::{Hash, Header};

/// Wallets at the root and what each block of the branch did to them: enough to go on from any block of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct WalletsRecord<L: Ledger> {
    root: Place,
    wallets: Vec<Held<L>>,
    flow: Flow,
    blocks: Vec<Step<L>>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Held<L: Ledger> {
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

/// A record does not have the block that was to be gone on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the record of wallets does not have block {hash:.8}: begin anew")]
pub struct NotRecorded {
    /// The block.
    pub hash: Hash,
}

impl<L: Ledger> WalletsView<L> {
    /// Everything that is needed to go on from any block of the branch; `None` before the first block. Wallets
    /// that still wait for older blocks are not in it: add them again.
    #[must_use]
    pub fn record(&self) -> Option<WalletsRecord<L>> {
        let mut branch = self.kept.as_ref()?.branch();
        let root = branch.next()?;
        let mut known: Vec<_> = self.names.values().collect();
        known.sort_by_key(|known| known.number);
        let held = known.iter().zip(&root.value.holdings);
        let held = held.map(|(known, held)| Held { wallet: Arc::clone(&known.wallet), held: held.clone() });
        let steps = branch.filter_map(|node| {
            let Entry { changes, flow, .. } = &node.value;
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
    /// Where it begins.
    #[must_use]
    pub fn root(&self) -> Place {
        self.root
    }

    /// The blocks it can go on from besides its root, lowest first.
    pub fn headers(&self) -> impl Iterator<Item = Header> {
        self.blocks.iter().map(|step| step.header)
    }
}

impl<L: Ledger> Wallets<L> {
    /// Goes on from a record, right behind the block `at` that is in it; that becomes the root.
    ///
    /// # Errors
    ///
    /// [`NotRecorded`]: the block is not in the record.
    pub fn restore(self, record: WalletsRecord<L>, at: Hash) -> Result<Self, NotRecorded> {
        let WalletsRecord { root, wallets, mut flow, blocks } = record;
        let count = match blocks.iter().position(|step| step.header.hash == at) {
            Some(position) => position + 1,
            None if root.hash == at => 0,
            None => return Err(NotRecorded { hash: at }),
        };
        let (wallets, mut holdings): (Vec<_>, Vec<_>) =
            wallets.into_iter().map(|Held { wallet, held }| (wallet, held)).unzip();
        let (mut place, mut header) = (root, None);
        for step in &blocks[..count] {
            for (number, change) in step.changes.iter() {
                let Some(slot) = holdings.get_mut(*number as usize) else { continue };
                if let Ok(held) = slot
                    && let Err(fault) = self.ledger.apply(held, change, &step.header)
                {
                    *slot = Err(fault);
                }
            }
            (place, header, flow) = (Place::behind(&step.header), Some(step.header), step.flow);
        }
        Ok(self.start(place, header, wallets, holdings, flow))
    }

    fn start(
        mut self,
        place: Place,
        header: Option<Header>,
        wallets: Vec<Arc<WalletOf<L>>>,
        holdings: Vec<Result<L::Wallet, Fault>>,
        flow: Flow,
    ) -> Self {
        let nothing = Entry {
            holdings: rpds::VectorSync::new_sync(),
            flow: Flow::default(),
            changes: Arc::new([]),
            block: None,
        };
        self.open(Window::new(place, header, nothing), &wallets);
        self.join(Backfill::restored(self.ledger.clone(), wallets, holdings, flow, place));
        self
    }
}
