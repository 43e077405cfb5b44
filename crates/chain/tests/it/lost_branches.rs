//! Branches without the last final block, on which some nodes stay: the others go on.

use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{Agreement, ChainConfig};

use crate::common::{Node, Tree, Watched, branch, config, hash, local, long, show};

/// ```text
/// g - a1 - a2 - ... - a60        a2 is final, n2 is at a1
///        \
///          c2 - ... - c60        where n1 goes
/// ```
async fn lost_branch(config: ChainConfig, length: u64) -> (Tree, Node, Node, Watched) {
    let mut tree = Tree::new(&long("a", length));
    tree.line(&branch("a1", "c", 2..=length));
    let (n1, n2) = (tree.node("a2"), tree.node("a1"));
    n1.script().finalised = Some(hash("a2"));
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2", "finalised a2"]);
    tree.advance(&n1, &format!("c{length}"));
    for _ in 0..length {
        watched.cycle().await;
    }
    (tree, n1, n2, watched)
}

/// Runs cycles until the tip is there; fails after more than are needed.
async fn follows(watched: &Watched, tip: &str, cycles: usize) {
    for _ in 0..cycles {
        if show(watched.cycle().await.tip) == tip {
            return;
        }
    }
    let view = watched.cycle().await;
    panic!("the tip is {} after {cycles} cycles, not {tip}: {:?}", show(view.tip), view.nodes);
}

/// The lost branch is the heaviest one that is known, up to what is kept of a node. It says nothing of where n2 is.
#[tokio::test(start_paused = true)]
async fn a_node_on_a_lost_branch_does_not_keep_the_others_from_being_asked() {
    let little = ChainConfig { headers_off_branch: 20, backfill: 3, block_window: 2, ..config() };
    for (bounds, agreement) in [
        (little.clone(), Agreement::Pending),
        (ChainConfig { headers_off_branch: 1000, ..little }, Agreement::Breached),
    ] {
        let (tree, _, n2, watched) = lost_branch(bounds, 60).await;
        assert_eq!(watched.cycle().await.node("n1").unwrap().agreement, agreement);
        tree.advance(&n2, "a60");
        follows(&watched, "a60", 60).await;
    }
}

/// More headers of the lost branch are known than are kept of a node. When n1 has left it, n1 alone can lead to a60.
#[tokio::test(start_paused = true)]
async fn a_node_that_has_left_a_lost_branch_gets_room_for_its_own() {
    let little = ChainConfig { backfill: 3, block_window: 2, ..config() };
    for limit in [20, 30, 1000] {
        for way in [&["a60"][..], &["a2", "a60"], &["c59", "a60"]] {
            let bounds = ChainConfig { headers_off_branch: limit, ..little.clone() };
            let (tree, n1, _, watched) = lost_branch(bounds, 60).await;
            for head in way {
                tree.advance(&n1, head);
                watched.cycle().await;
            }
            follows(&watched, "a60", 80).await;
            let view = watched.cycle().await;
            let node = view.node("n1").unwrap();
            assert_eq!(node.agreement, Agreement::Behind(0), "{limit}, {way:?}");
            assert!(node.error.is_none(), "{limit}, {way:?}: {:?}", node.error);
            let lost = view.graph.unwrap().contains(&hash("c20"));
            assert_eq!(lost, limit == 1000, "it is dropped where there was no room");
        }
    }
}

/// Another node is on the lost branch still: what is known of it stays, and both have their answers.
#[tokio::test(start_paused = true)]
async fn a_lost_branch_is_kept_as_long_as_a_node_is_there() {
    let mut tree = Tree::new(&long("a", 60));
    tree.line(&branch("a1", "c", 2..=60));
    let (n1, n2) = (tree.node("a2"), tree.node("a2"));
    for node in [&n1, &n2] {
        node.script().finalised = Some(hash("a2"));
    }
    let bounds = ChainConfig { headers_off_branch: 20, backfill: 3, block_window: 2, ..config() };
    let mut watched = Watched::start(bounds, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    tree.advance(&n1, "c60");
    for _ in 0..60 {
        watched.cycle().await;
    }
    tree.advance(&n2, "c10");
    assert_eq!(watched.events().await, ["n2 breached a2 by c10"]);
    tree.advance(&n1, "a60");
    follows(&watched, "a60", 80).await;
    let graph = watched.cycle().await.graph.unwrap();
    assert_eq!(["c10", "c11"].map(|name| graph.contains(&hash(name))), [true, false]);
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_branch_is_too_long_shows_why_it_is_pending() {
    let bounds = ChainConfig { headers_off_branch: 20, backfill: 3, block_window: 2, ..config() };
    let (tree, n1, _, watched) = lost_branch(bounds, 60).await;
    let view = watched.cycle().await;
    let node = view.node("n1").unwrap();
    assert_eq!(node.agreement, Agreement::Pending);
    assert!(
        matches!(&node.error, Some(ChainError::TooManyHeaders { endpoint, limit: 20 }) if endpoint == "n1"),
        "{:?}",
        node.error
    );
    tree.advance(&n1, "a2");
    assert!(watched.cycle().await.node("n1").unwrap().error.is_none());
}
