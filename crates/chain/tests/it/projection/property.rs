//! Random trees of blocks and transactions, random moves of the tip (also below the kept blocks), finality, and
//! late wallets, whose blocks two readers read, submit and give up at any time. At every kept block the balances equal
//! a recount from the first block, and the statuses of transactions equal a search of the branch.

use std::collections::{BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::inclusion::{InclusionView, Inclusions, Status};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, Backfill, BackfillError, BalanceError, Ledger, NewWallet, Utxo,
    UtxoWallet, WalletRequests, Wallets, WalletsView,
};
use watchkeeper_chain::{Block, ChainEvent, Hash, Header, Height, Transaction};

use super::recount::{OPENING, Recount};
use super::{Address, Coins, Payment, Tree};

/// The wallets and their addresses; other addresses are not followed.
pub(super) const WALLETS: [(&str, &[Address]); 4] =
    [("w1", &['a']), ("w2", &['b', 'c']), ("w3", &['d']), ("w4", &['e'])];

#[derive(Clone, Debug)]
enum Step {
    /// A new block on any block, with transactions made of these numbers, or taken from another branch.
    Grow { parent: Index, transactions: Vec<(u16, u16, u16)>, again: Option<Index> },
    /// A new block on the tip, which moves there.
    Extend { transactions: Vec<(u16, u16, u16)> },
    /// The tip moves to any block that finality allows.
    Lead { to: Index },
    /// The block this far below the tip becomes final.
    Finalise { below: usize },
    /// A wallet is followed, from this height on.
    Follow { from: Height },
    /// A reader reads more of the older blocks.
    Read { reader: usize, blocks: usize },
    /// The reader submits what it has read.
    HandOver { reader: usize },
    /// The reader is cancelled.
    Cancel { reader: usize },
    /// A transaction is followed.
    Watch { transaction: Index, by_hash: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let transactions = prop::collection::vec(any::<(u16, u16, u16)>(), 0..5);
    let extend = transactions.clone().prop_map(|transactions| Step::Extend { transactions });
    let grow = (any::<Index>(), transactions, prop::option::weighted(0.3, any::<Index>()));
    prop_oneof![
        6 => grow.prop_map(|(parent, transactions, again)| Step::Grow { parent, transactions, again }),
        6 => extend,
        3 => any::<Index>().prop_map(|to| Step::Lead { to }),
        1 => (1..6_usize).prop_map(|below| Step::Finalise { below }),
        1 => (0..4_u64).prop_map(|from| Step::Follow { from }),
        4 => (0..2_usize, 1..9_usize).prop_map(|(reader, blocks)| Step::Read { reader, blocks }),
        3 => (0..2_usize).prop_map(|reader| Step::HandOver { reader }),
        1 => (0..2_usize).prop_map(|reader| Step::Cancel { reader }),
        2 => (any::<Index>(), any::<bool>())
            .prop_map(|(transaction, by_hash)| Step::Watch { transaction, by_hash }),
    ]
}

type Answer<L> = Result<Option<Backfill<L>>, BackfillError>;

/// A reader of older blocks.
enum Reader<L: Ledger> {
    Idle,
    Reading(Box<Backfill<L>>),
    HandedOver(Pin<Box<dyn Future<Output = Answer<L>>>>),
}

/// The projections under test, and a plain model of them.
pub(super) struct Play<L: Recount> {
    pub(super) tree: Tree<L::Transaction>,
    wallets: Wallets<L>,
    requests: WalletRequests<L>,
    inclusion: Inclusions<L::Transaction>,
    /// Follows every transaction once it is made, and keeps so few blocks that many reorgs are deeper.
    forgetful: Inclusions<L::Transaction>,
    /// Blocks that were ever on the branch, in the order in which they were connected.
    connected: Vec<usize>,
    /// The blocks of `connected` that the wallets have seen since they last started over.
    kept: BTreeSet<usize>,
    readers: [Reader<L>; 2],
    pub(super) finalised: usize,
    keep: usize,
    /// Followed wallets and transactions.
    pub(super) following: Vec<(&'static str, &'static [Address], Height)>,
    watched: BTreeSet<Hash>,
    by_hash: HashSet<Hash>,
    opening: fn(&[Address]) -> L::Wallet,
    made: u64,
    /// Blocks below this height have no transactions: a wallet is followed from it on.
    quiet: Height,
}

impl<L: Recount> Play<L> {
    pub(super) fn new(keep: usize, opening: fn(&[Address]) -> L::Wallet) -> Self {
        let wallets = Wallets::new(L::ledger()).keep(keep as u64);
        let requests = wallets.requests();
        Self {
            tree: Tree::new(),
            requests,
            wallets,
            inclusion: Inclusions::new().keep(1_000),
            forgetful: Inclusions::new().keep(keep as u64 / 4),
            connected: Vec::new(),
            kept: BTreeSet::new(),
            readers: [Reader::Idle, Reader::Idle],
            finalised: 0,
            keep,
            following: Vec::new(),
            watched: BTreeSet::new(),
            by_hash: HashSet::new(),
            opening,
            made: 0,
            quiet: 0,
        }
    }

    pub(super) fn branch(&self, place: usize) -> Vec<Arc<Block<L::Transaction>>> {
        self.tree.path(place).into_iter().map(|place| Arc::clone(&self.tree.blocks[place])).collect()
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Grow { parent, transactions, again } => {
                let parent = parent.index(self.tree.blocks.len());
                self.grow(parent, transactions, *again);
            }
            Step::Extend { transactions } => {
                let to = self.grow(self.tree.tip, transactions, None);
                self.lead(to);
            }
            Step::Lead { to } => {
                let to = to.index(self.tree.blocks.len());
                if self.tree.path(to).contains(&self.finalised) {
                    self.lead(to);
                }
            }
            Step::Finalise { below } => {
                let path = self.tree.path(self.tree.tip);
                let place = path[path.len().saturating_sub(*below)];
                if self.tree.header(place).height > self.tree.header(self.finalised).height {
                    self.finalised = place;
                    self.apply(&ChainEvent::Finalised { block: self.tree.header(place) });
                }
            }
            Step::Follow { from } => self.follow(*from),
            Step::Read { reader, blocks } => self.read(*reader, *blocks),
            Step::HandOver { reader } => self.submit(*reader),
            Step::Cancel { reader } => self.readers[*reader] = Reader::Idle,
            Step::Watch { transaction, by_hash } => {
                let all: Vec<_> = self.tree.blocks.iter().flat_map(|block| &block.transactions).collect();
                if let Some(transaction) = (!all.is_empty()).then(|| all[transaction.index(all.len())]) {
                    if !self.watched.insert(transaction.id()) {
                        return;
                    }
                    let follower = self.inclusion.follower();
                    if *by_hash {
                        self.by_hash.insert(transaction.id());
                        follower.follow_hash(transaction.id()).unwrap();
                    } else {
                        follower.follow(transaction).unwrap();
                    }
                    self.inclusion.settle();
                }
            }
        }
    }

    fn lead(&mut self, to: usize) {
        let before = self.tree.path(self.tree.tip);
        let Some(event) = self.tree.lead_to(to) else { return };
        let path = self.tree.path(to);
        let shared = path.iter().zip(&before).take_while(|(after, before)| after == before).count();
        if (shared as u64) <= self.root_height() {
            // The fork is below the kept blocks: wallets start over after it.
            self.kept.clear();
        }
        for place in &path[shared..] {
            self.connect(*place);
        }
        self.apply(&event);
    }

    /// Notes that a block is on the branch.
    pub(super) fn connect(&mut self, place: usize) {
        if !self.connected.contains(&place) {
            self.connected.push(place);
        }
        self.kept.insert(place);
    }

    /// Whether any block was connected yet.
    pub(super) fn has_connected(&self) -> bool {
        !self.connected.is_empty()
    }

    /// A new block, with transactions made of these numbers and taken from another one.
    pub(super) fn grow(
        &mut self,
        parent: usize,
        transactions: &[(u16, u16, u16)],
        again: Option<Index>,
    ) -> usize {
        let (branch, mut block) = (self.branch(parent), Vec::new());
        if let Some(again) = again {
            // Transactions that are on another branch already.
            let others = self.tree.blocks[again.index(self.tree.blocks.len())].transactions.clone();
            for transaction in others {
                let is_new = branch.iter().all(|block| !block.transactions.contains(&transaction));
                if is_new && L::is_valid(&branch, &block, &transaction) {
                    block.push(transaction);
                }
            }
        }
        for seed in transactions {
            self.made += 1;
            block.extend(L::make(&branch, &block, self.made, *seed));
        }
        if self.tree.header(parent).height + 1 < self.quiet {
            block.clear();
        }
        for transaction in &block {
            self.forgetful.follower().follow(transaction).unwrap();
        }
        self.tree.grow(parent, block)
    }

    fn follow(&mut self, from: Height) {
        let Some((name, addresses)) = WALLETS.get(self.following.len()).copied() else { return };
        // The wallet must have no transactions below `from`.
        let early = self.tree.blocks.iter().filter(|block| block.header.height < from);
        let from = if early.clone().any(|block| !block.transactions.is_empty()) { 0 } else { from };
        self.quiet = self.quiet.max(from);
        let opening = (self.opening)(addresses);
        let wallet = NewWallet { name: name.into(), addresses: addresses.to_vec(), from, opening };
        self.requests.add(wallet).unwrap();
        self.following.push((name, addresses, from));
        self.wallets.settle();
        self.answer();
    }

    /// Reads up to `blocks` older blocks from a node that is on the branch.
    fn read(&mut self, reader: usize, blocks: usize) {
        let branch = self.branch(self.tree.tip);
        let reader = &mut self.readers[reader];
        if matches!(reader, Reader::Idle) && !self.wallets.view().waiting().is_empty() {
            let wanted = polled_once(&mut Box::pin(self.requests.wanted()));
            *reader = Reader::Reading(Box::new(wanted.expect("wallets wait").unwrap()));
        }
        let Reader::Reading(backfill) = reader else { return };
        for _ in 0..blocks {
            let wanted = backfill.wants().and_then(|height| branch.get(usize::try_from(height).unwrap()));
            let Some(block) = wanted else { return };
            if let Err(error) = backfill.push(Block::clone(block)) {
                // The blocks that were read before are of a branch that was left.
                assert!(matches!(error, BackfillError::Unlinked { .. }), "{error}");
                *reader = Reader::Idle;
                return;
            }
        }
    }

    fn submit(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        match std::mem::replace(reader, Reader::Idle) {
            Reader::Reading(backfill) => {
                let requests = self.requests.clone();
                let mut handed = Box::pin(async move { requests.submit(*backfill).await });
                assert!(polled_once(&mut handed).is_none(), "answered before the cycle");
                *reader = Reader::HandedOver(handed);
            }
            other => *reader = other,
        }
    }

    /// Checks that every reader that has submitted is answered in this cycle.
    fn answer(&mut self) {
        if self.wallets.view().root().is_none() {
            return;
        }
        for reader in &mut self.readers {
            let Reader::HandedOver(handed) = reader else { continue };
            *reader = match polled_once(handed).expect("answered in the cycle") {
                Ok(None) | Err(BackfillError::Superseded) => Reader::Idle,
                Ok(Some(unfinished)) => Reader::Reading(Box::new(unfinished)),
                Err(error) => panic!("{error}"),
            };
        }
    }

    /// The chain grows with each cycle and one reader reads: all wallets are followed within eight cycles.
    fn catch_up(&mut self) {
        self.follow(0);
        let mut cycles = 0..8;
        while !self.wallets.view().waiting().is_empty() && cycles.next().is_some() {
            for _ in 0..2 {
                self.read(0, usize::MAX);
            }
            self.submit(0);
            let next = self.grow(self.tree.tip, &[], None);
            self.lead(next);
        }
        assert_eq!(self.wallets.view().waiting(), []);
    }

    fn apply(&mut self, event: &ChainEvent<L::Transaction>) {
        self.wallets.apply(event);
        self.wallets.settle();
        for inclusion in [&mut self.inclusion, &mut self.forgetful] {
            // Requests to follow count from the next cycle on.
            inclusion.settle();
            inclusion.apply(event);
            inclusion.settle();
        }
        self.answer();
        self.check();
    }

    /// The height of the root of the wallets' window.
    fn root_height(&self) -> Height {
        self.wallets.view().root().map_or(0, |root| root.next - 1)
    }

    fn check(&self) {
        self.check_wallets(&self.wallets.view());
        self.check_transactions();
    }

    pub(super) fn check_wallets(&self, view: &WalletsView<L>) {
        let Some(root) = view.root() else { return };
        let kept: BTreeSet<usize> = view.blocks().map(|header| self.tree.place(header.hash)).collect();
        let expected: BTreeSet<usize> = self
            .kept
            .iter()
            .copied()
            .filter(|place| self.tree.path(*place).iter().any(|on| self.tree.header(*on).hash == root.hash))
            .collect();
        assert_eq!(kept, expected, "the blocks above the root are kept, and no others");
        assert!(self.tree.header(self.finalised).height < root.next);
        assert!(self.tree.header(self.tree.tip).height < root.next + self.keep as u64);
        for place in kept {
            let (branch, hash) = (self.branch(place), self.tree.header(place).hash);
            for (name, addresses, from) in &self.following {
                let name = *name;
                let expected = if view.waiting().iter().any(|waiting| **waiting == *name) {
                    Err(BalanceError::Waiting { name: name.to_owned() })
                } else if branch.len() as u64 >= *from {
                    Ok(L::recount(&branch, addresses))
                } else {
                    Err(BalanceError::TooEarly { name: name.to_owned(), from: *from })
                };
                assert_eq!(view.balance_at(name, hash), expected, "{name} at {hash:?}");
            }
            assert_eq!(view.conserved_at(hash), Ok(()));
        }
    }

    fn check_transactions(&self) {
        let followed: BTreeSet<Hash> = self.inclusion.view().followed().collect();
        assert_eq!(followed, self.watched);
        self.check_statuses(&self.inclusion.view(), |id| self.by_hash.contains(id));
        self.check_statuses(&self.forgetful.view(), |_| false);
    }

    pub(super) fn check_statuses(
        &self,
        view: &InclusionView<L::Transaction>,
        by_hash: impl Fn(&Hash) -> bool,
    ) {
        let branch = self.branch(self.tree.tip);
        let last = self.tree.header(self.finalised);
        for id in &view.followed().collect::<Vec<_>>() {
            let including =
                |block: &Block<L::Transaction>| block.transactions.iter().any(|other| other.id() == *id);
            let all = || self.tree.blocks.iter().flat_map(|block| &block.transactions);
            let conflicts = all().find(|other| other.id() == *id).unwrap().conflicts();
            let rival = |block: &Arc<Block<L::Transaction>>| {
                let rules_out = |other: &&L::Transaction| {
                    other.id() != *id && other.conflicts().iter().any(|conflict| conflicts.contains(conflict))
                };
                block.transactions.iter().find(rules_out).map(|by| (by.id(), block.header))
            };
            let seen = self.connected.iter().filter(|place| including(&self.tree.blocks[**place]));
            let seen =
                seen.map(|place| self.tree.header(*place)).max_by_key(|block| (block.height, block.hash));
            let knows_rivals = !by_hash(id) || seen.is_some();
            if let Some(Status::Pending { since }) = view.status(*id) {
                // `since` depends on when the transaction was followed: blocks below it are not checked.
                let searched = || branch.iter().filter(|block| block.header.height >= since);
                assert!(!searched().any(|block| including(block)), "{id:?}");
                assert!(!knows_rivals || searched().find_map(rival).is_none(), "{id:?}");
                assert!(seen.is_none(), "{id:?}");
                continue;
            }
            let status = if let Some(block) = branch.iter().find(|block| including(block)) {
                let header: Header = block.header;
                let depth = branch.last().unwrap().header.height - header.height + 1;
                if header.height <= last.height {
                    Status::Finalised { block: header }
                } else {
                    Status::Included { block: header, depth }
                }
            } else if let Some((by, block)) = branch.iter().find_map(rival).filter(|_| knows_rivals) {
                Status::Replaced { by, block }
            } else {
                Status::ReorgedOut { from: seen.unwrap_or_else(|| panic!("{id:?} is in no block")) }
            };
            assert_eq!(view.status(*id), Some(status), "{id:?}");
        }
    }
}

/// The output of the future, if one poll makes it ready.
pub(super) fn polled_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

fn play<L: Recount>(keep: usize, steps: &[Step], opening: fn(&[Address]) -> L::Wallet) {
    let mut play = Play::<L>::new(keep, opening);
    for step in steps {
        play.play(step);
    }
    play.catch_up();
    play.check();
}

pub(super) fn cases(count: u32) -> ProptestConfig {
    // Forked processes are slow to start, and no case hangs.
    ProptestConfig { cases: count, fork: false, timeout: 0, failure_persistence: None, ..Default::default() }
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn coins_are_as_recounted(keep in 2..20_usize, steps in prop::collection::vec(step(), 10..80)) {
        play::<Utxo<Coins>>(keep, &steps, |_| UtxoWallet::default());
    }

    #[test]
    fn accounts_are_as_recounted(keep in 2..20_usize, steps in prop::collection::vec(step(), 10..80)) {
        let opening = |addresses: &[Address]| AccountWallet::with(OPENING * addresses.len() as Amount);
        play::<Account<Payment>>(keep, &steps, opening);
    }
}
