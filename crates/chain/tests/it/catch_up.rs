//! How the observer catches up with its nodes.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Mutex;
use watchkeeper::ObservedSource;
use watchkeeper_chain::adapter::{ChainClient, ChainError};
use watchkeeper_chain::{Agreement, Block, ChainConfig, ChainObserver, ChainSource, Header, Height, Start};

use crate::common::{
    Front, InFront, Node, SECOND, Tree, Watched, branch, config, fold, hash, in_words, local, long, show,
};

/// ```text
/// g - a1 - ... - a6        the parents of a6 are asked for by height
/// ```
#[tokio::test(start_paused = true)]
async fn missing_parents_are_asked_for_once() {
    let tree = Tree::new(&long("a", 6));
    let (n1, n2) = (tree.node("a1"), tree.node("a1"));
    let mut watched = Watched::start(config(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    let asked = |method| [&n1, &n2].map(|node| node.script().calls.get(method).copied().unwrap_or(0));
    let before: usize = asked("header_at").iter().sum();
    tree.advance(&n1, "a6");
    tree.advance(&n2, "a6");
    assert_eq!(watched.events().await, ["committed a2 a3 a4 a5 a6"]);
    assert_eq!(asked("header_at").iter().sum::<usize>() - before, 4, "a2 a3 a4 a5");
    assert_eq!(asked("block").iter().sum::<usize>(), 6);
}

#[tokio::test(start_paused = true)]
async fn headers_are_filled_in_within_a_bound_each_cycle() {
    let tree = Tree::new(&long("a", 100));
    let n1 = tree.node("a100");
    let config = ChainConfig { backfill: 10, block_window: 16, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1)])).await;
    let mut folded = vec!["g".to_owned()];
    let mut cycles = 0;
    while folded.last().unwrap() != "a100" {
        let before = n1.script().calls.clone();
        let view = watched.cycle().await;
        let since = |method| n1.script().calls.get(method).unwrap_or(&0) - before.get(method).unwrap_or(&0);
        assert!(since("header") + since("header_at") <= 10);
        fold(&mut folded, &watched.emitted());
        if folded.last().unwrap() != "a100" && cycles > 0 {
            let progress = view.progress.unwrap();
            assert_eq!((progress.goal, progress.height + 1), (100, folded.len() as u64));
            assert!(progress.rate > 0.0 && progress.left.is_some(), "{progress:?}");
        }
        cycles += 1;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(folded.len(), 101);
    assert!(watched.cycle().await.progress.is_none());
}

/// While the observer catches up, the nodes grow and then switch to another branch.
#[tokio::test(start_paused = true)]
async fn a_catch_up_goes_on_through_new_heads_and_reorgs() {
    let mut tree = Tree::new(&long("a", 300));
    tree.line(&branch("a40", "b", 41..=320));
    let (n1, n2) = (tree.node("a200"), tree.node("a200"));
    let config = ChainConfig { backfill: 16, block_window: 16, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
    let mut folded = vec!["g".to_owned()];
    for cycle in 0..60 {
        let head =
            if cycle < 5 { format!("a{}", 201 + cycle) } else { format!("b{}", (300 + cycle).min(320)) };
        tree.advance(&n1, &head);
        tree.advance(&n2, &head);
        let view = watched.cycle().await;
        assert_eq!(show(view.node("n1").unwrap().head), head, "the head is known at once");
        fold(&mut folded, &watched.emitted());
    }
    assert_eq!((folded.len(), folded.last().unwrap().as_str()), (321, "b320"));
}

/// The slow node is first by name, and returns some headers whenever it is asked.
#[tokio::test(start_paused = true)]
async fn a_slow_node_does_not_hold_up_a_catch_up() {
    let tree = Tree::new(&long("a", 640));
    let (slow, good) = (tree.node("a640"), tree.node("a640"));
    slow.script().latency = Duration::from_millis(900);
    let config = ChainConfig { backfill: 64, block_window: 64, ..config() };
    let watched = Watched::start(config, local(&[("a-slow", &slow), ("good", &good)])).await;
    let last = hash("a640");
    let done = watched.runtime.handle();
    let done = done.eventually("a640 is the tip", move |view| view.tip.is_some_and(|tip| tip.hash == last));
    // Ten times 64 headers from the good node, after one wait for the slow node.
    done.within(20 * SECOND).await.unwrap();
}

/// The headers that arrived before the time-out are kept.
#[tokio::test(start_paused = true)]
async fn a_slow_node_alone_is_caught_up_with_in_parts() {
    let tree = Tree::new(&long("a", 40));
    let n1 = tree.node("g");
    let mut watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.events().await;
    n1.script().latency = Duration::from_millis(900);
    tree.advance(&n1, "a40");
    let last = hash("a40");
    let done = watched.runtime.handle();
    done.eventually("some headers are there", |view| view.graph.as_ref().unwrap().len() > 10)
        .within(30 * SECOND)
        .await
        .unwrap();
    let error = watched.cycle().await.node("n1").unwrap().error.clone();
    assert!(error.is_none(), "{error:?}");
    done.eventually("a40 is the tip", move |view| view.tip.is_some_and(|tip| tip.hash == last))
        .within(90 * SECOND)
        .await
        .unwrap();
}

/// ```text
/// g - a1 - ... - a16 - ... - a31      n1 brings headers up to a12, no block, and goes back to g; n2 has a31
/// ```
#[tokio::test(start_paused = true)]
async fn headers_that_their_node_has_left_do_not_stop_the_catch_up() {
    let tree = Tree::new(&long("a", 31));
    let (n1, n2) = (tree.node("g"), tree.node("g"));
    let config = ChainConfig { block_window: 2, backfill: 3, pending_limit: 5, ..config() };
    let mut watched = Watched::start(config, local(&[("n1", &n1), ("n2", &n2)])).await;
    n1.script().hangs.push("block");
    tree.advance(&n1, "a16");
    for _ in 0..10 {
        assert_eq!(watched.events().await, [""; 0]);
    }
    tree.advance(&n1, "g");
    watched.events().await;
    tree.advance(&n2, "a31");
    for _ in 0..30 {
        watched.cycle().await;
    }
    assert_eq!(show(watched.cycle().await.tip), "a31");
}

#[tokio::test(start_paused = true)]
async fn it_begins_at_the_configured_start() {
    let tree = Tree::new(&long("a", 100));
    let known = ["a70", "a71"].map(|name| tree.header(name)).to_vec();
    let cases = [
        (Start::Genesis, "g", 100),
        (Start::Height(90), "a90", 10),
        (Start::Recent(5), "a95", 5),
        (Start::Recent(500), "g", 100),
        (Start::Known(known), "a70", 29),
    ];
    for (start, root, count) in cases {
        let n1 = tree.node("a100");
        let config = ChainConfig { start: start.clone(), ..config() };
        let mut watched = Watched::start(config, local(&[("n1", &n1)])).await;
        let view = watched.cycle().await;
        let blocks = watched.emitted().iter().map(in_words).collect::<String>();
        assert_eq!(show(Some(view.graph.unwrap().root())), root, "{start:?}");
        assert_eq!(blocks.split(' ').count() - 1, count, "{start:?}");
    }
}

/// Neither a node that is far behind nor one that lies about its height decides where the observation begins.
#[tokio::test(start_paused = true)]
async fn it_begins_below_the_furthest_honest_node() {
    let tree = Tree::new(&long("a", 100));
    let (behind, liar, good) = (tree.node("a5"), tree.node("a50"), tree.node("a100"));
    let far = Header { height: 1_000, hash: hash("x"), parent: hash("y"), ..tree.header("a50") };
    liar.script().blocks.insert(far.hash, Block::new(far, Vec::new()));
    liar.script().head = Some(far.hash);
    let config = ChainConfig { start: Start::Recent(10), ..config() };
    let nodes = local(&[("n1", &behind), ("n2", &liar), ("n3", &good)]);
    let watched = Watched::start(config, nodes).await;
    let view = watched.cycle().await;
    assert_eq!((show(Some(view.graph.unwrap().root())), show(view.tip)), ("a90".into(), "a100".into()));
    assert_eq!(view.nodes["n1"].agreement, Agreement::Below(95));
}

#[tokio::test(start_paused = true)]
async fn it_starts_without_nodes_and_adds_them_as_they_come() {
    let tree = Tree::new("g a1 a2");
    let mut watched = Watched::start(config(), Vec::new()).await;
    let view = watched.cycle().await;
    assert!(view.graph.is_none() && view.tip.is_none());
    watched.sources.replace(local(&[("n1", &tree.node("a2"))]));
    assert_eq!(watched.events().await, ["committed a1 a2"]);
}

#[tokio::test(start_paused = true)]
async fn the_defaults_of_a_long_interval_are_accepted() {
    let hours = |hours: u64| Duration::from_secs(hours * 60 * 60);
    let [short, long, longest] = [1, 8, 24].map(|nth| ChainConfig::every(hours(nth)));
    assert_eq!([short.stale_after, long.stale_after, longest.stale_after], [3, 24, 24].map(hours));
    assert_eq!([short.forget_after, longest.forget_after], [5, 120].map(hours));
    assert_eq!(ChainConfig::every(SECOND).forget_after, 60 * SECOND);
    let tree = Tree::new("g a1");
    let config = ChainConfig { start: Start::Genesis, ..longest };
    let mut watched = Watched::start(config, local(&[("n1", &tree.node("a1"))])).await;
    assert_eq!(watched.events().await, ["committed a1"]);
}

#[tokio::test]
async fn invalid_settings_are_refused() {
    use watchkeeper::{ObservationConfig, ObservationRuntime, ObservationRuntimeError, StaticSourceProvider};
    use watchkeeper_chain::ChainObserver;

    let tree = Tree::new("g a1 a2");
    let apart = vec![tree.header("g"), tree.header("a2")];
    let cases = [
        (ChainConfig { backfill: 0, ..config() }, "backfill is zero"),
        (ChainConfig { forget_after: Duration::ZERO, ..config() }, "forget_after is zero"),
        (ChainConfig { start: Start::Known(Vec::new()), ..config() }, "has no headers"),
        (ChainConfig { start: Start::Known(apart), ..config() }, "is no chain"),
    ];
    for (config, fault) in cases {
        let observer: ChainObserver<Node> = ChainObserver::new(config);
        let provider = StaticSourceProvider::new(Vec::new());
        let started = ObservationRuntime::start(provider, observer, ObservationConfig::default()).await;
        let Err(ObservationRuntimeError::ObserverInit { source }) = started else {
            panic!("it started, but: {fault}")
        };
        assert!(source.to_string().contains(fault), "{source}");
    }
}

/// Answers one request by height at a time, and refuses the others.
#[derive(Clone, Debug)]
struct Narrow {
    node: Node,
    alone: Arc<Mutex<()>>,
}

#[async_trait]
impl InFront for Narrow {
    fn node(&self) -> &Node {
        &self.node
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        // The guard is also released when the call is dropped.
        let Ok(_alone) = self.alone.try_lock() else {
            return Err(ChainError::RateLimited { endpoint: "narrow".to_owned(), retry_after: None });
        };
        tokio::time::sleep(SECOND / 1000).await;
        self.node.header_at(height).await
    }
}

/// What was answered before the first refusal is kept, and then fewer requests are made at once.
#[tokio::test(start_paused = true)]
async fn a_node_that_allows_one_call_at_a_time_is_caught_up_with() {
    let tree = Tree::new(&long("a", 200));
    let node = Narrow { node: tree.node("g"), alone: Arc::default() };
    let config = ChainConfig { backfill: 16, ..config() };
    let source = ObservedSource::new("n1", ChainSource::local(Front(node.clone())));
    let watched = Watched::with(ChainObserver::new(config), vec![source]).await;
    watched.cycle().await;
    tree.advance(&node.node, "a200");
    for _ in 0..60 {
        watched.cycle().await;
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(show(watched.cycle().await.tip), "a200");
}
