//! How the canonical branch follows the nodes.

use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainConfig, ChainEvent, Start};

use crate::common::{SECOND, Tree, Watched, config, fold, hash, in_words, local, long, show};

/// ```text
/// g - a1 - a2 - a3
///       \
///         b2 - b3 - b4
/// ```
#[tokio::test(start_paused = true)]
async fn the_branch_grows_and_gives_way_to_a_heavier_one() {
    let tree = Tree::new("g a1 a2 a3\na1 b2 b3 b4");
    let (n1, n2) = (tree.node("a1"), tree.node("g"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1"]);
    tree.advance(&n1, "a3");
    tree.advance(&n2, "b2");
    assert_eq!(watched.events().await, ["committed a2 a3"]);
    tree.advance(&n2, "b4");
    assert_eq!(watched.events().await, ["reorged a3 a2 to b2 b3 b4 at a1"]);
    let view = watched.cycle().await;
    assert_eq!((show(view.tip), show(view.head)), ("b4".to_owned(), "b4".to_owned()));
    assert_eq!(watched.events().await, [""; 0]);
}

/// ```text
/// g - a1 - a2 - a3 - a4        weighs 5
///   \
///     b1 - b2 (10)             weighs 12
/// ```
#[tokio::test(start_paused = true)]
async fn a_shorter_but_heavier_branch_wins() {
    let tree = Tree::new("g a1 a2 a3 a4\ng b1 b2:10");
    let (n1, n2) = (tree.node("a4"), tree.node("b1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4"]);
    tree.advance(&n2, "b2");
    assert_eq!(watched.events().await, ["reorged a4 a3 a2 a1 to b1 b2 at g"]);
}

/// ```text
/// g - a1 - a2
///   \
///     b1 - b2 - b3
/// ```
#[tokio::test(start_paused = true)]
async fn of_equal_weights_the_first_seen_stays() {
    let tree = Tree::new("g a1 a2\ng b1 b2 b3");
    let (n1, n2) = (tree.node("a2"), tree.node("g"));
    // Names do not matter: the node that is first by name has the rival.
    let mut watched = Watched::start(config(), local(&[("z", &n1), ("a", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2"]);
    tree.advance(&n2, "b2");
    assert_eq!(watched.events().await, ["rivals a2 b2"]);
    let view = watched.cycle().await;
    assert_eq!((show(view.tip), show(view.rivals.first().copied())), ("a2".to_owned(), "b2".to_owned()));
    tree.advance(&n2, "b3");
    assert_eq!(watched.events().await, ["reorged a2 a1 to b1 b2 b3 at g"]);
    assert!(watched.cycle().await.rivals.is_empty());
}

/// ```text
/// g - a1 - a2 - a3     both nodes leave it
///       \
///         b2           lighter
/// ```
#[tokio::test(start_paused = true)]
async fn a_lighter_branch_wins_when_all_have_left_the_heavier_one() {
    let tree = Tree::new("g a1 a2 a3\na1 b2");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    tree.advance(&n1, "b2");
    assert_eq!(watched.events().await, [""; 0]);
    tree.advance(&n2, "b2");
    assert_eq!(watched.events().await, ["reorged a3 a2 to b2 at a1"]);
}

/// ```text
/// g - a1 - a2 - a3
/// ```
#[tokio::test(start_paused = true)]
async fn the_tip_is_reverted_when_all_have_gone_back() {
    let tree = Tree::new("g a1 a2 a3");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    tree.advance(&n1, "a1");
    assert_eq!(watched.events().await, ["n1 rewound a3 to a1"]);
    tree.advance(&n2, "a2");
    assert_eq!(watched.events().await, ["n2 rewound a3 to a2", "reverted a3 to a2"]);
    tree.advance(&n1, "a3");
    assert_eq!(watched.events().await, ["committed a3"]);
}

/// ```text
/// g - a1 - a2 - a3     n1 goes back to a1, and then n2, which still had a3, falls silent at a3
/// ```
#[tokio::test(start_paused = true)]
async fn a_tip_whose_last_holder_fell_silent_is_kept() {
    let tree = Tree::new("g a1 a2 a3");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    tree.advance(&n1, "a1");
    assert_eq!(watched.events().await, ["n1 rewound a3 to a1"]);
    n2.script().hangs.push("");
    tokio::time::sleep(config().forget_after + 10 * SECOND).await;
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(show(watched.cycle().await.tip), "a3");
    // n2 answers again and has left: now no node holds the tip.
    tree.advance(&n2, "a2");
    n2.script().hangs.clear();
    tokio::time::sleep(config().probe_timeout).await;
    assert_eq!(watched.events().await, ["n2 rewound a3 to a2", "reverted a3 to a2"]);
}

/// ```text
/// g - a1 - a2 - a3 - a4     a2 is final; n1 goes back to a1, takes a4 again, and falls silent there
/// ```
#[tokio::test(start_paused = true)]
async fn a_tip_that_was_left_and_is_held_again_is_not_given_up_for_silence() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let (n1, n2) = (tree.node("a4"), tree.node("a1"));
    n1.script().finalised = Some(hash("a2"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3 a4", "finalised a2"]);
    tree.advance(&n1, "a1");
    assert_eq!(watched.events().await, ["n1 rewound a4 to a1"]);
    tree.advance(&n1, "a4");
    assert_eq!(watched.events().await, [""; 0]);
    tree.advance(&n2, "a3");
    n1.script().hangs.push("");
    tokio::time::sleep(config().forget_after + 10 * SECOND).await;
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(show(watched.cycle().await.tip), "a4");
}

/// ```text
/// g - a1 - a2 - a3     n1 has all at once, n2 a cycle later
/// ```
#[tokio::test(start_paused = true)]
async fn a_block_that_another_node_has_later_is_not_emitted_again() {
    let tree = Tree::new("g a1 a2 a3");
    let (n1, n2) = (tree.node("a3"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    for head in ["a2", "a3"] {
        tree.advance(&n2, head);
        assert_eq!(watched.events().await, [""; 0]);
    }
    assert_eq!(show(watched.cycle().await.shared_head()), "a3");
}

/// ```text
/// g - a1 - a2 - a3 - a4        what the consumers know ends at a3
///            \
///              b3 - b4 - b5    what the nodes have after the restart
/// ```
#[tokio::test(start_paused = true)]
async fn a_reorg_during_a_restart_is_emitted_as_one() {
    let tree = Tree::new("g a1 a2 a3 a4\na2 b3 b4 b5");
    let known = ["a1", "a2", "a3"].map(|name| tree.header(name)).to_vec();
    let n1 = tree.node("b5");
    let config = ChainConfig { start: Start::Known(known), ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1)])).await;
    assert_eq!(watched.events().await, ["reorged a3 to b3 b4 b5 at a2"]);
    assert_eq!(n1.script().calls["block"], 3);
}

/// ```text
/// g - a1 - a2             n1 before it is swapped
///   \
///     b1 - b2 - b3        the node that is named n1 then; b2 was seen, and not emitted yet
/// ```
#[tokio::test(start_paused = true)]
async fn a_source_may_be_swapped_in_the_middle_of_a_reorg() {
    let tree = Tree::new("g a1 a2\ng b1 b2 b3");
    let (n1, n2) = (tree.node("a2"), tree.node("b1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2"]);
    // The headers of the heavier branch are known, and no node returns its blocks.
    n2.script().hangs.push("block");
    tree.advance(&n2, "b3");
    assert_eq!(watched.events().await, [""; 0]);
    assert_eq!(show(watched.cycle().await.head), "b3");
    let swapped = tree.node("b3");
    watched.sources.replace(local(&[("n1", &swapped)]));
    // The requests to the old node time out, then the new node is asked.
    tokio::time::sleep(config().request_timeout).await;
    assert_eq!(watched.events().await, ["reorged a2 a1 to b1 b2 b3 at g"]);
}

/// ```text
/// g - a1 - ... - a40
///   \
///     b1 - ... - b60     outweighs it from b41 on
/// ```
#[tokio::test(start_paused = true)]
async fn a_reorg_longer_than_the_window_is_emitted_when_it_outweighs() {
    let tree = Tree::new(&format!("{}\n{}", long("a", 40), long("b", 60)));
    let n1 = tree.node("g");
    let config = ChainConfig { block_window: 8, blocks_kept: 8, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1)])).await;
    let mut branch = vec!["g".to_owned()];
    for (head, parts) in [("a40", [8, 8, 8, 8, 8].as_slice()), ("b60", &[41, 8, 8, 3])] {
        tree.advance(&n1, head);
        for part in parts {
            watched.cycle().await;
            let events = watched.emitted();
            let new = events.iter().map(|event| match event {
                ChainEvent::Committed { new } | ChainEvent::Reorged { new, .. } => new.len(),
                _ => 0,
            });
            assert_eq!(new.sum::<usize>(), *part);
            fold(&mut branch, &events);
        }
        assert_eq!(branch.last().unwrap(), head);
    }
    assert_eq!((branch.len(), watched.cycle().await.blocks), (61, 8));
}

/// ```text
/// g - a1 - a2 - a3
///       \
///         x2 (50)     a head that is reported, and whose block no node returns
/// ```
#[tokio::test(start_paused = true)]
async fn a_heavier_branch_without_blocks_holds_up_no_other() {
    let tree = Tree::new("g a1 a2 a3\na1 x2:50");
    for hangs in [true, false] {
        let (bad, good) = (tree.node("a1"), tree.node("a1"));
        let mut watched = Watched::start(config(), local(&[("bad", &bad), ("good", &good)])).await;
        watched.events().await;
        tree.advance(&bad, "x2");
        if hangs {
            bad.script().hangs.push("block");
        } else {
            let error = ChainError::Unreachable { endpoint: "bad".to_owned(), reason: "gone".to_owned() };
            bad.script().fails.insert("block", error);
        }
        for head in ["a2", "a3"] {
            tree.advance(&good, head);
            assert_eq!(watched.events().await, [format!("committed {head}")]);
        }
        assert_eq!(show(watched.cycle().await.head), "x2");
        bad.script().hangs.clear();
        bad.script().fails.clear();
        tokio::time::sleep(config().request_timeout).await;
        watched.cycle().await;
        let events: Vec<String> = watched.emitted().iter().map(in_words).collect();
        assert_eq!(events, ["reorged a3 a2 to x2 at a1"]);
    }
}
