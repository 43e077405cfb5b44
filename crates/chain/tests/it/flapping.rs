//! One address that is served by several backends, and true rewinds and reorgs beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;
use watchkeeper::{ObservationConfig, ObservationRuntime, ObservedSource, StaticSourceProvider};
use watchkeeper_chain::adapter::{ChainClient, ChainError, ChainIdentity};
use watchkeeper_chain::{
    Block, ChainConfig, ChainEvent, ChainObserver, ChainSource, Detail, Hash, Header, Height,
};

use crate::common::{
    Named, Node, SECOND, Tree, Watched, branch, config, fold, identity, in_words, local, long, show,
};

/// One address: each call is answered by the backend that `choice` names for the number of the call.
#[derive(Clone)]
struct Balanced {
    backends: Arc<[Node]>,
    choice: Arc<dyn Fn(usize) -> usize + Send + Sync>,
    heads: Arc<AtomicUsize>,
    others: Arc<AtomicUsize>,
}

impl Balanced {
    fn new<const N: usize>(
        backends: [&Node; N],
        choice: impl Fn(usize) -> usize + Send + Sync + 'static,
    ) -> Self {
        let backends = backends.map(Clone::clone).into_iter().collect();
        Self { backends, choice: Arc::new(choice), heads: Arc::default(), others: Arc::default() }
    }

    fn next(&self, calls: &AtomicUsize) -> &Node {
        &self.backends[(self.choice)(calls.fetch_add(1, Ordering::Relaxed))]
    }
}

#[async_trait]
impl ChainClient for Balanced {
    type Transaction = Named;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        Ok(identity())
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.next(&self.heads).head().await
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.next(&self.others).finalised().await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.next(&self.others).header(hash).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.next(&self.others).header_at(height).await
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        self.next(&self.others).block(hash, detail).await
    }
}

/// The settings with their defaults for flapping addresses.
fn patient() -> ChainConfig {
    ChainConfig { lighter_after: 6, ..config() }
}

/// The events of 400 looks, one each second; `advance` moves the backends before each.
async fn looks(address: Balanced, mut advance: impl FnMut(usize)) -> (Vec<String>, Option<Header>) {
    let sources = vec![ObservedSource::new("n1", ChainSource::local(address))];
    advance(0);
    let mut watched = Watched::with(ChainObserver::new(patient()), sources).await;
    let mut folded = vec!["g".to_owned()];
    let mut words = Vec::new();
    for look in 1..=400 {
        advance(look);
        tokio::time::sleep(SECOND).await;
        let events = watched.emitted();
        fold(&mut folded, &events);
        words.extend(events.iter().map(in_words));
    }
    (words, watched.cycle().await.tip)
}

fn count(words: &[String], what: &str) -> usize {
    words.iter().filter(|word| word.contains(what)).count()
}

/// ```text
/// g - a1 - ... - a20 - ... - a420      grows at each look, or not
///            \
///              b5                      the head of a backend that answers each tenth question
/// ```
#[tokio::test(start_paused = true)]
async fn each_tenth_answer_from_a_backend_on_a_fork_is_reported_and_disconnects_nothing() {
    let tree = Tree::new(&format!("{}\na4 b5", long("a", 420)));
    for grows in [true, false] {
        let (good, forked) = (tree.node("a20"), tree.node("b5"));
        let address = Balanced::new([&good, &forked], |call| usize::from(call % 10 == 9));
        let advance = |look| {
            if grows {
                tree.advance(&good, &format!("a{}", 20 + look));
            }
        };
        let (words, tip) = looks(address, advance).await;
        assert_eq!([count(&words, "reorged"), count(&words, "reverted")], [0, 0], "{words:?}");
        assert_eq!([count(&words, "rewound"), count(&words, "lags")], [0, 0], "{words:?}");
        assert_eq!(count(&words, "n1 flaps between"), 1, "{words:?}");
        let tip = tip.unwrap().height;
        assert!(if grows { tip >= 418 } else { tip == 20 }, "{tip}");
    }
}

/// The chain grows by five blocks at each look; each tenth answer is of the backend on the fork.
#[tokio::test(start_paused = true)]
async fn a_fork_at_each_tenth_answer_is_reported_once_on_a_chain_that_rises_fast_too() {
    let tree = Tree::new(&format!("{}\na4 b5", long("a", 2_100)));
    let (good, forked) = (tree.node("a20"), tree.node("b5"));
    let address = Balanced::new([&good, &forked], |call| usize::from(call % 10 == 9));
    let advance = |look| tree.advance(&good, &format!("a{}", 20 + 5 * look));
    let (words, tip) = looks(address, advance).await;
    assert_eq!([count(&words, "reorged"), count(&words, "reverted")], [0, 0], "{words:?}");
    let flaps: Vec<_> = words.iter().filter(|word| word.contains("flaps between")).collect();
    assert_eq!(flaps.len(), 1, "{flaps:?}");
    assert!(tip.unwrap().height >= 2_000, "{tip:?}");
}

/// ```text
/// g - a1 - ... - a20 - a21 - a22 - ...      the two backends; a block comes each twelfth look
/// ```
#[tokio::test(start_paused = true)]
async fn two_backends_two_blocks_apart_disconnect_nothing() {
    let tree = Tree::new(&long("a", 60));
    let at_random = |seed| {
        let random = std::sync::Mutex::new(fastrand::Rng::with_seed(seed));
        move |_: usize| random.lock().unwrap().usize(0..2)
    };
    for seed in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7)] {
        let (ahead, behind) = (tree.node("a22"), tree.node("a20"));
        let address = match seed {
            None => Balanced::new([&ahead, &behind], |call| call % 2),
            Some(seed) => Balanced::new([&ahead, &behind], at_random(seed)),
        };
        let advance = |look| {
            tree.advance(&ahead, &format!("a{}", 22 + look / 12));
            tree.advance(&behind, &format!("a{}", 20 + look / 12));
        };
        let (words, tip) = looks(address, advance).await;
        let reported = words.iter().position(|word| word.starts_with("n1 flaps between")).unwrap();
        // Six consecutive answers from the one behind are a rewind as long as the address is not known to flap.
        let from = if seed == Some(2) { reported } else { 0 };
        assert_eq!(
            [count(&words[from..], "reorged"), count(&words[from..], "reverted")],
            [0, 0],
            "{seed:?}: {words:?}"
        );
        assert_eq!(count(&words, "flaps"), 1, "{seed:?}: {words:?}");
        assert!(tip.unwrap().height >= 54, "{seed:?}: {}", show(tip));
    }
}

/// Each backend is the heavier one now and then: that is a true reorg until the address is known to flap.
///
/// ```text
/// g - a1 - a2 - ...
///       \
///         b2 - ...
/// ```
#[tokio::test(start_paused = true)]
async fn two_backends_on_growing_forks_are_switched_between_until_they_are_reported() {
    let tree = Tree::new(&format!("{}\n{}", long("a", 420), branch("a1", "b", 2..=420)));
    let (one, other) = (tree.node("a2"), tree.node("b2"));
    let address = Balanced::new([&one, &other], |call| call % 2);
    let advance = |look| {
        tree.advance(&one, &format!("a{}", 2 + look));
        tree.advance(&other, &format!("b{}", 2 + look));
    };
    let (words, tip) = looks(address, advance).await;
    let reported = words
        .iter()
        .position(|word| word.starts_with("n1 flaps between"))
        .unwrap_or_else(|| panic!("{words:?}"));
    assert!(count(&words[..reported], "reorged") <= 4, "{words:?}");
    let after = &words[reported..];
    assert_eq!([count(after, "reorged"), count(after, "reverted"), count(after, "flaps")], [1, 0, 1]);
    assert!(after[1].starts_with("reorged"), "of the look that was reported: {:?}", &after[..3]);
    assert!(tip.unwrap().height >= 380, "it follows the branch: {}", show(tip));
}

/// ```text
/// g - a1 - ... - a19 - a20 - ... - a22
///                   \
///                     b20 - b21 - ...      nine of ten answers from the hundredth look on; the others are a22
/// ```
#[tokio::test(start_paused = true)]
async fn a_true_reorg_of_an_address_that_flaps_is_followed_although_one_backend_is_stale() {
    let tree = Tree::new(&format!("{}\n{}", long("a", 22), branch("a19", "b", 20..=420)));
    let (one, other) = (tree.node("a22"), tree.node("a20"));
    let look = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&look);
    let address = Balanced::new([&one, &other], move |call| {
        let is_after = now.load(Ordering::Relaxed) >= 100;
        if is_after { usize::from(call % 10 != 9) } else { call % 2 }
    });
    let advance = |at| {
        look.store(at, Ordering::Relaxed);
        if at >= 100 {
            tree.advance(&other, &format!("b{}", at - 76));
        }
    };
    let (words, tip) = looks(address, advance).await;
    assert_eq!([count(&words, "reorged a22 a21 a20 to b20"), count(&words, "reorged")], [1, 1], "{words:?}");
    assert_eq!(count(&words, "reverted"), 0, "{words:?}");
    assert!(tip.unwrap().height >= 320, "{}", show(tip));
}

/// ```text
/// g - a1 - ... - a10        n1 goes back to a8, and stays there
/// ```
#[tokio::test(start_paused = true)]
async fn a_true_rewind_is_followed_at_the_sixth_look() {
    let tree = Tree::new(&long("a", 10));
    let n1 = tree.node("a10");
    let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
    watched.events().await;
    tree.advance(&n1, "a8");
    for look in 1..=5 {
        assert_eq!(watched.events().await, [""; 0], "look {look}");
        let view = watched.last_view();
        assert_eq!([view.tip, view.head, view.node("n1").unwrap().head].map(show), ["a10"; 3]);
    }
    assert_eq!(watched.events().await, ["n1 rewound a10 to a8", "reverted a10 a9 to a8"]);
}

/// With an interval of 12 s it takes 36 s, and not 72.
#[tokio::test(start_paused = true)]
async fn a_true_rewind_is_followed_after_some_time_if_that_is_earlier() {
    let tree = Tree::new(&long("a", 10));
    let n1 = tree.node("a10");
    let interval = 12 * SECOND;
    let config = ChainConfig { start: config().start, ..ChainConfig::every(interval) };
    assert_eq!((config.lighter_after, config.lighter_for), (6, 36 * SECOND));
    let timing = ObservationConfig { interval, ..Default::default() };
    let sources = StaticSourceProvider::new(local(&[("n1", &n1)]));
    let runtime = ObservationRuntime::start(sources, ChainObserver::new(config), timing).await.unwrap();
    let handle = runtime.handle();
    let at = |height| {
        let is_there =
            move |view: &watchkeeper_chain::ChainView| view.tip.is_some_and(|tip| tip.height == height);
        handle.eventually(format!("the tip is at {height}"), is_there).within(120 * SECOND)
    };
    at(10).await.unwrap();
    tree.advance(&n1, "a8");
    let began = Instant::now();
    at(8).await.unwrap();
    let took = began.elapsed();
    assert!((36 * SECOND..=49 * SECOND).contains(&took), "{took:?}");
}

/// ```text
/// g - a1 - ... - a19 - a20
///            \      \
///             \       b20 - b21         one block deep
///              c10 - ... - c21          eleven deep, and unknown
/// ```
#[tokio::test(start_paused = true)]
async fn a_true_reorg_to_a_heavier_branch_is_not_delayed() {
    let tree = Tree::new(&format!("{}\na19 b20 b21\n{}", long("a", 20), branch("a9", "c", 10..=21)));
    for (head, reorged) in [
        ("b21", "reorged a20 to b20 b21 at a19"),
        (
            "c21",
            "reorged a20 a19 a18 a17 a16 a15 a14 a13 a12 a11 a10 to c10 c11 c12 c13 c14 c15 c16 c17 c18 c19 c20 c21 at a9",
        ),
    ] {
        let n1 = tree.node("a20");
        let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
        watched.events().await;
        tree.advance(&n1, head);
        assert_eq!(watched.events().await, [reorged]);
    }
}

/// A branch that is shorter and heavier is not known to be heavier until its gap is closed, in the same cycle.
///
/// ```text
/// g - a1 - a2 - ... - a9
///       \
///         b2 - b3 - b4 (20)
/// ```
#[tokio::test(start_paused = true)]
async fn a_true_reorg_to_a_shorter_branch_that_is_heavier_is_not_delayed() {
    let tree = Tree::new(&format!("{}\na1 b2 b3 b4:20", long("a", 9)));
    let n1 = tree.node("a9");
    let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
    watched.events().await;
    tree.advance(&n1, "b4");
    assert_eq!(watched.events().await, ["reorged a9 a8 a7 a6 a5 a4 a3 a2 to b2 b3 b4 at a1"]);
}

/// A longer branch that is lighter is no reason to leave the tip, though nothing but its height is known at first.
///
/// ```text
/// g - a1 - a2 - ... - a9       each weighs 10
///       \
///         b2 - ... - b20       each weighs 1
/// ```
#[tokio::test(start_paused = true)]
async fn a_longer_branch_that_is_lighter_has_to_be_confirmed() {
    let heavy = (1..=9).fold("g".to_owned(), |line, height| format!("{line} a{height}:10"));
    let tree = Tree::new(&format!("{heavy}\n{}", branch("a1", "b", 2..=20)));
    let n1 = tree.node("a9");
    let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
    watched.events().await;
    tree.advance(&n1, "b20");
    for look in 1..=5 {
        assert_eq!(watched.events().await, [""; 0], "look {look}");
    }
    let events = watched.events().await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].starts_with("reorged a9 a8 a7 a6 a5 a4 a3 a2 to b2 "), "{events:?}");
}

/// ```text
/// g - a1 - ... - a30 - ... - a40 - a41      n1 is down for a while, and begins again at a30
/// ```
#[tokio::test(start_paused = true)]
async fn a_node_that_restarts_from_a_snapshot_below_has_rewound_unless_it_is_back_soon() {
    let tree = Tree::new(&long("a", 60));
    let down = || ChainError::Unreachable { endpoint: "n1".to_owned(), reason: "it restarts".to_owned() };
    for (blocks_a_look, expected) in [
        (1, &["n1 rewound a40 to a36", "reverted a40 a39 a38 a37 to a36", "committed a37"][..]),
        (3, &["committed a41 a42", "committed a43 a44 a45", "committed a46 a47 a48"]),
    ] {
        let n1 = tree.node("a40");
        let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
        watched.events().await;
        n1.script().fails.insert("", down());
        for _ in 0..5 {
            assert_eq!(watched.events().await, [""; 0]);
        }
        n1.script().fails.clear();
        let mut words = Vec::new();
        for look in 1..=7 {
            tree.advance(&n1, &format!("a{}", 30 + look * blocks_a_look));
            words.extend(watched.events().await);
        }
        let words: Vec<String> = words.into_iter().take(3).collect();
        assert_eq!(words.iter().map(String::as_str).collect::<Vec<_>>(), expected[..words.len()]);
        assert!(!words.is_empty());
    }
}

/// A node that flaps between heads is shown as such, and no longer after a steady minute; then it is reported again.
#[tokio::test(start_paused = true)]
async fn an_address_that_flaps_is_reported_again_after_a_steady_minute() {
    let tree = Tree::new("g a1 a2 a3\na2 b3");
    let n1 = tree.node("a3");
    let mut watched = Watched::start(patient(), local(&[("n1", &n1)])).await;
    watched.events().await;
    for _ in 0..2 {
        assert!(!watched.cycle().await.node("n1").unwrap().flaps);
        let mut words = Vec::new();
        for _ in 0..6 {
            for head in ["b3", "a3"] {
                tree.advance(&n1, head);
                words.extend(watched.events().await);
            }
        }
        assert_eq!(words, ["n1 flaps between a3 and b3"]);
        assert!(watched.cycle().await.node("n1").unwrap().flaps);
        tokio::time::sleep(Duration::from_secs(61)).await;
        watched.emitted();
    }
}

/// The deciding nodes are not affected by one of them that flaps.
#[tokio::test(start_paused = true)]
async fn a_rewind_of_all_nodes_is_followed_when_each_is_confirmed() {
    let tree = Tree::new(&long("a", 9));
    let (n1, n2) = (tree.node("a9"), tree.node("a9"));
    let mut watched = Watched::start(patient(), local(&[("n1", &n1), ("n2", &n2)])).await;
    watched.events().await;
    tree.advance(&n1, "a7");
    for _ in 0..3 {
        assert_eq!(watched.events().await, [""; 0]);
    }
    tree.advance(&n2, "a7");
    let mut words = Vec::new();
    for _ in 0..6 {
        words.extend(watched.events().await);
    }
    assert_eq!(words, ["n1 rewound a9 to a7", "n2 rewound a9 to a7", "reverted a9 a8 to a7"]);
    let reverts = |event: &ChainEvent<Named>| matches!(event, ChainEvent::Reverted { .. });
    assert!(!watched.emitted().iter().any(reverts));
}
