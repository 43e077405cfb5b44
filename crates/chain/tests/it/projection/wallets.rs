//! Wallets through forks, with events made by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, Balance, BalanceError, Fault, Ledger, Moved, NewWallet, OutPoint, Target,
    Unconserved, Utxo, UtxoWallet, WalletOf, Wallets, WalletsView,
};
use watchkeeper_chain::projection::{BranchPosition, Projection};
use watchkeeper_chain::{ChainEvent, Hash, Header, Height};

use super::{Address, Coins, Payment, Tree, numbered};

pub(super) fn wallet<W: Default>(name: &str, address: Address) -> NewWallet<Address, W> {
    NewWallet { name: name.into(), addresses: vec![address], from: 1, opening: W::default() }
}

pub(super) fn funded(name: &str, address: Address, balance: Amount) -> NewWallet<Address, AccountWallet> {
    NewWallet { opening: AccountWallet::with(balance), ..wallet(name, address) }
}

pub(super) fn reward(id: u64, to: Address, value: Amount) -> Coins {
    Coins { id: numbered(id), inputs: Vec::new(), outputs: vec![(Some(to), value)] }
}

fn spend(id: u64, of: &Coins, outputs: &[(Address, Amount)]) -> Coins {
    let inputs = vec![OutPoint { transaction: of.id, output: 0 }];
    let outputs = outputs.iter().map(|(to, value)| (Some(*to), *value)).collect();
    Coins { id: numbered(id), inputs, outputs }
}

pub(super) fn pay(id: u64, from: Address, nonce: u64, to: Address, value: Amount) -> Payment {
    Payment { id: numbered(id), from: Some(from), nonce, to: Some(to), value, fee: 1, minted: 0 }
}

pub(super) fn followed<L: Ledger>(ledger: L, wallets: Vec<WalletOf<L>>) -> Wallets<L> {
    let all = Wallets::new(ledger);
    for wallet in wallets {
        all.requests().add(wallet).unwrap();
    }
    all
}

pub(super) fn apply<L: Ledger>(
    wallets: &mut Wallets<L>,
    event: Option<ChainEvent<L::Transaction>>,
) -> WalletsView<L> {
    wallets.apply(&event.expect("the tip moves"));
    wallets.settle();
    let view = wallets.view();
    assert_eq!(view.conserved(), Ok(()));
    view
}

fn totals<L: Ledger>(view: &WalletsView<L>, names: &[&str]) -> Vec<Amount> {
    names.iter().map(|name| view.balance(name).unwrap().total).collect()
}

/// The reward may be spent at height 4, and is confirmed three blocks deep.
///
/// ```text
/// g - 1(a: 50) - 2 - 3
/// ```
#[test]
fn a_reward_ripens_before_it_is_spendable() {
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(3), vec![wallet("a", 'a')]);
    let mut at = tree.grow(0, vec![reward(10, 'a', 50)]);
    let immature = Balance { immature: 50, total: 50, ..Balance::default() };
    let confirmed = Balance { confirmed: 50, spendable: 50, total: 50, ..Balance::default() };
    for expected in [immature, immature, confirmed] {
        let view = apply(&mut wallets, tree.lead_to(at));
        assert_eq!(view.balance("a"), Ok(expected));
        at = tree.grow(at, Vec::new());
    }
}

/// Before BIP 30 two of Bitcoin's rewards were made twice: the second replaced the first.
///
/// ```text
/// g - 1(a: 50) - 2(a: the same) - 3(a pays b)
/// ```
#[test]
fn a_coin_that_is_made_twice_counts_once() {
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]);
    let coin = reward(10, 'a', 50);
    let one = tree.grow(0, vec![coin.clone()]);
    let two = tree.grow(one, vec![coin.clone()]);
    let three = tree.grow(two, vec![spend(11, &coin, &[('b', 50)])]);
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(two)), &["a", "b"]), [50, 0]);
    let view = apply(&mut wallets, tree.lead_to(three));
    assert_eq!(totals(&view, &["a", "b"]), [0, 50]);
    assert_eq!(view.balance("a"), Ok(Balance::default()));
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(one)), &["a", "b"]), [50, 0]);
}

/// The same transaction is on both branches, at different heights: it counts once, with the depth on the canonical
/// branch.
///
/// ```text
/// g - 1(a: 50) - 2(a pays b 20)
///            \
///              3 - 4(a pays b 20) - 5
/// ```
#[test]
fn the_same_transaction_on_both_branches_counts_once() {
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(2).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]);
    let coin = reward(10, 'a', 50);
    let paid = spend(11, &coin, &[('b', 20), ('a', 29)]);
    let one = tree.grow(0, vec![coin]);
    let two = tree.grow(one, vec![paid.clone()]);
    let three = tree.grow(one, Vec::new());
    let four = tree.grow(three, vec![paid]);
    let five = tree.grow(four, Vec::new());
    let view = apply(&mut wallets, tree.lead_to(two));
    assert_eq!(totals(&view, &["a", "b"]), [29, 20]);
    assert_eq!(view.balance("b").unwrap().pending, 20);
    let view = apply(&mut wallets, tree.lead_to(five));
    assert_eq!(totals(&view, &["a", "b"]), [29, 20]);
    assert_eq!(view.balance("b").unwrap().confirmed, 20);
    let at = |place: usize| view.balance_at("b", tree.header(place).hash).unwrap();
    assert_eq!((at(two).pending, at(three).total, at(four).pending), (20, 0, 20));
    let view = apply(&mut wallets, tree.lead_to(three));
    assert_eq!(totals(&view, &["a", "b"]), [50, 0]);
}

/// A coin is paid to b on one branch, and to c on the other.
///
/// ```text
/// g - 1(a: 50) - 2(a pays b)
///            \
///              3(a pays c)
/// ```
#[test]
fn a_double_spend_across_branches_pays_the_receiver_on_the_branch() {
    let mut tree = Tree::new();
    let names = ["a", "b", "c"];
    let all = vec![wallet("a", 'a'), wallet("b", 'b'), wallet("c", 'c')];
    let mut wallets = followed(Utxo::new(1).maturity(1), all);
    let coin = reward(10, 'a', 50);
    let (to_b, to_c) = (spend(11, &coin, &[('b', 50)]), spend(12, &coin, &[('c', 50)]));
    let one = tree.grow(0, vec![coin]);
    let (two, three) = (tree.grow(one, vec![to_b]), tree.grow(one, vec![to_c]));
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(two)), &names), [0, 50, 0]);
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(three)), &names), [0, 0, 50]);
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(one)), &names), [50, 0, 0]);
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(two)), &names), [0, 50, 0]);
}

/// The value of an unconfirmed payment is not spendable for its payer and pending for its receiver; the change is
/// pending too.
#[test]
fn an_unconfirmed_payment_is_pending_and_not_spendable() {
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]);
    let coin = reward(10, 'a', 50);
    let one = tree.grow(0, vec![coin.clone()]);
    let view = apply(&mut wallets, tree.lead_to(one));
    let paid = [spend(11, &coin, &[('b', 20), ('a', 29)])];
    let a = Balance { pending: 29, confirmed: 50, spendable: 0, total: 50, ..Balance::default() };
    assert_eq!(view.balance_with("a", &paid), Ok(a));
    let b = Balance { pending: 20, ..Balance::default() };
    assert_eq!(view.balance_with("b", &paid), Ok(b));

    let mut tree = Tree::new();
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50), funded("b", 'b', 0)]);
    let one = tree.grow(0, Vec::new());
    let view = apply(&mut wallets, tree.lead_to(one));
    let a = Balance { confirmed: 50, spendable: 29, total: 50, ..Balance::default() };
    assert_eq!(view.balance_with("a", &[pay(11, 'a', 0, 'b', 20)]), Ok(a));
    assert_eq!(view.balance_with("b", &[pay(11, 'a', 0, 'b', 20)]), Ok(b));
    // b spends pending value: less is pending than before.
    let mut wallets = followed(Account::new(3), vec![funded("a", 'a', 50), funded("b", 'b', 10)]);
    let mut tree = Tree::new();
    let one = tree.grow(0, vec![pay(13, 'a', 0, 'b', 20)]);
    let young = apply(&mut wallets, tree.lead_to(one));
    let b = Balance { pending: 20, confirmed: 10, spendable: 10, total: 30, ..Balance::default() };
    assert_eq!(young.balance("b"), Ok(b));
    let after = Balance { pending: 5, spendable: 0, ..b };
    assert_eq!(young.balance_with("b", &[pay(14, 'b', 0, 'c', 24)]), Ok(after));

    let too_much = view.balance_with("a", &[pay(11, 'a', 0, 'b', 20), pay(12, 'a', 1, 'b', 30)]);
    assert!(matches!(
        too_much,
        Err(BalanceError::Faulty { fault: Fault::Overdrawn { had: 29, taken: 31, .. }, .. })
    ));
}

/// Block 2 takes more from a than it has: the balance of a is unknown there and above, and nowhere else.
///
/// ```text
/// g - 1 - 2(a pays 70) - 3
///       \
///         4
/// ```
#[test]
fn an_overdraft_makes_a_wallet_unknown_on_its_branch_only() {
    let mut tree = Tree::new();
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50), funded("b", 'b', 0)]);
    let one = tree.grow(0, Vec::new());
    let two = tree.grow(one, vec![pay(11, 'a', 0, 'b', 70)]);
    let (three, four) = (tree.grow(two, Vec::new()), tree.grow(one, Vec::new()));
    wallets.apply(&tree.lead_to(three).unwrap());
    let view = wallets.view();
    let fault = Fault::Overdrawn { block: tree.header(two).hash, height: 2, taken: 71, had: 50 };
    let unknown = BalanceError::Faulty { name: "a".to_owned(), fault };
    assert_eq!(view.balance("a"), Err(unknown.clone()));
    assert_eq!(view.conserved(), Err(Unconserved::Unknown(unknown)));
    assert_eq!(view.balance("b").unwrap().total, 70);
    assert_eq!(totals(&apply(&mut wallets, tree.lead_to(four)), &["a", "b"]), [50, 0]);
}

/// The reorg goes below the kept blocks: balances are unknown, not zero, until the blocks are read again.
///
/// ```text
/// g - 1(a: 50) - 2 - 3 - 4          two blocks are kept
///   \
///     5(b: 50) - 6
/// ```
#[tokio::test]
async fn a_reorg_below_the_kept_blocks_makes_wallets_wait_for_a_new_read() {
    let mut tree = Tree::new();
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![wallet("a", 'a'), wallet("b", 'b')]).keep(2);
    let mut at = tree.grow(0, vec![reward(10, 'a', 50)]);
    for _ in 0..3 {
        at = tree.grow(at, Vec::new());
    }
    let other = tree.grow(0, vec![reward(11, 'b', 50)]);
    let six = tree.grow(other, Vec::new());
    apply(&mut wallets, tree.lead_to(at));
    assert_eq!(wallets.view().root().unwrap().next, 3);
    let left = tree.header(tree.path(at)[1]).hash;
    assert_eq!(wallets.view().balance_at("a", left), Err(BalanceError::UnknownBlock { hash: left }));
    // The fork is at genesis, which was folded into the root long ago; both wallets begin directly above it.
    let event = tree.lead_to(six);
    assert_eq!(totals(&apply(&mut wallets, event), &["a", "b"]), [0, 50]);

    // A wallet that begins lower has to be read.
    let low = NewWallet { from: 0, ..wallet::<UtxoWallet>("c", 'c') };
    let mut wallets = followed(Utxo::new(1).maturity(1), vec![low]).keep(2);
    wallets.apply(&ChainEvent::Committed { new: vec![Arc::clone(&tree.blocks[six])] });
    wallets.settle();
    assert_eq!(wallets.view().balance("c"), Err(BalanceError::Waiting { name: "c".to_owned() }));
    let requests = wallets.requests();
    let mut backfill = requests.wanted().await.unwrap();
    assert_eq!(backfill.wants(), Some(0));
    backfill.push((*tree.blocks[0]).clone()).unwrap();
    let wrong = backfill.push((*tree.blocks[1]).clone()).unwrap_err();
    assert!(wrong.to_string().contains("does not follow"), "{wrong}");
    backfill.push((*tree.blocks[other]).clone()).unwrap();
    assert_eq!(backfill.wants(), None);
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(handed.unwrap().is_none());
    assert_eq!(wallets.view().balance("c"), Ok(Balance::default()));
    drop(wallets);
    assert!(requests.wanted().await.is_err(), "no projection follows wallets any more");
}

/// Counts the transactions that the ledger reads.
#[derive(Clone, Debug)]
struct Counting(Account<Payment>, Arc<AtomicUsize>);

impl Ledger for Counting {
    type Transaction = Payment;
    type Address = Address;
    type Change = <Account<Payment> as Ledger>::Change;
    type Wallet = AccountWallet;

    fn changes(&self, transaction: &Payment) -> Vec<Self::Change> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.changes(transaction)
    }

    fn target<'a>(&self, change: &'a Self::Change) -> Target<'a, Address> {
        self.0.target(change)
    }

    fn made(&self, change: &Self::Change) -> Option<OutPoint> {
        self.0.made(change)
    }

    fn apply(
        &self,
        wallet: &mut AccountWallet,
        change: &Self::Change,
        block: &Header,
    ) -> Result<Moved, Fault> {
        self.0.apply(wallet, change, block)
    }

    fn coins(&self, wallet: &AccountWallet) -> Vec<OutPoint> {
        self.0.coins(wallet)
    }

    fn balance(&self, wallet: &AccountWallet, next: Height) -> Balance {
        self.0.balance(wallet, next)
    }
}

/// Five transactions a block. After 50 more blocks, one block still costs 5 and a fork of 4 costs 20. Going back costs
/// nothing, and neither do queries at every block.
#[test]
fn a_block_costs_its_transactions_a_fork_its_blocks_and_a_query_nothing() {
    let counted = Arc::new(AtomicUsize::new(0));
    let ledger = Counting(Account::new(1), Arc::clone(&counted));
    let cost = || counted.swap(0, Ordering::Relaxed);
    let mut tree = Tree::new();
    let mut wallets = followed(ledger, vec![funded("a", 'a', 10_000), funded("b", 'b', 0)]);
    let mut nonce = 0;
    let mut five = |tree: &mut Tree<Payment>, parent| {
        let payments = (0..5).map(|_| {
            nonce += 1;
            pay(nonce, 'a', nonce, 'b', 1)
        });
        tree.grow(parent, payments.collect())
    };
    let mut at = 0;
    for length in [1, 50] {
        for _ in 0..length {
            at = five(&mut tree, at);
            apply(&mut wallets, tree.lead_to(at));
            assert_eq!(cost(), 5);
        }
    }
    let mut fork = tree.path(at)[at - 3];
    for _ in 0..4 {
        fork = five(&mut tree, fork);
    }
    apply(&mut wallets, tree.lead_to(fork));
    assert_eq!(cost(), 20);
    apply(&mut wallets, tree.lead_to(at));
    let view = apply(&mut wallets, tree.lead_to(fork));
    let blocks: Vec<Hash> = view.blocks().map(|block| block.hash).collect();
    assert_eq!(blocks.len(), 55);
    for block in blocks {
        let (a, b) = (view.balance_at("a", block).unwrap(), view.balance_at("b", block).unwrap());
        assert!(a.total + b.total < 10_000);
    }
    assert_eq!(cost(), 0);
    assert_eq!(view.tip(), Some(BranchPosition::behind(&tree.header(fork))));
}
