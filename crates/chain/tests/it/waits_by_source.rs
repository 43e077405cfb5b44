//! Waits by source mean the same on a chain as in the core: a `PerSource` and a `ChainObserver` over the same nodes give
//! equal answers.

use watchkeeper::source::SharedSources;
use watchkeeper::wait::{InvalidWait, UnmetOutcome};
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::projection::Projected;
use watchkeeper_chain::projection::inclusion::Inclusions;
use watchkeeper_chain::{Agreement, ChainConfig, ChainObserver, ChainSource, ChainView, Header, NodeWaits};

use crate::common::{Node, SECOND, Tree, config, hash, identity, local, long};

type Source = ObservedSource<ChainSource<Node>>;

fn heads(config: &ChainConfig) -> PerSource<ChainSource<Node>, Header> {
    let probe = |node: Source| async move { node.source.client.head().await.map_err(DynError::from) };
    PerSource::new(probe)
        .probe_timeout(config.probe_timeout)
        .collect_for(config.collect_for)
        .stale_after(config.stale_after)
}

/// The nodes of one case, each with the same branch.
struct Nodes {
    tree: Tree,
    n1: Node,
    n2: Node,
    sources: SharedSources<ChainSource<Node>>,
}

fn refused() -> ChainError {
    ChainError::Refused { endpoint: "n2".to_owned(), method: "head", reason: "busy".to_owned() }
}

/// What happens right before the mark, and right after it.
type Situation = (&'static str, fn(&Nodes), fn(&Nodes));

#[tokio::test(start_paused = true)]
async fn waits_by_source_give_the_answers_of_the_core() {
    let nothing: fn(&Nodes) = |_| {};
    let situations: [Situation; 12] = [
        ("both answer", nothing, nothing),
        ("n2 hangs", |nodes| nodes.n2.script().hangs.push(""), nothing),
        ("n2 hangs after the mark", nothing, |nodes| nodes.n2.script().hangs.push("")),
        ("n2 fails", |nodes| _ = nodes.n2.script().fails.insert("head", refused()), nothing),
        ("n2 fails after the mark", nothing, |nodes| _ = nodes.n2.script().fails.insert("head", refused())),
        ("n2 is slow", |nodes| nodes.n2.script().latency = SECOND * 7 / 10, nothing),
        ("n2 is slower than a wait", |nodes| nodes.n2.script().latency = 4 * SECOND, nothing),
        ("n2 has left the set", |nodes| _ = nodes.sources.replace(local(&[("n1", &nodes.n1)])), nothing),
        ("n2 leaves the set", nothing, |nodes| _ = nodes.sources.replace(local(&[("n1", &nodes.n1)]))),
        ("the set is empty", |nodes| _ = nodes.sources.replace(Vec::new()), nothing),
        ("n2 is elsewhere", |nodes| nodes.tree.advance(&nodes.n2, "a2"), nothing),
        (
            "both hang",
            |nodes| [&nodes.n1, &nodes.n2].into_iter().for_each(|node| node.script().hangs.push("")),
            nothing,
        ),
    ];
    for (what, before, after) in situations {
        let tree = Tree::new("g a1 a2 a3");
        let (n1, n2) = (tree.node("a3"), tree.node("a3"));
        let sources = SharedSources::new(local(&[("n1", &n1), ("n2", &n2)]));
        let nodes = Nodes { tree, n1, n2, sources };
        let timing = ObservationConfig { interval: SECOND, ..Default::default() };
        let core =
            ObservationRuntime::start(nodes.sources.clone(), heads(&config()), timing.clone()).await.unwrap();
        let inclusions: Inclusions<crate::common::Named> = Inclusions::new();
        let observer = Projected::new(ChainObserver::new(config()), inclusions);
        let chain = ObservationRuntime::start(nodes.sources.clone(), observer, timing).await.unwrap();
        let (core, chain) = (core.handle(), chain.handle());
        tokio::time::sleep(SECOND * 5 / 2).await;
        before(&nodes);
        let (in_core, in_chain) = (core.mark(), chain.mark());
        after(&nodes);
        let goal = nodes.tree.header("a3");
        let window = SECOND * 5 / 2;
        let (has, head) = (move |value: &Header| *value == goal, "the head is a3");
        let is = move |node: &watchkeeper_chain::NodeView| node.head == Some(goal);
        let core_waits = async {
            let (all, any, two, fresh, failing) = tokio::join!(
                core.all_sources(head, has).after(in_core).within(window),
                core.any_source(head, has).after(in_core).within(window),
                core.at_least_sources(2, head, has).after(in_core).within(window),
                core.source_fresh("n2").after(in_core).within(window),
                core.source_failing("n2").after(in_core).within(window),
            );
            [all.is_ok(), any.is_ok(), two.is_ok(), fresh.is_ok(), failing.is_ok()]
        };
        let chain_waits = async {
            let (all, any, two, fresh, failing) = tokio::join!(
                chain.all_sources(head, is).after(in_chain).within(window),
                chain.any_source(head, is).after(in_chain).within(window),
                chain.at_least_sources(2, head, is).after(in_chain).within(window),
                chain.source_fresh("n2").after(in_chain).within(window),
                chain.source_failing("n2").after(in_chain).within(window),
            );
            [all.is_ok(), any.is_ok(), two.is_ok(), fresh.is_ok(), failing.is_ok()]
        };
        let (expected, found) = tokio::join!(core_waits, chain_waits);
        assert_eq!(found, expected, "{what}");
        let now = chain.latest_snapshot().unwrap().value.chain.clone();
        let then = core.latest_snapshot().unwrap();
        for name in ["n1", "n2"] {
            assert_eq!(now.answer(name), then.value.answer(name).copied(), "{what}: {name}");
            let is_known = then.value.get(name).is_some_and(|source| source.is_answering());
            assert_eq!(now.is_answering(name), is_known, "{what}: {name}");
        }
    }
}

/// n2 answers from another chain after the mark: its head from before does not count.
#[tokio::test(start_paused = true)]
async fn the_head_of_an_answer_that_is_not_accepted_does_not_count() {
    let tree = Tree::new("g a1 a2 a3\nx x1 x2");
    let (n1, n2) = (tree.node("a3"), tree.node("a3"));
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let sources = SharedSources::new(local(&[("n1", &n1), ("n2", &n2)]));
    let observer = ChainObserver::new(config());
    let runtime = ObservationRuntime::start(sources.clone(), observer, timing).await.unwrap();
    let handle = runtime.handle();
    handle.all_sources("a3", |node| node.head.is_some()).within(5 * SECOND).await.unwrap();

    // Its chain has to be proved, and it does not answer that.
    n2.script().hangs.push("identity");
    tree.advance(&n2, "x2");
    let mark = handle.mark();
    let has_head = |node: &watchkeeper_chain::NodeView| node.head.is_some();
    let waits = handle.all_sources("a head", has_head).after(mark).within(3 * SECOND).await;
    assert!(waits.is_err(), "the head is from before the mark");
    let seen = handle.latest_snapshot().unwrap();
    assert!(seen.value.is_answering("n2") && seen.value.answer("n2").is_none());
    assert_eq!(seen.value.shared_head(), None);

    n2.script().hangs.clear();
    n2.script().identity = ChainIdentity { id: "other".to_owned(), genesis: hash("x") };
    let other = |node: &watchkeeper_chain::NodeView| matches!(node.agreement, Agreement::OtherChain(_));
    handle.any_source("on another chain", other).within(30 * SECOND).await.unwrap();
    n2.script().identity = identity();

    // It leaves and is back, and does not answer: nothing of it is known.
    sources.replace(local(&[("n1", &n1)]));
    handle.all_sources("n1 alone", |_| true).within(5 * SECOND).await.unwrap();
    n2.script().hangs.push("");
    sources.replace(local(&[("n1", &n1), ("n2", &n2)]));
    let back =
        handle.eventually("n2 is back", |view| view.node("n2").is_some()).within(5 * SECOND).await.unwrap();
    let node = back.value.node("n2").unwrap();
    assert_eq!((node.head, &node.agreement), (None, &Agreement::Unknown));
}

/// No cycle succeeds: the wait does not need one.
#[tokio::test(start_paused = true)]
async fn a_wait_for_no_node_is_invalid_at_once() {
    let tree = Tree::new("g a1");
    let n1 = tree.node("a1");
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let sources = SharedSources::new(local(&[("n1", &n1)]));
    let runtime = ObservationRuntime::start(sources, ChainObserver::new(config()), timing).await.unwrap();
    runtime.control().pause().await.unwrap();
    let began = tokio::time::Instant::now();
    let none = runtime.handle().at_least_sources(0, "none", |_| true).within(5 * SECOND).await.unwrap_err();
    assert_eq!(none.outcome(), UnmetOutcome::Invalid(InvalidWait::NoSources));
    assert_eq!(began.elapsed(), std::time::Duration::ZERO);
}

/// The local node hangs, and a public one answers: the head of the local node is from before the wait, also if it equals
/// the tip or the public node's head.
#[tokio::test(start_paused = true)]
async fn an_answer_of_a_node_that_does_not_decide_does_not_renew_the_head() {
    for (of_public, of_second, is_known) in [
        ("a3", None, false),
        ("a2", None, false),
        ("b2", None, false),
        ("a2", Some("a2"), true),
        ("a2", Some("b2"), false),
    ] {
        let tree = Tree::new("g a1 a2 a3\na1 b2");
        let (ours, public) = (tree.node("a3"), tree.node(of_public));
        let second = of_second.map(|head| tree.node(head));
        let mut all = local(&[("ours", &ours)]);
        all.extend(second.iter().flat_map(|second| local(&[("second", second)])));
        all.push(ObservedSource::new("public", ChainSource::public(public.clone())));
        let timing = ObservationConfig { interval: SECOND, ..Default::default() };
        let observer = ChainObserver::new(config());
        let runtime = ObservationRuntime::start(SharedSources::new(all), observer, timing).await.unwrap();
        let handle = runtime.handle();
        let goal = Some(tree.header("a3"));
        let has_head = |view: &ChainView| view.head == goal && view.tip == goal;
        handle.eventually("the head is a3", has_head).within(5 * SECOND).await.unwrap();
        let local_answers = handle.mark();
        handle.eventually("the head is a3", has_head).after(local_answers).within(5 * SECOND).await.unwrap();
        ours.script().hangs.push("");
        let mark = handle.mark();
        let waits = handle.eventually("the head is a3", has_head).after(mark).within(3 * SECOND).await;
        assert_eq!(waits.is_ok(), is_known, "public {of_public}, second {of_second:?}: {waits:?}");
        assert!(has_head(&handle.latest_snapshot().unwrap().value), "without a start it is shown");
    }
}

/// The goal of a catch-up is the head of the local node, which does not report its head again.
#[tokio::test(start_paused = true)]
async fn the_goal_of_a_catch_up_from_before_a_wait_is_not_shown_in_it() {
    let tree = Tree::new(&long("a", 200));
    let (ours, public) = (tree.node("a200"), tree.node("a200"));
    let mut all = local(&[("ours", &ours)]);
    all.push(ObservedSource::new("public", ChainSource::public(public.clone())));
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let observer = ChainObserver::new(ChainConfig { backfill: 5, block_window: 16, ..config() });
    let runtime = ObservationRuntime::start(SharedSources::new(all), observer, timing).await.unwrap();
    let handle = runtime.handle();
    let catches_up = |view: &ChainView| view.progress.is_some_and(|progress| progress.goal == 200);
    handle.eventually("it catches up", catches_up).within(5 * SECOND).await.unwrap();
    ours.script().hangs.push("head");
    let mark = handle.mark();
    let waits = handle.eventually("it catches up", catches_up).after(mark).within(3 * SECOND).await;
    assert!(waits.is_err(), "the goal is from before the mark");
    assert!(catches_up(&handle.latest_snapshot().unwrap().value), "without a start it is shown");
}

/// One of four public nodes is dead: the other three make the target, also in a wait with a start.
#[tokio::test(start_paused = true)]
async fn a_dead_public_node_does_not_hide_the_target_from_a_wait() {
    let tree = Tree::new("g a1 a2 a3");
    let ours = tree.node("a3");
    let public: Vec<Node> = (0..4).map(|_| tree.node("a3")).collect();
    let mut all = local(&[("ours", &ours)]);
    for (nth, node) in public.iter().enumerate() {
        all.push(ObservedSource::new(format!("public{nth}"), ChainSource::public(node.clone())));
    }
    let timing = ObservationConfig { interval: SECOND, ..Default::default() };
    let observer = ChainObserver::new(config());
    let runtime = ObservationRuntime::start(SharedSources::new(all), observer, timing).await.unwrap();
    let handle = runtime.handle();
    let in_sync = |view: &ChainView| view.behind_target("ours") == Some(0);
    handle.eventually("in sync", in_sync).within(5 * SECOND).await.unwrap();
    public[3].script().hangs.push("");
    handle.eventually("in sync", in_sync).within(20 * SECOND).await.unwrap();
}
