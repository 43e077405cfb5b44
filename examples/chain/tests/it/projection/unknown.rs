//! Deposits, transactions with unknown parts, and blocks that were not read.

use std::sync::Arc;

use watchkeeper_chain::adapter::ethereum::{Address as Account20, EthereumTransaction};
use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, BalanceError, Fault, NewWallet, UnknownPart, Wallets, WalletsView,
};
use watchkeeper_chain::{Block, ChainEvent, Detail, Hash};

use super::wallets::{apply, followed, funded, pay};
use super::{Payment, Tree, numbered};

fn ether(id: u64, from: u8, to: u8, value: Option<u64>) -> EthereumTransaction {
    let [from, to] = [from, to].map(Account20::repeat_byte);
    let hash = numbered(id);
    EthereumTransaction {
        hash,
        from,
        to: Some(to),
        value: value.map(alloy_value),
        nonce: Some(0),
        signed: false,
        minted: Some(alloy_value(0)),
        fee: Some(alloy_value(0)),
        succeeded: Some(true),
    }
}

fn alloy_value(value: u64) -> alloy::primitives::U256 {
    alloy::primitives::U256::from(value)
}

type Ether = Account<EthereumTransaction>;

/// Wallets 1 and 2 have 1000 each.
fn two() -> Wallets<Ether> {
    let wallet = |name: &str, account: u8| {
        let addresses = vec![Account20::repeat_byte(account)];
        NewWallet { name: name.into(), addresses, from: 1, opening: AccountWallet::with(1_000) }
    };
    followed(Account::new(3), vec![wallet("w1", 1), wallet("w2", 2)])
}

fn after(transactions: Vec<EthereumTransaction>) -> WalletsView<Ether> {
    let (mut tree, mut wallets) = (Tree::new(), two());
    let one = tree.grow(0, transactions);
    wallets.apply(&tree.lead_to(one).unwrap());
    wallets.settle();
    wallets.view()
}

fn fault<L: watchkeeper_chain::projection::wallet::Ledger>(
    view: &WalletsView<L>,
    name: &str,
) -> Option<Fault> {
    match view.balance(name) {
        Ok(_) => None,
        Err(BalanceError::Faulty { fault, .. }) => Some(fault),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_deposit_that_mints_is_received_before_it_is_paid() {
    let deposit = |from, to, minted: u64, value: u64| EthereumTransaction {
        minted: Some(alloy_value(minted)),
        ..ether(10, from, to, Some(value))
    };
    let failed = EthereumTransaction { succeeded: Some(false), ..deposit(1, 2, 5_000, 9_000) };
    // What is deposited, the totals of both wallets, and their pending value.
    let cases: [(&str, EthereumTransaction, [Amount; 2], [Amount; 2]); 7] = [
        ("to itself", deposit(1, 1, 5_000, 5_000), [6_000, 1_000], [5_000, 0]),
        ("to another one", deposit(1, 2, 5_000, 5_000), [1_000, 6_000], [0, 5_000]),
        ("in part", deposit(1, 2, 5_000, 1_500), [4_500, 2_500], [3_500, 1_500]),
        ("and more", deposit(1, 2, 5_000, 5_500), [500, 6_500], [0, 5_500]),
        ("to a stranger", deposit(1, 9, 5_000, 5_000), [1_000, 1_000], [0, 0]),
        ("from a stranger", deposit(9, 2, 5_000, 5_000), [1_000, 6_000], [0, 5_000]),
        ("that failed", failed, [6_000, 1_000], [5_000, 0]),
    ];
    for (what, transaction, totals, pending) in cases {
        let view = after(vec![transaction]);
        let balances = ["w1", "w2"].map(|name| view.balance(name).unwrap());
        assert_eq!(balances.map(|balance| balance.total), totals, "{what}");
        assert_eq!(balances.map(|balance| balance.pending), pending, "{what}");
        assert_eq!(view.conserved(), Ok(()), "{what}");
    }
}

#[test]
fn a_transaction_with_an_unknown_part_makes_only_its_own_wallets_unknown() {
    let whole = || ether(10, 1, 2, Some(5));
    let cases: [(EthereumTransaction, [Option<UnknownPart>; 2]); 8] = [
        (whole(), [None; 2]),
        (EthereumTransaction { fee: None, ..whole() }, [Some(UnknownPart::Fee), None]),
        (EthereumTransaction { minted: None, ..whole() }, [Some(UnknownPart::Minted), None]),
        (EthereumTransaction { value: None, ..whole() }, [Some(UnknownPart::Value); 2]),
        (EthereumTransaction { succeeded: None, fee: None, ..whole() }, [Some(UnknownPart::Success); 2]),
        (EthereumTransaction { value: None, succeeded: Some(false), ..whole() }, [None; 2]),
        (EthereumTransaction { nonce: None, ..whole() }, [None; 2]),
        (EthereumTransaction { succeeded: None, ..ether(10, 1, 2, Some(0)) }, [None; 2]),
    ];
    for (transaction, unknown) in cases {
        let view = after(vec![transaction.clone()]);
        let block = view.tip().unwrap().hash;
        for (name, what) in ["w1", "w2"].into_iter().zip(unknown) {
            let unknown = |what| Fault::Unknown { block, height: 1, transaction: numbered(10), what };
            assert_eq!(fault(&view, name), what.map(unknown), "{name} of {transaction:?}");
        }
        let others = after(vec![EthereumTransaction { from: Account20::repeat_byte(8), ..transaction }]);
        assert_eq!(fault(&others, "w1"), None);
    }
}

/// A late wallet reads the block that was not read, as it does blocks below the kept ones; wallets that were there stay
/// unknown, through a restart too, until that block is connected again and read.
///
/// ```text
/// g - 1 - 2(a pays b 20; not read) - 3
///       \
///         4
/// ```
#[tokio::test]
async fn a_block_that_was_not_read_makes_wallets_unknown_until_it_is_read() {
    let mut tree = Tree::<Payment>::new();
    let early = funded("early", 'z', 7);
    let high = NewWallet { from: 3, ..funded("high", 'h', 9) };
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50), early, high]);
    let one = tree.grow(0, Vec::new());
    let two = tree.grow(one, vec![pay(11, 'a', 0, 'b', 20)]);
    let three = tree.grow(two, Vec::new());
    let four = tree.grow(one, Vec::new());
    let read = Arc::clone(&tree.blocks[two]);
    tree.blocks[two] = Arc::new(Block::unread(read.header));
    wallets.apply(&tree.lead_to(three).unwrap());
    wallets.settle();
    let unread = Some(Fault::Unread { block: read.header.hash, height: 2 });
    let all = |view: &WalletsView<Account<Payment>>| ["a", "early", "high"].map(|name| fault(view, name));
    assert_eq!(all(&wallets.view()), [unread.clone(), unread.clone(), None]);

    // Through a record, with the parts of a batch computed again.
    let record = serde_json::to_string(&wallets.view().record().unwrap()).unwrap();
    let again =
        Wallets::new(Account::<Payment>::new(1)).restore(serde_json::from_str(&record).unwrap()).unwrap();
    assert_eq!(all(&again.view()), [unread.clone(), unread.clone(), None]);

    // A late wallet waits for the block.
    let requests = wallets.requests();
    requests.add(NewWallet { from: 2, ..funded("b", 'b', 1) }).unwrap();
    wallets.settle();
    assert_eq!(wallets.view().balance("b"), Err(BalanceError::Waiting { name: "b".to_owned() }));
    let mut backfill = requests.wanted().await.unwrap();
    assert_eq!(backfill.wants(), Some(1), "from where the kept blocks begin");
    backfill.push(Block::clone(&tree.blocks[one])).unwrap();
    backfill.push(Block::clone(&read)).unwrap();
    assert_eq!(backfill.wants(), None);
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(handed.unwrap().is_none());
    assert_eq!(wallets.view().balance("b").unwrap().total, 21);
    assert_eq!(fault(&wallets.view(), "a"), unread);

    // Off the branch and back: now the block is read.
    let view = apply(&mut wallets, tree.lead_to(four));
    assert_eq!(view.balance("a").unwrap().total, 50);
    tree.blocks[two] = read;
    let view = apply(&mut wallets, tree.lead_to(three));
    assert_eq!(["a", "early", "high", "b"].map(|name| view.balance(name).unwrap().total), [29, 7, 9, 21]);
}

/// Blocks with transactions and without results: those who have none in them are known, and a late wallet reads them.
#[test]
fn a_block_without_results_is_read_again_for_a_late_wallet() {
    let (mut tree, mut wallets) = (Tree::new(), two());
    let without = EthereumTransaction { succeeded: None, fee: None, ..ether(10, 1, 9, Some(5)) };
    let one = tree.grow(0, vec![without]);
    Arc::make_mut(&mut tree.blocks[one]).detail = Detail::Transactions;
    wallets.apply(&tree.lead_to(one).unwrap());
    let late = |name: &str, account, from| {
        let (addresses, opening) = (vec![Account20::repeat_byte(account)], AccountWallet::default());
        wallets.requests().add(NewWallet { name: name.into(), addresses, from, opening }).unwrap();
    };
    late("w9", 9, 1);
    late("w8", 8, 2);
    wallets.settle();
    let view = wallets.view();
    assert!(matches!(fault(&view, "w1"), Some(Fault::Unknown { .. })));
    assert_eq!(view.balance("w2").unwrap().total, 1_000);
    assert_eq!(view.balance("w9"), Err(BalanceError::Waiting { name: "w9".to_owned() }));
    assert_eq!(view.balance("w8").unwrap().total, 0);
}

/// A backfill that is given a block without its transactions.
#[tokio::test]
async fn a_backfill_of_a_block_that_was_not_read_makes_its_wallets_unknown() {
    let mut tree = Tree::<Payment>::new();
    let one = tree.grow(0, Vec::new());
    let two = tree.grow(one, Vec::new());
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50)]);
    wallets.apply(&ChainEvent::Committed { new: vec![Arc::clone(&tree.blocks[two])] });
    wallets.settle();
    let requests = wallets.requests();
    let mut backfill = requests.wanted().await.unwrap();
    backfill.push(Block::unread(tree.header(one))).unwrap();
    let (handed, ()) = tokio::join!(requests.submit(backfill), async { wallets.settle() });
    assert!(handed.unwrap().is_none());
    let block: Hash = tree.header(one).hash;
    assert_eq!(fault(&wallets.view(), "a"), Some(Fault::Unread { block, height: 1 }));
}
