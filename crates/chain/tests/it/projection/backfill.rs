//! Wallets that are added late: their older blocks are read once, also if readers stop or start again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use tokio::time::{sleep, timeout};
use watchkeeper_chain::Block;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Backfill, BackfillError, BalanceError, NewWallet, WalletRequests, Wallets,
};

use super::observed::{
    Ledger, Node, SOON, Seen, Watched, advance, config, node, pay, total, wallet, wallets, watch,
};
use super::property::polled_once;
use super::wallets::{apply, followed, funded};
use super::{Payment, Tree};

/// The amount that a pays b in each block, with a fee of 1.
const PAID: u128 = 2;

/// Adds `count` blocks on `at`, in each of which a pays b.
fn payments(tree: &mut Tree<Payment>, mut at: usize, count: u64) -> usize {
    for _ in 0..count {
        let nonce = tree.header(at).height;
        at = tree.grow(at, vec![pay(1_000 + tree.blocks.len() as u64, 'a', nonce, 'b', PAID)]);
    }
    at
}

/// Wallets at block 10 that follow a and keep four blocks; b was added late and waits for six blocks.
fn late(tree: &mut Tree<Payment>) -> (Wallets<Ledger>, WalletRequests<Ledger>) {
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 1_000)]).keep(4);
    let tip = payments(tree, 0, 10);
    let requests = wallets.requests();
    apply(&mut wallets, tree.lead_to(tip));
    requests.add(funded("b", 'b', 0)).unwrap();
    wallets.settle();
    assert_eq!(wallets.view().balance("b"), Err(BalanceError::Waiting { name: "b".to_owned() }));
    (wallets, requests)
}

/// The same on a node, once all its blocks are observed.
async fn late_on(node: &Node) -> Watched {
    let watched = watch(node, config(), wallets(&[("a", 'a', 1_000)]).keep(4)).await;
    let all = watched.handle.eventually("a is known", |seen: &Seen| seen.view.1.balance("a").is_ok());
    all.or_now().within(SOON).await.unwrap();
    watched.requests.add(wallet("b", 'b', 0)).unwrap();
    watched
}

/// Pushes all blocks that are wanted, from the branch of the tip.
fn read(tree: &Tree<Payment>, backfill: &mut Backfill<Ledger>) -> Result<(), BackfillError> {
    let path = tree.path(tree.tip);
    while let Some(height) = backfill.wants() {
        backfill.push(Block::clone(&tree.blocks[path[usize::try_from(height).unwrap()]]))?;
    }
    Ok(())
}

async fn read_all(tree: &Tree<Payment>, requests: &WalletRequests<Ledger>) -> Backfill<Ledger> {
    let mut backfill = requests.wanted().await.unwrap();
    read(tree, &mut backfill).unwrap();
    backfill
}

/// Checks the balance of b, that value is conserved at every block, and that the record can be restored.
fn check(wallets: &Wallets<Ledger>, b: u128) {
    let view = wallets.view();
    assert_eq!(view.balance("b").unwrap().total, b);
    for block in view.blocks() {
        assert_eq!(view.conserved_at(block.hash), Ok(()));
    }
    let restored = Wallets::new(Account::new(1)).restore(view.record().unwrap()).unwrap().view();
    assert_eq!(restored.balance("b").unwrap().total, b);
}

#[tokio::test]
async fn of_two_readers_at_once_the_first_is_accepted() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let (first, second) = (read_all(&tree, &requests).await, read_all(&tree, &requests).await);
    let settle = async { wallets.settle() };
    let (first, second, ()) = tokio::join!(requests.submit(first), requests.submit(second), settle);
    assert!(matches!(first, Ok(None)), "{first:?}");
    assert!(matches!(second, Err(BackfillError::Superseded)), "{second:?}");
    check(&wallets, 10 * PAID);
}

#[tokio::test]
async fn a_cancelled_submit_is_accepted_and_a_retry_is_harmless() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let mut handed = Box::pin(requests.submit(read_all(&tree, &requests).await));
    assert!(polled_once(&mut handed).is_none());
    drop(handed);
    let again = read_all(&tree, &requests).await;
    let (again, ()) = tokio::join!(requests.submit(again), async { wallets.settle() });
    assert!(matches!(again, Err(BackfillError::Superseded)), "{again:?}");
    check(&wallets, 10 * PAID);
}

/// Two blocks are read and submitted too early, and the call is dropped before its answer.
#[tokio::test]
async fn a_backfill_that_is_returned_to_a_dropped_call_serves_the_next_reader() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let mut backfill = requests.wanted().await.unwrap();
    for place in [1, 2] {
        backfill.push(Block::clone(&tree.blocks[place])).unwrap();
    }
    assert!(polled_once(&mut Box::pin(requests.submit(backfill))).is_none());
    wallets.settle();
    let backfill = requests.wanted().await.unwrap();
    assert_eq!(backfill.wants(), Some(3));
    // The answer is there when the call is dropped.
    let mut handed = Box::pin(requests.submit(backfill));
    assert!(polled_once(&mut handed).is_none());
    wallets.settle();
    drop(handed);
    assert_eq!(requests.wanted().await.unwrap().wants(), Some(3));
    assert_eq!(requests.wanted().await.unwrap().wants(), Some(1), "a backfill is handed out once");
}

/// Is woken by the answer, and checks at once whether a wallet still waits.
struct Awaited {
    requests: WalletRequests<Ledger>,
    woken: AtomicBool,
}

impl Wake for Awaited {
    fn wake(self: Arc<Self>) {
        let waits = polled_once(&mut Box::pin(self.requests.wanted())).is_some();
        assert!(!waits, "the wallet is followed, and seems to wait");
        self.woken.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn when_the_answer_arrives_no_wallet_waits() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let mut handed = Box::pin(requests.submit(read_all(&tree, &requests).await));
    let awaited = Arc::new(Awaited { requests: requests.clone(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&awaited));
    assert!(handed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    wallets.settle();
    assert!(awaited.woken.load(Ordering::Relaxed));
}

/// One reader is cancelled after it has submitted; two others begin before the next cycle.
#[tokio::test(start_paused = true)]
async fn concurrent_readers_end_when_the_wallet_is_followed_also_after_a_cancelled_one() {
    let mut tree = Tree::new();
    let at = payments(&mut tree, 0, 20);
    let node = node(&tree, at);
    let Watched { handle, requests, runtime: _runtime, .. } = late_on(&node).await;
    // It has read all blocks, and is cancelled while it waits for the next cycle.
    timeout(Duration::from_millis(1_500), requests.backfill(&node)).await.unwrap_err();
    let both = async { tokio::join!(requests.backfill(&node), requests.backfill(&node)) };
    let (one, other) = timeout(SOON, both).await.expect("both end");
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    let seen = handle.latest_snapshot().unwrap();
    assert_eq!((total(&seen.value, "b"), seen.value.view.1.conserved()), (20 * PAID, Ok(())));
}

/// There are four blocks a cycle: in each cycle the root is higher than the reader last saw it.
#[tokio::test(start_paused = true)]
async fn a_late_wallet_joins_while_the_root_moves_in_every_cycle() {
    let mut tree = Tree::new();
    let mut at = payments(&mut tree, 0, 20);
    let node = node(&tree, at);
    let Watched { handle, requests, runtime: _runtime, .. } = late_on(&node).await;
    let grow = async {
        loop {
            sleep(Duration::from_millis(250)).await;
            at = payments(&mut tree, at, 1);
            advance(&tree, &node, at);
        }
    };
    node.script().latency = Duration::from_millis(20);
    tokio::select! {
        read = timeout(SOON, requests.backfill(&node)) => read.expect("it catches up").unwrap(),
        () = grow => {}
    }
    let seen = handle.latest_snapshot().unwrap();
    let height = seen.value.view.1.tip().unwrap().next - 1;
    assert_eq!(total(&seen.value, "b"), u128::from(height) * PAID);
    assert_eq!(seen.value.view.1.conserved(), Ok(()));
}

/// Without tasks: blocks that were read up to the root are applied before the event that moves the root.
#[tokio::test]
async fn a_backfill_up_to_the_root_is_accepted_before_the_root_moves() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let backfill = read_all(&tree, &requests).await;
    let tip = payments(&mut tree, 10, 8);
    let (handed, _) =
        tokio::join!(requests.submit(backfill), async { apply(&mut wallets, tree.lead_to(tip)) });
    assert!(matches!(handed, Ok(None)), "{handed:?}");
    check(&wallets, 18 * PAID);
}

/// Blocks 1 to 6 are read when all nodes go back to 3: the backfill has passed the new root.
#[tokio::test]
async fn a_root_below_what_was_read_ends_the_backfill() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let backfill = read_all(&tree, &requests).await;
    let node = node(&tree, 3);
    wallets.apply(&tree.lead_to(3).unwrap());
    wallets.settle();
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(matches!(handed, Err(BackfillError::Superseded)), "{handed:?}");
    // One call reads the blocks that are wanted now: for a and b, up to 3.
    let mut reading = Box::pin(requests.backfill(&node));
    assert!(polled_once(&mut reading).is_none());
    wallets.settle();
    reading.await.unwrap();
    assert_eq!(wallets.view().balance("a").unwrap().total, 1_000 - 3 * (PAID + 1));
    check(&wallets, 3 * PAID);
}

/// The root moves down while a block is read.
#[tokio::test(start_paused = true)]
async fn a_reader_starts_over_as_soon_as_the_root_is_below() {
    let mut tree = Tree::new();
    let (mut wallets, requests) = late(&mut tree);
    let node = node(&tree, 10);
    node.script().latency = Duration::from_millis(1);
    let mut reading = Box::pin(requests.backfill(&node));
    while node.script().calls.get("block") != Some(&5) {
        assert!(polled_once(&mut reading).is_none());
        sleep(Duration::from_millis(1)).await;
    }
    wallets.apply(&tree.lead_to(3).unwrap());
    wallets.settle();
    let settle = async {
        while !wallets.view().waiting().is_empty() {
            sleep(Duration::from_millis(1)).await;
            wallets.settle();
        }
    };
    let both = async { tokio::join!(reading, settle) };
    timeout(SOON, both).await.expect("it starts over").0.unwrap();
    check(&wallets, 3 * PAID);
}

/// A rebuild begins with an empty projection while a submitted backfill waits for its answer.
#[tokio::test]
async fn a_submitted_backfill_outlives_a_rebuild() {
    let mut tree = Tree::new();
    let initial = Wallets::new(Account::new(1)).keep(4);
    let requests = initial.requests();
    let from_one = |name, address| NewWallet { from: 1, ..funded(name, address, 1_000) };
    requests.add(from_one("a", 'a')).unwrap();
    let mut wallets = initial.clone();
    let tip = payments(&mut tree, 0, 10);
    apply(&mut wallets, tree.lead_to(tip));
    requests.add(NewWallet { opening: AccountWallet::default(), ..from_one("b", 'b') }).unwrap();
    wallets.settle();
    let mut handed = Box::pin(requests.submit(read_all(&tree, &requests).await));
    assert!(polled_once(&mut handed).is_none());

    let mut wallets = initial.clone();
    drop(initial);
    wallets.settle();
    assert!(polled_once(&mut handed).is_none(), "there is no answer before the first block");
    let blocks = tree.path(tip)[1..].iter().map(|place| Arc::clone(&tree.blocks[*place])).collect();
    apply(&mut wallets, Some(watchkeeper_chain::ChainEvent::Committed { new: blocks }));
    assert!(
        matches!(handed.await, Err(BackfillError::Superseded)),
        "both wallets begin with the first block"
    );
    check(&wallets, 10 * PAID);
}

/// After a restart the blocks up to 10 cannot be read again: the record has only their effects. Meanwhile the chain
/// left the branch at 8. A wallet that begins with block 10 needs none of these blocks. Block 10 of the old branch
/// is forgotten: it may have paid the wallet.
///
/// ```text
/// g - ... - 8 - 9 - 10        (record)
///             \
///               9 - 10 - 11
/// ```
#[test]
fn after_a_restart_a_wallet_above_the_unreadable_blocks_is_followed_at_once() {
    let mut tree = Tree::new();
    let (before, _) = late(&mut tree);
    let (nine, ten) = (tree.header(9).hash, tree.header(10).hash);
    let record = before.view().record().unwrap();
    let mut wallets = Wallets::new(Account::new(1)).keep(8).restore(record).unwrap();
    let tip = payments(&mut tree, 8, 3);
    apply(&mut wallets, tree.lead_to(tip));
    wallets.requests().add(NewWallet { from: 10, ..funded("b", 'b', 9 * PAID) }).unwrap();
    wallets.settle();
    let view = wallets.view();
    assert_eq!(view.balance_at("b", nine).unwrap().total, 9 * PAID);
    assert_eq!(view.balance_at("b", ten), Err(BalanceError::UnknownBlock { hash: ten }));
    assert_eq!(view.balance("b").unwrap().total, 11 * PAID);
    for block in view.blocks() {
        assert_eq!(view.conserved_at(block.hash), Ok(()));
    }
}

/// The first node fails at block 5, and the reader is cancelled some blocks later.
#[tokio::test(start_paused = true)]
async fn blocks_that_were_read_outlive_a_failure_and_a_cancelled_call() {
    let mut tree = Tree::new();
    let at = payments(&mut tree, 0, 20);
    let (observed, other) = (node(&tree, at), node(&tree, at));
    let Watched { handle, requests, runtime: _runtime, .. } = late_on(&observed).await;
    let first = node(&tree, 4);
    let failed = requests.backfill(&first).await.unwrap_err();
    assert!(matches!(failed, BackfillError::Missing { height: 5 }), "{failed}");
    first.script().fails.insert("", ChainError::RateLimited { endpoint: "n1".to_owned(), retry_after: None });
    let failed = requests.backfill(&first).await.unwrap_err();
    assert!(matches!(failed, BackfillError::Node(ChainError::RateLimited { .. })), "{failed}");
    other.script().latency = Duration::from_millis(10);
    timeout(Duration::from_millis(75), requests.backfill(&other)).await.unwrap_err();
    timeout(SOON, requests.backfill(&other)).await.unwrap().unwrap();
    let asked = |node: &Node| node.script().calls["block"];
    assert_eq!(
        (asked(&first), asked(&other)),
        (4, 12 + 1),
        "only the block of the cancelled request is asked for twice"
    );
    assert_eq!(total(&handle.latest_snapshot().unwrap().value, "b"), 20 * PAID);
}
