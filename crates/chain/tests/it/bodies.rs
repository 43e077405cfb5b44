//! Which node is asked for a block and its transactions.

use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainConfig, ChainSource};

use crate::common::{Node, SECOND, Tree, Watched, config, in_words, local, long};

fn asked(node: &Node) -> usize {
    node.script().calls.get("block").copied().unwrap_or_default()
}

/// ```text
/// g - a1 - a2 - a3 - a4     a public node comes first by name
/// ```
#[tokio::test(start_paused = true)]
async fn local_nodes_are_asked_before_public_nodes() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let [public, local_node, other] = ["g", "g", "g"].map(|head| tree.node(head));
    let sources = vec![
        ObservedSource::new("a-public", ChainSource::public(public.clone())),
        ObservedSource::new("b-local", ChainSource::local(local_node.clone())),
        ObservedSource::new("c-local", ChainSource::local(other.clone())),
    ];
    let mut watched = Watched::start(config(), sources).await;
    watched.events().await;
    // All nodes have the block: the public node is not asked for it, though it is first by name.
    for node in [&public, &local_node, &other] {
        tree.advance(node, "a1");
    }
    assert_eq!(watched.events().await, ["committed a1"]);
    assert_eq!([asked(&public), asked(&local_node) + asked(&other)], [0, 1]);
    tree.advance(&public, "a2");
    assert_eq!(watched.events().await, [""; 0], "public nodes do not move the tip");
    tree.advance(&local_node, "a2");
    tree.advance(&other, "a2");
    assert_eq!(watched.events().await, ["committed a2"]);
    assert_eq!(asked(&public), 0);
    // The local nodes refuse the block.
    for node in [&public, &local_node, &other] {
        let refused = ChainError::Empty { endpoint: "local".to_owned() };
        node.script().fails.insert("block", refused);
        tree.advance(node, "a3");
    }
    public.script().fails.clear();
    assert_eq!(watched.events().await, ["committed a3"]);
    assert_eq!(asked(&public), 1);
    // Of the local nodes, the one that has the block is asked.
    local_node.script().fails.clear();
    other.script().fails.clear();
    let before = [asked(&local_node), asked(&other)];
    for node in [&public, &other] {
        tree.advance(node, "a4");
    }
    assert_eq!(watched.events().await, ["committed a4"]);
    assert_eq!([asked(&local_node), asked(&other)], [before[0], before[1] + 1]);
    assert_eq!(asked(&public), 1);
}

/// Both nodes have every block. The first by name hangs on blocks, and later returns them again.
#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_on_blocks_holds_up_one_of_them_for_a_cycle() {
    let tree = Tree::new(&long("a", 20));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    n1.script().hangs.push("block");
    for height in 1..=12 {
        for node in [&n1, &n2] {
            tree.advance(node, &format!("a{height}"));
        }
        let at_once = watched.events().await;
        tokio::time::sleep(SECOND).await;
        let late: Vec<String> = watched.emitted().iter().map(in_words).collect();
        let committed = [format!("committed a{height}")];
        assert_eq!(
            (at_once, late),
            if height == 1 { (vec![], committed.to_vec()) } else { (committed.to_vec(), vec![]) }
        );
    }
    assert_eq!(asked(&n1), 1);
    n1.script().hangs.clear();
    n2.script().hangs.push("block");
    for node in [&n1, &n2] {
        tree.advance(node, "a13");
    }
    watched.events().await;
    assert_eq!(watched.events().await, ["committed a13"], "n1 is asked when n2 hangs");
    for node in [&n1, &n2] {
        tree.advance(node, "a14");
    }
    assert_eq!(watched.events().await, ["committed a14"], "and is then expected to answer");
}

/// Requests beyond the limit of the node that hangs go to the other node in the same cycle.
#[tokio::test(start_paused = true)]
async fn a_node_at_its_request_limit_is_passed_over() {
    let tree = Tree::new(&long("a", 20));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let config = ChainConfig { requests_per_node: 2, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    n1.script().hangs.push("block");
    for node in [&n1, &n2] {
        tree.advance(node, "a20");
    }
    watched.events().await;
    assert_eq!([asked(&n1), asked(&n2)], [2, 18]);
    assert_eq!(watched.events().await.join(" ").split(' ').count(), 21, "all are there one cycle later");
}

/// While local nodes answer, the observer waits for them and asks no public node.
#[tokio::test(start_paused = true)]
async fn local_nodes_at_their_request_limit_are_waited_for_before_a_public_node_is_asked() {
    let tree = Tree::new(&long("a", 20));
    let (local_node, other) = (tree.node("g"), tree.node("g"));
    let mut sources = local(&[("z", &local_node)]);
    sources.push(ObservedSource::new("p", ChainSource::public(other.clone())));
    let config = ChainConfig { requests_per_node: 2, ..config() };
    let mut watched = Watched::start(config, sources).await;
    watched.events().await;
    for node in [&local_node, &other] {
        node.script().latency = SECOND / 100;
        tree.advance(node, "a10");
    }
    assert_eq!(watched.events().await.join(" ").split(' ').count(), 11, "all are committed");
    assert_eq!([asked(&local_node), asked(&other)], [10, 0]);
    local_node.script().hangs.push("block");
    for node in [&local_node, &other] {
        tree.advance(node, "a20");
    }
    watched.events().await;
    assert_eq!([asked(&local_node), asked(&other)], [12, 0]);
    assert_eq!(
        watched.events().await.join(" ").split(' ').count(),
        11,
        "the public node returned the others"
    );
    assert_eq!([asked(&local_node), asked(&other)], [12, 10]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_refuses_blocks_is_not_asked_first_again() {
    let tree = Tree::new(&long("a", 6));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    let refused = ChainError::Empty { endpoint: "n1".to_owned() };
    n1.script().fails.insert("block", refused);
    for height in 1..=6 {
        for node in [&n1, &n2] {
            tree.advance(node, &format!("a{height}"));
        }
        assert_eq!(watched.events().await, [format!("committed a{height}")]);
    }
    assert_eq!([asked(&n1), asked(&n2)], [1, 6]);
}

/// ```text
/// g - a1 - a2 - a3        the node does not answer its first question for a1
/// ```
#[tokio::test(start_paused = true)]
async fn a_follower_of_one_node_asks_again_for_a_block_whose_request_was_lost() {
    let tree = Tree::new(&long("a", 3));
    let node = tree.node("g");
    let config = ChainConfig { request_timeout: 100 * SECOND, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &node)])).await;
    watched.events().await;
    node.script().hangs.push("block");
    tree.advance(&node, "a1");
    assert_eq!(watched.events().await, [""; 0]);
    for _ in 0..10 {
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(asked(&node), 1, "an answer may take its time");
    node.script().hangs.clear();
    tokio::time::sleep(15 * SECOND).await;
    let committed: Vec<String> = watched.emitted().iter().map(in_words).collect();
    assert_eq!((committed, asked(&node)), (vec!["committed a1".to_owned()], 2));
    // It never answers: two requests are in flight at most.
    node.script().hangs.push("block");
    tree.advance(&node, "a2");
    tokio::time::sleep(70 * SECOND).await;
    assert_eq!(asked(&node), 4);
}
