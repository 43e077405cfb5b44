//! Nodes whose answers are false, or lead nowhere.

use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{Agreement, Block, ChainConfig, ChainSource, Hash, Header, Start};

use crate::common::{Node, Tree, Watched, config, fold, hash, local, long, show};

/// Gives a node this header, and makes it the head.
pub(crate) fn lie(node: &Node, header: Header) {
    let mut script = node.script();
    script.blocks.insert(header.hash, Block::new(header, Vec::new()));
    script.head = Some(header.hash);
}

/// ```text
/// g - a1 - ... - a9
///       \
///         b2 - b3 - b4 - b5     b3 claims to weigh more than can be counted
/// ```
#[tokio::test(start_paused = true)]
async fn a_lie_below_a_head_is_found_once() {
    let tree = Tree::new(&format!("{}\na1 b2 b3:{} b4 b5 b6 b7", long("a", 9), u128::MAX));
    let (bad, good) = (tree.node("a1"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("bad", &bad), ("good", &good)])).await;
    assert_eq!(watched.events().await, ["committed a1"]);
    tree.advance(&bad, "b5");
    watched.cycle().await;
    let asked = bad.script().calls["header"];
    // Blocks on top of the lie are refused too.
    for head in ["b5", "b6", "b7"] {
        tree.advance(&bad, head);
        let view = watched.cycle().await;
        let node = view.node("bad").unwrap();
        let error = node.error.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(node.agreement == Agreement::Untrue && error.contains("heavier than can be"), "{node:?}");
        assert_eq!((bad.script().calls["header"], view.pending), (asked, 0));
    }
    for head in ["a3", "a9"] {
        for node in [&bad, &good] {
            tree.advance(node, head);
        }
        watched.cycle().await;
    }
    let view = watched.cycle().await;
    assert_eq!((show(view.tip), show(view.shared_head())), ("a9".to_owned(), "a9".to_owned()));
}

/// ```text
/// g - a1 - ... - a9
///   \
///     Each cycle another lie: a child of g
/// ```
#[tokio::test(start_paused = true)]
async fn headers_off_the_branch_are_bounded_and_push_out_no_other() {
    let tree = Tree::new(&format!("{}\na1 b2 b3 b4", long("a", 9)));
    let (bad, good) = (tree.node("g"), tree.node("g"));
    let config = ChainConfig { headers_off_branch: 8, ..config() };
    let mut watched = Watched::start(config, local(&[("bad", &bad), ("good", &good)])).await;
    tree.advance(&good, "a3");
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    for nth in 0..40u8 {
        lie(&bad, Header { hash: Hash([nth + 100; 32]), parent: hash("g"), height: 1, work: 1, time: 0 });
        assert!(watched.cycle().await.graph.unwrap().len() <= 4 + 8);
    }
    watched.emitted();
    tree.advance(&good, "b4");
    assert_eq!(watched.events().await, ["reorged a3 a2 to b2 b3 b4 at a1"]);
}

/// ```text
/// g - a1 - ... - a9       what the node has in the end
///      \
///       x (4)             what it reported first: a1 is not at 3
/// ```
#[tokio::test(start_paused = true)]
async fn a_node_that_lied_about_a_gap_is_believed_when_it_stops_lying() {
    let tree = Tree::new(&long("a", 9));
    let n1 = tree.node("g");
    let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    tree.advance(&n1, "a1");
    lie(&n1, Header { hash: hash("x"), parent: hash("a1"), height: 4, work: 1, time: 0 });
    watched.events().await;
    let error = watched.cycle().await.node("n1").unwrap().error.clone();
    assert!(matches!(error, Some(ChainError::Untrue { .. })), "{error:?}");
    tree.advance(&n1, "a9");
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4 a5 a6 a7 a8 a9"]);
    assert_eq!(watched.cycle().await.pending, 0);
}

/// A node keeps reporting heads whose parents no node has.
#[tokio::test(start_paused = true)]
async fn headers_without_parents_are_bounded_and_push_out_no_other() {
    let tree = Tree::new(&long("a", 30));
    let (bad, good) = (tree.node("g"), tree.node("g"));
    let config = ChainConfig { pending_limit: 8, backfill: 4, ..config() };
    let mut watched = Watched::start(config, local(&[("bad", &bad), ("good", &good)])).await;
    for nth in 0..40u8 {
        lie(
            &bad,
            Header {
                hash: Hash([nth + 100; 32]),
                parent: Hash([nth + 50; 32]),
                height: 500,
                work: 1,
                time: 0,
            },
        );
        assert!(watched.cycle().await.pending <= 8);
    }
    tree.advance(&good, "a30");
    for _ in 0..10 {
        watched.cycle().await;
    }
    let mut branch = vec!["g".to_owned()];
    fold(&mut branch, &watched.emitted());
    assert_eq!(branch.last().unwrap(), "a30");
}

/// Both nodes have the same head; at the root's height the public node has another block. The local node is slow, so
/// that the public node is asked too.
///
/// ```text
/// g - a1 - a2 - a3 - a4 - ... - a9     begun at a4
///                  \
///                    b4                what the public node returns below a5
/// ```
#[tokio::test(start_paused = true)]
async fn one_nodes_answer_about_a_head_is_not_held_against_another_node() {
    let tree = Tree::new(&format!("{}\na3 b4", long("a", 9)));
    let (honest, liar) = (tree.node("a4"), tree.node("a4"));
    let config = ChainConfig { start: Start::Known(vec![tree.header("a4")]), backfill: 8, ..config() };
    let mut sources = local(&[("local", &honest)]);
    sources.push(ObservedSource::new("liar", ChainSource::public(liar.clone())));
    let mut watched = Watched::start(config.clone(), sources).await;
    watched.events().await;
    for node in [&honest, &liar] {
        tree.advance(node, "a9");
    }
    let a5 = Header { parent: hash("b4"), ..tree.header("a5") };
    liar.script().blocks.insert(hash("b4"), tree.block("b4").clone());
    liar.script().blocks.insert(hash("a5"), Block::new(a5, Vec::new()));
    honest.script().hangs.extend(["header", "header_at"]);
    tokio::time::sleep(config.request_timeout * 2).await;
    assert_eq!(watched.events().await, ["liar breached a4 by a9"]);
    honest.script().hangs.clear();
    tokio::time::sleep(config.request_timeout * 2).await;
    assert_eq!(watched.events().await, ["committed a5 a6 a7 a8 a9"]);
}

/// In the middle of its own reorg a node may answer with headers that do not fit; later its answers are right.
///
/// ```text
/// g - a1 - a2 - a3 - a4 - ... - a9 - a10     begun at a4
///                  \
///                    b4                      what it returns below a5, for a while
/// ```
#[tokio::test(start_paused = true)]
async fn a_node_that_seemed_to_breach_is_asked_again() {
    let tree = Tree::new(&format!("{}\na3 b4", long("a", 10)));
    let node = tree.node("a4");
    let config = ChainConfig { start: Start::Known(vec![tree.header("a4")]), backfill: 8, ..config() };
    let mut watched = Watched::start(config.clone(), local(&[("n1", &node)])).await;
    watched.events().await;
    tree.advance(&node, "a9");
    let a5 = Header { parent: hash("b4"), ..tree.header("a5") };
    node.script().blocks.insert(hash("b4"), tree.block("b4").clone());
    node.script().blocks.insert(hash("a5"), Block::new(a5, Vec::new()));
    assert_eq!(watched.events().await, ["n1 breached a4 by a9"]);
    tree.advance(&node, "a10");
    tokio::time::sleep(config.identify_every * 2).await;
    assert_eq!(watched.events().await, ["committed a5 a6 a7 a8 a9 a10"]);
}
