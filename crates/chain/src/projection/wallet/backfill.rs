//! Reading older blocks for wallets that are added late.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::ledger::Ledger;
use super::ownership::{Draft, Flow, Holdings, OwnershipIndex, WalletOf};
use crate::adapter::ChainError;
use crate::projection::BranchPosition;
use crate::{Block, Hash, Height};
use watchkeeper::report::debug_as_text;

/// Wallets that are folded up to the place where the kept blocks begin: push the blocks from the first that matters to
/// one of them, lowest first. One read of a block serves all wallets.
///
/// Made by [`WalletRequests::wanted`](super::WalletRequests::wanted). Blocks are pushed one at a time, at any pace.
pub struct Backfill<L: Ledger> {
    ledger: L,
    ownership: OwnershipIndex<L>,
    holdings: Holdings<L>,
    flow: Flow,
    /// The place after the last block that was pushed.
    at: Option<BranchPosition>,
    next: Height,
    goal: Goal,
    /// The wallets at the root, and after each block from there on.
    stops: Vec<Stop<L>>,
}

/// How far blocks are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Goal {
    /// Where the kept blocks begin.
    pub(super) root: BranchPosition,
    /// Up to where blocks have to be read, because after a restart kept blocks have no transactions: the root, or a
    /// place above it.
    pub(super) read: BranchPosition,
}

/// The wallets at one place.
struct Stop<L: Ledger> {
    place: BranchPosition,
    holdings: Holdings<L>,
    flow: Flow,
    block: Option<Arc<Block<L::Transaction>>>,
}

/// The result of a backfill: the wallets at the root, and the blocks that were read above it.
pub(super) struct Joining<L: Ledger> {
    pub(super) wallets: Vec<Arc<WalletOf<L>>>,
    pub(super) holdings: Holdings<L>,
    pub(super) flow: Flow,
    pub(super) blocks: HashMap<Hash, Arc<Block<L::Transaction>>>,
}

/// Why older blocks could not be read.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BackfillError {
    /// A node did not answer.
    #[error("reading older blocks: {0}")]
    Node(#[from] ChainError),
    /// The node has no such block.
    #[error("the node has no block at height {height}: ask one that keeps all blocks")]
    Missing {
        /// The height.
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
    /// The blocks that were read are not needed any more: another reader was first, or the kept blocks begin on another
    /// branch or lower than before.
    #[error(
        "the blocks that were read are not needed any more: call WalletRequests::wanted again, and read those"
    )]
    Superseded,
    /// The projection of wallets has ended.
    #[error("the projection of wallets has ended, since the runtime has stopped: start another one")]
    Closed,
}

debug_as_text!(BackfillError);

impl<L: Ledger> Backfill<L> {
    pub(super) fn new(ledger: L, wallets: Vec<Arc<WalletOf<L>>>, goal: Goal) -> Self {
        let first = wallets.iter().map(|wallet| wallet.from).min().unwrap_or(goal.root.next);
        let (mut ownership, mut holdings, mut flow) =
            (OwnershipIndex::new(), Holdings::<L>::new_sync(), Flow::default());
        for wallet in wallets {
            let opened = ledger.balance(&wallet.opening, wallet.from).total;
            flow = flow.plus(Flow { opened, ..Flow::default() });
            let held = Ok(wallet.opening.clone());
            ownership.register(&ledger, wallet, &held);
            holdings.push_back_mut(held);
        }
        let at = (first >= goal.root.next).then_some(goal.root);
        let next = first.min(goal.root.next);
        let mut new = Self { ledger, ownership, holdings, flow, at, next, goal, stops: Vec::new() };
        if at.is_some() {
            new.stop(goal.root, None);
        }
        new
    }

    fn stop(&mut self, place: BranchPosition, block: Option<Arc<Block<L::Transaction>>>) {
        let (holdings, flow) = (self.holdings.clone(), self.flow);
        self.stops.push(Stop { place, holdings, flow, block });
    }

    /// Whether all its wallets are among these.
    pub(super) fn is_for(&self, waiting: &[Arc<WalletOf<L>>]) -> bool {
        let waiting: HashSet<&str> = waiting.iter().map(|wallet| &*wallet.name).collect();
        self.ownership.wallets.iter().all(|wallet| waiting.contains(&*wallet.name))
    }

    /// The wallets of this backfill.
    pub(super) fn wallets(&self) -> &[Arc<WalletOf<L>>] {
        &self.ownership.wallets
    }

    /// Moves the goal. Blocks that were pushed before are kept.
    pub(super) fn aim(&mut self, goal: Goal) -> Result<(), BackfillError> {
        let is_below = |place: BranchPosition| self.next < place.next;
        let reaches = |place| is_below(place) || self.at_stop(place).is_some();
        if !reaches(goal.root) || !is_below(goal.root) && !reaches(goal.read) {
            return Err(BackfillError::Superseded);
        }
        self.stops.retain(|stop| stop.place.next >= goal.root.next);
        self.goal = goal;
        Ok(())
    }

    fn at_stop(&self, place: BranchPosition) -> Option<&Stop<L>> {
        self.stops.iter().find(|stop| stop.place == place)
    }

    /// What it has for the root, if it has read everything.
    pub(super) fn join(self) -> Result<Joining<L>, Box<Self>> {
        let (Some(root), Some(_)) = (self.at_stop(self.goal.root), self.at_stop(self.goal.read)) else {
            return Err(Box::new(self));
        };
        let (holdings, flow) = (root.holdings.clone(), root.flow);
        let blocks = self.stops.into_iter().filter_map(|stop| Some((stop.place.hash, stop.block?)));
        Ok(Joining { wallets: self.ownership.wallets, holdings, flow, blocks: blocks.collect() })
    }

    /// The height of the block to push next; `None` when the backfill is ready to be submitted.
    #[must_use]
    pub fn wants(&self) -> Option<Height> {
        (self.next < self.goal.read.next).then_some(self.next)
    }

    /// Pushes the next block.
    ///
    /// # Errors
    ///
    /// [`BackfillError::Unlinked`]: it is not the next block of the observed branch. Nothing has changed then; but if
    /// it was the last one needed, an earlier one may be on another branch.
    pub fn push(&mut self, block: Block<L::Transaction>) -> Result<(), BackfillError> {
        let place = BranchPosition::behind(&block.header);
        let unlinked = |expected| BackfillError::Unlinked { height: self.next, expected, found: place.hash };
        let parent = self.at.map_or(block.header.parent, |at| at.hash);
        if BranchPosition::before(&block.header) != (BranchPosition { hash: parent, next: self.next }) {
            return Err(unlinked(parent));
        }
        for end in [self.goal.root, self.goal.read] {
            if place.next == end.next && place != end {
                return Err(unlinked(end.hash));
            }
        }
        let mut draft = Draft::new(self.holdings.clone());
        let (changes, flow) = self.ownership.fold(&self.ledger, &block, 0, &mut draft);
        self.holdings = draft.finish();
        // There are no branches here: a spent coin is not needed again.
        self.ownership.prune_final(&self.ledger, &changes);
        self.flow = self.flow.plus(flow);
        (self.at, self.next) = (Some(place), place.next);
        if place.next >= self.goal.root.next {
            self.stop(place, Some(Arc::new(block)));
        }
        Ok(())
    }
}

impl<L: Ledger> fmt::Debug for Backfill<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { next, goal, .. } = self;
        f.debug_struct("Backfill").field("next", next).field("goal", goal).finish_non_exhaustive()
    }
}
