//! Reading older blocks for wallets that came late.

use std::fmt;
use std::sync::Arc;

use super::book::{Book, Flow, Holdings, WalletOf};
use super::ledger::{Fault, Ledger};
use crate::adapter::ChainError;
use crate::projection::Place;
use crate::{Block, Hash, Height};

/// Wallets on their way to where the kept blocks begin: the blocks from the first that matters to one of them
/// are pushed, lowest first. One read of a block serves all.
///
/// Made by [`WalletDesk::wanted`](super::WalletDesk::wanted); a block at a time, at whatever pace.
pub struct Backfill<L: Ledger> {
    ledger: L,
    book: Book<L>,
    holdings: Holdings<L>,
    flow: Flow,
    /// Behind the last block that was pushed.
    at: Option<Place>,
    next: Height,
    root: Place,
}

/// Why older blocks could not be read.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// A node did not answer.
    #[error("reading older blocks: {0}")]
    Node(#[from] ChainError),
    /// The node has no such block.
    #[error("the node has no block at height {height}: ask one that keeps all blocks")]
    Missing {
        /// Which.
        height: Height,
    },
    /// The block is not the one that comes next.
    #[error(
        "block {found:.8} does not follow {expected:.8} at height {height}: read them from one node, and again"
    )]
    Unlinked {
        /// At which height.
        height: Height,
        /// What its parent, or its hash, should be.
        expected: Hash,
        /// What was pushed.
        found: Hash,
    },
    /// Nobody follows wallets here any more.
    #[error("the wallets' projection is gone: the runtime has stopped")]
    Closed,
}

impl<L: Ledger> Backfill<L> {
    pub(super) fn new(ledger: L, wallets: Vec<Arc<WalletOf<L>>>, root: Place) -> Self {
        let next = wallets.iter().map(|wallet| wallet.from).min().unwrap_or(root.next);
        let (mut book, mut holdings, mut flow) = (Book::new(), Holdings::<L>::new_sync(), Flow::default());
        for wallet in wallets {
            let held: Result<_, Fault> = Ok(wallet.opening.clone());
            let opened = ledger.balance(&wallet.opening, next).total;
            flow = flow.plus(Flow { opened, ..Flow::default() });
            book.enter(&ledger, wallet, &held);
            holdings.push_back_mut(held);
        }
        Self { ledger, book, holdings, flow, at: None, next, root }
    }

    /// For wallets that need no older block.
    pub(super) fn at(ledger: L, wallets: Vec<Arc<WalletOf<L>>>, root: Place) -> Self {
        Self { at: Some(root), next: root.next, ..Self::new(ledger, wallets, root) }
    }

    /// For wallets that were at `root` before.
    pub(super) fn restored(
        ledger: L,
        wallets: Vec<Arc<WalletOf<L>>>,
        held: Vec<Result<L::Wallet, Fault>>,
        flow: Flow,
        root: Place,
    ) -> Self {
        Self { holdings: held.into_iter().collect(), flow, ..Self::at(ledger, wallets, root) }
    }

    pub(super) fn up_to(self, root: Place) -> Self {
        Self { root, ..self }
    }

    pub(super) fn is_at(&self, root: Place) -> bool {
        self.at == Some(root)
    }

    pub(super) fn into_parts(self) -> (Vec<Arc<WalletOf<L>>>, Holdings<L>, Flow) {
        (self.book.wallets, self.holdings, self.flow)
    }

    /// The height of the block that is to be pushed next; `None` when it is time to hand over.
    #[must_use]
    pub fn wants(&self) -> Option<Height> {
        (self.next < self.root.next).then_some(self.next)
    }

    /// Takes in the next block.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Unlinked`]: it is not the next one of the branch that is observed. Nothing has changed
    /// then; but if it was the last one wanted, an earlier one may be of another branch.
    pub fn push(&mut self, block: &Block<L::Transaction>) -> Result<(), BackfillError> {
        let header = block.header;
        let unlinked = |expected, found| BackfillError::Unlinked { height: self.next, expected, found };
        let parent = self.at.map_or(header.parent, |at| at.hash);
        if header.parent != parent || header.height != self.next {
            return Err(unlinked(parent, header.hash));
        }
        if header.height + 1 == self.root.next && header.hash != self.root.hash {
            return Err(unlinked(self.root.hash, header.hash));
        }
        let (changes, flow) = self.book.fold(&self.ledger, block, 0, &mut self.holdings);
        // There are no branches here: what is spent is not asked for again.
        self.book.settled(&self.ledger, &changes);
        self.flow = self.flow.plus(flow);
        self.at = Some(Place::behind(&header));
        self.next += 1;
        Ok(())
    }
}

impl<L: Ledger> fmt::Debug for Backfill<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { next, root, .. } = self;
        f.debug_struct("Backfill").field("next", next).field("root", root).finish_non_exhaustive()
    }
}
