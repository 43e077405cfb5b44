//! The fold of a chain's events into what wallets have.

use std::collections::HashMap;
use std::sync::Arc;

use rpds::{HashTrieMapSync, VectorSync};

use super::backfill::{Backfill, Goal, Joining};
use super::book::{Book, Flow, WalletOf};
use super::desk::{Desk, WalletDesk};
use super::ledger::{Fault, Ledger};
use super::view::{Entry, Known, WalletsView};
use crate::projection::window::{Node, Window};
use crate::projection::{Place, Projection};
use crate::{Block, ChainEvent, Hash};

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

    /// Goes on from what was known before; nobody needs to add these wallets again.
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
    fn join(&mut self, joining: Joining<L>) {
        let Some(window) = &mut self.window else { return };
        let Joining { wallets, holdings, flow, blocks } = joining;
        // A block of a lost branch that cannot be read again: it comes with its transactions if it is back.
        let is_read =
            |node: &Node<Entry<L>>| node.value.block.is_some() || blocks.contains_key(&node.place.hash);
        for node in window.drop_unless(is_read) {
            self.book.abandoned(&self.ledger, &node.value.changes);
        }
        let first = self.book.next();
        for (wallet, held) in wallets.into_iter().zip(&holdings) {
            self.enter(wallet, held);
        }
        let (book, ledger) = (&mut self.book, &self.ledger);
        let mut flows: HashMap<Hash, Flow> = HashMap::new();
        let Some(window) = &mut self.window else { return };
        window.update(|node, parent| {
            let entry = &node.value;
            let (mut own, mut changes) = (entry.holdings.clone(), Arc::clone(&entry.changes));
            let block = entry.block.as_ref().or_else(|| blocks.get(&node.place.hash)).cloned();
            let mut sum = flow;
            if let (Some(parent), Some(block)) = (parent, &block) {
                for held in parent.value.holdings.iter().skip(first as usize) {
                    own.push_back_mut(held.clone());
                }
                let (more, moved) = book.fold(ledger, block, first, &mut own);
                changes = changes.iter().cloned().chain(more).collect();
                sum = flows.get(&parent.place.hash).copied().unwrap_or_default().plus(moved);
            } else {
                for held in &holdings {
                    own.push_back_mut(held.clone());
                }
            }
            flows.insert(node.place.hash, sum);
            Entry { holdings: own, flow: entry.flow.plus(sum), changes, block }
        });
    }

    /// Gives a wallet that has `held` at the root its number.
    pub(super) fn enter(&mut self, wallet: Arc<WalletOf<L>>, held: &Result<L::Wallet, Fault>) {
        let known = Known { number: self.book.next(), wallet: Arc::clone(&wallet) };
        self.names.insert_mut(Arc::clone(&wallet.name), known);
        self.book.enter(&self.ledger, wallet, held);
    }

    /// From where on, and up to where, blocks have to be read for wallets that come now.
    fn goal(&self) -> Option<Goal> {
        let seen = &self.window.as_ref()?.seen;
        let root = seen.root();
        let unread = seen.branch().filter(|node| node.value.block.is_none());
        Some(Goal { root, read: unread.last().map_or(root, |node| node.place) })
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
        let handed = self.desk.handed();
        // The usual case: nobody came.
        if handed.is_empty() && self.desk.asked() == self.book.wallets.len() {
            return;
        }
        let Some(goal) = self.goal() else { return };
        for (backfill, reply) in handed {
            let joined = backfill.join(goal).map(|joining| self.join(joining));
            // Nobody may be waiting for the answer any more.
            let _ = reply.send(joined);
        }
        let Some(goal) = self.goal() else { return };
        let fresh = |wallet: &Arc<WalletOf<L>>| !self.names.contains_key(&wallet.name);
        let is_behind = |wallet: &Arc<WalletOf<L>>| wallet.from < goal.root.next || goal.read != goal.root;
        let (waiting, now): (Vec<_>, Vec<_>) =
            self.desk.wallets().into_iter().filter(fresh).partition(is_behind);
        if !now.is_empty()
            && let Ok(joining) = Backfill::new(self.ledger.clone(), now, goal).join(goal)
        {
            self.join(joining);
        }
        self.waiting = waiting.iter().map(|wallet| Arc::clone(&wallet.name)).collect();
        self.desk.tell(goal, waiting);
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
