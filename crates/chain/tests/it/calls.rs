//! How often nodes are asked.

use tokio::time::Instant;
use watchkeeper_chain::adapter::ChainError;

use crate::common::{SECOND, Tree, Watched, config, hash, in_words, local, long};

#[tokio::test(start_paused = true)]
async fn a_cycle_asks_each_node_for_its_head_and_one_node_for_a_new_block() {
    let tree = Tree::new(&long("a", 20));
    let nodes = ["n1", "n2", "n3"].map(|name| (name, tree.node("g")));
    let mut watched =
        Watched::start(config(), local(&nodes.each_ref().map(|(name, node)| (*name, node)))).await;
    watched.cycle().await;
    let calls =
        |method| nodes.iter().map(move |(_, node)| node.script().calls.get(method).copied().unwrap_or(0));
    let before: Vec<usize> = calls("head").collect();
    for height in 1..=20 {
        for (_, node) in &nodes {
            tree.advance(node, &format!("a{height}"));
        }
        assert_eq!(watched.events().await, [format!("committed a{height}")]);
    }
    let asked: Vec<usize> = calls("head").zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(asked, [20, 20, 20]);
    assert_eq!(calls("block").sum::<usize>(), 20);
    // Only the header of the root: a head is a header already.
    assert_eq!((calls("header").sum::<usize>(), calls("header_at").sum::<usize>()), (3, 0));
    assert_eq!(calls("identity").collect::<Vec<_>>(), [1, 1, 1]);
}

/// Each node is asked for its head. With a new head it is also asked for its last final block, and one node for the
/// new block. At longer intervals each is asked for its chain's identity.
#[tokio::test(start_paused = true)]
async fn an_idle_cycle_costs_one_call_a_node() {
    let tree = Tree::new(&long("a", 3));
    let nodes = ["n1", "n2", "n3"].map(|name| (name, tree.node("g")));
    let mut watched =
        Watched::start(config(), local(&nodes.each_ref().map(|(name, node)| (*name, node)))).await;
    watched.events().await;
    let calls =
        || nodes.iter().flat_map(|(_, node)| node.script().calls.clone().into_values()).sum::<usize>();
    let began = Instant::now();
    for (head, events, cost) in
        [("g", "", 3), ("a1", "committed a1", 3 + 3 + 1), ("a1", "", 3), ("a1", "", 3)]
    {
        let before = calls();
        for (_, node) in &nodes {
            tree.advance(node, head);
        }
        assert_eq!((watched.events().await.join(" ").as_str(), calls() - before), (events, cost));
    }
    let (before, handle) = (calls(), watched.runtime.handle());
    let cycle = handle.status().cycle;
    tokio::time::sleep_until(began + config().identify_every + SECOND / 2).await;
    let cycles = usize::try_from(handle.status().cycle - cycle).unwrap();
    assert_eq!(calls() - before, 3 * cycles + 2 * 3, "each is asked once for its chain and its finality");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_reports_no_finality_is_asked_less_and_less() {
    let tree = Tree::new("g a1 a2");
    let n1 = tree.node("a1");
    let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.events().await;
    let refused = ChainError::Empty { endpoint: "n1".to_owned() };
    n1.script().fails.insert("finalised", refused);
    tree.advance(&n1, "a2");
    let before = n1.script().calls["finalised"];
    tokio::time::sleep(120 * SECOND).await;
    // At once, after 1, 2, 4, 8 and 16 s, and then every 30 s.
    let asked = n1.script().calls["finalised"] - before;
    assert!((8..=9).contains(&asked), "{asked}");
    n1.script().fails.clear();
    n1.script().finalised = Some(hash("a1"));
    watched.emitted();
    tokio::time::sleep(config().identify_every + SECOND).await;
    let events: Vec<String> = watched.emitted().iter().map(in_words).collect();
    assert_eq!(events, ["finalised a1"]);
}
