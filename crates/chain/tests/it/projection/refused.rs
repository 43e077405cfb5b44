//! Wallets, records and blocks that are invalid.

use std::sync::Arc;

use watchkeeper_chain::projection::wallet::{
    Account, AddWalletError, Coin, NewWallet, OutPoint, Utxo, Wallets, WalletsRecord, WrongRecord,
};
use watchkeeper_chain::projection::{BranchPosition, Projection};
use watchkeeper_chain::{ChainEvent, Height};

use super::wallets::{apply, followed, funded, pay, wallet};
use super::{Coins, Payment, Tree, numbered};

#[test]
fn a_wallet_is_added_once_and_shares_no_address_and_no_coin() {
    let wallets = Wallets::new(Utxo::<Coins>::new(1));
    let requests = wallets.requests();
    requests.add(wallet("a", 'a')).unwrap();
    let none = NewWallet { addresses: Vec::new(), ..wallet("b", 'b') };
    let twice = NewWallet { addresses: vec!['b', 'b'], ..wallet("b", 'b') };
    let name = OutPoint { transaction: numbered(9), output: 3 };
    let coin = Coin { name, value: 50, height: 0, reward: false };
    let with_coin = |name, address| NewWallet { opening: vec![coin].into(), ..wallet(name, address) };
    requests.add(with_coin("d", 'd')).unwrap();
    let cases = [
        (twice, AddWalletError::AddressTaken { name: "b".to_owned(), address: "'b'".to_owned() }),
        (with_coin("b", 'b'), AddWalletError::CoinTaken { name: "b".to_owned(), coin: name }),
        (none, AddWalletError::NoAddress { name: "b".to_owned() }),
        (wallet("a", 'b'), AddWalletError::NameTaken { name: "a".to_owned() }),
        (wallet("b", 'a'), AddWalletError::AddressTaken { name: "b".to_owned(), address: "'a'".to_owned() }),
    ];
    for (wallet, error) in cases {
        assert_eq!(requests.add(wallet), Err(error));
    }
    requests.add(wallet("b", 'b')).unwrap();
    drop(wallets);
    assert_eq!(requests.add(wallet("c", 'c')), Err(AddWalletError::Closed));
}

/// A record has a and b. It is refused if another wallet has their name or address, or if the wallets have blocks
/// already.
#[test]
fn a_record_that_does_not_fit_the_followed_wallets_is_refused() {
    let mut tree = Tree::new();
    let pair = || vec![funded("a", 'a', 50), funded("b", 'b', 0)];
    let mut wallets = followed(Account::new(1), pair());
    let one = tree.grow(0, vec![pay(11, 'a', 0, 'b', 20)]);
    let view = apply(&mut wallets, tree.lead_to(one));
    let record = || view.record().unwrap();
    let taken = |name: &str, address: &str| AddWalletError::AddressTaken {
        name: name.to_owned(),
        address: address.to_owned(),
    };
    let cases = [
        (funded("c", 'b', 0), taken("b", "'b'")),
        (funded("b", 'c', 0), AddWalletError::NameTaken { name: "b".to_owned() }),
        (funded("a", 'a', 50), AddWalletError::NameTaken { name: "a".to_owned() }),
    ];
    for (added, error) in cases {
        let restored = followed(Account::new(1), vec![added]).restore(record());
        assert_eq!(restored.map(|_| ()).unwrap_err(), WrongRecord::Wallet(error));
    }
    let restored = followed(Account::new(1), vec![funded("c", 'c', 0)]).restore(record()).unwrap();
    assert_eq!(
        restored.requests().add(funded("a", 'd', 0)),
        Err(AddWalletError::NameTaken { name: "a".into() })
    );
    for begun in [restored, wallets] {
        assert_eq!(begun.restore(record()).map(|_| ()).unwrap_err(), WrongRecord::Begun);
    }
}

/// Programs before versions were recorded did not record what deposits mint: their balances are wrong.
#[test]
fn a_record_of_another_version_is_refused() {
    let mut tree = Tree::new();
    let mut wallets = followed(Account::<Payment>::new(1), vec![funded("a", 'a', 50)]);
    let one = tree.grow(0, vec![pay(11, 'a', 0, 'b', 20)]);
    let record = serde_json::to_value(apply(&mut wallets, tree.lead_to(one)).record().unwrap()).unwrap();
    let mut old = record.clone();
    old.as_object_mut().unwrap().remove("version");
    let step = old["blocks"][0].as_object_mut().unwrap();
    step.remove("detail");
    step.remove("unread");
    step["changes"][0][1]["Debited"].as_object_mut().unwrap().remove("minted");
    let mut new = record.clone();
    new["version"] = 99.into();
    let restore = |record: &serde_json::Value| {
        let record: WalletsRecord<Account<Payment>> = serde_json::from_value(record.clone()).unwrap();
        Wallets::new(Account::new(1)).restore(record).map(|_| ())
    };
    assert_eq!(restore(&record), Ok(()));
    for (record, found) in [(old, 0), (new, 99)] {
        let error = restore(&record).unwrap_err();
        assert_eq!(error, WrongRecord::Version { found });
        assert!(error.to_string().contains("start again without the record"), "{error}");
    }
}

#[test]
fn the_greatest_height_does_not_panic() {
    let mut tree = Tree::<Payment>::new();
    let mut wallets = followed(Account::new(1), vec![funded("a", 'a', 50)]);
    let one = tree.grow(0, Vec::new());
    let mut high = (*tree.blocks[one]).clone();
    high.header.height = Height::MAX;
    wallets.apply(&ChainEvent::Committed { new: vec![Arc::new(high.clone())] });
    wallets.settle();
    assert_eq!(wallets.view().tip(), Some(BranchPosition { hash: high.header.hash, next: Height::MAX }));
}
