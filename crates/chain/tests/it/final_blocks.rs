//! Which block is final, which nodes breach it, and what is forgotten below it.

use watchkeeper_chain::{Agreement, ChainConfig, OnBranch, Start};

use crate::common::{SECOND, Tree, Watched, branch, config, hash, local, long, show};

/// ```text
/// g - a1 - a2 - a3 - a4         a2 is final
///       \    \
///        \     b3 - b4 - b5     leaves at the final block: a reorg
///          c2 - ... - c6        leaves below it: a breach
/// ```
#[tokio::test(start_paused = true)]
async fn a_reorg_may_reach_down_to_the_final_block_and_no_deeper() {
    let tree = Tree::new("g a1 a2 a3 a4\na2 b3 b4 b5 b6\na1 c2 c3 c4 c5 c6");
    let (n1, n2) = (tree.node("a4"), tree.node("a4"));
    for node in [&n1, &n2] {
        node.script().finalised = Some(hash("a2"));
    }
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4", "finalised a2"]);
    tree.advance(&n1, "b5");
    assert_eq!(watched.events().await, ["reorged a4 a3 to b3 b4 b5 at a2"]);
    tree.advance(&n2, "c6");
    assert_eq!(watched.events().await, ["n2 breached a2 by c6"]);
    let view = watched.cycle().await;
    assert_eq!(view.node("n2").unwrap().agreement, Agreement::Breached);
    assert_eq!(show(view.tip), "b5");
    // The breach is emitted once, and the node counts again once it is back on the branch.
    tree.advance(&n1, "b6");
    assert_eq!(watched.events().await, ["committed b6"]);
    tree.advance(&n2, "b6");
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(show(watched.cycle().await.shared_head()), "b6");
}

/// ```text
/// g - a1 - a2 - a3 - a4         a2 is final
///       \
///        c2 - ... - c6 - c7 - c8 - c9
/// ```
#[tokio::test(start_paused = true)]
async fn a_node_in_breach_stays_so_when_it_skips_a_block() {
    let tree = Tree::new("g a1 a2 a3 a4\na1 c2 c3 c4 c5 c6 c7 c8 c9");
    let (n1, n2) = (tree.node("a4"), tree.node("a4"));
    n1.script().finalised = Some(hash("a2"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4", "finalised a2"]);
    tree.advance(&n2, "c6");
    assert_eq!(watched.events().await, ["n2 breached a2 by c6"]);
    n2.script().hangs.push("header");
    tree.advance(&n2, "c8");
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(watched.cycle().await.node("n2").unwrap().agreement, Agreement::Breached);
    n2.script().hangs.clear();
    tokio::time::sleep(config().request_timeout).await;
    tree.advance(&n2, "c9");
    for _ in 0..3 {
        assert_eq!(watched.events().await, [""; 0]);
    }
    assert_eq!(watched.cycle().await.node("n2").unwrap().agreement, Agreement::Breached);
}

/// Silent nodes keep their votes: one node of three is no majority.
#[tokio::test(start_paused = true)]
async fn one_answering_node_of_three_makes_nothing_final() {
    let tree = Tree::new(&long("a", 6));
    let nodes = ["n1", "n2", "n3"].map(|name| (name, tree.node("a5")));
    for (_, node) in &nodes {
        node.script().finalised = Some(hash("a1"));
    }
    let mut watched =
        Watched::start(config(), local(&nodes.each_ref().map(|(name, node)| (*name, node)))).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4 a5", "finalised a1"]);
    for (_, node) in &nodes[1..] {
        node.script().hangs.push("");
    }
    nodes[0].1.script().finalised = Some(hash("a4"));
    tree.advance(&nodes[0].1, "a6");
    assert_eq!(watched.events().await, ["committed a6"]);
    assert_eq!(show(watched.cycle().await.node("n1").unwrap().finalised), "a4");
    for _ in 0..10 {
        assert_eq!(watched.events().await, [""; 0]);
    }
}

/// All nodes breach finality: the tip stays, and nothing crashes.
#[tokio::test(start_paused = true)]
async fn a_breach_by_all_nodes_is_emitted_and_changes_nothing() {
    let tree = Tree::new("g a1 a2 a3\ng b1 b2 b3 b4");
    let n1 = tree.node("a3");
    n1.script().finalised = Some(hash("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3", "finalised a1"]);
    tree.advance(&n1, "b4");
    assert_eq!(watched.events().await, ["n1 breached a1 by b4"]);
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(show(watched.cycle().await.tip), "a3");
}

/// ```text
/// g - a1 - a2 - a3 - a4 - a5        a3 is final
/// ```
#[tokio::test(start_paused = true)]
async fn the_tip_does_not_follow_nodes_below_the_final_block() {
    let tree = Tree::new(&long("a", 5));
    let (n1, n2) = (tree.node("a5"), tree.node("a5"));
    n1.script().finalised = Some(hash("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4 a5", "finalised a3"]);
    tree.advance(&n1, "a1");
    assert_eq!(watched.events().await, ["n1 rewound a5 to a1", "n1 lags by 4"]);
    tree.advance(&n2, "a4");
    assert_eq!(watched.events().await, ["n2 rewound a5 to a4", "reverted a5 to a4", "n1 caught up"]);
    tree.advance(&n2, "a2");
    assert_eq!(watched.events().await, ["n2 rewound a4 to a2"]);
    assert_eq!(show(watched.cycle().await.tip), "a4");
}

/// One node of three makes nothing final. While the heads stay the same, nodes are asked for finality at longer
/// intervals.
#[tokio::test(start_paused = true)]
async fn more_than_half_of_the_nodes_make_a_block_final() {
    let tree = Tree::new("g a1 a2 a3");
    let nodes = ["n1", "n2", "n3"].map(|name| (name, tree.node("a3")));
    let mut watched =
        Watched::start(config(), local(&nodes.each_ref().map(|(name, node)| (*name, node)))).await;
    watched.events().await;
    for (nth, (block, event)) in
        [("a3", ""), ("a1", "finalised a1"), ("a2", "finalised a2")].into_iter().enumerate()
    {
        for (_, node) in &nodes {
            node.script().finalised.get_or_insert(hash("g"));
        }
        nodes[nth].1.script().finalised = Some(hash(block));
        tokio::time::sleep(config().identify_every).await;
        assert_eq!(watched.events().await.join(" "), event);
    }
}

/// Where nodes report no finality, depth makes blocks final.
#[tokio::test(start_paused = true)]
async fn a_block_that_is_deep_enough_is_final() {
    let tree = Tree::new("g a1 a2 a3 a4\ng b1 b2 b3 b4 b5 b6");
    let n1 = tree.node("a2");
    let mut watched = Watched::start(ChainConfig { final_depth: 3, ..config() }, local(&[("n1", &n1)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2"]);
    tree.advance(&n1, "a4");
    watched.events().await;
    assert_eq!(show(watched.cycle().await.finalised), "a1");
    tree.advance(&n1, "b6");
    assert_eq!(watched.events().await, ["n1 breached a1 by b6"]);
}

/// ```text
/// a60 is where the observation begins:
/// g - a1 - ... - a60 - ... - a80
///       \
///         b2 - ... - b90             leaves far below
/// ```
#[tokio::test(start_paused = true)]
async fn a_branch_that_leaves_below_the_root_is_a_breach() {
    let mut tree = Tree::new(&long("a", 80));
    tree.line(&branch("a1", "b", 2..=90));
    let (n1, n2) = (tree.node("a80"), tree.node("a80"));
    let start = Start::Known(vec![tree.header("a60")]);
    let mut watched =
        Watched::start(ChainConfig { start, ..config() }, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    tree.advance(&n2, "b90");
    assert_eq!(watched.events().await, ["n2 breached a60 by b90"]);
    let asked = || ["header", "header_at"].map(|method| n2.script().calls.get(method).copied().unwrap_or(0));
    let before = asked();
    watched.cycle().await;
    assert_eq!(asked(), before, "the branch is not walked again");
}

/// ```text
/// a60 is where the observation begins, and a80 the tip:
/// g - a1 - ... - a60 - ... - a80 - a81      n2 goes back below a60; it stays there, goes further, and returns
/// ```
#[tokio::test(start_paused = true)]
async fn a_node_below_the_root_has_rewound_and_counts_again_when_it_is_back() {
    let tree = Tree::new(&long("a", 81));
    let (n1, n2) = (tree.node("a80"), tree.node("a80"));
    let start = Start::Known(vec![tree.header("a60")]);
    let mut watched =
        Watched::start(ChainConfig { start, ..config() }, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    tree.advance(&n2, "a40");
    assert_eq!(watched.events().await, ["n2 rewound a80 to a40", "n2 lags by 40"]);
    let asked = n2.script().calls.clone();
    let view = watched.cycle().await;
    assert_eq!(view.node("n2").unwrap().agreement, Agreement::Below(40));
    assert_eq!((show(view.tip), show(view.head)), ("a80".to_owned(), "a80".to_owned()));
    assert_eq!(n2.script().calls["identity"], asked["identity"], "its identity is not asked for again");
    tree.advance(&n2, "a30");
    assert_eq!(watched.events().await, ["n2 rewound a40 to a30"]);
    // n2 does not hold the tip: when n1 goes back, no node has it.
    tree.advance(&n1, "a79");
    assert_eq!(watched.events().await, ["n1 rewound a80 to a79", "reverted a80 to a79"]);
    tree.advance(&n2, "a81");
    assert_eq!(watched.events().await, ["committed a80 a81", "n2 caught up"]);
}

/// All nodes lose their chain and start again from its first block.
///
/// ```text
/// a60 is where the observation begins, and a80 the tip:
/// g - a1 - ... - a60 - ... - a80
///   \
///     b1 - ... - b90
/// ```
#[tokio::test(start_paused = true)]
async fn after_a_wipe_of_all_nodes_the_final_block_stays_and_no_node_has_the_head() {
    let tree = Tree::new(&format!("{}\n{}", long("a", 80), long("b", 90)));
    let (n1, n2) = (tree.node("a80"), tree.node("a80"));
    let start = Start::Known(vec![tree.header("a60")]);
    let mut watched =
        Watched::start(ChainConfig { start, ..config() }, local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    let both = |head: &str| [&n1, &n2].map(|node| tree.advance(node, head));
    let steps: [(&str, &[&str], Agreement, &str); 4] = [
        (
            "b5",
            &["n1 rewound a80 to b5", "n2 rewound a80 to b5", "n1 lags by 75", "n2 lags by 75"],
            Agreement::Below(75),
            "-",
        ),
        ("b50", &[], Agreement::Below(30), "-"),
        ("b90", &["n1 breached a60 by b90", "n2 breached a60 by b90"], Agreement::Breached, "-"),
        ("a80", &["n1 caught up", "n2 caught up"], Agreement::Behind(0), "a80"),
    ];
    for (at, expected, agreement, head) in steps {
        both(at);
        // One node is asked for the path to a head that both have, and then the other.
        let events = [watched.events().await, watched.events().await].concat();
        assert_eq!(events, expected, "at {at}");
        let view = watched.cycle().await;
        assert!(view.nodes.values().all(|node| node.agreement == agreement), "at {at}: {:?}", view.nodes);
        assert_eq!([view.tip, view.finalised, view.head].map(show), ["a80", "a60", head], "at {at}");
    }
}

/// From the root to the head there are more headers than are kept without their parents.
///
/// ```text
/// a20 is where the observation begins:
/// g - a1 - ... - a20 - ... - a80 - ... - a122
///       \
///         b2 - ... - b90 - b91 - ... - b120
/// ```
#[tokio::test(start_paused = true)]
async fn a_long_branch_that_leaves_below_the_root_is_a_breach_and_not_walked() {
    let mut tree = Tree::new(&long("a", 122));
    tree.line(&branch("a1", "b", 2..=120));
    // With the second bound the branch is asked for from below.
    for backfill in [16, 4] {
        let (n1, n2) = (tree.node("a80"), tree.node("a80"));
        let start = Start::Known(vec![tree.header("a20")]);
        let bounds = ChainConfig { pending_limit: 40, backfill, ..config() };
        let config = ChainConfig { start, ..bounds };
        let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
        while show(watched.cycle().await.tip) != "a80" {}
        watched.emitted();
        tree.advance(&n2, "b90");
        assert_eq!(watched.events().await, ["n2 breached a20 by b90"]);
        let calls = || {
            let calls = n2.script().calls.clone();
            ["header", "header_at"].iter().filter_map(|method| calls.get(method)).sum::<usize>()
        };
        let asked = calls();
        tree.advance(&n2, "b91");
        assert_eq!(watched.events().await, [""; 0]);
        assert_eq!(calls(), asked, "a block on top of the branch is a breach too");
        tree.advance(&n2, "b120");
        for _ in 0..5 {
            assert_eq!(watched.events().await, [""; 0], "the breach is emitted once");
        }
        assert_eq!(watched.cycle().await.node("n2").unwrap().agreement, Agreement::Breached);
        assert_eq!(calls(), asked + 1, "n2 is asked which block it has at the root's height");
        // No other node has the blocks below its head: n2 is asked for them, and believed.
        tree.advance(&n2, "a122");
        for _ in 0..30 {
            watched.cycle().await;
        }
        assert_eq!(show(watched.cycle().await.tip), "a122");
    }
}

/// The headers of a branch that the tip never follows are no headers ahead of the tip: it is walked to its head.
///
/// ```text
/// g - a1 - a2 - ... - a60       a2 is final
///       \
///         c2 - ... - c60
/// ```
#[tokio::test(start_paused = true)]
async fn a_branch_longer_than_headers_may_be_ahead_of_the_tip_is_a_breach() {
    let mut tree = Tree::new(&long("a", 60));
    tree.line(&branch("a1", "c", 2..=60));
    let (n1, n2) = (tree.node("a2"), tree.node("a1"));
    n1.script().finalised = Some(hash("a2"));
    let bounds = ChainConfig { pending_limit: 5, backfill: 3, block_window: 2, ..config() };
    let mut watched = Watched::start(bounds, local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2", "finalised a2"]);
    tree.advance(&n1, "c60");
    let mut events = Vec::new();
    for _ in 0..30 {
        events.extend(watched.events().await);
    }
    assert_eq!(events, ["n1 breached a2 by c60"]);
    assert_eq!(watched.cycle().await.node("n1").unwrap().agreement, Agreement::Breached);
    // Back on the branch, far above the tip.
    tree.advance(&n1, "a60");
    for _ in 0..60 {
        watched.cycle().await;
    }
    assert_eq!(show(watched.cycle().await.tip), "a60");
}

/// The same branch is longer than what is kept of one node: it is not asked for headers that are not kept.
#[tokio::test(start_paused = true)]
async fn a_branch_longer_than_what_is_kept_of_a_node_is_not_asked_for_again_and_again() {
    let mut tree = Tree::new(&long("a", 2));
    tree.line(&branch("a1", "c", 2..=60));
    let (n1, n2) = (tree.node("a2"), tree.node("a1"));
    n1.script().finalised = Some(hash("a2"));
    let bounds = ChainConfig { headers_off_branch: 20, backfill: 3, block_window: 2, ..config() };
    let mut watched = Watched::start(bounds, local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2", "finalised a2"]);
    tree.advance(&n1, "c60");
    for _ in 0..30 {
        watched.cycle().await;
    }
    let calls = || {
        let calls = n1.script().calls.clone();
        ["header", "header_at"].iter().filter_map(|method| calls.get(method)).sum::<usize>()
    };
    let asked = calls();
    for _ in 0..30 {
        watched.cycle().await;
    }
    assert_eq!(calls(), asked);
    assert_eq!(watched.cycle().await.node("n1").unwrap().agreement, Agreement::Pending);
}

/// Two such branches: each is walked at once, and neither pushes out the headers of the other.
#[tokio::test(start_paused = true)]
async fn several_branches_that_leave_below_the_root_are_all_breaches() {
    let mut tree = Tree::new(&long("a", 9));
    tree.line(&branch("a1", "b", 2..=9));
    tree.line(&branch("a1", "c", 2..=9));
    let [n1, n2, n3] = ["a9", "a9", "a9"].map(|head| tree.node(head));
    let start = Start::Known(vec![tree.header("a4")]);
    let config = ChainConfig { start, pending_limit: 5, backfill: 8, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2), ("n3", &n3)])).await;
    watched.events().await;
    tree.advance(&n2, "b9");
    tree.advance(&n3, "c9");
    assert_eq!(watched.events().await, ["n2 breached a4 by b9", "n3 breached a4 by c9"]);
    for _ in 0..5 {
        assert_eq!(watched.events().await, [""; 0]);
    }
    let view = watched.cycle().await;
    assert_eq!(
        ["n1", "n2", "n3"].map(|name| view.nodes[name].agreement == Agreement::Breached),
        [false, true, true]
    );
}

fn keeps_little() -> ChainConfig {
    ChainConfig { keep_below_final: 4, keep_for_laggards: 300, block_window: 600, ..config() }
}

#[tokio::test(start_paused = true)]
async fn headers_far_below_the_final_block_are_forgotten_and_then_unknown() {
    let tree = Tree::new(&long("a", 200));
    let n1 = tree.node("a200");
    n1.script().finalised = Some(hash("a150"));
    let watched = Watched::start(keeps_little(), local(&[("n1", &n1)])).await;
    let view = watched.cycle().await;
    let graph = view.graph.unwrap();
    assert_eq!((show(Some(graph.root())), graph.len()), ("a146".to_owned(), 55));
    assert_eq!(graph.is_on_branch(&hash("a145"), &hash("a200")), OnBranch::Unknown);
    assert_eq!(graph.is_on_branch(&hash("a146"), &hash("a200")), OnBranch::Yes);
}

/// ```text
/// g - a1 - ... - a81             a72 is final
///   \
///     b1 - ... - b600            weighs less
/// ```
#[tokio::test(start_paused = true)]
async fn a_long_rival_branch_does_not_keep_itself_from_being_forgotten() {
    let heavy = (1..=81).fold("g".to_owned(), |line, height| format!("{line} a{height}:10"));
    let tree = Tree::new(&format!("{heavy}\n{}", long("b", 600)));
    let (n1, n2) = (tree.node("a80"), tree.node("b600"));
    let watched = Watched::start(keeps_little(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.cycle().await;
    assert_eq!(watched.cycle().await.graph.unwrap().len(), 681);
    n1.script().finalised = Some(hash("a72"));
    tree.advance(&n1, "a81");
    let graph = watched.cycle().await.graph.unwrap();
    assert_eq!((show(Some(graph.root())), graph.len()), ("a68".to_owned(), 14));
}

#[tokio::test(start_paused = true)]
async fn a_laggard_keeps_headers_from_being_forgotten_until_it_is_silent_too_long() {
    let tree = Tree::new(&long("a", 400));
    let (n1, n2) = (tree.node("a10"), tree.node("a10"));
    let mut watched = Watched::start(keeps_little(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    n1.script().finalised = Some(hash("a390"));
    tree.advance(&n1, "a400");
    watched.events().await;
    let root = |view: watchkeeper_chain::ChainView| show(Some(view.graph.unwrap().root()));
    assert_eq!(root(watched.cycle().await), "a90", "no more than 300 below the final block");
    n2.script().hangs.push("");
    tokio::time::sleep(55 * SECOND).await;
    assert_eq!(root(watched.cycle().await), "a90");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(root(watched.cycle().await), "a386");
}
