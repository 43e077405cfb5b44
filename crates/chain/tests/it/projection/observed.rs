//! Projections with the observer, on nodes in memory.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::timeout;
use watchkeeper::runtime::{StopOutcome, StopReason};
use watchkeeper::subscription::RecvError;
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{
    ObservationConfig, ObservationHandle, ObservationRuntime, ObservedSource, StaticSourceProvider,
};
use watchkeeper_chain::adapter::{ChainIdentity, MemoryNode};
use watchkeeper_chain::projection::checkpoint::Checkpoint;
use watchkeeper_chain::projection::feed::{BlockFeed, BlockStep, TransactionFeed, TransactionStep};
use watchkeeper_chain::projection::inclusion::{
    InclusionView, InclusionWaits, Inclusions, Status, TransactionFollower,
};
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, BalanceError, NewWallet, WalletRequests, Wallets, WalletsRecord,
    WalletsView,
};
use watchkeeper_chain::projection::{Projected, View};
use watchkeeper_chain::{Block, ChainConfig, ChainObserver, ChainSource, ChainView, Start};

use super::{Address, Payment, Tree, numbered};
use crate::common::SECOND;

pub(super) type Node = MemoryNode<Payment>;
pub(super) type Ledger = Account<Payment>;
pub(super) type Both = (Inclusions<Payment>, Wallets<Ledger>);
pub(super) type Observed = Projected<ChainObserver<Node>, Both>;
pub(super) type Seen = View<ChainView, (InclusionView<Payment>, WalletsView<Ledger>)>;

fn identity() -> ChainIdentity {
    ChainIdentity { id: "payments".to_owned(), genesis: numbered(1) }
}

pub(super) fn pay(id: u64, from: Address, nonce: u64, to: Address, value: Amount) -> Payment {
    Payment { id: numbered(id), from: Some(from), nonce, to: Some(to), value, fee: 1, minted: 0 }
}

pub(super) fn node(tree: &Tree<Payment>, head: usize) -> Node {
    let node = MemoryNode::new(identity());
    advance(tree, &node, head);
    node
}

/// Gives a node the whole tree, and this head.
pub(super) fn advance(tree: &Tree<Payment>, node: &Node, head: usize) {
    let mut script = node.script();
    script.blocks.extend(tree.blocks.iter().map(|block| (block.header.hash, Block::clone(block))));
    script.head = Some(tree.header(head).hash);
}

pub(super) fn wallet(name: &str, address: Address, opening: Amount) -> NewWallet<Address, AccountWallet> {
    let opening = AccountWallet::with(opening);
    NewWallet { name: name.into(), addresses: vec![address], from: 1, opening }
}

pub(super) struct Watched {
    pub(super) runtime: ObservationRuntime<Observed>,
    pub(super) handle: ObservationHandle<Observed>,
    pub(super) follower: TransactionFollower,
    pub(super) requests: WalletRequests<Ledger>,
}

pub(super) async fn watch(node: &Node, config: ChainConfig, wallets: Wallets<Ledger>) -> Watched {
    let inclusion = Inclusions::new();
    let (follower, requests) = (inclusion.follower(), wallets.requests());
    let observer = Projected::new(ChainObserver::new(config), (inclusion, wallets));
    let sources = vec![ObservedSource::new("n1", ChainSource::local(node.clone()))];
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(sources), observer, timing).await.unwrap();
    Watched { handle: runtime.handle(), runtime, follower, requests }
}

pub(super) fn config() -> ChainConfig {
    ChainConfig { start: Start::Genesis, ..ChainConfig::every(SECOND) }
}

pub(super) fn wallets(openings: &[(&str, Address, Amount)]) -> Wallets<Ledger> {
    let wallets = Wallets::new(Account::new(1));
    for (name, address, opening) in openings {
        wallets.requests().add(wallet(name, *address, *opening)).unwrap();
    }
    wallets
}

pub(super) fn total(seen: &Seen, name: &str) -> Amount {
    seen.view.1.balance(name).unwrap().total
}

pub(super) const SOON: Duration = Duration::from_secs(20);

/// A payment goes through every status; value is conserved in every cycle.
///
/// ```text
/// g - 1(p) - 2 - 3
///   \
///     4 - 5 - 6 - 7(p)
///       \
///         8(q, which rules p out) - 9 - 10 - 11
/// ```
#[tokio::test(start_paused = true)]
async fn a_payment_is_waited_for_through_reorgs() {
    let (p, q) = (pay(100, 'a', 0, 'b', 20), pay(101, 'a', 0, 'c', 30));
    let mut tree = Tree::new();
    let node = node(&tree, 0);
    let Watched { handle, follower, runtime: _runtime, .. } =
        watch(&node, config(), wallets(&[("a", 'a', 100), ("b", 'b', 0), ("c", 'c', 0)])).await;
    let conserved = handle.invariant("value is conserved", |seen: &Seen| seen.view.1.conserved().is_ok());

    let early = handle.included(p.id, 1).within(SECOND * 2).await.unwrap_err();
    assert!(early.to_string().contains("is not followed: call TransactionFollower::follow"), "{early}");
    follower.follow(&p).unwrap();
    let early = handle.included(p.id, 1).within(SECOND * 2).await.unwrap_err();
    assert_eq!(early.outcome(), UnmetOutcome::NotMet);
    assert!(early.to_string().contains("in no block from height 0 on"), "{early}");

    let one = tree.grow(0, vec![p.clone()]);
    let two = tree.grow(one, Vec::new());
    let three = tree.grow(two, Vec::new());
    advance(&tree, &node, one);
    let seen = handle.included(p.id, 1).within(SOON).await.unwrap();
    assert_eq!(seen.value.view.0.depth_of(p.id), 1);
    assert_eq!([total(&seen.value, "a"), total(&seen.value, "b")], [79, 20]);
    advance(&tree, &node, three);
    let seen = handle.included(p.id, 3).within(SOON).await.unwrap();
    assert_eq!(seen.value.view.0.status(p.id), Some(Status::Included { block: tree.header(one), depth: 3 }));
    // A condition that holds already meets the wait at once.
    timeout(Duration::ZERO, handle.included(p.id, 3).within(SOON)).await.unwrap().unwrap();

    let four = tree.grow(0, Vec::new());
    let five = tree.grow(four, Vec::new());
    let six = tree.grow(five, Vec::new());
    let seven = tree.grow(six, vec![p.clone()]);
    let beside = tree.grow(six, Vec::new());
    advance(&tree, &node, beside);
    let seen = handle.reorged_out(p.id).within(SOON).await.unwrap();
    assert_eq!(seen.value.view.0.status(p.id), Some(Status::ReorgedOut { from: tree.header(one) }));
    assert_eq!([total(&seen.value, "a"), total(&seen.value, "b")], [100, 0]);
    advance(&tree, &node, seven);
    node.script().blocks.remove(&tree.header(beside).hash);
    handle.included(p.id, 1).within(SOON).await.unwrap();

    let eight = tree.grow(four, vec![q.clone()]);
    let nine = tree.grow(eight, Vec::new());
    let ten = tree.grow(nine, Vec::new());
    let eleven = tree.grow(ten, Vec::new());
    advance(&tree, &node, eleven);
    let seen = handle.replaced(p.id).within(SOON).await.unwrap();
    let status = Status::Replaced { by: q.id, block: tree.header(eight) };
    assert_eq!(seen.value.view.0.status(p.id), Some(status));
    assert_eq!([total(&seen.value, "b"), total(&seen.value, "c")], [0, 30]);

    follower.follow(&q).unwrap();
    node.script().finalised = Some(tree.header(nine).hash);
    let twelve = tree.grow(eleven, Vec::new());
    advance(&tree, &node, twelve);
    let seen = handle.finalised(q.id).within(SOON).await.unwrap();
    assert_eq!(seen.value.view.0.status(q.id), Some(Status::Finalised { block: tree.header(eight) }));
    assert_eq!(
        seen.value.view.1.root().unwrap().hash,
        tree.header(nine).hash,
        "wallets forget what is final"
    );
    conserved.finish().await.unwrap();
}

/// Cycle 0 polls the nodes; the blocks that it finds are shown together with their events.
#[tokio::test(start_paused = true)]
async fn no_snapshot_shows_a_block_that_its_projection_does_not_know() {
    let mut tree = Tree::new();
    let one = tree.grow(0, vec![pay(100, 'a', 0, 'b', 20)]);
    let node = node(&tree, one);
    let Watched { handle, runtime: _runtime, .. } =
        watch(&node, config(), wallets(&[("a", 'a', 100), ("b", 'b', 0)])).await;
    let tips = |seen: &Seen| (seen.chain.tip, seen.view.1.tip().map(|tip| tip.hash));
    let first = handle.latest_snapshot().unwrap();
    assert_eq!((first.cycle, tips(&first.value)), (0, (Some(tree.header(0)), None)));
    assert_eq!(first.value.chain.shared_head(), Some(tree.header(one)));
    let second = handle.eventually("the next cycle", |_: &Seen| true).within(SOON).await.unwrap();
    assert_eq!(tips(&second.value), (Some(tree.header(one)), Some(tree.header(one).hash)));
    assert_eq!([total(&second.value, "a"), total(&second.value, "b")], [79, 20]);
}

/// The invariant detects an observer that loses a payment's value.
#[tokio::test(start_paused = true)]
async fn an_overdraft_violates_the_invariant() {
    let mut tree = Tree::new();
    let node = node(&tree, 0);
    let Watched { handle, runtime: _runtime, .. } = watch(&node, config(), wallets(&[("a", 'a', 10)])).await;
    let conserved = handle.invariant_shown(
        "value is conserved",
        |seen: &Seen| seen.view.1.conserved().is_ok(),
        |seen| format!("{:?}", seen.view.1.conserved()),
    );
    let one = tree.grow(0, vec![pay(100, 'a', 0, 'b', 20)]);
    advance(&tree, &node, one);
    let unmet = timeout(SOON, conserved.violated()).await.expect("it is violated");
    assert!(unmet.to_string().contains("Overdrawn"), "{unmet}");
}

/// The unread steps up to the end of the next cycle that begins: they are there when the wait is met.
async fn after_a_cycle(
    handle: &ObservationHandle<Observed>,
    feed: &mut BlockFeed<Observed, Payment>,
) -> Vec<BlockStep<Payment>> {
    let seen = handle.eventually("a cycle succeeds", |_| true).within(SOON).await.unwrap();
    let steps = std::iter::from_fn(|| feed.next().now_or_never()).collect::<Result<_, _>>().unwrap();
    assert_eq!(feed.cursor(), seen.cursor);
    steps
}

/// ```text
/// g - 1(p) - 2(q)
///       \
///         3(q) - 4
/// ```
#[tokio::test(start_paused = true)]
async fn feeds_return_each_block_and_each_transaction() {
    let (p, q) = (pay(100, 'a', 0, 'b', 1), pay(101, 'a', 1, 'b', 1));
    let mut tree = Tree::new();
    let node = node(&tree, 0);
    let Watched { handle, runtime, .. } = watch(&node, config(), wallets(&[])).await;
    let mut blocks = BlockFeed::new(&handle);
    let mut transactions = TransactionFeed::new(&handle);
    let one = tree.grow(0, vec![p.clone()]);
    let two = tree.grow(one, vec![q.clone()]);
    let three = tree.grow(one, vec![q.clone()]);
    let four = tree.grow(three, Vec::new());
    let connected = |place: usize| BlockStep::Connected(Arc::clone(&tree.blocks[place]));
    let header = |place| tree.header(place);

    assert_eq!(after_a_cycle(&handle, &mut blocks).await, []);
    advance(&tree, &node, two);
    assert_eq!(after_a_cycle(&handle, &mut blocks).await, [connected(one), connected(two)]);
    assert_eq!(after_a_cycle(&handle, &mut blocks).await, []);
    advance(&tree, &node, four);
    assert_eq!(blocks.next().await, Ok(BlockStep::Disconnected(header(two))));
    assert_eq!(after_a_cycle(&handle, &mut blocks).await, [connected(three), connected(four)]);

    let mut steps = Vec::new();
    for _ in 0..4 {
        steps.push(transactions.next().await.unwrap());
    }
    let expected = [
        TransactionStep::Connected { block: header(one), transaction: p },
        TransactionStep::Connected { block: header(two), transaction: q.clone() },
        TransactionStep::Disconnected { block: header(two), transaction: q.clone() },
        TransactionStep::Connected { block: header(three), transaction: q },
    ];
    assert_eq!(steps, expected);
    let mut late = TransactionFeed::new(&handle);
    advance(&tree, &node, three);
    assert_eq!(late.next().await.unwrap(), TransactionStep::Unknown { block: header(four) });

    node.script().hangs.push("");
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);
    // Earlier events can still be read.
    assert_eq!(blocks.next().await, Ok(BlockStep::Disconnected(header(four))));
    assert_eq!(blocks.next().await, Err(RecvError::Closed(StopReason::Requested)));
}

/// There are twenty blocks when b is added: a separate task reads them once while the chain grows.
#[tokio::test(start_paused = true)]
async fn a_late_wallet_reads_its_blocks_in_a_separate_task() {
    let mut tree = Tree::new();
    let mut at = 0;
    for nonce in 0..20 {
        at = tree.grow(at, vec![pay(100 + nonce, 'a', nonce, 'b', 2)]);
    }
    let node = node(&tree, at);
    let wallets = wallets(&[("a", 'a', 1_000)]).keep(4);
    let Watched { handle, requests, runtime: _runtime, .. } = watch(&node, config(), wallets).await;
    let all = handle
        .eventually("all blocks are in", |seen: &Seen| seen.view.1.tip().is_some_and(|tip| tip.next == 21));
    let seen = all.or_now().within(SOON).await.unwrap();
    assert_eq!(total(&seen.value, "a"), 1_000 - 20 * 3);

    requests.add(wallet("b", 'b', 0)).unwrap();
    requests.add(wallet("c", 'c', 7)).unwrap();
    let waits = handle.eventually("b waits", |seen: &Seen| !seen.view.1.waiting().is_empty());
    let seen = waits.within(SOON).await.unwrap();
    assert_eq!(seen.value.view.1.balance("b"), Err(BalanceError::Waiting { name: "b".to_owned() }));
    let before = node.script().calls.get("block").copied().unwrap_or_default();
    let (read, reader) = (requests.clone(), node.clone());
    let reading = tokio::spawn(async move { read.backfill(&reader).await });
    at = tree.grow(at, vec![pay(120, 'a', 20, 'b', 2)]);
    advance(&tree, &node, at);
    let known = handle.eventually("b is known", |seen: &Seen| seen.view.1.balance("b").is_ok());
    let seen = known.within(SOON).await.unwrap();
    reading.await.unwrap().unwrap();
    assert_eq!([total(&seen.value, "a"), total(&seen.value, "b"), total(&seen.value, "c")], [937, 42, 7]);
    assert_eq!(seen.value.view.1.conserved(), Ok(()));
    let after = node.script().calls.get("block").copied().unwrap_or_default();
    assert_eq!(after - before, 17, "each block below the kept ones is read once, for both, and the new one");

    node.script()
        .fails
        .insert("block", watchkeeper_chain::adapter::ChainError::Empty { endpoint: "n1".to_owned() });
    requests.add(wallet("d", 'd', 0)).unwrap();
    let failed = requests.backfill(&node).await.unwrap_err();
    assert_eq!(failed.to_string(), "reading older blocks: n1 has no block: its chain is empty");
    assert_eq!(total(&handle.latest_snapshot().unwrap().value, "b"), 42);
}

/// While the app is down, the chain leaves the known branch three blocks deep. The app resumes from its checkpoint:
/// no block below the fork is asked for, balances are right at once, and the reorg is emitted as one.
///
/// ```text
/// g - ... - 30 - 31 - 32 - 33       (checkpoint)
///              \
///                x - x - x - x
/// ```
#[tokio::test(start_paused = true)]
async fn a_restart_resumes_through_a_reorg_that_it_missed() {
    let directory = super::checkpoint::Scratch::new();
    let path = directory.path("chain.checkpoint");
    let mut tree = Tree::new();
    let mut at = 0;
    for nonce in 0..33 {
        at = tree.grow(at, vec![pay(100 + nonce, 'a', nonce, 'b', 2)]);
    }
    let thirty = tree.path(at)[30];
    let first = node(&tree, at);
    let wallets = wallets(&[("a", 'a', 1_000), ("b", 'b', 0)]).keep(10);
    let Watched { handle, runtime, .. } = watch(&first, config(), wallets).await;
    let all = handle
        .eventually("all blocks are in", |seen: &Seen| seen.view.1.tip().is_some_and(|tip| tip.next == 34));
    let seen = all.or_now().within(SOON).await.unwrap();
    let record = seen.value.view.1.record().unwrap();
    Checkpoint { identity: identity(), headers: record.headers(), state: record }.save(&path).unwrap();
    assert_eq!(runtime.stop().await, StopOutcome::Stopped);

    let mut fork = thirty;
    for nonce in 30..34 {
        fork = tree.grow(fork, vec![pay(200 + nonce, 'a', nonce, 'b', 5)]);
    }
    let second = node(&tree, fork);
    let loaded: Checkpoint<WalletsRecord<Ledger>> = Checkpoint::load(&path).unwrap().unwrap();
    let config = loaded.resume(&config());
    let restored = Wallets::new(Account::new(1)).keep(10).restore(loaded.state).unwrap();
    let Watched { handle, requests, runtime: _runtime, .. } = watch(&second, config, restored).await;
    let mut blocks = BlockFeed::new(&handle);
    let conserved = handle.invariant("value is conserved", |seen: &Seen| seen.view.1.conserved().is_ok());
    let on = handle
        .eventually("the reorg is in", |seen: &Seen| seen.view.1.tip().is_some_and(|tip| tip.next == 35));
    let seen = on.or_now().within(SOON).await.unwrap();
    assert_eq!([total(&seen.value, "a"), total(&seen.value, "b")], [1_000 - 30 * 3 - 4 * 6, 30 * 2 + 4 * 5]);
    let left: Vec<_> = (0..3).map(|below| BlockStep::Disconnected(tree.header(at - below))).collect();
    let steps = after_a_cycle(&handle, &mut blocks).await;
    assert!(steps.is_empty() || steps[..3] == left, "{steps:?}");
    assert_eq!(second.script().calls.get("block"), Some(&4), "only the new blocks are read");

    // A wallet that is added now needs all blocks, and the kept ones again.
    requests.add(wallet("c", 'c', 7)).unwrap();
    requests.backfill(&second).await.unwrap();
    let known = handle.eventually("c is known", |seen: &Seen| seen.view.1.balance("c").is_ok());
    let seen = known.or_now().within(SOON).await.unwrap();
    assert_eq!(total(&seen.value, "c"), 7);
    for block in seen.value.view.1.blocks() {
        assert_eq!(seen.value.view.1.conserved_at(block.hash), Ok(()));
    }
    conserved.finish().await.unwrap();
}
