//! How the canonical branch follows the nodes.

use crate::common::{SECOND, Tree, Watched, config, local, show};

/// ```text
/// g - a1 - a2 - a3
///       \
///         b2 - b3 - b4
/// ```
#[tokio::test(start_paused = true)]
async fn two_nodes_grow_and_the_heavier_branch_wins() {
    let tree = Tree::new("g a1 a2 a3\na1 b2 b3 b4");
    let (n1, n2) = (tree.node("a1"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.told().await, ["committed a1"]);
    tree.advance(&n1, "a3");
    tree.advance(&n2, "b2");
    assert_eq!(watched.told().await, ["committed a2 a3"]);
    tree.advance(&n2, "b4");
    assert_eq!(watched.told().await, ["reorged a3 a2 to b2 b3 b4 at a1"]);
    let view = watched.cycle().await;
    assert_eq!((show(view.tip), show(view.head)), ("b4".to_owned(), "b4".to_owned()));
    tokio::time::advance(SECOND).await;
    assert_eq!(watched.told().await, [""; 0]);
}
