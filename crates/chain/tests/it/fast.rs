//! Chains that grow faster than a node answers.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::{ObservationConfig, ObservationRuntime};
use watchkeeper_chain::adapter::ChainError;
use watchkeeper_chain::{ChainConfig, ChainObserver, ChainView, Height};

use crate::common::{SECOND, Tree, Watched, branch, config, hash, local, long, show};

const ANSWER: Duration = Duration::from_millis(300);

fn height_of_headers(view: &ChainView) -> Height {
    view.graph.as_ref().and_then(|graph| graph.tips().map(|tip| tip.height).max()).unwrap_or_default()
}

/// A block each 100 ms or 250 ms, and 300 ms for each answer: heads and headers stay within two round trips and an
/// interval, blocks within five round trips and an interval. The chain's identity is asked for every 30 s only.
#[tokio::test(start_paused = true)]
async fn a_chain_that_is_faster_than_its_node_is_kept_up_with() {
    const BLOCKS: u64 = 400;
    let tree = Tree::new(&long("a", BLOCKS));
    for (block, interval) in [(100, 100), (100, 250), (100, 1_000), (250, 50), (250, 1_000)] {
        let [block, interval] = [block, interval].map(Duration::from_millis);
        let n1 = tree.node("a1");
        n1.script().latency = ANSWER;
        let config = ChainConfig { start: config().start, ..ChainConfig::every(interval) };
        let timing = ObservationConfig { interval, ..Default::default() };
        let sources = watchkeeper::source::SharedSources::new(local(&[("n1", &n1)]));
        let runtime = ObservationRuntime::start(sources, ChainObserver::new(config), timing).await.unwrap();
        let handle = runtime.handle();
        let began = Instant::now();
        let (near, far) = (2 * ANSWER + interval, 5 * ANSWER + interval);
        let behind = |height: Height, now: Height| block * u32::try_from(now - height).unwrap();
        for height in 2..=BLOCKS {
            tree.advance(&n1, &format!("a{height}"));
            sleep(block).await;
            if began.elapsed() < 20 * SECOND {
                continue;
            }
            let view = &handle.latest_snapshot().unwrap().value;
            let head = view.node("n1").and_then(|node| node.head).unwrap().height;
            // The newest block was made one block's time ago; a look may just have missed the one before.
            let allowed = |limit: Duration| limit + 2 * block + interval;
            let what = format!("a block each {block:?}, a look each {interval:?}, at {height}");
            assert!(behind(head, height) <= allowed(near), "{what}: the head is {head}");
            let headers = height_of_headers(view);
            assert!(behind(headers, height) <= allowed(near), "{what}: headers end at {headers}");
            let tip = view.tip.unwrap().height;
            assert!(behind(tip, height) <= allowed(far), "{what}: the tip is {tip}");
        }
        let asked = n1.script().calls["identity"];
        let most = 5 + usize::try_from(began.elapsed().as_secs() / 30).unwrap();
        assert!(asked <= most, "asked {asked} times which chain it is");
    }
}

/// ```text
/// g - a1 - ... - a100 - ... - a160
///            \\
///              b41 - ... - b170       the fork is 120 blocks below the tip
/// ```
#[tokio::test(start_paused = true)]
async fn the_fork_of_a_deep_reorg_is_found_in_few_round_trips() {
    let mut tree = Tree::new(&long("a", 160));
    tree.line(&branch("a40", "b", 41..=170));
    let n1 = tree.node("a160");
    let watched = Watched::start(config(), local(&[("n1", &n1)])).await;
    watched.cycle().await;
    n1.script().latency = ANSWER;
    tree.advance(&n1, "b170");
    let began = Instant::now();
    let (fork, handle) = (hash("b41"), watched.runtime.handle());
    let found = handle.eventually("the fork is known", move |view| {
        view.graph.as_ref().is_some_and(|graph| graph.contains(&fork))
    });
    found.within(60 * SECOND).await.unwrap();
    // By its hash one after the other they would take 130 round trips.
    assert!(began.elapsed() < 25 * ANSWER, "{:?}", began.elapsed());
    let tip = handle.eventually("b170 is the tip", |view| show(view.tip) == "b170");
    tip.or_now().within(60 * SECOND).await.unwrap();
}

/// Each answer takes three cycles, as usual: no block is asked of a second node for that.
#[tokio::test(start_paused = true)]
async fn nodes_that_always_take_longer_than_a_cycle_are_asked_for_each_block_once() {
    const BLOCKS: u64 = 60;
    let tree = Tree::new(&long("a", BLOCKS));
    let nodes = [("n1", tree.node("a1")), ("n2", tree.node("a1"))];
    let interval = Duration::from_millis(100);
    let config = ChainConfig { start: config().start, ..ChainConfig::every(interval) };
    let timing = ObservationConfig { interval, ..Default::default() };
    let sources = local(&nodes.each_ref().map(|(name, node)| (*name, node)));
    let sources = watchkeeper::source::SharedSources::new(sources);
    for (_, node) in &nodes {
        node.script().latency = ANSWER;
    }
    let runtime = ObservationRuntime::start(sources, ChainObserver::new(config), timing).await.unwrap();
    for height in 2..=BLOCKS {
        for (_, node) in &nodes {
            tree.advance(node, &format!("a{height}"));
        }
        sleep(2 * interval).await;
    }
    let handle = runtime.handle();
    let tip = handle.eventually("a60 is the tip", |view| show(view.tip) == "a60");
    tip.or_now().within(60 * SECOND).await.unwrap();
    let asked: usize =
        nodes.iter().map(|(_, node)| node.script().calls.get("block").copied().unwrap_or_default()).sum();
    assert_eq!(asked, usize::try_from(BLOCKS).unwrap());
}

/// There is always a question in flight. An error ends all the same once such a question has succeeded.
#[tokio::test(start_paused = true)]
async fn an_error_that_is_over_is_not_shown_while_questions_overlap() {
    let tree = Tree::new(&long("a", 400));
    let n1 = tree.node("a1");
    n1.script().latency = ANSWER;
    let interval = Duration::from_millis(100);
    let config = ChainConfig { start: config().start, ..ChainConfig::every(interval) };
    let timing = ObservationConfig { interval, ..Default::default() };
    let sources = watchkeeper::source::SharedSources::new(local(&[("n1", &n1)]));
    let runtime = ObservationRuntime::start(sources, ChainObserver::new(config), timing).await.unwrap();
    let handle = runtime.handle();
    let error = || handle.latest_snapshot().unwrap().value.node("n1").unwrap().error.clone();
    let mut was_shown = false;
    for height in 2..=300 {
        tree.advance(&n1, &format!("a{height}"));
        match height {
            100 => {
                let error = ChainError::Busy {
                    endpoint: "n1".to_owned(),
                    method: "block",
                    reason: "scripted".to_owned(),
                };
                n1.script().fails.insert("block", error);
            }
            110 => n1.script().fails.clear(),
            _ => {}
        }
        sleep(interval).await;
        was_shown |= error().is_some();
        assert!(height < 140 || error().is_none(), "at {height}: {:?}", error());
    }
    assert!(was_shown);
}
