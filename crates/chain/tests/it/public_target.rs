//! How local nodes are measured against public nodes.

use watchkeeper::ObservedSource;
use watchkeeper_chain::{Agreement, Block, ChainConfig, ChainSource, Header, Start};

use crate::common::{Node, SECOND, Tree, Watched, config, hash, local, long, show};

/// ```text
/// g - a1 - a2 - a3 - a4 - a5        public: p1 a5, p2 a4, p3 b3
///            \
///              b3                   local: n1 a4, n2 a2, n3 b3
/// ```
#[tokio::test(start_paused = true)]
async fn the_target_is_what_most_of_the_fresh_public_nodes_have() {
    let tree = Tree::new("g a1 a2 a3 a4 a5\na2 b3");
    let public = [("p1", "a5"), ("p2", "a4"), ("p3", "b3")].map(|(name, head)| (name, tree.node(head)));
    let locals = [("n1", "a4"), ("n2", "a2"), ("n3", "b3")].map(|(name, head)| (name, tree.node(head)));
    let of =
        |(name, node): &(&str, _), group: fn(_) -> _| ObservedSource::new(*name, group(Clone::clone(node)));
    let mut sources: Vec<_> = public.iter().map(|node| of(node, ChainSource::public)).collect();
    sources.extend(locals.iter().map(|node| of(node, ChainSource::local)));
    let watched = Watched::start(config(), sources).await;

    let view = watched.cycle().await;
    assert_eq!(show(view.target), "a4");
    let behind =
        |view: &watchkeeper_chain::ChainView| ["n1", "n2", "n3"].map(|name| view.behind_target(name));
    assert_eq!(behind(&view), [Some(0), Some(2), Some(2)]);
    assert_eq!(view.behind_target("nobody"), None);

    // The highest block that two of three have is a2.
    tree.advance(&public[1].1, "a2");
    assert_eq!(show(watched.cycle().await.target), "a2");

    // Two fresh nodes are too few for a public target.
    public[0].1.script().hangs.push("");
    tokio::time::sleep(10 * SECOND).await;
    let view = watched.cycle().await;
    assert_eq!((view.target, behind(&view)), (None, [None, None, None]));
}

fn public(nodes: &[(&str, &Node)]) -> Vec<ObservedSource<ChainSource<Node>>> {
    nodes
        .iter()
        .map(|(name, node)| ObservedSource::new(*name, ChainSource::public((*node).clone())))
        .collect()
}

/// ```text
/// g - a1 - a2 - a3              local
///       \
///         b2 - ... - b9         public, and b5 is final there
/// ```
#[tokio::test(start_paused = true)]
async fn public_nodes_move_neither_the_tip_nor_the_final_block() {
    let tree = Tree::new("g a1 a2 a3 a4\na1 b2 b3 b4 b5 b6 b7 b8 b9");
    let local_node = tree.node("a3");
    let [p1, p2, p3] = ["b9"; 3].map(|head| tree.node(head));
    for node in [&p1, &p2, &p3] {
        node.script().finalised = Some(hash("b5"));
    }
    let mut sources = public(&[("p1", &p1), ("p2", &p2), ("p3", &p3)]);
    sources.extend(local(&[("z", &local_node)]));
    let mut watched = Watched::start(ChainConfig { final_depth: 4, ..config() }, sources).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    tree.advance(&local_node, "a4");
    assert_eq!(watched.events().await, ["committed a4"]);
    let view = watched.cycle().await;
    assert_eq!([view.target, view.head, view.tip, view.finalised].map(show), ["b9", "a4", "a4", "g"]);
    assert_eq!((view.behind_target("z"), view.progress), (Some(8), None));
    assert_eq!(view.node("p1").unwrap().agreement, Agreement::Forked(tree.header("a1")));
    // Public nodes decide when no local node has been in the set for `forget_after`.
    watched.sources.replace(public(&[("p1", &p1), ("p2", &p2), ("p3", &p3)]));
    assert_eq!(watched.events().await, [""; 0], "the local node may only be restarting");
    tokio::time::sleep(config().forget_after).await;
    let events = watched.events().await;
    assert_eq!(events, ["reorged a4 a3 a2 to b2 b3 b4 b5 b6 b7 b8 b9 at a1", "finalised b5"]);
}

/// The local node hangs at first; one public node is on another chain, and answers.
#[tokio::test(start_paused = true)]
async fn a_local_node_decides_the_chain_and_where_the_observation_begins() {
    let tree = Tree::new(&format!("{}\nx x1 x2", long("a", 100)));
    let (local_node, other, far) = (tree.node("a80"), tree.node("x2"), tree.node("a100"));
    other.script().identity.id = "other".to_owned();
    local_node.script().hangs.push("");
    let mut sources = public(&[("p1", &other), ("p2", &far)]);
    sources.extend(local(&[("z", &local_node)]));
    let config = ChainConfig { start: Start::Recent(10), ..config() };
    let mut watched = Watched::start(config.clone(), sources).await;
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(watched.cycle().await.chain, None);
    local_node.script().hangs.clear();
    tokio::time::sleep(config.probe_timeout + SECOND).await;
    let view = watched.cycle().await;
    assert_eq!(view.chain.unwrap().id, "test");
    assert_eq!((show(Some(view.graph.unwrap().root())), show(view.tip)), ("a70".into(), "a80".into()));
    assert!(matches!(view.nodes["p1"].agreement, Agreement::OtherChain(_)));
    assert_eq!(view.nodes["p2"].agreement, Agreement::Ahead(20));
}

/// There are only public nodes. One of three reports a false head far above the others, and in some cases answers
/// first.
#[tokio::test(start_paused = true)]
async fn one_public_node_alone_does_not_decide_where_the_observation_begins() {
    let tree = Tree::new(&long("a", 100));
    for (height, answers_first) in [(1 << 63, false), (1 << 63, true), (u64::MAX, true)] {
        let (liar, p2, p3) = (tree.node("g"), tree.node("a99"), tree.node("a100"));
        let far = Header { hash: hash("x"), parent: hash("y"), height, work: 1, time: 0 };
        liar.script().blocks.insert(far.hash, Block::new(far, Vec::new()));
        liar.script().head = Some(far.hash);
        let config = ChainConfig { start: Start::Recent(0), ..config() };
        let late: u64 = if answers_first { 400 } else { 0 };
        for node in [&p2, &p3] {
            node.script().latency = std::time::Duration::from_millis(late);
        }
        let watched = Watched::start(config, public(&[("liar", &liar), ("p2", &p2), ("p3", &p3)])).await;
        watched.cycle().await;
        tokio::time::sleep(10 * SECOND).await;
        let view = watched.cycle().await;
        assert_eq!((show(Some(view.graph.unwrap().root())), show(view.tip)), ("a100".into(), "a100".into()));
    }
}

/// There are two public nodes, one of them below the start: half is no majority.
#[tokio::test(start_paused = true)]
async fn the_start_is_not_given_up_for_half_of_the_public_nodes() {
    let tree = Tree::new(&long("a", 12));
    let (p1, p2) = (tree.node("a12"), tree.node("a5"));
    let config = ChainConfig { start: Start::Height(9), ..config() };
    let mut watched = Watched::start(config, public(&[("p1", &p1), ("p2", &p2)])).await;
    assert_eq!(watched.events().await, ["committed a10 a11 a12", "p2 lags by 7"]);
}

/// The branch goes back to its start, and then all nodes go below: blocks that were emitted are not emitted again
/// from another start.
#[tokio::test(start_paused = true)]
async fn the_start_is_not_given_up_once_a_block_was_emitted() {
    let tree = Tree::new(&long("a", 12));
    let nodes = ["a12", "a12", "a12"].map(|head| tree.node(head));
    let config = ChainConfig { start: Start::Height(9), ..config() };
    let sources = public(&[("p1", &nodes[0]), ("p2", &nodes[1]), ("p3", &nodes[2])]);
    let mut watched = Watched::start(config, sources).await;
    assert_eq!(watched.events().await, ["committed a10 a11 a12"]);
    for head in ["a9", "a5"] {
        for node in &nodes {
            tree.advance(node, head);
        }
        watched.events().await;
    }
    let view = watched.cycle().await;
    assert_eq!([view.graph.map(|graph| graph.root()), view.tip].map(show), ["a9", "a9"]);
}
