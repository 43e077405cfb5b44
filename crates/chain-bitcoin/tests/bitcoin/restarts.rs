//! Nodes that stop, start and break.

use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{ChainEvent, Start};
use watchkeeper_chain_bitcoin::{Key, NodeError, RegtestNode};

use crate::common::{MiningNode, Watched, coins, downwards, headers, reorg};

#[tokio::test]
async fn a_node_that_was_restarted_has_its_chain_and_its_undo_data() {
    let mut miner = MiningNode::of("miner").await;
    let (tip, reward) = miner.mature().await;
    let paid = Key::named("alice").paid(coins(49));
    let spend = miner.key.spend(&[reward], &[paid]).unwrap();
    let spent = miner.mine(&tip, &[spend]).await;
    let before = miner.block(&spent.header).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &miner)]).await;
    watched.events_until(&spent.header).await;

    miner.node.stop().await.unwrap();
    let error = miner.client.head().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    let next = miner.make(&spent.header, &[]);
    assert!(matches!(miner.rejected(&next).await, NodeError::Stopped { .. }));
    let view = watched.cycle().await.value.clone();
    assert!(view.node("n1").unwrap().health.is_failing());
    assert_eq!(view.tip, Some(spent.header), "the tip stays known");

    miner.node.start().await.unwrap();
    assert_eq!(watched.events().await, [], "no event is emitted again");
    assert_eq!(miner.head().await, spent.header);
    assert_eq!(miner.block(&spent.header).await, before);
    miner.take(std::slice::from_ref(&next)).await;
    let events = watched.events_until(&next.header).await;
    let [ChainEvent::Committed { new }] = &events[..] else { panic!("{events:?}") };
    assert_eq!(new[0].header, next.header);
}

/// ```text
/// g - 1 - 2 - o3 - o4       observed, then not
///          \
///           n3 - n4 - n5    meanwhile, before and after a restart of the node
/// ```
#[tokio::test]
async fn a_reorg_between_two_observations_is_emitted_from_the_checkpoint() {
    let mut miner = MiningNode::of("miner").await;
    let shared = miner.extend(&miner.head().await, 2).await;
    let old = miner.extend(&shared[1].header, 2).await;
    let known: Vec<_> = headers(&shared).into_iter().chain(headers(&old)).collect();

    let mut new = miner.extend(&shared[1].header, 2).await;
    miner.node.stop().await.unwrap();
    miner.node.start().await.unwrap();
    assert_eq!(miner.head().await, old[1].header, "seen first, also after a restart");
    new.extend(miner.extend(&new[1].header, 1).await);

    let mut watched = Watched::start(Start::Known(known), &[("n1", &miner)]).await;
    let events = watched.events_until(&new[2].header).await;
    assert_eq!(reorg(&events), (downwards(&old), headers(&new), shared[1].header));
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_node_until_it_is_dropped() {
    let mut miner = MiningNode::of("miner").await;
    let mined = miner.mine(&miner.head().await, &[]).await;
    let error = RegtestNode::open(miner.directory.path()).await.unwrap_err();
    assert!(matches!(error, NodeError::Open { .. }), "{error:?}");
    assert_eq!(miner.head().await, mined.header, "the first node still answers");

    let MiningNode { node, client, directory, .. } = miner;
    drop((node, client));
    let node = RegtestNode::open(directory.path()).await.unwrap();
    assert_eq!(node.client().head().await.unwrap(), mined.header);
}

#[tokio::test]
async fn a_file_is_no_data_directory() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = RegtestNode::open(file.path()).await.unwrap_err();
    assert!(matches!(error, NodeError::Directory { .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_that_cannot_write_fails_until_it_is_repaired() {
    let mut miner = MiningNode::of("miner").await;
    let mined = miner.mine(&miner.head().await, &[]).await;
    let file = miner.directory.path().join("blocks/blk00000.dat");
    let away = miner.directory.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    std::fs::create_dir(&file).unwrap();
    let next = miner.make(&mined.header, &[]);
    assert!(matches!(miner.rejected(&next).await, NodeError::Broken { .. }));
    let error = miner.client.head().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");

    miner.node.stop().await.unwrap();
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    miner.node.start().await.unwrap();
    assert_eq!(miner.head().await, mined.header);
    miner.take(std::slice::from_ref(&next)).await;
    assert_eq!(miner.head().await, next.header);
}
