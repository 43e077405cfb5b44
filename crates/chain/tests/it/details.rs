//! How much of each block is read, and what holds nothing up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, Detail, Hash};

use crate::common::{Front, InFront, Named, Node, SECOND, Tree, Watched, config, hash, long, name, show};

/// From which detail on a block is refused, and the error; `None` for a block that is not there.
type Refusal = (Detail, Option<ChainError>);

/// A node that refuses blocks by how much of them is asked for.
#[derive(Clone)]
struct Picky {
    node: Node,
    /// By block; `None` is any other block.
    refuses: Arc<Mutex<HashMap<Option<Hash>, Refusal>>>,
    /// It returns no more than this, without an error.
    most: Detail,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Picky {
    fn new(node: &Node) -> Self {
        Self { node: node.clone(), refuses: Arc::default(), most: Detail::Results, asked: Arc::default() }
    }

    fn refuse(&self, block: Option<&str>, from: Detail, error: Option<ChainError>) {
        self.refuses.lock().unwrap().insert(block.map(hash), (from, error));
    }

    /// The blocks that it was asked for since the last call, each with the first letter of its detail.
    fn asked(&self) -> String {
        std::mem::take(&mut *self.asked.lock().unwrap()).join(" ")
    }
}

#[async_trait]
impl InFront for Picky {
    fn node(&self) -> &Node {
        &self.node
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        self.asked.lock().unwrap().push(format!("{}{}", name(hash), letter(detail)));
        let refused = {
            let refuses = self.refuses.lock().unwrap();
            refuses.get(&Some(hash)).or_else(|| refuses.get(&None)).cloned()
        };
        match refused.filter(|(from, _)| detail >= *from) {
            Some((_, Some(error))) => Err(error),
            Some((_, None)) => Ok(None),
            None => {
                let block = self.node.block(hash, detail).await?;
                Ok(block.map(|block| Block { detail: detail.min(self.most), ..block }))
            }
        }
    }
}

fn letter(detail: Detail) -> &'static str {
    match detail {
        Detail::Header => "h",
        Detail::Transactions => "t",
        Detail::Results => "r",
    }
}

fn malformed() -> ChainError {
    let reason = "gasUsed is missing".to_owned();
    ChainError::Malformed { endpoint: "n1".to_owned(), method: "block", reason }
}

/// Three cycles are enough to read less.
fn at_once() -> ChainConfig {
    ChainConfig { unread_after: Duration::ZERO, ..config() }
}

async fn watch(config: ChainConfig, nodes: &[(&str, &Picky)]) -> Watched<ChainObserver<Front<Picky>>> {
    let source = |(name, node): &(&str, &Picky)| {
        ObservedSource::new(*name, ChainSource::local(Front((*node).clone())))
    };
    Watched::with(ChainObserver::new(config), nodes.iter().map(source).collect()).await
}

/// Runs a cycle; the blocks that it connected, each with the first letter of its detail.
async fn look(watched: &mut Watched<ChainObserver<Front<Picky>>>) -> String {
    watched.cycle().await;
    let mut connected = Vec::new();
    for event in watched.emitted() {
        if let ChainEvent::Committed { new } = event {
            connected.extend(
                new.iter().map(|block| format!("{}{}", name(block.header.hash), letter(block.detail))),
            );
        }
    }
    connected.join(" ")
}

#[tokio::test(start_paused = true)]
async fn only_as_much_of_a_block_is_asked_for_as_is_wanted() {
    let tree = Tree::new("g a1 a2 a3");
    for (detail, asked, connected) in [
        (Detail::Header, "", "a1h a2h a3h"),
        (Detail::Transactions, "a1t a2t a3t", "a1t a2t a3t"),
        (Detail::Results, "a1r a2r a3r", "a1r a2r a3r"),
    ] {
        let node = Picky::new(&tree.node("a3"));
        let mut watched = watch(ChainConfig { detail, ..config() }, &[("n1", &node)]).await;
        assert_eq!(look(&mut watched).await, connected);
        assert_eq!(node.asked(), asked);
        assert_eq!(look(&mut watched).await, "");
    }
}

#[tokio::test(start_paused = true)]
async fn less_of_a_block_than_was_asked_for_is_used_only_if_no_node_returns_more() {
    let tree = Tree::new("g a1 a2 a3");
    let n1 = Picky { most: Detail::Transactions, ..Picky::new(&tree.node("g")) };
    let n2 = Picky::new(&tree.node("g"));
    let mut watched = watch(at_once(), &[("n1", &n1), ("n2", &n2)]).await;
    look(&mut watched).await;
    tree.advance(&n1.node, "a1");
    assert_eq!(look(&mut watched).await, "");
    let error = watched.last_view().nodes["n1"].error.as_ref().unwrap().to_string();
    assert!(error.contains("returned less than was asked for"), "{error}");
    tree.advance(&n2.node, "a1");
    assert_eq!(look(&mut watched).await, "a1r", "n2 has it in full a little later");
    assert!(n1.asked().starts_with("a1r"));
    n2.asked();
    tree.advance(&n1.node, "a2");
    let mut connected = Vec::new();
    for _ in 0..3 {
        connected.push(look(&mut watched).await);
    }
    assert_eq!(connected, ["", "", "a2t"]);
    assert_eq!([n1.asked(), n2.asked()], ["a2r a2r a2r", ""], "what n1 returned is used");
}

/// Of two parts the larger one is used, in whichever order they come.
#[tokio::test(start_paused = true)]
async fn the_larger_part_of_a_block_is_used() {
    let tree = Tree::new("g a1");
    for [first, second] in [[Detail::Header, Detail::Transactions], [Detail::Transactions, Detail::Header]] {
        let [n1, n2] = [first, second].map(|most| Picky { most, ..Picky::new(&tree.node("g")) });
        let mut watched = watch(at_once(), &[("n1", &n1), ("n2", &n2)]).await;
        look(&mut watched).await;
        for node in [&n1, &n2] {
            tree.advance(&node.node, "a1");
        }
        let mut connected = Vec::new();
        for _ in 0..3 {
            connected.push(look(&mut watched).await);
        }
        assert_eq!(connected, ["", "", "a1t"]);
        assert!(!format!("{} {}", n1.asked(), n2.asked()).contains('t'));
    }
}

/// Without blocks nothing waits for them: not a reorg, and not the limit of headers without blocks.
#[tokio::test(start_paused = true)]
async fn with_headers_alone_the_tip_moves_with_them() {
    let tree = Tree::new(&format!("{}\na20 b21 b22 b23", long("a", 22)));
    let node = Picky::new(&tree.node("g"));
    node.refuse(None, Detail::Header, Some(malformed()));
    let config = ChainConfig { detail: Detail::Header, headers_off_branch: 4, ..config() };
    let mut watched = watch(config, &[("n1", &node)]).await;
    for height in 1..=22 {
        tree.advance(&node.node, &format!("a{height}"));
        assert_eq!(look(&mut watched).await, format!("a{height}h"));
    }
    tree.advance(&node.node, "b23");
    assert_eq!(show(watched.cycle().await.tip), "b23");
    let events = watched.emitted();
    let [ChainEvent::Reorged { old, new, .. }] = &events[..] else { panic!("{events:?}") };
    assert_eq!((old.len(), new.len()), (2, 3));
    assert!(new.iter().all(|block| block.detail == Detail::Header));
    assert_eq!(node.asked(), "");
}

/// One odd field: no node can return the results of a2.
#[tokio::test(start_paused = true)]
async fn a_block_that_no_node_returns_in_full_is_read_in_part_at_the_third_look() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let [n1, n2] = ["a1"; 2].map(|head| Picky::new(&tree.node(head)));
    let mut watched = watch(at_once(), &[("n1", &n1), ("n2", &n2)]).await;
    assert_eq!(look(&mut watched).await, "a1r");
    for node in [&n1, &n2] {
        node.refuse(Some("a2"), Detail::Results, Some(malformed()));
        tree.advance(&node.node, "a2");
        node.asked();
    }
    for _ in 0..2 {
        assert_eq!(look(&mut watched).await, "");
        assert_eq!([n1.asked(), n2.asked()], ["a2r", "a2r"]);
        let view = watched.last_view();
        assert_eq!((show(view.head), show(view.shared_head())), ("a2".to_owned(), "a2".to_owned()));
    }
    assert_eq!(look(&mut watched).await, "a2t");
    let asked = [n1.asked(), n2.asked()].join(" ");
    assert_eq!(asked.replace("a2r", "").trim(), "a2t", "one node is asked for less");
    assert_eq!(watched.last_view().nodes["n1"].error.as_ref().unwrap().to_string(), malformed().to_string());
    for node in [&n1, &n2] {
        tree.advance(&node.node, "a4");
    }
    assert_eq!(look(&mut watched).await, "a3r a4r", "later blocks are read in full at once");
}

#[tokio::test(start_paused = true)]
async fn a_block_of_which_no_node_returns_anything_counts_as_unread() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let node = Picky::new(&tree.node("a1"));
    let mut watched = watch(at_once(), &[("n1", &node)]).await;
    look(&mut watched).await;
    node.refuse(Some("a2"), Detail::Transactions, Some(malformed()));
    tree.advance(&node.node, "a3");
    let mut connected = Vec::new();
    for _ in 0..6 {
        connected.push(look(&mut watched).await);
    }
    // Three looks for the results; the third one begins three for the transactions.
    assert_eq!(connected, ["", "", "", "", "a2h a3r", ""]);
    let error = |view: watchkeeper_chain::ChainView| view.nodes["n1"].error.as_ref().map(ToString::to_string);
    assert_eq!(error(watched.last_view()), Some(malformed().to_string()));
    tree.advance(&node.node, "a4");
    assert_eq!(look(&mut watched).await, "a4r");
    assert_eq!(error(watched.last_view()), None, "a block was read in full since");
}

/// A node that does not return results at all costs three looks for two blocks, and one more question each 30 s.
#[tokio::test(start_paused = true)]
async fn a_node_that_returns_no_results_is_not_asked_for_them_at_each_block() {
    let tree = Tree::new(&long("a", 60));
    let node = Picky::new(&tree.node("g"));
    node.refuse(None, Detail::Results, Some(malformed()));
    let mut watched = watch(at_once(), &[("n1", &node)]).await;
    tree.advance(&node.node, "a1");
    for connected in ["", "", "a1t"] {
        assert_eq!(look(&mut watched).await, connected);
    }
    assert_eq!(node.asked(), "a1r a1r a1r a1t");
    tree.advance(&node.node, "a2");
    for connected in ["", "", "a2t"] {
        assert_eq!(look(&mut watched).await, connected, "one block may be odd");
    }
    assert_eq!(node.asked(), "a2r a2r a2r a2t");
    let error =
        |view: &watchkeeper_chain::ChainView| view.nodes["n1"].error.as_ref().map(ToString::to_string);
    for (height, asked) in [(3, "a3t"), (4, "a4t")] {
        tree.advance(&node.node, &format!("a{height}"));
        assert_eq!(look(&mut watched).await, format!("a{height}t"));
        assert_eq!(node.asked(), asked);
        assert_eq!(error(&watched.last_view()), Some(malformed().to_string()), "it is shown while it lasts");
    }
    tokio::time::sleep(config().identify_every).await;
    watched.emitted();
    tree.advance(&node.node, "a5");
    assert_eq!(look(&mut watched).await, "a5t");
    assert_eq!(node.asked(), "a5r a5t", "it is tried again");
    // It returns them again.
    node.refuses.lock().unwrap().clear();
    tokio::time::sleep(config().identify_every).await;
    for height in 6..10 {
        tree.advance(&node.node, &format!("a{height}"));
        assert_eq!(look(&mut watched).await, format!("a{height}r"));
    }
    assert_eq!(error(&watched.last_view()), None);
}

/// The block may come yet, and is waited for.
#[tokio::test(start_paused = true)]
async fn a_time_out_or_a_busy_node_is_no_reason_to_read_less() {
    let tree = Tree::new("g a1 a2 a3");
    let endpoint = || "n1".to_owned();
    let spoilt = [
        None,
        Some(ChainError::TimedOut { endpoint: endpoint(), after: SECOND }),
        Some(ChainError::RateLimited { endpoint: endpoint(), retry_after: None }),
        Some(ChainError::Unreachable { endpoint: endpoint(), reason: "it restarts".to_owned() }),
    ];
    for error in spoilt {
        let [n1, n2] = ["a1"; 2].map(|head| Picky::new(&tree.node(head)));
        let mut watched = watch(config(), &[("n1", &n1), ("n2", &n2)]).await;
        look(&mut watched).await;
        n1.refuse(Some("a2"), Detail::Header, error.clone());
        n2.refuse(Some("a2"), Detail::Header, Some(malformed()));
        for node in [&n1, &n2] {
            tree.advance(&node.node, "a3");
        }
        for _ in 0..20 {
            assert_eq!(look(&mut watched).await, "", "{error:?}");
            tokio::time::sleep(SECOND).await;
        }
        let view = watched.last_view();
        assert_eq!((show(view.head), show(view.shared_head())), ("a3".to_owned(), "a3".to_owned()));
        n1.refuses.lock().unwrap().clear();
        tokio::time::sleep(3 * SECOND).await;
        look(&mut watched).await;
        assert_eq!(show(watched.last_view().tip), "a3");
        assert!(!n1.asked().contains('t'), "n1 was never asked for less: {error:?}");
    }
}

/// One of two nodes returns no results: the other one is asked, and nothing waits.
#[tokio::test(start_paused = true)]
async fn as_long_as_one_node_returns_blocks_in_full_they_are_read_in_full() {
    let tree = Tree::new(&long("a", 20));
    let [n1, n2] = ["g"; 2].map(|head| Picky::new(&tree.node(head)));
    n1.refuse(None, Detail::Results, Some(malformed()));
    let mut watched = watch(config(), &[("n1", &n1), ("n2", &n2)]).await;
    for height in 1..=20 {
        for node in [&n1, &n2] {
            tree.advance(&node.node, &format!("a{height}"));
        }
        assert_eq!(look(&mut watched).await, format!("a{height}r"));
    }
    assert!(!n2.asked().contains('t'));
}

/// A node may index the receipts of a block a little later than the block.
#[tokio::test(start_paused = true)]
async fn a_block_waits_for_its_results_for_some_time_however_many_looks_that_are() {
    let tree = Tree::new("g a1 a2");
    let node = Picky::new(&tree.node("g"));
    let mut watched = watch(config(), &[("n1", &node)]).await;
    look(&mut watched).await;
    for (block, connected) in [("a1", "a1r"), ("a2", "a2t")] {
        node.refuse(Some(block), Detail::Results, Some(malformed()));
        tree.advance(&node.node, block);
        for _ in 0..10 {
            assert_eq!(look(&mut watched).await, "");
        }
        tokio::time::sleep(config().unread_after / 10 * 9).await;
        assert_eq!(look(&mut watched).await, "");
        if block == "a1" {
            node.refuses.lock().unwrap().clear();
        }
        tokio::time::sleep(config().unread_after / 10).await;
        assert_eq!(look(&mut watched).await, connected);
    }
}

/// The node never returns results. One of its blocks cannot be read at all.
#[tokio::test(start_paused = true)]
async fn one_block_that_a_node_does_not_return_at_all_does_not_leave_the_others_unread() {
    let tree = Tree::new(&long("a", 12));
    let node = Picky::new(&tree.node("g"));
    node.refuse(None, Detail::Results, Some(malformed()));
    let mut watched = watch(at_once(), &[("n1", &node)]).await;
    for height in 1..=5 {
        tree.advance(&node.node, &format!("a{height}"));
        for _ in 0..3 {
            look(&mut watched).await;
        }
    }
    node.refuse(Some("a6"), Detail::Header, Some(malformed()));
    tree.advance(&node.node, "a6");
    for connected in ["", "", "a6h"] {
        assert_eq!(look(&mut watched).await, connected);
    }
    for height in 7..=12 {
        tree.advance(&node.node, &format!("a{height}"));
        assert_eq!(look(&mut watched).await, format!("a{height}t"));
    }
}

/// Two nodes; the first one is known not to return results, and the second one has the blocks up to a2.
async fn one_without_results(tree: &Tree) -> (Picky, Picky, Watched<ChainObserver<Front<Picky>>>) {
    let [n1, n2] = ["g"; 2].map(|head| Picky::new(&tree.node(head)));
    n1.refuse(None, Detail::Results, Some(malformed()));
    let mut watched = watch(config(), &[("n1", &n1), ("n2", &n2)]).await;
    look(&mut watched).await;
    for block in ["a1", "a2"] {
        tree.advance(&n1.node, block);
        look(&mut watched).await;
        tokio::time::sleep(3 * SECOND).await;
        assert_eq!(look(&mut watched).await, format!("{block}t"), "n2 is waited for, but not for long");
    }
    tree.advance(&n2.node, "a2");
    look(&mut watched).await;
    (n1, n2, watched)
}

#[tokio::test(start_paused = true)]
async fn a_block_waits_for_a_node_that_returns_all_of_it_and_gets_it_a_little_later() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let (n1, n2, mut watched) = one_without_results(&tree).await;
    n1.asked();
    tree.advance(&n1.node, "a3");
    for _ in 0..5 {
        assert_eq!(look(&mut watched).await, "");
    }
    tokio::time::sleep(SECOND).await;
    tree.advance(&n2.node, "a3");
    assert_eq!(look(&mut watched).await, "a3r");
    assert_eq!(n1.asked(), "");
    tree.advance(&n1.node, "a4");
    assert_eq!(look(&mut watched).await, "");
    tokio::time::sleep(config().unread_after).await;
    assert_eq!(look(&mut watched).await, "a4t");
}

#[tokio::test(start_paused = true)]
async fn a_failed_probe_of_the_node_that_returns_all_is_no_reason_to_read_less() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let (n1, n2, mut watched) = one_without_results(&tree).await;
    let away = || ChainError::Unreachable { endpoint: "n2".to_owned(), reason: "it restarts".to_owned() };
    n2.refuse(Some("a3"), Detail::Header, Some(away()));
    for node in [&n1, &n2] {
        tree.advance(&node.node, "a3");
    }
    assert_eq!(look(&mut watched).await, "");
    n2.node.script().fails.insert("head", away());
    assert_eq!(look(&mut watched).await, "");
    n2.node.script().fails.clear();
    n2.refuses.lock().unwrap().clear();
    assert_eq!(look(&mut watched).await, "a3r");
    // It fails for long.
    n2.node.script().fails.insert("", away());
    tree.advance(&n1.node, "a4");
    assert_eq!(look(&mut watched).await, "");
    tokio::time::sleep(2 * config().stale_after).await;
    assert_eq!(look(&mut watched).await, "a4t");
}
