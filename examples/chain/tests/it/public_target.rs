//! How our nodes are measured by the public network.

use watchkeeper::ObservedSource;
use watchkeeper_chain::ChainSource;

use crate::common::{SECOND, Tree, Watched, config, show};

/// ```text
/// g - a1 - a2 - a3 - a4 - a5        public: p1 a5, p2 a4, p3 b3
///            \
///              b3                   ours: n1 a4, n2 a2, n3 b3
/// ```
#[tokio::test(start_paused = true)]
async fn the_target_is_what_most_of_the_fresh_public_nodes_have() {
    let tree = Tree::new("g a1 a2 a3 a4 a5\na2 b3");
    let public = [("p1", "a5"), ("p2", "a4"), ("p3", "b3")].map(|(name, head)| (name, tree.node(head)));
    let ours = [("n1", "a4"), ("n2", "a2"), ("n3", "b3")].map(|(name, head)| (name, tree.node(head)));
    let of =
        |(name, node): &(&str, _), group: fn(_) -> _| ObservedSource::new(name, group(Clone::clone(node)));
    let mut sources: Vec<_> = public.iter().map(|node| of(node, ChainSource::public)).collect();
    sources.extend(ours.iter().map(|node| of(node, ChainSource::local)));
    let watched = Watched::start(config(), sources).await;

    let view = watched.cycle().await;
    assert_eq!(show(view.target), "a4");
    let behind =
        |view: &watchkeeper_chain::ChainView| ["n1", "n2", "n3"].map(|name| view.behind_target(name));
    assert_eq!(behind(&view), [Some(0), Some(2), Some(2)]);
    assert_eq!(view.behind_target("nobody"), None);

    // Two of three agree on no more than a2.
    tree.advance(&public[1].1, "a2");
    assert_eq!(show(watched.cycle().await.target), "a2");

    // Two are too few to speak of a public chain.
    public[0].1.script().hangs.push("");
    tokio::time::sleep(10 * SECOND).await;
    let view = watched.cycle().await;
    assert_eq!((view.target, behind(&view)), (None, [None, None, None]));
}
