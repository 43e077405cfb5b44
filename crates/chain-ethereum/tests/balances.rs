//! Wallets of ether: deposits, and transactions with unknown parts.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use watchkeeper_chain::projection::Projection;
use watchkeeper_chain::projection::wallet::{
    Account, AccountWallet, Amount, BalanceError, Fault, NewWallet, UnknownPart, Wallets, WalletsRecord,
    WalletsView,
};
use watchkeeper_chain::{Block, ChainEvent, Detail, Hash, Header};
use watchkeeper_chain_ethereum::{Address, EthereumTransaction, U256};

/// Block 1 above a first block, with these transactions.
fn one(transactions: Vec<EthereumTransaction>) -> Block<EthereumTransaction> {
    let [hash, parent] = [2, 1].map(|byte| Hash([byte; 32]));
    Block::new(Header { hash, parent, height: 1, work: 1, time: 0 }, transactions)
}

fn connect(wallets: &mut Wallets<Ether>, block: Block<EthereumTransaction>) {
    wallets.apply(&ChainEvent::Committed { new: vec![Arc::new(block)] });
    wallets.settle();
}

fn ether(id: u8, from: u8, to: u8, value: Option<u64>) -> EthereumTransaction {
    let [from, to] = [from, to].map(Address::repeat_byte);
    EthereumTransaction {
        hash: Hash([id; 32]),
        from,
        to: Some(to),
        value: value.map(U256::from),
        nonce: Some(0),
        signed: false,
        minted: Some(U256::ZERO),
        fee: Some(U256::ZERO),
        succeeded: Some(true),
    }
}

type Ether = Account<EthereumTransaction>;

/// Wallets 1 and 2 have 1000 each.
fn two() -> Wallets<Ether> {
    let wallet = |name: &str, account: u8| {
        let addresses = vec![Address::repeat_byte(account)];
        NewWallet { name: name.into(), addresses, from: 1, opening: AccountWallet::with(1_000) }
    };
    let all = Wallets::new(Account::new(3));
    for wallet in [wallet("w1", 1), wallet("w2", 2)] {
        all.requests().add(wallet).unwrap();
    }
    all
}

fn after(transactions: Vec<EthereumTransaction>) -> WalletsView<Ether> {
    let mut wallets = two();
    connect(&mut wallets, one(transactions));
    wallets.view()
}

fn fault(view: &WalletsView<Ether>, name: &str) -> Option<Fault> {
    match view.balance(name) {
        Ok(_) => None,
        Err(BalanceError::Faulty { fault, .. }) => Some(fault),
        Err(other) => panic!("{other}"),
    }
}

fn restored(view: &WalletsView<Ether>) -> Wallets<Ether> {
    let record = serde_json::to_string(&view.record().unwrap()).unwrap();
    let record: WalletsRecord<Ether> = serde_json::from_str(&record).unwrap();
    Wallets::new(Account::new(3)).restore(record).unwrap()
}

fn is_waiting(view: &WalletsView<Ether>, name: &str) -> bool {
    view.balance(name) == Err(BalanceError::Waiting { name: name.to_owned() })
}

#[test]
fn a_deposit_that_mints_is_received_before_it_is_paid() {
    let deposit = |from, to, minted: u64, value: u64| EthereumTransaction {
        minted: Some(U256::from(minted)),
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
            let unknown = |what| Fault::Unknown { block, height: 1, transaction: Hash([10; 32]), what };
            assert_eq!(fault(&view, name), what.map(unknown), "{name} of {transaction:?}");
        }
        let others = after(vec![EthereumTransaction { from: Address::repeat_byte(8), ..transaction }]);
        assert_eq!(fault(&others, "w1"), None);
    }
}

/// An unknown part of a transaction is read again too; a contradiction is not.
#[test]
fn of_the_faults_in_a_record_only_those_that_end_when_blocks_are_read_are_read_again() {
    let mut wallets = two();
    let fee = EthereumTransaction { fee: None, ..ether(10, 1, 9, Some(5)) };
    connect(&mut wallets, one(vec![fee, ether(11, 2, 9, Some(5_000))]));
    let overdrawn = fault(&wallets.view(), "w2");
    assert!(matches!(overdrawn, Some(Fault::Overdrawn { .. })));
    let restored = restored(&wallets.view());
    assert!(is_waiting(&restored.view(), "w1"));
    assert_eq!(fault(&restored.view(), "w2"), overdrawn);
}

/// Blocks with transactions and without results: those who have none in them are known, and a late wallet reads them.
#[test]
fn a_block_without_results_is_read_again_for_a_late_wallet() {
    let mut wallets = two();
    let without = EthereumTransaction { succeeded: None, fee: None, ..ether(10, 1, 9, Some(5)) };
    connect(&mut wallets, Block { detail: Detail::Transactions, ..one(vec![without]) });
    let late = |name: &str, account, from| {
        let (addresses, opening) = (vec![Address::repeat_byte(account)], AccountWallet::default());
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
