//! Nodes that stop, start and break.

use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{ChainEvent, Start};
use watchkeeper_chain_bitcoin::{Key, NodeError, RegtestNode};

use crate::common::{BranchPosition, Watched, coins, downwards, headers, reorg};

#[tokio::test]
async fn a_node_that_was_restarted_has_its_chain_and_its_undo_data() {
    let mut place = BranchPosition::of("miner").await;
    let (tip, reward) = place.mature().await;
    let paid = Key::named("alice").paid(coins(49));
    let spend = place.key.spend(&[reward], &[paid]).unwrap();
    let spent = place.mine(&tip, &[spend]).await;
    let before = place.block(&spent.header).await;
    let mut watched = Watched::start(Start::Genesis, &[("n1", &place)]).await;
    watched.told_up_to(&spent.header).await;

    place.node.stop().await.unwrap();
    let error = place.client.head().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");
    let next = place.make(&spent.header, &[]);
    assert!(matches!(place.rejected(&next).await, NodeError::Stopped { .. }));
    let view = watched.cycle().await.value.clone();
    assert!(view.node("n1").unwrap().health.is_failing());
    assert_eq!(view.tip, Some(spent.header), "what is known stays known");

    place.node.start().await.unwrap();
    assert_eq!(watched.told().await, [], "nothing is told again");
    assert_eq!(place.head().await, spent.header);
    assert_eq!(place.block(&spent.header).await, before);
    place.take(std::slice::from_ref(&next)).await;
    let told = watched.told_up_to(&next.header).await;
    let [ChainEvent::Committed { new }] = &told[..] else { panic!("{told:?}") };
    assert_eq!(new[0].header, next.header);
}

/// ```text
/// g - 1 - 2 - o3 - o4       observed, then not
///          \
///           n3 - n4 - n5    meanwhile, on either side of the node's own restart
/// ```
#[tokio::test]
async fn a_reorg_while_nobody_observed_is_told_from_the_checkpoint() {
    let mut place = BranchPosition::of("miner").await;
    let shared = place.extend(&place.head().await, 2).await;
    let old = place.extend(&shared[1].header, 2).await;
    let known: Vec<_> = headers(&shared).into_iter().chain(headers(&old)).collect();

    let mut new = place.extend(&shared[1].header, 2).await;
    place.node.stop().await.unwrap();
    place.node.start().await.unwrap();
    assert_eq!(place.head().await, old[1].header, "seen first, also after a restart");
    new.extend(place.extend(&new[1].header, 1).await);

    let mut watched = Watched::start(Start::Known(known), &[("n1", &place)]).await;
    let told = watched.told_up_to(&new[2].header).await;
    assert_eq!(reorg(&told), (downwards(&old), headers(&new), shared[1].header));
}

#[tokio::test]
async fn a_data_directory_is_one_nodes_own_until_that_is_dropped() {
    let mut place = BranchPosition::of("miner").await;
    let mined = place.mine(&place.head().await, &[]).await;
    let error = RegtestNode::open(place.directory.path()).await.unwrap_err();
    assert!(matches!(error, NodeError::Open { .. }), "{error:?}");
    assert_eq!(place.head().await, mined.header, "the first one goes on");

    let BranchPosition { node, client, directory, .. } = place;
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
async fn a_node_that_cannot_write_says_so_until_it_is_mended() {
    let mut place = BranchPosition::of("miner").await;
    let mined = place.mine(&place.head().await, &[]).await;
    let file = place.directory.path().join("blocks/blk00000.dat");
    let away = place.directory.path().join("away");
    std::fs::rename(&file, &away).unwrap();
    std::fs::create_dir(&file).unwrap();
    let next = place.make(&mined.header, &[]);
    assert!(matches!(place.rejected(&next).await, NodeError::Broken { .. }));
    let error = place.client.head().await.unwrap_err();
    assert!(matches!(error, ChainError::Unreachable { .. }), "{error}");

    place.node.stop().await.unwrap();
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(&away, &file).unwrap();
    place.node.start().await.unwrap();
    assert_eq!(place.head().await, mined.header);
    place.take(std::slice::from_ref(&next)).await;
    assert_eq!(place.head().await, next.header);
}
