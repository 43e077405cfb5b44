//! The fold of a chain's events into what wallets have.

use std::collections::HashMap;
use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use super::backfill::Backfill;
use super::book::{Book, Flow, WalletOf};
use super::desk::{Desk, WalletDesk};
use super::ledger::Ledger;
use super::view::{Entry, Known, WalletsView};
use crate::projection::window::Window;
use crate::projection::{Place, Projection};
use crate::{Block, ChainEvent};

/// How many blocks below the tip are kept, if finality does not settle them sooner.
const KEEP: u64 = 128;

/// The wallets of a chain, as a [`Projection`]. See the [module](super).
pub struct Wallets<L: Ledger> {
    pub(super) ledger: L,
    keep: u64,
    pub(super) book: Book<L>,
    names: HashTrieMapSync<Arc<str>, Known<L>>,
    pub(super) window: Option<Window<Entry<L>>>,
    desk: Arc<Desk<L>>,
    waiting: Arc<[Arc<str>]>,
}

impl<L: Ledger> Clone for Wallets<L> {
    fn clone(&self) -> Self {
        Self {
            ledger: self.ledger.clone(),
            keep: self.keep,
            book: self.book.clone(),
            names: self.names.clone(),
            window: self.window.clone(),
            desk: Arc::clone(&self.desk),
            waiting: Arc::clone(&self.waiting),
        }
    }
}

impl<L: Ledger> Wallets<L> {
    /// Follows wallets, once some are added at its [`desk`](Self::desk), on a chain with this ledger.
    ///
    /// 128 blocks below the tip are kept.
    #[must_use]
    pub fn new(ledger: L) -> Self {
        let desk = Arc::new(Desk::new(ledger.clone()));
        Self {
            ledger,
            keep: KEEP,
            book: Book::new(),
            names: HashTrieMapSync::new_sync(),
            window: None,
            desk,
            waiting: Arc::new([]),
        }
    }

    /// Keeps this many blocks below the tip: reorgs that deep cost no block that was read before.
    #[must_use]
    pub fn keep(self, blocks: u64) -> Self {
        Self { keep: blocks, ..self }
    }

    /// Where wallets are added, before and while the chain is observed.
    #[must_use]
    pub fn desk(&self) -> WalletDesk<L> {
        WalletDesk::of(&self.desk)
    }

    /// Begins with what was known before, of a wallet that nobody needs to add again.
    pub(super) fn open(&mut self, window: Window<Entry<L>>, wallets: &[Arc<WalletOf<L>>]) {
        self.window = Some(window);
        self.desk.know(wallets);
    }

    /// Takes in a block. One that is known costs nothing.
    fn add(&mut self, block: &Arc<Block<L::Transaction>>) {
        let header = block.header;
        let parent = match &self.window {
            Some(window) if window.seen.get(&header.hash).is_some() => return,
            Some(window) => window.seen.get(&header.parent),
            None => None,
        };
        let Some(parent) = parent.map(|parent| parent.value.clone()) else {
            self.begin(Place::before(&header));
            return self.add(block);
        };
        let mut holdings = parent.holdings;
        let (changes, flow) = self.book.fold(&self.ledger, block, 0, &mut holdings);
        let entry = Entry {
            holdings,
            flow: parent.flow.plus(flow),
            changes: changes.into(),
            block: Some(Arc::clone(block)),
        };
        if let Some(window) = &mut self.window {
            window.insert(header, entry);
        }
    }

    /// Starts over behind `root`, where nothing is known but of wallets that begin there.
    fn begin(&mut self, root: Place) {
        if self.window.is_some() {
            tracing::warn!(root = %root.hash, "the branch left the kept blocks: wallets start over");
        }
        self.book = Book::new();
        self.names = HashTrieMapSync::new_sync();
        let entry = Entry {
            holdings: VectorSync::new_sync(),
            flow: Flow::default(),
            changes: Arc::new([]),
            block: None,
        };
        self.window = Some(Window::new(root, None, entry));
        self.settle();
    }

    fn lead_to(&mut self, tip: Place) {
        match &mut self.window {
            Some(window) if window.seen.get(&tip.hash).is_some() => window.lead_to(tip.hash),
            _ => self.begin(tip),
        }
    }

    fn settle_at(&mut self, root: Place) {
        let Some(window) = &mut self.window else { return };
        for dropped in window.settle(root) {
            let changes = &dropped.node.value.changes;
            if dropped.settled {
                self.book.settled(&self.ledger, changes);
            } else {
                self.book.abandoned(&self.ledger, changes);
            }
        }
    }

    /// Takes wallets in whose state at the root is known; each kept block is gone through once for all of
    /// them.
    pub(super) fn join(&mut self, backfill: Backfill<L>) {
        let Some(window) = &mut self.window else { return };
        let first = self.book.next();
        let (wallets, holdings, flow) = backfill.into_parts();
        for (wallet, held) in wallets.into_iter().zip(&holdings) {
            let known = Known { number: self.book.next(), wallet: Arc::clone(&wallet) };
            self.names.insert_mut(Arc::clone(&wallet.name), known);
            self.book.enter(&self.ledger, wallet, held);
        }
        let (book, ledger) = (&mut self.book, &self.ledger);
        let mut flows = HashMap::new();
        window.update(|node, parent| {
            let entry = &node.value;
            let joined = parent.map_or(&holdings, |parent| &parent.value.holdings);
            let skip = if parent.is_some() { first as usize } else { 0 };
            let mut own = entry.holdings.clone();
            for held in joined.iter().skip(skip) {
                own.push_back_mut(held.clone());
            }
            let mut sum =
                parent.map_or(flow, |parent| flows.get(&parent.place.hash).copied().unwrap_or_default());
            let mut changes = Arc::clone(&entry.changes);
            if let Some(block) = entry.block.as_ref().filter(|_| parent.is_some()) {
                let (more, moved) = book.fold(ledger, block, first, &mut own);
                changes = changes.iter().cloned().chain(more).collect();
                sum = sum.plus(moved);
            }
            flows.insert(node.place.hash, sum);
            Entry { holdings: own, flow: entry.flow.plus(sum), changes, block: entry.block.clone() }
        });
    }

    fn is_behind(&self, next: u64) -> bool {
        self.window.as_ref().is_none_or(|window| next < window.seen.root().next)
    }
}

impl<L: Ledger> Projection<L::Transaction> for Wallets<L> {
    type View = WalletsView<L>;

    fn apply(&mut self, event: &ChainEvent<L::Transaction>) {
        match event {
            ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. } => {
                for block in new {
                    self.add(block);
                    // At each block, so that a long catch-up holds no more than is kept.
                    self.lead_to(Place::behind(&block.header));
                    if let Some(window) = &self.window {
                        self.settle_at(window.seen.below_tip(self.keep));
                    }
                }
            }
            ChainEvent::Reverted { ancestor, .. } => self.lead_to(Place::behind(ancestor)),
            ChainEvent::Finalised { block } => self.settle_at(Place::behind(block)),
            _ => {}
        }
    }

    fn settle(&mut self) {
        let Some(root) = self.window.as_ref().map(|window| window.seen.root()) else { return };
        for (backfill, reply) in self.desk.handed() {
            if backfill.is_at(root) {
                self.join(backfill);
                let _ = reply.send(Ok(()));
            } else {
                let _ = reply.send(Err((backfill, root)));
            }
        }
        let asked = self.desk.asked();
        if asked != self.book.wallets.len() {
            let fresh = |wallet: &Arc<WalletOf<L>>| !self.names.contains_key(&wallet.name);
            let (waiting, now): (Vec<_>, Vec<_>) =
                self.desk.wallets().into_iter().filter(fresh).partition(|wallet| self.is_behind(wallet.from));
            if !now.is_empty() {
                self.join(Backfill::at(self.ledger.clone(), now, root));
            }
            self.waiting = waiting.iter().map(|wallet| Arc::clone(&wallet.name)).collect();
            self.desk.tell(root, waiting);
        } else {
            self.desk.tell(root, Vec::new());
        }
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
