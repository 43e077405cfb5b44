//! Nodes that hang, end, come back and lag.

use std::time::Duration;

use watchkeeper_chain::Detail;
use watchkeeper_chain::adapter::{ChainClient, ChainError};

use crate::common::{branch, hashes, node};

#[tokio::test]
async fn a_node_that_hangs_times_out_and_answers_when_it_resumes() {
    let node = node(1).await;
    let client = node.client();
    let head = client.head().await.unwrap();
    let limit = Duration::from_millis(300);
    let hasty = node.client().with_timeout(limit);
    node.pause().unwrap();
    for _ in 0..2 {
        let hangs = hasty.head().await;
        assert!(matches!(&hangs, Err(ChainError::TimedOut { after, .. }) if *after == limit), "{hangs:?}");
    }
    let hangs = hasty.block(head.hash, Detail::Results).await;
    assert!(matches!(hangs, Err(ChainError::TimedOut { .. })), "{hangs:?}");
    node.resume().unwrap();
    assert_eq!(client.head().await.unwrap(), head);
}

#[tokio::test]
async fn an_orderly_restart_keeps_the_chain() {
    let mut node = node(5).await;
    let client = node.client();
    node.reorg(2).await.unwrap();
    let before = branch(&client).await;
    node.stop().await;
    let gone = client.head().await;
    assert!(matches!(gone, Err(ChainError::Unreachable { .. })), "{gone:?}");
    node.start_again().await.unwrap();
    assert_eq!(branch(&client).await, before);
    node.mine(1).await.unwrap();
    node.reorg(1).await.unwrap();
    assert_eq!(branch(&client).await[..before.len()], before);
}

#[tokio::test]
async fn a_node_that_is_stopped_as_soon_as_it_answers_keeps_its_chain() {
    let mut node = node(1).await;
    for _ in 0..5 {
        let before = branch(&node.client()).await;
        node.stop().await;
        node.start_again().await.unwrap();
        assert_eq!(branch(&node.client()).await, before);
        node.mine(1).await.unwrap();
        node.pause().unwrap();
        node.stop().await;
        node.start_again().await.unwrap();
    }
    assert_eq!(node.client().head().await.unwrap().height, 6);
}

#[tokio::test]
async fn a_node_that_was_killed_comes_back_with_an_older_chain() {
    let mut node = node(3).await;
    let client = node.client();
    let identity = client.identity().await.unwrap();
    node.stop().await;
    node.start_again().await.unwrap();
    let kept = branch(&client).await;
    node.mine(2).await.unwrap();
    node.kill();
    node.start_again().await.unwrap();
    assert_eq!(branch(&client).await, kept);
    assert_eq!(client.identity().await.unwrap(), identity);
}

#[tokio::test]
async fn a_node_that_makes_fewer_blocks_lags_on_the_same_branch() {
    let (ahead, behind) = (node(6).await, node(2).await);
    let (far, near) = (branch(&ahead.client()).await, branch(&behind.client()).await);
    assert_eq!(hashes(&far)[..3], hashes(&near));
    let head = ahead.client().head().await.unwrap();
    assert_eq!(behind.client().header(head.hash).await.unwrap(), None);
    behind.mine(4).await.unwrap();
    assert_eq!(behind.client().head().await.unwrap(), head);
}
