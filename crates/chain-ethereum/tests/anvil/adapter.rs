//! The adapter's answers from a real node.

use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Block, Detail, Hash};
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig};

use crate::common::{branch, ether, hashes, node};

#[tokio::test]
async fn the_head_follows_the_chain() {
    let node = node(0).await;
    let client = node.client();
    let genesis = client.head().await.unwrap();
    assert_eq!((genesis.height, genesis.work, genesis.time), (0, 1, 1_700_000_000));
    node.mine(3).await.unwrap();
    let head = client.head().await.unwrap();
    assert_eq!((head.height, head.time), (3, 1_700_000_036));
}

#[tokio::test]
async fn headers_are_found_by_hash_and_by_height_and_unknown_ones_are_none() {
    let node = node(3).await;
    let client = node.client();
    for (height, header) in (0..).zip(branch(&client).await) {
        assert_eq!(header.height, height);
        assert_eq!(client.header(header.hash).await.unwrap(), Some(header));
        let empty = Block::new(header, vec![]);
        assert_eq!(client.block(header.hash, Detail::Results).await.unwrap(), Some(empty));
    }
    let unknown = Hash([7; 32]);
    assert_eq!(client.header_at(4).await.unwrap(), None);
    assert_eq!(client.header(unknown).await.unwrap(), None);
    assert_eq!(client.block(unknown, Detail::Results).await.unwrap(), None);
}

#[tokio::test]
async fn a_block_has_its_transactions_in_their_order() {
    let node = node(1).await;
    let accounts = node.accounts().await.unwrap();
    let mut sent = Vec::new();
    for (from, to) in [(0, 1), (0, 2), (1, 2)] {
        sent.push(node.transfer(accounts[from], accounts[to], ether(1)).await.unwrap());
    }
    node.mine(1).await.unwrap();
    let client = node.client();
    let head = client.head().await.unwrap();
    let block = client.block(head.hash, Detail::Results).await.unwrap().unwrap();
    assert_eq!(block.header, head);
    let found: Vec<_> = block.transactions.iter().map(|it| (it.from, it.to, it.nonce, it.value)).collect();
    let of =
        |from: usize, to: usize, nonce| (accounts[from], Some(accounts[to]), Some(nonce), Some(ether(1)));
    assert_eq!(found.len(), 3);
    assert!([of(0, 1, 0), of(0, 2, 1), of(1, 2, 0)].iter().all(|wanted| found.contains(wanted)), "{found:?}");
    let hashes: Vec<_> = block.transactions.iter().map(|it| it.hash).collect();
    assert!(sent.iter().all(|hash| hashes.contains(hash)));
    assert!(block.transactions.iter().all(|it| it.succeeded == Some(true) && !it.fee.unwrap().is_zero()));
}

#[tokio::test]
async fn nodes_with_the_same_config_and_commands_have_the_same_chain() {
    let (one, two) = (node(2).await, node(2).await);
    for node in [&one, &two] {
        let accounts = node.accounts().await.unwrap();
        node.transfer(accounts[3], accounts[4], ether(2)).await.unwrap();
        node.mine(4).await.unwrap();
        node.reorg(2).await.unwrap();
    }
    assert_eq!(one.client().identity().await.unwrap(), two.client().identity().await.unwrap());
    assert_eq!(hashes(&branch(&one.client()).await), hashes(&branch(&two.client()).await));
}

#[tokio::test]
async fn nodes_of_other_chains_have_other_identities() {
    let usual = node(0).await;
    let expected = usual.client().identity().await.unwrap();
    assert_eq!(expected.id, "31337");
    let other_id = AnvilConfig { chain_id: 5, ..AnvilConfig::default() };
    let other_genesis = AnvilConfig { genesis_time: 1_600_000_000, ..AnvilConfig::default() };
    for (config, same_id) in [(other_id, false), (other_genesis, true)] {
        let other = Anvil::start(config).await.unwrap();
        let found = other.client().identity().await.unwrap();
        assert_ne!(found, expected);
        assert_eq!(found.id == expected.id, same_id);
    }
}

#[tokio::test]
async fn the_finalised_block_is_on_the_branch_and_far_below() {
    let node = node(70).await;
    let client = node.client();
    let finalised = client.finalised().await.unwrap().unwrap();
    assert_eq!(client.header_at(finalised.height).await.unwrap(), Some(finalised));
    assert_eq!(finalised.height, 70 - 64);
}

/// ```text
/// g - 1 - 2(a pays b) - 3
///       \
///         2 - 3             after a reorg two deep
/// ```
#[tokio::test]
async fn balances_are_those_after_a_block_on_its_branch() {
    let node = node(1).await;
    let (client, accounts) = (node.client(), node.accounts().await.unwrap());
    node.transfer(accounts[0], accounts[1], ether(1)).await.unwrap();
    node.mine(2).await.unwrap();
    let before = branch(&client).await;
    for (height, owns) in [(0, 10_000), (1, 10_000), (2, 10_001), (3, 10_001)] {
        let answer = client.balance(accounts[1], &before[height]).await;
        assert_eq!(answer.unwrap(), ether(owns), "after {height}");
    }
    node.reorg(2).await.unwrap();
    let after = branch(&client).await;
    assert_eq!(client.balance(accounts[1], &after[3]).await.unwrap(), ether(10_000));
    // It may get that branch back.
    let gone = client.balance(accounts[1], &before[3]).await;
    assert!(matches!(gone, Err(ChainError::Busy { .. })), "{gone:?}");
}
