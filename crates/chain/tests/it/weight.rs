//! What a tap counts for a view of a chain.

use std::sync::Arc;

use watchkeeper::Observer;
use watchkeeper_chain::projection::inclusion::Inclusions;
use watchkeeper_chain::projection::{Projected, View};
use watchkeeper_chain::{ChainObserver, ChainView, Graph, Header, NodeView};

use crate::common::{Event, Named, Node, Tree, Watched, config, local, long};

type Chain = ChainObserver<Node>;
type Both = Projected<Chain, Inclusions<Named>>;

/// Views of a short and a long chain of one node, and of the long chain of two nodes.
async fn views() -> [ChainView; 3] {
    let tree = Tree::new(&long("a", 30));
    let (short, long) = (tree.node("a3"), tree.node("a30"));
    let mut views = Vec::new();
    for nodes in [&[("n1", &short)][..], &[("n1", &long)], &[("n1", &long), ("n2", &long)]] {
        let watched = Watched::start(config(), local(nodes)).await;
        watched.cycle().await;
        views.push(watched.cycle().await);
    }
    views.try_into().unwrap()
}

#[tokio::test(start_paused = true)]
async fn headers_and_nodes_count_and_events_too() {
    let [short, long, two] = views().await;
    let weight = |view: &ChainView, events: &[Event]| Chain::weight(view, events);
    let headers = |view: &ChainView| view.graph.as_ref().map_or(0, Graph::len);
    assert_eq!(headers(&long) - headers(&short), 27);
    assert_eq!(weight(&long, &[]) - weight(&short, &[]), 27 * size_of::<Header>());
    assert_eq!(weight(&two, &[]) - weight(&long, &[]), size_of::<(Arc<str>, NodeView)>());
    let event = Event::Finalised { block: long.tip.unwrap() };
    assert_eq!(weight(&long, &[event.clone(), event]) - weight(&long, &[]), 2 * size_of::<Event>());
}

#[tokio::test(start_paused = true)]
async fn a_projection_adds_its_size_to_the_weight_of_the_chain() {
    let observer: Both = Projected::new(Chain::new(config()), Inclusions::new());
    let tree = Tree::new(&long("a", 30));
    let watched = Watched::with(observer, local(&[("n1", &tree.node("a30"))])).await;
    watched.cycle().await;
    let seen: View<ChainView, _> = watched.cycle().await;
    let event = Event::Finalised { block: seen.chain.tip.unwrap() };
    let chain = Chain::weight(&seen.chain, std::slice::from_ref(&event));
    assert!(chain > size_of::<ChainView>() + 30 * size_of::<Header>(), "{chain}");
    assert_eq!(Both::weight(&seen, &[event]), chain + size_of_val(&seen.view));
}
