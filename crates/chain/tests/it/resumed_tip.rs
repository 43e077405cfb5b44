//! Nodes that have gone back from the tip while nothing observed them.
//!
//! ```text
//! g - a1 - a2 - a3 - a4 - a5 - a6      the run before ended at a5, and kept a1 to a5
//!                  \
//!                    b4
//! ```

use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainConfig, ChainSource, Start};

use crate::common::{Node, SECOND, Tree, Watched, config, local, show};

fn tree() -> Tree {
    Tree::new("g a1 a2 a3 a4 a5 a6\na3 b4")
}

fn patient(tree: &Tree) -> ChainConfig {
    let known = ["a1", "a2", "a3", "a4", "a5"].map(|name| tree.header(name)).to_vec();
    let start = Start::Known(known);
    ChainConfig { start, lighter_after: 6, lighter_for: 20 * SECOND, ..config() }
}

async fn resumed(tree: &Tree, nodes: &[(&str, &Node)]) -> Watched {
    Watched::start(patient(tree), local(nodes)).await
}

/// Runs cycles, and returns the events.
async fn cycles(watched: &mut Watched, count: usize) -> Vec<String> {
    let mut events = Vec::new();
    for _ in 0..count {
        events.extend(watched.events().await);
    }
    events
}

fn refuse(node: &Node) {
    let refused = ChainError::Empty { endpoint: "node".to_owned() };
    node.script().fails.insert("head", refused);
}

/// As while it is observed: after as many answers as confirm a lighter head.
#[tokio::test(start_paused = true)]
async fn a_node_that_was_rolled_back_before_the_start_is_followed_back() {
    let tree = tree();
    let n1 = tree.node("a3");
    let mut watched = resumed(&tree, &[("n1", &n1)]).await;
    // The start had the first answer.
    assert_eq!(cycles(&mut watched, 4).await, [""; 0]);
    assert_eq!(cycles(&mut watched, 1).await, ["reverted a5 a4 to a3"]);
    assert_eq!(show(watched.cycle().await.tip), "a3");
    tree.advance(&n1, "b4");
    assert_eq!(cycles(&mut watched, 2).await, ["committed b4"]);
}

/// Fewer answers are enough once they have spoken against the tip for so long.
#[tokio::test(start_paused = true)]
async fn a_head_that_stays_below_the_tip_for_long_is_believed_too() {
    let tree = tree();
    let n1 = tree.node("a3");
    let config = ChainConfig { lighter_after: 1000, ..patient(&tree) };
    let mut watched = Watched::start(config, local(&[("n1", &n1)])).await;
    tokio::time::sleep(18 * SECOND).await;
    assert_eq!(watched.events().await, [""; 0]);
    tokio::time::sleep(4 * SECOND).await;
    assert_eq!(watched.events().await, ["reverted a5 a4 to a3"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_catches_up_to_the_tip_reverts_nothing() {
    let tree = tree();
    let n1 = tree.node("a2");
    let mut watched = resumed(&tree, &[("n1", &n1)]).await;
    for head in ["a2", "a3", "a4", "a5"] {
        tree.advance(&n1, head);
        assert_eq!(cycles(&mut watched, 4).await, [""; 0], "{head}");
    }
    tree.advance(&n1, "a6");
    assert_eq!(cycles(&mut watched, 1).await, ["committed a6"]);
    // From here on all is as ever.
    tree.advance(&n1, "a4");
    let events = cycles(&mut watched, 8).await;
    assert_eq!(events, ["n1 rewound a6 to a4", "reverted a6 a5 to a4"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_answered_may_have_the_tip() {
    let tree = tree();
    for (head, expected) in
        [("a5", &[][..]), ("a3", &["reverted a5 a4 to a3"]), ("a4", &["reverted a5 to a4"])]
    {
        let (n1, n2) = (tree.node("a3"), tree.node(head));
        refuse(&n2);
        let mut watched = resumed(&tree, &[("n1", &n1), ("n2", &n2)]).await;
        assert_eq!(cycles(&mut watched, 30).await, [""; 0], "{head}");
        n2.script().fails.clear();
        assert_eq!(cycles(&mut watched, 10).await, expected, "{head}");
    }
}

/// One with the tip holds it, and one that is no longer in the set is not waited for.
#[tokio::test(start_paused = true)]
async fn the_nodes_of_the_set_decide_whether_the_tip_was_left() {
    let tree = tree();
    let (n1, n2) = (tree.node("a3"), tree.node("a5"));
    let mut watched = resumed(&tree, &[("n1", &n1), ("n2", &n2)]).await;
    assert_eq!(cycles(&mut watched, 20).await, [""; 0]);
    refuse(&n2);
    let mut watched = resumed(&tree, &[("n1", &n1), ("n2", &n2)]).await;
    assert_eq!(cycles(&mut watched, 20).await, [""; 0]);
    watched.sources.replace(vec![watchkeeper::ObservedSource::new("n1", ChainSource::local(n1.clone()))]);
    assert_eq!(cycles(&mut watched, 1).await, ["reverted a5 a4 to a3"]);
}
