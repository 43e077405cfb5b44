//! The fold of a chain's events into what wallets have.

use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use super::backfill::Backfill;
use super::ledger::{Fault, Ledger};
use super::ownership::{Draft, Flow, OwnershipIndex, WalletOf};
use super::requests::{Reply, RequestQueue, WalletRequests};
use super::view::{FollowedWallet, LedgerEntry, WalletsView, holdings};
use crate::projection::window::Window;
use crate::projection::{BranchPosition, Projection};
use crate::{Block, ChainEvent, Hash};

/// How many blocks below the tip are kept, if they do not become final sooner.
const KEEP: u64 = 128;

/// How many blocks are folded at once.
const PART: usize = 32;

/// The wallets of a chain, as a [`Projection`]. See the [module](super).
pub struct Wallets<L: Ledger> {
    pub(super) ledger: L,
    keep: u64,
    pub(super) ownership: OwnershipIndex<L>,
    pub(super) names: HashTrieMapSync<Arc<str>, FollowedWallet<L>>,
    pub(super) window: Option<Window<LedgerEntry<L>>>,
    pub(super) requests: Arc<RequestQueue<L>>,
    /// How many of the requests were processed: each of these wallets is followed or waits.
    pub(super) processed: usize,
    pub(super) waiting: Arc<[Arc<str>]>,
    /// The wallets of a record that are to be read again, and why.
    pub(super) reread: Arc<[(Arc<WalletOf<L>>, Fault)]>,
}

impl<L: Ledger> Clone for Wallets<L> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            keep: self.keep,
            ownership: self.ownership.clone(),
            names: self.names.clone(),
            window: self.window.clone(),
            requests: Arc::clone(&self.requests),
            processed: self.processed,
            waiting: Arc::clone(&self.waiting),
            reread: Arc::clone(&self.reread),
        }
    }
}

impl<L: Ledger> Wallets<L> {
    /// Follows the wallets that are added by its [`requests`](Self::requests), on a chain with this ledger.
    ///
    /// 128 blocks below the tip are kept.
    #[must_use]
    pub fn new(ledger: L) -> Self {
        let requests = Arc::new(RequestQueue::new(ledger.clone()));
        Self {
            ledger,
            keep: KEEP,
            ownership: OwnershipIndex::new(),
            names: HashTrieMapSync::new_sync(),
            window: None,
            requests,
            processed: 0,
            waiting: Arc::new([]),
            reread: Arc::new([]),
        }
    }

    /// Keeps this many blocks below the tip: reorgs that deep read no block twice. Up to 1,024 blocks beside the branch
    /// are kept above that; the lowest are dropped first.
    #[must_use]
    pub fn keep(self, blocks: u64) -> Self {
        Self { keep: blocks, ..self }
    }

    /// Adds wallets, before and while the chain is observed.
    #[must_use]
    pub fn requests(&self) -> WalletRequests<L> {
        WalletRequests::of(&self.requests)
    }

    /// Folds blocks, each the parent of the next. Known blocks are skipped.
    fn add(&mut self, blocks: &[Arc<Block<L::Transaction>>]) {
        let mut draft: Option<(Hash, Draft<L>)> = None;
        for block in blocks {
            let header = block.header;
            self.forget_less_read(block);
            let seen = self.window.as_ref().map(|window| &window.seen);
            if seen.is_some_and(|seen| seen.get(&header.hash).is_some()) {
                continue;
            }
            if seen.is_none_or(|seen| seen.get(&header.parent).is_none()) {
                self.begin(BranchPosition::before(&header));
            }
            let Some(window) = &mut self.window else { return };
            let Some(parent) = window.seen.get(&header.parent) else { return };
            let draft = match &mut draft {
                Some((at, draft)) if *at == header.parent => {
                    *at = header.hash;
                    draft
                }
                other => {
                    let start = holdings(&self.ledger, &window.seen, parent).clone();
                    &mut other.insert((header.hash, Draft::new(start))).1
                }
            };
            let (changes, flow) = self.ownership.fold(&self.ledger, block, 0, draft);
            let flow = parent.value.flow.plus(flow);
            window.insert(header, LedgerEntry::new(flow, changes, Some(Arc::clone(block))));
        }
        let seen = self.window.as_ref().map(|window| &window.seen);
        if let Some(((at, draft), seen)) = draft.zip(seen)
            && let Some(node) = seen.get(&at)
        {
            node.value.know(draft.finish());
        }
    }

    /// Drops a block that is off the branch and of which more was read now, with its descendants.
    fn forget_less_read(&mut self, block: &Block<L::Transaction>) {
        let Some(window) = &mut self.window else { return };
        let hash = block.header.hash;
        if window.seen.get(&hash).is_none_or(|node| node.value.detail >= block.detail) {
            return;
        }
        for node in window.drop_unless(|node| node.place.hash != hash) {
            self.ownership.prune_orphaned(&self.ledger, &node.value.changes);
        }
    }

    /// Starts again at `root`, where only wallets that begin there are known.
    fn begin(&mut self, root: BranchPosition) {
        if self.window.is_some() {
            tracing::warn!(root = %root.hash, "a reorg from below the kept blocks: wallets start again");
        }
        self.ownership = OwnershipIndex::new();
        self.names = HashTrieMapSync::new_sync();
        let entry = LedgerEntry::root(VectorSync::new_sync(), Flow::default());
        self.window = Some(Window::new(root, None, entry));
        self.processed = 0;
        self.process_requests(Self::defer);
    }

    /// Defers the answer to the end of the cycle, when the root is known.
    fn defer(unfinished: Backfill<L>, reply: Reply<L>, requests: &RequestQueue<L>) {
        requests.submit((unfinished, reply));
    }

    /// Processes submitted backfills and added wallets. Backfills that have to read more go to `unfinished`.
    fn process_requests(&mut self, unfinished: impl Fn(Backfill<L>, Reply<L>, &RequestQueue<L>)) {
        // Before the first block nothing can be answered: requests keep waiting.
        let is_usual = self.waiting.is_empty() && !self.requests.has_news(self.processed);
        if self.window.is_none() || is_usual {
            return;
        }
        let handed = self.requests.drain().into_iter();
        let answers: Vec<_> = handed.map(|(backfill, reply)| (self.take_in(backfill), reply)).collect();
        self.process();
        // A reader may read the demand as soon as it has its answer: `process` has published it by now.
        for (answer, reply) in answers {
            match answer {
                Ok(Some(backfill)) => unfinished(*backfill, reply, &self.requests),
                // The reader may have stopped waiting.
                answer => drop(reply.send(answer)),
            }
        }
    }

    fn lead_to(&mut self, tip: BranchPosition) {
        match &mut self.window {
            Some(window) if window.seen.get(&tip.hash).is_some() => window.lead_to(tip.hash),
            _ => self.begin(tip),
        }
    }

    fn settle_at(&mut self, root: BranchPosition) {
        let Some(window) = &mut self.window else { return };
        if let Some(node) = window.seen.get(&root.hash) {
            // Compute it now: the blocks below are about to be dropped.
            holdings(&self.ledger, &window.seen, node);
        }
        for dropped in window.settle(root) {
            let changes = &dropped.node.value.changes;
            if dropped.settled {
                self.ownership.prune_final(&self.ledger, changes);
            } else {
                self.ownership.prune_orphaned(&self.ledger, changes);
            }
        }
    }
}

impl<L: Ledger> Projection<L::Transaction> for Wallets<L> {
    type View = WalletsView<L>;

    fn apply(&mut self, event: &ChainEvent<L::Transaction>) {
        // A backfill reaches to the root that was published: it is used before the event moves the root.
        if self.requests.has_news(self.processed) {
            self.process_requests(Self::defer);
        }
        match event {
            ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. } => {
                // In parts, so that a long catch-up holds little more than is kept.
                for part in new.chunks(PART) {
                    self.add(part);
                    let Some(last) = part.last() else { continue };
                    self.lead_to(BranchPosition::behind(&last.header));
                    if let Some(window) = &self.window {
                        self.settle_at(window.seen.below_tip(self.keep));
                    }
                }
            }
            ChainEvent::Reverted { ancestor, .. } => self.lead_to(BranchPosition::behind(ancestor)),
            ChainEvent::Finalised { block } => self.settle_at(BranchPosition::behind(block)),
            _ => {}
        }
    }

    fn settle(&mut self) {
        self.process_requests(|unfinished, reply, requests| {
            // If its reader stopped waiting, the next one continues the backfill.
            if let Err(Ok(Some(unfinished))) = reply.send(Ok(Some(Box::new(unfinished)))) {
                requests.stash(*unfinished);
            }
        });
    }

    fn view(&self) -> WalletsView<L> {
        WalletsView {
            ledger: self.ledger.clone(),
            names: self.names.clone(),
            waiting: Arc::clone(&self.waiting),
            reread: Arc::clone(&self.reread),
            kept: self.window.as_ref().map(|window| window.seen.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Amount, BalanceError, NewWallet, OutPoint, Utxo, UtxoTransaction, UtxoWallet};
    use super::*;
    use crate::{Header, Height, Transaction};

    /// Spends the coin of the previous one.
    #[derive(Clone, Debug, PartialEq)]
    struct Next {
        id: Hash,
        spends: Option<Hash>,
    }

    impl Transaction for Next {
        fn id(&self) -> Hash {
            self.id
        }

        fn conflicts(&self) -> Vec<Vec<u8>> {
            Vec::new()
        }
    }

    impl UtxoTransaction for Next {
        type Address = ();

        fn inputs(&self) -> Vec<OutPoint> {
            self.spends.iter().map(|transaction| OutPoint { transaction: *transaction, output: 0 }).collect()
        }

        fn outputs(&self) -> Vec<(Option<()>, Amount)> {
            vec![(Some(()), 1)]
        }

        fn is_reward(&self) -> bool {
            self.spends.is_none()
        }
    }

    fn hash(number: u32, side: u8) -> Hash {
        let mut bytes = [side; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        Hash(bytes)
    }

    fn following() -> Wallets<Utxo<Next>> {
        let wallets = Wallets::new(Utxo::new(1)).keep(4);
        let wallet =
            NewWallet { name: "w".into(), addresses: vec![()], from: 1, opening: UtxoWallet::default() };
        wallets.requests().add(wallet).unwrap();
        wallets
    }

    /// The upper two blocks of three are replaced again and again.
    #[test]
    fn reorgs_in_place_do_not_grow_without_bound() {
        let mut wallets = following();
        let block = |id: Hash, parent: Hash, height: Height| {
            let header = Header { hash: id, parent, height, work: 1, time: 0 };
            Arc::new(Block::new(header, vec![Next { id, spends: (height > 1).then_some(parent) }]))
        };
        let lowest = hash(0, 1);
        wallets.apply(&ChainEvent::Committed { new: vec![block(lowest, hash(0, 0), 1)] });
        for number in 0..2_000 {
            let (lower, upper) = (hash(number, 2), hash(number, 3));
            let new = vec![block(lower, lowest, 2), block(upper, lower, 3)];
            wallets.apply(&ChainEvent::Committed { new });
            wallets.settle();
        }
        let view = wallets.view();
        // Beside the branch, which is a root and three blocks with a coin in each.
        assert_eq!((view.blocks().count(), wallets.ownership.coins()), (1_024 + 3, 1_024 + 3));
        assert_eq!(view.balance_at("w", hash(1_999 - 512, 3)).unwrap().total, 1);
        let forgotten = hash(1_999 - 513, 2);
        assert_eq!(view.balance_at("w", forgotten), Err(BalanceError::UnknownBlock { hash: forgotten }));
        for block in view.blocks() {
            assert!(block.hash == lowest || view.conserved_at(block.parent).is_ok(), "its parent is kept");
            assert_eq!(view.conserved_at(block.hash), Ok(()));
        }
    }

    /// A coin is spent and made again in every block, on both sides of many forks: the number of known coins is bounded
    /// by the number of kept blocks.
    #[test]
    fn coins_that_nothing_kept_refers_to_are_forgotten() {
        let mut wallets = following();
        let block = |height: u32, side: u8| {
            let spends = (height > 1).then(|| hash(height - 1, 1));
            let (id, parent) = (hash(height, side), hash(height - 1, 1));
            let height = u64::from(height);
            let header = Header { hash: id, parent, height, work: 1, time: 0 };
            Arc::new(Block::new(header, vec![Next { id, spends }]))
        };
        for height in 1..200 {
            for side in [2, 1] {
                wallets.apply(&ChainEvent::Committed { new: vec![block(height, side)] });
                wallets.settle();
            }
            // Four blocks and their rivals are kept above the root, which has one coin; one more was spent there.
            assert!(
                wallets.ownership.coins() <= 10,
                "{} coins at height {height}",
                wallets.ownership.coins()
            );
        }
        assert_eq!(wallets.view().balance("w").unwrap().total, 1);
    }
}
