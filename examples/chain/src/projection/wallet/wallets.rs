//! The fold of a chain's events into what wallets have.

use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use super::backfill::Backfill;
use super::ledger::Ledger;
use super::ownership::{Draft, Flow, OwnershipIndex};
use super::requests::{Reply, RequestQueue, WalletRequests};
use super::view::{FollowedWallet, LedgerEntry, WalletsView, holdings};
use crate::projection::window::Window;
use crate::projection::{BranchPosition, Projection};
use crate::{Block, ChainEvent, Hash};

/// How many blocks below the tip are kept, if finality does not settle them sooner.
const KEEP: u64 = 128;

/// How many blocks are taken in at once.
const PART: usize = 32;

/// The wallets of a chain, as a [`Projection`]. See the [module](super).
pub struct Wallets<L: Ledger> {
    pub(super) ledger: L,
    keep: u64,
    pub(super) ownership: OwnershipIndex<L>,
    pub(super) names: HashTrieMapSync<Arc<str>, FollowedWallet<L>>,
    pub(super) window: Option<Window<LedgerEntry<L>>>,
    pub(super) requests: Arc<RequestQueue<L>>,
    /// Of the requests, as of the last look: each is followed or waits.
    pub(super) looked_at: usize,
    pub(super) waiting: Arc<[Arc<str>]>,
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
            looked_at: self.looked_at,
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<L: Ledger> Wallets<L> {
    /// Follows wallets, once some are added at its [`requests`](Self::requests), on a chain with this ledger.
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
            looked_at: 0,
            waiting: Arc::new([]),
        }
    }

    /// Keeps this many blocks below the tip: reorgs that deep cost no block that was read before. Beside the branch
    /// up to 1,024 blocks are kept above that; those that left it lowest are forgotten first.
    #[must_use]
    pub fn keep(self, blocks: u64) -> Self {
        Self { keep: blocks, ..self }
    }

    /// Where wallets are added, before and while the chain is observed.
    #[must_use]
    pub fn requests(&self) -> WalletRequests<L> {
        WalletRequests::of(&self.requests)
    }

    /// Takes in blocks, each the parent of the next. One that is known costs nothing.
    fn add(&mut self, blocks: &[Arc<Block<L::Transaction>>]) {
        let mut draft: Option<(Hash, Draft<L>)> = None;
        for block in blocks {
            let header = block.header;
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
            window.insert(header, LedgerEntry::new(flow, changes.into(), Some(Arc::clone(block))));
        }
        let seen = self.window.as_ref().map(|window| &window.seen);
        if let Some(((at, draft), seen)) = draft.zip(seen)
            && let Some(node) = seen.get(&at)
        {
            node.value.know(draft.finish());
        }
    }

    /// Starts over behind `root`, where nothing is known but of wallets that begin there.
    fn begin(&mut self, root: BranchPosition) {
        if self.window.is_some() {
            tracing::warn!(root = %root.hash, "the branch left the kept blocks: wallets start over");
        }
        self.ownership = OwnershipIndex::new();
        self.names = HashTrieMapSync::new_sync();
        let entry = LedgerEntry::root(VectorSync::new_sync(), Flow::default());
        self.window = Some(Window::new(root, None, entry));
        self.looked_at = 0;
        self.process_requests(Self::leave);
    }

    /// Its answer waits for the end of the cycle: it says where the root is then.
    fn leave(behind: Backfill<L>, reply: Reply<L>, requests: &RequestQueue<L>) {
        requests.submit((behind, reply));
    }

    /// Takes in what was handed over and who was added. What has to be read on is left to `behind`.
    fn process_requests(&mut self, behind: impl Fn(Backfill<L>, Reply<L>, &RequestQueue<L>)) {
        // Before the first block nothing can be answered: whoever has come meanwhile keeps waiting.
        let is_usual = self.waiting.is_empty() && !self.requests.has_news(self.looked_at);
        if self.window.is_none() || is_usual {
            return;
        }
        let handed = self.requests.drain().into_iter();
        let answers: Vec<_> = handed.map(|(backfill, reply)| (self.take_in(backfill), reply)).collect();
        self.process();
        // Whoever is told looks at once at what is waited for: that is known by now.
        for (answer, reply) in answers {
            match answer {
                Ok(Some(backfill)) => behind(*backfill, reply, &self.requests),
                // Nobody may be waiting for the answer any more.
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
            // What it is worked out from is about to go.
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
        // What was read reaches to the root as it was told: it is taken in before the event moves that.
        if self.requests.has_news(self.looked_at) {
            self.process_requests(Self::leave);
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
        self.process_requests(|behind, reply, requests| {
            // Where nobody waits for it any more, what was read serves the next.
            if let Err(Ok(Some(behind))) = reply.send(Ok(Some(Box::new(behind)))) {
                requests.stash(*behind);
            }
        });
    }

    fn view(&self) -> WalletsView<L> {
        WalletsView {
            ledger: self.ledger.clone(),
            names: self.names.clone(),
            waiting: Arc::clone(&self.waiting),
            kept: self.window.as_ref().map(|window| window.seen.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Amount, BalanceError, NewWallet, OutPoint, Utxo, UtxoTransaction, UtxoWallet};
    use super::*;
    use crate::{Header, Height, Transaction};

    /// Spends the coin of the one before.
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
            Arc::new(Block {
                header,
                transactions: vec![Next { id, spends: (height > 1).then_some(parent) }],
            })
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
        // Beside the branch, of a root and three blocks, with a coin in each.
        assert_eq!((view.blocks().count(), wallets.ownership.coins()), (1_024 + 3, 1_024 + 3));
        assert_eq!(view.balance_at("w", hash(1_999 - 512, 3)).unwrap().total, 1);
        let forgotten = hash(1_999 - 513, 2);
        assert_eq!(view.balance_at("w", forgotten), Err(BalanceError::UnknownBlock { hash: forgotten }));
        for block in view.blocks() {
            assert!(block.hash == lowest || view.conserved_at(block.parent).is_ok(), "its parent is kept");
            assert_eq!(view.conserved_at(block.hash), Ok(()));
        }
    }

    /// A coin that goes on in every block of either side of forks which are left again: what is known of coins
    /// is bounded by what is kept.
    #[test]
    fn coins_that_nothing_kept_refers_to_are_forgotten() {
        let mut wallets = following();
        let block = |height: u32, side: u8| {
            let spends = (height > 1).then(|| hash(height - 1, 1));
            let (id, parent) = (hash(height, side), hash(height - 1, 1));
            let height = u64::from(height);
            let header = Header { hash: id, parent, height, work: 1, time: 0 };
            Arc::new(Block { header, transactions: vec![Next { id, spends }] })
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
