//! Branches without the last final block, on which some nodes stay: the others go on.

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
