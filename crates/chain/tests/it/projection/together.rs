//! The observer and its projections together, over random trees of blocks with transactions and over nodes that
//! fail, lag, rewind, lie, vanish and answer late. After every cycle the events lead to the tip of the snapshot, and
//! wallets and transactions equal a recount of all blocks.

use std::sync::Arc;

use proptest::prelude::*;
use proptest::sample::Index;
use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
use watchkeeper_chain::projection::inclusion::{InclusionView, Inclusions};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, NewWallet, Utxo, UtxoWallet, Wallets, WalletsView,
};
use watchkeeper_chain::projection::{Projected, Projection, View};
use watchkeeper_chain::{
    Agreement, Block, ChainConfig, ChainEvent, ChainObserver, ChainView, Hash, Start, Work,
};

use super::property::{Play, WALLETS, cases};
use super::recount::{OPENING, Recount};
use super::{Address, Coins, Payment};
use crate::common::{LONG, NAMES, SECOND, Step, Watched, fold_hashes, heal, local, on_paused_clock, steps};

/// More blocks than any case has: only finality makes the projections forget.
const KEEP: usize = 1_000;

type Seen<L, T> = View<ChainView, (InclusionView<T>, WalletsView<L>)>;
type Observed<L, T> = Projected<ChainObserver<MemoryNode<T>>, (Inclusions<T>, Wallets<L>)>;

/// A block: how far back its parent is, its work, and its transactions.
#[derive(Clone, Debug)]
struct Planted {
    back: usize,
    work: Work,
    transactions: Vec<(u16, u16, u16)>,
    again: Option<Index>,
}

/// A tree whose blocks are mostly children of one of the last blocks.
fn tree() -> impl Strategy<Value = Vec<Planted>> {
    let back = prop_oneof![6 => 0..2_usize, 1 => 0..40_usize];
    let transactions = prop::collection::vec(any::<(u16, u16, u16)>(), 0..4);
    let again = prop::option::weighted(0.3, any::<Index>());
    let block = (back, 1..4_u128, transactions, again)
        .prop_map(|(back, work, transactions, again)| Planted { back, work, transactions, again });
    prop::collection::vec(block, 5..40)
}

/// The branch that the events fold to, with the tree it is compared with.
struct Model<L: Recount> {
    plain: Play<L>,
    branch: Vec<Hash>,
}

impl<L: Recount> Model<L> {
    fn plant(tree: &[Planted], opening: fn(&[Address]) -> L::Wallet) -> Self {
        let mut plain = Play::<L>::new(KEEP, opening);
        for Planted { back, work, transactions, again } in tree {
            let count = plain.tree.blocks.len();
            let place = plain.grow(count - 1 - back % count, transactions, *again);
            Arc::make_mut(&mut plain.tree.blocks[place]).header.work = *work;
        }
        plain.following = WALLETS.iter().map(|(name, addresses)| (*name, *addresses, 1)).collect();
        let branch = vec![plain.tree.header(0).hash];
        Self { plain, branch }
    }

    /// An observer that follows every transaction and every wallet from the first block on.
    fn observer(
        &self,
        config: ChainConfig,
        opening: fn(&[Address]) -> L::Wallet,
    ) -> Observed<L, L::Transaction> {
        let mut inclusion = Inclusions::new().keep(KEEP as u64);
        for transaction in self.plain.tree.blocks.iter().flat_map(|block| &block.transactions) {
            inclusion.follower().follow(transaction).unwrap();
        }
        inclusion.settle();
        let mut wallets = Wallets::new(L::ledger()).keep(KEEP as u64);
        for (name, addresses, from) in &self.plain.following {
            let (addresses, opening) = (addresses.to_vec(), opening(addresses));
            wallets
                .requests()
                .add(NewWallet { name: (*name).into(), addresses, from: *from, opening })
                .unwrap();
        }
        wallets.settle();
        Projected::new(ChainObserver::new(config), (inclusion, wallets))
    }

    fn node(&self) -> MemoryNode<L::Transaction> {
        let first = &self.plain.tree.blocks[0];
        let identity = ChainIdentity { id: "random".to_owned(), genesis: first.header.hash };
        let node = MemoryNode::new(identity);
        node.script().blocks.insert(first.header.hash, Block::clone(first));
        node.script().head = Some(first.header.hash);
        node
    }

    /// Highest first.
    fn branch_to(&self, block: Index) -> Vec<Block<L::Transaction>> {
        let branch = self.plain.branch(block.index(self.plain.tree.blocks.len()));
        branch.iter().rev().map(|block| Block::clone(block)).collect()
    }

    fn weight(&self, place: usize) -> Work {
        self.plain.branch(place).iter().map(|block| block.header.work).sum()
    }

    /// Folds the events, and compares each block with the tree.
    fn apply(&mut self, events: &[ChainEvent<L::Transaction>]) {
        for event in events {
            fold_hashes(&mut self.branch, std::slice::from_ref(event));
            match event {
                ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. } => {
                    for block in new {
                        let place = self.plain.tree.place(block.header.hash);
                        assert_eq!(block, &self.plain.tree.blocks[place]);
                        self.plain.connect(place);
                    }
                }
                ChainEvent::Finalised { block } => {
                    let (before, place) = (self.plain.finalised, self.plain.tree.place(block.hash));
                    assert!(self.branch.contains(&block.hash), "{block:?} is final and was never emitted");
                    assert!(
                        self.plain.tree.path(place).contains(&before),
                        "{block:?} is not above the last final block"
                    );
                    self.plain.finalised = place;
                }
                _ => {}
            }
        }
        self.plain.tree.tip = self.plain.tree.place(self.branch[self.branch.len() - 1]);
    }

    fn check(&self, seen: &Seen<L, L::Transaction>) {
        let Some(tip) = seen.chain.tip else { return };
        let tree = &self.plain.tree;
        assert_eq!(tip, tree.header(tree.tip), "the events lead to the tip of the snapshot");
        let branch: Vec<Hash> = self.plain.branch(tree.tip).iter().map(|block| block.header.hash).collect();
        assert_eq!(self.branch, branch, "they fold to its branch");
        assert_eq!(seen.chain.finalised, Some(tree.header(self.plain.finalised)));
        assert!(branch.contains(&tree.header(self.plain.finalised).hash));
        let (inclusion, wallets) = &seen.view;
        if self.plain.has_connected() {
            assert_eq!(wallets.tip().map(|place| place.hash), Some(tip.hash));
            assert_eq!(inclusion.tip().map(|place| place.hash), Some(tip.hash));
        }
        self.plain.check_wallets(wallets);
        self.plain.check_statuses(inclusion, |_| false);
    }

    /// When all nodes are healed, a heaviest head is on the branch.
    fn check_end(&self, chain: &ChainView) {
        let tree = &self.plain.tree;
        let believed = chain.nodes.values().filter(|node| node.agreement != Agreement::Breached);
        let heads: Vec<usize> = believed.map(|node| tree.place(node.head.unwrap().hash)).collect();
        let most = heads.iter().map(|head| self.weight(*head)).max();
        let mut heaviest = heads.iter().filter(|head| Some(self.weight(**head)) == most);
        let tip = tree.path(tree.tip);
        assert!(
            heads.is_empty() || heaviest.any(|head| tip.contains(head)),
            "{tip:?} has no heaviest head of {heads:?}"
        );
    }
}

fn observe<L: Recount>(
    tree: &[Planted],
    at: [Index; 3],
    steps: &[Step],
    (block_window, backfill, pending_limit): (usize, usize, usize),
    opening: fn(&[Address]) -> L::Wallet,
) -> Result<(), TestCaseError> {
    on_paused_clock(async {
        let mut model = Model::<L>::plant(tree, opening);
        let nodes = at.map(|_| model.node());
        for (node, at) in at.into_iter().enumerate() {
            Step::Move(node, at).apply(&nodes, |block| model.branch_to(block)).await;
        }
        let of = |bits: u8| {
            let listed = (0..3).filter(|nth| bits & (1 << nth) != 0);
            local(&listed.map(|nth| (NAMES[nth], &nodes[nth])).collect::<Vec<_>>())
        };
        let every_second = ChainConfig { start: Start::Genesis, ..ChainConfig::every(SECOND) };
        let config = ChainConfig { block_window, blocks_kept: 0, backfill, pending_limit, ..every_second };
        let mut watched = Watched::with(model.observer(config, opening), of(7)).await;
        model.check(&watched.runtime.handle().latest_snapshot().unwrap().value);
        for step in steps {
            if let Step::List(bits) = step {
                watched.sources.replace(of(*bits));
            }
            step.apply(&nodes, |block| model.branch_to(block)).await;
            let seen = watched.cycle().await;
            model.apply(&watched.emitted());
            model.check(&seen);
        }
        for node in &nodes {
            heal(node);
            let head = node.script().head.unwrap();
            if !model.plain.tree.blocks.iter().any(|block| block.header.hash == head) {
                node.script().head = Some(model.plain.tree.header(0).hash);
            }
        }
        watched.sources.replace(of(7));
        tokio::time::sleep(LONG).await;
        for _ in 0..60 {
            watched.cycle().await;
        }
        let seen = watched.cycle().await;
        model.apply(&watched.emitted());
        model.check(&seen);
        model.check_end(&seen.chain);
        Ok(())
    })
}

/// The tree, the nodes' first heads, their steps, and the observer's bounds.
type Case = (Vec<Planted>, [Index; 3], Vec<Step>, (usize, usize, usize));

fn case() -> impl Strategy<Value = Case> {
    (tree(), any::<[Index; 3]>(), steps(), prop::sample::select(vec![(128, 512, 1024), (2, 3, 5)]))
}

proptest! {
    #![proptest_config(cases(96))]

    #[test]
    fn coins_equal_a_recount_of_the_blocks((tree, at, steps, bounds) in case()) {
        observe::<Utxo<Coins>>(&tree, at, &steps, bounds, |_| UtxoWallet::default())?;
    }

    #[test]
    fn accounts_equal_a_recount_of_the_blocks((tree, at, steps, bounds) in case()) {
        let opening = |addresses: &[Address]| AccountWallet::with(OPENING * addresses.len() as Amount);
        observe::<Account<Payment>>(&tree, at, &steps, bounds, opening)?;
    }
}
