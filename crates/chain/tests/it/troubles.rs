//! Errors of requests other than those for heads, and how long they are shown.

use std::time::Duration;

use watchkeeper_chain::ChainView;
use watchkeeper_chain::adapter::ChainError;

use crate::common::{Node, SECOND, Tree, Watched, config, hash, local, long, show};

fn refused() -> ChainError {
    ChainError::Refused { endpoint: "n1".to_owned(), method: "any", reason: "busy".to_owned() }
}

/// The error that is shown for n1.
fn error(view: &ChainView) -> String {
    view.nodes["n1"].error.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// ```text
/// g - a1 - a2     reported first by n1, which does not return the block; n2 does
/// ```
#[tokio::test(start_paused = true)]
async fn an_error_that_is_over_is_not_shown() {
    let tree = Tree::new("g a1 a2");
    let (n1, n2) = (tree.node("a1"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    n1.script().fails.insert("block", refused());
    // A success in the same cycle does not hide the error.
    tree.advance(&n1, "a2");
    tree.advance(&n2, "a2");
    assert_eq!(error(&watched.cycle().await), "n1 refused any: busy");
    assert_eq!(error(&watched.cycle().await), "");
}

/// n1 has a gap, and is asked for it again and again.
#[tokio::test(start_paused = true)]
async fn an_error_is_shown_while_it_lasts() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let n1 = tree.node("g");
    let watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.cycle().await;
    n1.script().hangs.extend(["header", "header_at"]);
    tree.advance(&n1, "a4");
    watched.cycle().await;
    tokio::time::sleep(config().request_timeout).await;
    for _ in 0..12 {
        assert_eq!(error(&watched.cycle().await), "n1 gave no answer within 5s");
        tokio::time::sleep(SECOND).await;
    }
    n1.script().hangs.clear();
    tokio::time::sleep(config().request_timeout + SECOND).await;
    assert_eq!(error(&watched.cycle().await), "");
}

/// The head of a node that reports no finality still counts, and the node is asked again.
#[tokio::test(start_paused = true)]
async fn the_head_of_a_node_that_reports_no_finality_counts() {
    let tree = Tree::new("g a1 a2 a3 a4");
    let spoilt: [fn(&Node); 2] = [
        |node| _ = node.script().fails.insert("finalised", refused()),
        |node| node.script().hangs.push("finalised"),
    ];
    for spoil in spoilt {
        let n1 = tree.node("g");
        n1.script().finalised = Some(hash("a1"));
        let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
        watched.events().await;
        spoil(&n1);
        tree.advance(&n1, "a2");
        assert_eq!(watched.events().await, ["committed a1 a2"]);
        tree.advance(&n1, "a4");
        assert_eq!(watched.events().await, ["committed a3 a4"]);
        n1.script().fails.clear();
        n1.script().hangs.clear();
        tokio::time::sleep(config().request_timeout + SECOND).await;
        assert_eq!(watched.events().await, ["finalised a1"]);
    }
}

/// The requests come at longer and longer intervals; between them the node answers all else.
#[tokio::test(start_paused = true)]
async fn an_error_of_finality_is_shown_at_each_look_until_it_is_over() {
    let tree = Tree::new("g a1 a2 a3");
    let n1 = tree.node("a2");
    n1.script().finalised = Some(hash("a1"));
    let watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.cycle().await;
    n1.script().fails.insert("finalised", refused());
    tree.advance(&n1, "a3");
    for look in 0..90 {
        assert_eq!(error(&watched.cycle().await), "n1 refused any: busy", "look {look}");
        tokio::time::sleep(SECOND).await;
    }
    n1.script().fails.clear();
    tokio::time::sleep(config().identify_every + SECOND).await;
    assert_eq!(error(&watched.cycle().await), "");
}

/// Before the first final block a node has nothing to report, and says so with an error.
#[tokio::test(start_paused = true)]
async fn a_node_that_never_had_a_final_block_is_not_shown_with_an_error() {
    let tree = Tree::new(&long("a", 40));
    let n1 = tree.node("g");
    n1.script().fails.insert("finalised", refused());
    let watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    for height in 1..=40 {
        tree.advance(&n1, &format!("a{height}"));
        let view = watched.cycle().await;
        assert_eq!((error(&view), show(view.head)), (String::new(), format!("a{height}")));
        tokio::time::sleep(SECOND).await;
    }
    n1.script().fails.clear();
    n1.script().finalised = Some(hash("a30"));
    tokio::time::sleep(config().identify_every + SECOND).await;
    assert_eq!(show(watched.cycle().await.finalised), "a30");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_limits_the_rate_is_not_asked_until_its_retry_time() {
    let tree = Tree::new("g a1 a2");
    let n1 = tree.node("a1");
    let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.events().await;
    let retry_after = Some(Duration::from_secs(20));
    let limited = ChainError::RateLimited { endpoint: "n1".to_owned(), retry_after };
    n1.script().fails.insert("block", limited);
    tree.advance(&n1, "a2");
    watched.events().await;
    let asked = n1.script().calls["block"];
    n1.script().fails.clear();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!((watched.events().await, n1.script().calls["block"]), (Vec::new(), asked));
    assert!(error(&watched.cycle().await).contains("limits the rate"), "the limit is shown until then");
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(watched.events().await, ["committed a2"]);

    let limited = ChainError::RateLimited { endpoint: "n1".to_owned(), retry_after };
    n1.script().fails.insert("head", limited);
    watched.events().await;
    let asked = n1.script().calls["head"];
    n1.script().fails.clear();
    tokio::time::sleep(10 * SECOND).await;
    let view = watched.cycle().await;
    assert_eq!(n1.script().calls["head"], asked);
    let error = view.node("n1").unwrap().error.clone();
    assert!(matches!(error, Some(ChainError::RateLimited { .. })), "{error:?}");
    tokio::time::sleep(15 * SECOND).await;
    assert!(watched.cycle().await.node("n1").unwrap().error.is_none());
}
