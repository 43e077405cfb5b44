//! What single nodes do, and how it affects the others.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_chain::adapter::{ChainError, ChainIdentity};
use watchkeeper_chain::{Agreement, ChainConfig, ChainView, Header};

use crate::common::{Node, SECOND, Tree, Watched, config, hash, identity, in_words, local, long, show};
use crate::lies::lie;

fn refused() -> ChainError {
    ChainError::Refused { endpoint: "n1".to_owned(), method: "any", reason: "busy".to_owned() }
}

/// ```text
/// g - a1 - ... - a9        n2 falls behind, then catches up
/// ```
#[tokio::test(start_paused = true)]
async fn a_lag_is_emitted_once_and_its_end_once() {
    let tree = Tree::new(&long("a", 9));
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    for (head, events) in [
        ("a6", &["committed a4 a5 a6"][..]),
        ("a7", &["committed a7", "n2 lags by 4"]),
        ("a8", &["committed a8"]),
    ] {
        tree.advance(&n1, head);
        assert_eq!(watched.events().await, events);
    }
    assert_eq!(watched.cycle().await.node("n2").unwrap().agreement, Agreement::Behind(5));
    tree.advance(&n2, "a7");
    assert_eq!(watched.events().await, ["n2 caught up"]);
}

/// Each answer takes longer than a cycle waits for it; in the second case also longer than the interval.
#[tokio::test(start_paused = true)]
async fn a_node_that_is_slower_than_the_cycles_is_still_followed() {
    for latency in [Duration::from_millis(400), Duration::from_millis(1_300)] {
        let tree = Tree::new(&long("a", 6));
        let n1 = tree.node("a3");
        n1.script().latency = latency;
        let watched = Watched::start(config(), local(&[("n1", &n1)])).await;
        let handle = watched.runtime.handle();
        for tip in ["a3", "a6"] {
            tree.advance(&n1, tip);
            let hash = hash(tip);
            handle
                .eventually(format!("{tip} is the tip"), |view| view.tip.is_some_and(|tip| tip.hash == hash))
                .within(60 * SECOND)
                .await
                .unwrap();
        }
    }
}

/// ```text
/// g - a1 - a2 - ... - a8        n2 lags at a1, and leaves for b2: it has not caught up
///        \
///          b2
/// ```
#[tokio::test(start_paused = true)]
async fn a_laggard_that_leaves_the_branch_has_not_caught_up() {
    let tree = Tree::new(&format!("{}\na1 b2", long("a", 8)));
    let (n1, n2) = (tree.node("a8"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await.last().unwrap(), "n2 lags by 7");
    tree.advance(&n2, "b2");
    assert_eq!(watched.events().await, [""; 0]);
    tree.advance(&n2, "a8");
    assert_eq!(watched.events().await, ["n2 caught up"]);
}

/// ```text
/// g - a1 - a2 - a3         n1 goes back to a1: a rewind
///       \
///         b2 - b3          and then to b3: a fork, no rewind
/// ```
#[tokio::test(start_paused = true)]
async fn a_rewind_is_distinguished_from_a_fork() {
    let tree = Tree::new("g a1 a2 a3\na1 b2 b3");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    tree.advance(&n1, "a1");
    assert_eq!(watched.events().await, ["n1 rewound a3 to a1"]);
    tree.advance(&n1, "b3");
    assert_eq!(watched.events().await, ["rivals a3 b3"]);
    let view = watched.cycle().await;
    assert_eq!(view.node("n1").unwrap().agreement, Agreement::Forked(tree.header("a1")));
}

/// What a bad node does, how that is done, the error that is shown (`-` for none), and the node's agreement then.
type Bad = (&'static str, fn(&Tree, &Node), &'static str, fn(&Agreement) -> bool);

#[tokio::test(start_paused = true)]
async fn a_bad_node_harms_only_itself() {
    let is_behind: fn(&Agreement) -> bool = |agreement| *agreement == Agreement::Behind(3);
    let is_untrue: fn(&Agreement) -> bool = |agreement| *agreement == Agreement::Untrue;
    let is_pending: fn(&Agreement) -> bool = |agreement| *agreement == Agreement::Pending;
    let cases: [Bad; 9] = [
        ("fails", |_, node| _ = node.script().fails.insert("", refused()), "refused", is_behind),
        ("hangs", |_, node| node.script().hangs.push(""), "no answer within 5s", is_behind),
        ("has an empty chain", |_, node| node.script().head = None, "its chain is empty", is_behind),
        (
            "is on another chain",
            |_, node| {
                let mut script = node.script();
                script.identity.id = "other".to_owned();
                script.head = Some(hash("a1"));
            },
            "-",
            |agreement| matches!(agreement, Agreement::OtherChain(_)),
        ),
        (
            "claims a wrong height",
            |tree, node| lie(node, Header { height: 9, ..tree.header("a2") }),
            "block 61320000 is at 2 and is now reported with another",
            is_untrue,
        ),
        (
            "claims the greatest height",
            |_, node| lie(node, Header { height: u64::MAX, ..orphan() }),
            "it has a child of",
            is_pending,
        ),
        (
            "contradicts the others",
            |tree, node| lie(node, Header { work: 7, ..tree.header("a1") }),
            "is now reported with another parent, height, work or time",
            is_untrue,
        ),
        ("names a parent it does not have", |_, node| lie(node, orphan()), "it has a child of", is_pending),
        (
            "fails for blocks",
            |tree, node| {
                tree.advance(node, "a2");
                node.script().fails.insert("block", refused());
            },
            "-",
            |agreement| *agreement == Agreement::Behind(2),
        ),
    ];
    for (what, spoil, shown, stands) in cases {
        let tree = Tree::new("g a1 a2 a3 a4");
        let (bad, good) = (tree.node("a1"), tree.node("a1"));
        // The bad node is asked first where there is a choice.
        let mut watched = Watched::start(config(), local(&[("bad", &bad), ("good", &good)])).await;
        watched.events().await;
        spoil(&tree, &bad);
        tree.advance(&good, "a2");
        assert_eq!(watched.events().await.last().map(String::as_str), Some("committed a2"), "{what}");
        tokio::time::sleep(config().identify_every + SECOND).await;
        watched.emitted();
        tree.advance(&good, "a4");
        assert_eq!(watched.events().await, ["committed a3 a4"], "{what}");
        let view = watched.cycle().await;
        let node = view.node("bad").unwrap();
        let error = node.error.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        assert!(if shown == "-" { error == shown } else { error.contains(shown) }, "{what}: {error}");
        assert!(stands(&node.agreement), "{what}: {:?}", node.agreement);
    }
}

fn orphan() -> Header {
    Header { hash: hash("x9"), parent: hash("x8"), height: 9, work: 1, time: 0 }
}

/// ```text
/// g - a1 - a2     reported first by n1, which does not return the block
/// ```
#[tokio::test(start_paused = true)]
async fn a_block_that_its_first_node_does_not_return_is_fetched_from_another() {
    let tree = Tree::new("g a1 a2");
    let spoilt: [fn(&Tree, &Node); 3] = [
        |_, node| _ = node.script().fails.insert("block", refused()),
        |_, node| node.script().hangs.push("block"),
        |tree, node| _ = node.script().blocks.insert(hash("a2"), tree.block("a1").clone()),
    ];
    for spoil in spoilt {
        let (n1, n2) = (tree.node("a1"), tree.node("a1"));
        let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
        watched.events().await;
        tree.advance(&n1, "a2");
        spoil(&tree, &n1);
        assert_eq!(watched.events().await, [""; 0]);
        tree.advance(&n2, "a2");
        tokio::time::sleep(config().request_timeout).await;
        watched.cycle().await;
        let events: Vec<String> = watched.emitted().iter().map(in_words).collect();
        assert_eq!(events, ["committed a2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_hangs_does_not_slow_the_others() {
    let tree = Tree::new(&long("a", 30));
    let (n1, n2) = (tree.node("a1"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    n1.script().hangs.push("");
    let before = n1.script().calls["head"];
    let start = Instant::now();
    for height in 2..=30 {
        tree.advance(&n2, &format!("a{height}"));
        let began = Instant::now();
        assert_eq!(watched.events().await, [format!("committed a{height}")]);
        assert!(began.elapsed() <= config().collect_for, "{:?}", began.elapsed());
        tokio::time::sleep_until(start + u32::try_from(height - 1).unwrap() * SECOND).await;
        watched.emitted();
    }
    // One probe at a time, whose request is sent once more as it may be lost: each times out after 5 s, and the next one
    // begins with the next cycle.
    let asked = n1.script().calls["head"] - before;
    assert!((10..=14).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_poll_loses_nothing() {
    let tree = Tree::new(&long("a", 12));
    let n1 = tree.node("g");
    let patient = ChainConfig { collect_for: 3 * SECOND, request_timeout: 20 * SECOND, ..config() };
    let sources = watchkeeper::source::SharedSources::new(local(&[("n1", &n1)]));
    let timing =
        watchkeeper::ObservationConfig { interval: SECOND, poll_timeout: SECOND / 2, ..Default::default() };
    let observer = watchkeeper_chain::ChainObserver::new(patient);
    let runtime = watchkeeper::ObservationRuntime::start(sources, observer, timing).await.unwrap();
    let handle = runtime.handle();
    let mut subscription = handle.subscribe();
    n1.script().hangs.push("block");
    tree.advance(&n1, "a12");
    handle.reaches(watchkeeper::runtime::StateKind::Failed).within(60 * SECOND).await.unwrap();
    n1.script().hangs.clear();
    let batch = tokio::time::timeout(60 * SECOND, subscription.recv()).await.unwrap().unwrap();
    assert_eq!(batch.generation, 1, "the state was kept");
    let words: Vec<String> = batch.events.iter().map(in_words).collect();
    assert_eq!(words, ["committed a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 a11 a12"]);
}

#[tokio::test(start_paused = true)]
async fn another_chain_behind_an_address_is_emitted_and_not_believed() {
    let tree = Tree::new("g a1 a2 a3\nx x1 x2 x3 x4 x5 x6");
    let (n1, n2) = (tree.node("a2"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    let other = ChainIdentity { id: "other".to_owned(), genesis: hash("x") };
    n1.script().identity = other.clone();
    tree.advance(&n1, "x6");
    assert_eq!(watched.events().await, ["n1 is on other"]);
    let view = watched.cycle().await;
    assert_eq!(view.node("n1").unwrap().agreement, Agreement::OtherChain(other));
    assert_eq!((show(view.tip), view.pending), ("a2".to_owned(), 0));
    assert_eq!(watched.events().await, [""; 0]);
    n1.script().identity = identity();
    tree.advance(&n1, "a3");
    assert_eq!(watched.events().await, ["committed a3"]);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_returns_to_the_set_is_identified_again() {
    let tree = Tree::new("g a1 a2 a3\nx x1");
    let (n1, n2) = (tree.node("a2"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    watched.sources.replace(local(&[("n2", &n2)]));
    assert_eq!(watched.events().await, [""; 0], "a node that left the set does not revert the tip");
    let other = tree.node("x1");
    other.script().identity.id = "other".to_owned();
    watched.sources.replace(local(&[("n1", &other), ("n2", &n2)]));
    assert_eq!(watched.events().await, ["n1 is on other"]);
    watched.sources.replace(local(&[("n2", &n2)]));
    watched.events().await;
    tree.advance(&n1, "a3");
    watched.sources.replace(local(&[("n1", &n1), ("n2", &n2)]));
    assert_eq!(watched.events().await, ["committed a3"]);
    assert_eq!(n1.script().calls["identity"], 2);
}

/// ```text
/// g - a1 - a2 - a3         both have a3; then n2 hangs, and its head stays fresh for seconds
/// ```
#[tokio::test(start_paused = true)]
async fn a_head_that_was_asked_for_before_a_wait_does_not_meet_it() {
    let tree = Tree::new("g a1 a2 a3");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    assert_eq!(watched.events().await, ["committed a1 a2 a3"]);
    let handle = watched.runtime.handle();
    let shared = |view: &ChainView| view.shared_head().is_some();
    handle.eventually("a head is shared", shared).within(5 * SECOND).await.unwrap();
    n2.script().hangs.push("");
    let mark = handle.mark();
    let seen =
        handle.eventually("a cycle", |_| true).after(mark).within(5 * SECOND).await.unwrap().value.clone();
    let n2_seen = seen.node("n2").unwrap();
    assert_eq!((n2_seen.head, &n2_seen.agreement), (None, &Agreement::Unknown));
    assert_eq!((show(seen.tip), show(seen.head)), ("a3".to_owned(), "a3".to_owned()), "n1 has it");
    let published = handle.latest_snapshot().unwrap();
    assert!(published.value.is_fresh("n2"), "its last answer is not old");
    let (shared, fresh) = tokio::join!(
        handle.eventually("a head is shared", shared).after(mark).within(SECOND),
        handle.source_fresh("n2").after(mark).within(SECOND),
    );
    assert!(shared.is_err() && fresh.is_err());
    n1.script().hangs.push("");
    let mark = handle.mark();
    let seen =
        handle.eventually("a cycle", |_| true).after(mark).within(5 * SECOND).await.unwrap().value.clone();
    assert_eq!((show(seen.tip), seen.head), ("a3".to_owned(), None), "the events have led to a3");
}
