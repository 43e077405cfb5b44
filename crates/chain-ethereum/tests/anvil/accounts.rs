//! Balances that follow from transactions.

use std::collections::BTreeMap;

use alloy::hex;
use watchkeeper_chain::Detail;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain_ethereum::anvil::Anvil;
use watchkeeper_chain_ethereum::{Address, TransactionRequest, U256};

use crate::common::{ether, node};

/// The balances of accounts: first from the node, then changed by transactions only.
struct Books(BTreeMap<Address, U256>);

impl Books {
    async fn open(node: &Anvil) -> Self {
        let mut books = BTreeMap::new();
        for account in node.accounts().await.unwrap() {
            books.insert(account, node.balance(account).await.unwrap());
        }
        Self(books)
    }

    async fn move_by_the_head_of(&mut self, node: &Anvil) {
        let client = node.client();
        let head = client.head().await.unwrap();
        for it in client.block(head.hash, Detail::Results).await.unwrap().unwrap().transactions {
            *self.0.entry(it.from).or_default() -= it.fee.unwrap();
            if it.succeeded.unwrap() {
                *self.0.entry(it.from).or_default() -= it.value.unwrap();
                *self.0.entry(it.to.unwrap()).or_default() += it.value.unwrap();
            }
        }
    }

    async fn assert_balanced(&self, node: &Anvil) {
        for (account, owns) in &self.0 {
            assert_eq!(node.balance(*account).await.unwrap(), *owns, "{account}");
        }
    }
}

#[tokio::test]
async fn transfers_and_their_fees_account_for_every_wei() {
    let node = node(1).await;
    let mut books = Books::open(&node).await;
    let accounts = node.accounts().await.unwrap();
    for round in 0..4 {
        for (nth, from) in accounts.iter().enumerate() {
            let to = accounts[(nth * 3 + round) % accounts.len()];
            node.transfer(*from, to, ether(1) + U256::from(nth)).await.unwrap();
        }
        node.mine(1).await.unwrap();
        books.move_by_the_head_of(&node).await;
    }
    books.assert_balanced(&node).await;
}

/// Contracts in EVM code: one that accepts every payment, one that refuses.
#[tokio::test]
async fn a_failed_transaction_costs_its_fee_and_a_creation_pays_its_contract() {
    let node = node(1).await;
    let mut books = Books::open(&node).await;
    let accounts = node.accounts().await.unwrap();
    // PUSH1 0 PUSH1 0 RETURN: a contract without code. PUSH1 0 PUSH1 0 REVERT: none.
    for (code, succeeds) in [("60006000f3", true), ("60006000fd", false)] {
        let create = TransactionRequest {
            from: Some(accounts[0]),
            value: Some(ether(3)),
            gas: Some(200_000),
            input: hex::decode(code).unwrap().into(),
            ..TransactionRequest::default()
        };
        node.send(create.create()).await.unwrap();
        node.mine(1).await.unwrap();
        let client = node.client();
        let head = client.head().await.unwrap();
        let block = client.block(head.hash, Detail::Results).await.unwrap().unwrap();
        let [created] = &block.transactions[..] else { panic!("{block:?}") };
        assert_eq!((created.succeeded, created.to.is_some()), (Some(succeeds), succeeds));
        books.move_by_the_head_of(&node).await;
    }
    assert_eq!(books.0.len(), accounts.len() + 1);
    books.assert_balanced(&node).await;
}

#[tokio::test]
async fn a_replacement_conflicts_with_what_it_replaces() {
    use watchkeeper_chain::Transaction;

    let node = node(1).await;
    let accounts = node.accounts().await.unwrap();
    let first = TransactionRequest {
        from: Some(accounts[0]),
        to: Some(accounts[1].into()),
        nonce: Some(0),
        max_fee_per_gas: Some(3_000_000_000),
        max_priority_fee_per_gas: Some(1_000_000_000),
        ..TransactionRequest::default()
    };
    let snapshot = node.snapshot().await.unwrap();
    node.send(first.clone()).await.unwrap();
    node.mine(1).await.unwrap();
    let included = head_transaction(&node).await;
    node.revert(snapshot).await.unwrap();

    let old = node.send(first.clone()).await.unwrap();
    let new = TransactionRequest {
        to: Some(accounts[2].into()),
        max_fee_per_gas: Some(9_000_000_000),
        max_priority_fee_per_gas: Some(5_000_000_000),
        ..first
    };
    let new = node.send(new).await.unwrap();
    node.mine(1).await.unwrap();
    let replacement = head_transaction(&node).await;
    assert_eq!((included.hash, replacement.hash), (old, new));
    assert_ne!(old, new);
    assert_eq!(included.conflicts(), replacement.conflicts());
}

/// The one transaction of the newest block.
async fn head_transaction(node: &Anvil) -> watchkeeper_chain_ethereum::EthereumTransaction {
    let client = node.client();
    let head = client.head().await.unwrap();
    let mut block = client.block(head.hash, Detail::Results).await.unwrap().unwrap();
    assert_eq!(block.transactions.len(), 1, "{block:?}");
    block.transactions.remove(0)
}
