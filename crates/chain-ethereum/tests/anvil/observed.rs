//! Events of the observer on real nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use watchkeeper_chain::adapter::ChainClient;
use watchkeeper_chain::{Agreement, ChainEvent, Header};
use watchkeeper_chain_ethereum::NewHeads;
use watchkeeper_chain_ethereum::anvil::{Anvil, AnvilConfig};

use crate::common::{branch, ether, node};
use crate::watched::{Event, Watched, source};

struct Reorged {
    old: Vec<Header>,
    new: Vec<Header>,
    ancestor: Header,
}

fn reorged(event: &Event) -> Option<Reorged> {
    let ChainEvent::Reorged { old, new, ancestor } = event else { return None };
    Some(Reorged {
        old: old.clone(),
        new: new.iter().map(|block| block.header).collect(),
        ancestor: *ancestor,
    })
}

/// ```text
/// 0 - 1 - ... - 12 - depth ... - 12     the branch before
///               \
///                 - depth' ... - 12'    and after
/// ```
#[tokio::test]
async fn a_reorg_is_emitted_with_both_branches_and_their_ancestor() {
    let node = node(12).await;
    let mut watched = Watched::start(vec![source("n1", &node)]).await;
    watched.follows(&node).await;
    for depth in [1, 3, 10] {
        let before = watched.branch().to_vec();
        watched.at_once(node.reorg(depth)).await.unwrap();
        let after = branch(&node.client()).await;
        let common = before.len() - usize::try_from(depth).unwrap();
        let Reorged { mut old, new, ancestor } = watched.event("the reorg", reorged).await;
        old.reverse();
        assert_eq!((&old[..], &new[..]), (&before[common..], &after[common..]), "depth {depth}");
        assert_eq!(ancestor, before[common - 1]);
        assert_eq!(watched.branch(), after);
    }
}

/// ```text
/// n1: 0 - 1 - 2 - 3
/// n2:       \
///             2' - 3' - 4'
/// ```
#[tokio::test]
async fn the_heavier_of_two_nodes_wins_and_equals_are_rivals() {
    let (one, two) = (node(3).await, node(3).await);
    let mut watched = Watched::start(vec![source("n1", &one), source("n2", &two)]).await;
    watched.follows(&one).await;
    two.reorg(2).await.unwrap();
    let (first, second) = (one.client().head().await.unwrap(), two.client().head().await.unwrap());
    let rivals = |event: &Event| {
        if let ChainEvent::Rivals { tip, rival } = event { Some((*tip, *rival)) } else { None }
    };
    assert_eq!(watched.event("the rival", rivals).await, (first, second));
    assert_eq!(watched.branch(), branch(&one.client()).await);
    two.mine(1).await.unwrap();
    let Reorged { old, new, ancestor } = watched.event("the reorg", reorged).await;
    assert_eq!((old.len(), new.len(), ancestor.height), (2, 3, 1));
    assert_eq!(watched.branch(), branch(&two.client()).await);
    assert_eq!(watched.view().node("n1").unwrap().agreement, Agreement::Forked(ancestor));
}

#[tokio::test]
async fn a_node_that_hangs_hides_nothing_that_another_has() {
    let (one, two) = (node(1).await, node(1).await);
    let mut watched = Watched::start(vec![source("n1", &one), source("n2", &two)]).await;
    watched.follows(&one).await;
    one.pause().unwrap();
    for _ in 0..3 {
        two.mine(2).await.unwrap();
        watched.follows(&two).await;
    }
    one.resume().unwrap();
    let lags = |event: &Event| {
        if let ChainEvent::Lagging { node, .. } = event { Some(node.to_string()) } else { None }
    };
    assert_eq!(watched.event("the lag", lags).await, "n1");
    one.mine(6).await.unwrap();
    let caught_up =
        |event: &Event| if let ChainEvent::CaughtUp { node } = event { Some(node.to_string()) } else { None };
    assert_eq!(watched.event("the end of the lag", caught_up).await, "n1");
    assert_eq!(watched.branch(), branch(&one.client()).await);
}

/// ```text
/// 0 - 1 - 2 - 3 - 4     before
/// 0 - 1 - 2             reverted
/// ```
#[tokio::test]
async fn a_revert_of_all_nodes_is_a_rewind_and_no_reorg() {
    let node = node(2).await;
    let snapshot = node.snapshot().await.unwrap();
    node.mine(2).await.unwrap();
    let mut watched = Watched::start(vec![source("n1", &node)]).await;
    watched.follows(&node).await;
    let before = watched.branch().to_vec();
    node.revert(snapshot).await.unwrap();
    let rewound = |event: &Event| match event {
        ChainEvent::Rewound { from, to, .. } => Some((*from, *to)),
        ChainEvent::Reorged { .. } => panic!("{event:?}"),
        _ => None,
    };
    assert_eq!(watched.event("the rewind", rewound).await, (before[4], before[2]));
    watched.follows(&node).await;
    node.mine(3).await.unwrap();
    watched.follows(&node).await;
}

/// The node is killed and comes back on another branch:
///
/// ```text
/// 0 - 1 - 2 - 3 - 4             before it was killed
///           \
///             3' - 4' - 5'      what it has made when it is polled again
/// ```
#[tokio::test]
async fn a_reorg_during_a_restart_is_emitted_when_the_node_is_back() {
    let mut node = node(2).await;
    node.stop().await;
    node.start_again().await.unwrap();
    node.mine(2).await.unwrap();
    let mut watched = Watched::start(vec![source("n1", &node)]).await;
    watched.follows(&node).await;
    watched.runtime.control().pause().await.unwrap();
    node.kill();
    node.start_again().await.unwrap();
    let accounts = node.accounts().await.unwrap();
    node.transfer(accounts[0], accounts[1], ether(1)).await.unwrap();
    node.mine(3).await.unwrap();
    watched.runtime.control().resume().await.unwrap();
    let Reorged { old, new, ancestor } = watched.event("the reorg", reorged).await;
    assert_eq!((old.len(), new.len(), ancestor.height), (2, 3, 2));
    watched.follows(&node).await;
}

#[tokio::test]
async fn another_chain_behind_a_name_is_emitted_and_changes_nothing() {
    let (right, wrong) = (node(3).await, Anvil::start(AnvilConfig { chain_id: 5, ..AnvilConfig::default() }));
    let wrong = wrong.await.unwrap();
    wrong.mine(20).await.unwrap();
    let mut watched = Watched::start(vec![source("n1", &right)]).await;
    watched.follows(&right).await;
    let branch_before = watched.branch().to_vec();
    watched.sources.replace(vec![source("n1", &wrong)]);
    let changed = |event: &Event| match event {
        ChainEvent::IdentityChanged { node, found, .. } => Some((node.to_string(), found.id.clone())),
        _ => None,
    };
    assert_eq!(watched.event("the change", changed).await, ("n1".to_owned(), "5".to_owned()));
    assert_eq!(watched.branch(), branch_before);
    watched.sources.replace(vec![source("n1", &right)]);
    right.mine(1).await.unwrap();
    watched.follows(&right).await;
}

/// ```text
/// 0 - ... - 4 - 5 - 6 (final) - ... - 70
///             \
///               5' - ... - 70'
/// ```
#[tokio::test]
async fn a_node_that_leaves_a_final_block_is_not_believed() {
    let node = node(70).await;
    let mut watched = Watched::start(vec![source("n1", &node)]).await;
    watched.follows(&node).await;
    let before = watched.branch().to_vec();
    let is_final =
        |event: &Event| if let ChainEvent::Finalised { block } = event { Some(*block) } else { None };
    if watched.view().finalised.is_none_or(|block| block.height < 6) {
        watched.event("the final block", is_final).await;
    }
    watched.at_once(node.reorg(66)).await.unwrap();
    let breached = |event: &Event| match event {
        ChainEvent::FinalityBreached { finalised, head, .. } => Some((*finalised, *head)),
        ChainEvent::Reorged { .. } => panic!("{event:?}"),
        _ => None,
    };
    let head = node.client().head().await.unwrap();
    assert_eq!(watched.event("the breach", breached).await, (before[6], head));
    assert_eq!(watched.branch(), before);
}

#[tokio::test]
async fn a_new_head_wakes_an_observation_that_polls_once_an_hour() {
    let mut node = node(1).await;
    let wake = Arc::new(Notify::new());
    let _heads = NewHeads::follow(node.websocket(), Arc::clone(&wake)).unwrap();
    let hour = Duration::from_hours(1);
    let mut watched = Watched::with(vec![source("n1", &node)], hour, Some(wake)).await;
    watched.follows(&node).await;
    for _ in 0..3 {
        node.mine(1).await.unwrap();
        watched.follows(&node).await;
    }
    node.reorg(2).await.unwrap();
    watched.follows(&node).await;
    node.stop().await;
    node.start_again().await.unwrap();
    node.mine(1).await.unwrap();
    watched.follows(&node).await;
}
