//! Branches that leave and come back.

use watchkeeper_chain::Detail;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain_ethereum::anvil::AnvilError;

use crate::common::{branch, ether, hashes, node};

/// ```text
/// 0 - 1 - ... - 12 - depth ... - 12     the branch before
///               \
///                 - depth' ... - 12'    and after: as high, no block above the ancestor is the same
/// ```
#[tokio::test]
async fn a_reorg_replaces_exactly_the_blocks_above_the_ancestor() {
    for depth in [1, 3, 10] {
        let node = node(12).await;
        let client = node.client();
        let before = branch(&client).await;
        node.reorg(depth).await.unwrap();
        let after = branch(&client).await;
        let common = before.len() - usize::try_from(depth).unwrap();
        assert_eq!(after.len(), before.len(), "depth {depth}");
        assert_eq!(after[..common], before[..common], "depth {depth}");
        for (old, new) in before[common..].iter().zip(&after[common..]) {
            assert_ne!(old.hash, new.hash, "depth {depth}");
            // This node forgets what it left; others keep it.
            assert_eq!(client.header(old.hash).await.unwrap(), None);
        }
    }
}

#[tokio::test]
async fn a_reorg_takes_transactions_away() {
    let node = node(1).await;
    let client = node.client();
    let accounts = node.accounts().await.unwrap();
    let own = node.balance(accounts[1]).await.unwrap();
    node.transfer(accounts[0], accounts[1], ether(5)).await.unwrap();
    node.mine(1).await.unwrap();
    let with = client.head().await.unwrap();
    assert_eq!(client.block(with.hash, Detail::Results).await.unwrap().unwrap().transactions.len(), 1);
    assert_eq!(node.balance(accounts[1]).await.unwrap(), own + ether(5));
    node.reorg(1).await.unwrap();
    let without = client.head().await.unwrap();
    assert_eq!((without.height, without.parent), (with.height, with.parent));
    assert_eq!(client.block(without.hash, Detail::Results).await.unwrap().unwrap().transactions, []);
    assert_eq!(client.block(with.hash, Detail::Results).await.unwrap(), None);
    assert_eq!(node.balance(accounts[1]).await.unwrap(), own);
}

/// ```text
/// 0 - 1 - 2 - 3 - 4     before
/// 0 - 1 - 2             reverted: the node has rewound, there is no other branch
/// ```
#[tokio::test]
async fn reverting_a_snapshot_rewinds_the_node() {
    let node = node(2).await;
    let client = node.client();
    let early = branch(&client).await;
    let snapshot = node.snapshot().await.unwrap();
    node.mine(2).await.unwrap();
    let late = branch(&client).await;
    assert_eq!(late[..3], early);
    node.revert(snapshot).await.unwrap();
    assert_eq!(branch(&client).await, early);
    let again = node.revert(snapshot).await;
    assert!(
        matches!(again, Err(AnvilError::NoSuchSnapshot | AnvilError::Call(ChainError::Refused { .. }))),
        "{again:?}"
    );
    assert_eq!(hashes(&branch(&client).await), hashes(&early));
}

#[tokio::test]
async fn a_snapshot_of_a_branch_that_was_left_leaves_an_empty_chain() {
    let node = node(4).await;
    let client = node.client();
    let snapshot = node.snapshot().await.unwrap();
    node.reorg(2).await.unwrap();
    assert!(node.revert(snapshot).await.is_err());
    let head = client.head().await;
    assert!(matches!(head, Err(ChainError::Empty { .. })), "{head:?}");
}
