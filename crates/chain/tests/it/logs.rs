//! Walks over the logs of a node in memory.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use proptest::prelude::*;
use tokio::time::{advance, sleep, timeout};
use watchkeeper_chain::adapter::{
    ChainClient, ChainError, ChainIdentity, Log, LogAddress, LogFilter, LogLimits, LogPiece, LogReader,
    LogScope, LogWalk, LogsError, RangeSize,
};
use watchkeeper_chain::{Block, Detail, Hash, Header, Height};

use crate::common::{Front, InFront, Named, Node, Tree, hash, on_paused_clock};

/// A node that answers after a while that depends on the question, and fails some of them.
#[derive(Clone)]
struct Probe {
    node: Node,
    asked: Arc<AtomicUsize>,
    in_flight: Arc<AtomicUsize>,
    most_in_flight: Arc<AtomicUsize>,
    /// Each question with this number, and its multiples, is limited in its rate.
    fails_each: Option<usize>,
    /// An answer that is not there by then counts as too large, as with a real client.
    limit: Option<Duration>,
}

#[async_trait]
impl ChainClient for Probe {
    type Transaction = Named;

    async fn identity(&self) -> Result<ChainIdentity, ChainError> {
        self.node.identity().await
    }

    async fn head(&self) -> Result<Header, ChainError> {
        self.node.head().await
    }

    async fn finalised(&self) -> Result<Option<Header>, ChainError> {
        self.node.finalised().await
    }

    async fn header(&self, hash: Hash) -> Result<Option<Header>, ChainError> {
        self.node.header(hash).await
    }

    async fn header_at(&self, height: Height) -> Result<Option<Header>, ChainError> {
        self.node.header_at(height).await
    }

    async fn block(&self, hash: Hash, detail: Detail) -> Result<Option<Block<Named>>, ChainError> {
        self.node.block(hash, detail).await
    }

    async fn logs(&self, filter: &LogFilter, scope: &LogScope) -> Result<Option<Vec<Log>>, ChainError> {
        let LogScope::Range(range) = scope else { panic!("{scope} was asked") };
        let head = self.node.head().await?.height;
        assert!(!range.is_empty() && *range.end() <= head, "{range:?} was asked of a node at {head}");
        let nth = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let in_flight = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.most_in_flight.fetch_max(in_flight, Ordering::Relaxed);
        let answer = async {
            sleep(Duration::from_millis(range.start() * 7 % 5)).await;
            if self.limit.is_some() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(self.limit.unwrap_or(Duration::MAX), answer).await.is_err() {
            let (endpoint, reason) = ("n1".to_owned(), "it took too long".to_owned());
            return Err(ChainError::RangeTooLarge { endpoint, method: "logs", reason, at_most: None });
        }
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        if self.fails_each.is_some_and(|each| nth.is_multiple_of(each)) {
            return Err(ChainError::RateLimited { endpoint: "n1".to_owned(), retry_after: None });
        }
        self.node.logs(filter, scope).await
    }
}

/// Heights from 0, each with its logs: address and topics.
type Chain = Vec<Vec<(u8, Vec<u8>)>>;

fn word(byte: u8) -> Hash {
    Hash([byte; 32])
}

/// The block of a height.
fn at(height: usize) -> String {
    format!("b{height}")
}

fn probe(chain: &Chain, limits: LogLimits) -> Probe {
    let names: Vec<String> = (0..chain.len()).map(at).collect();
    let node = Tree::new(&names.join(" ")).node(&at(chain.len() - 1));
    {
        let mut script = node.script();
        script.log_limits = limits;
        for (height, logs) in chain.iter().enumerate() {
            let block = hash(&at(height));
            let logs = (0..).zip(logs).map(|(index, (address, topics))| Log {
                block,
                height: u64::try_from(height).unwrap(),
                transaction: word(0xaa),
                index,
                address: LogAddress([*address; 20]),
                topics: topics.iter().map(|topic| word(*topic)).collect(),
                data: Vec::new(),
            });
            script.logs.insert(block, logs.collect());
        }
    }
    let zero = Arc::<AtomicUsize>::default;
    Probe { node, asked: zero(), in_flight: zero(), most_in_flight: zero(), fails_each: None, limit: None }
}

/// A chain of this many blocks with one log each.
fn plain(blocks: usize) -> Chain {
    vec![vec![(1, vec![1])]; blocks]
}

/// What a walk returns until its end, or until an error that stays.
async fn read<C: ChainClient>(walk: &mut LogWalk<C>) -> (Vec<LogPiece>, Option<LogsError>) {
    let mut pieces = Vec::new();
    loop {
        match walk.next().await {
            Some(Ok(piece)) => pieces.push(piece),
            Some(Err(error)) if error.is_retryable() => {}
            Some(Err(error)) => return (pieces, Some(error)),
            None => return (pieces, None),
        }
    }
}

fn heights(pieces: &[LogPiece]) -> Vec<Height> {
    pieces.iter().flat_map(|piece| piece.logs.iter().map(|log| log.height)).collect()
}

#[derive(Clone, Debug)]
struct Case {
    chain: Chain,
    filter: LogFilter,
    range: RangeInclusive<Height>,
    limits: LogLimits,
    first: u64,
    in_flight: usize,
    fails_each: Option<usize>,
}

prop_compose! {
    fn cases()(
        chain in prop::collection::vec(
            prop::collection::vec((1..4_u8, prop::collection::vec(1..3_u8, 0..5)), 0..4), 1..120),
        addresses in prop::collection::vec(1..4_u8, 0..3),
        topics in prop::array::uniform4(prop::collection::vec(1..3_u8, 0..2)),
        any in prop::array::uniform4(prop::bool::weighted(0.7)),
        from in 0..130_u64,
        length in 0..150_u64,
        blocks in prop::option::of(1..40_u64),
        results in prop::option::of(0..12_usize),
        states in prop::option::of(0..60_u64),
        first in 1..64_u64,
        in_flight in 1..6_usize,
        fails_each in prop::option::of(2..9_usize),
    ) -> Case {
        let topics = std::array::from_fn(|nth| {
            if any[nth] { Vec::new() } else { topics[nth].iter().map(|byte| word(*byte)).collect() }
        });
        let addresses = addresses.into_iter().map(|byte| LogAddress([byte; 20])).collect();
        let filter = LogFilter { addresses, topics };
        // One without blocks, too.
        let range = from..=(from + length).saturating_sub(1);
        Case { chain, filter, range, limits: LogLimits { blocks, results, states }, first, in_flight, fails_each }
    }
}

/// How many questions suffice for these heights, with the matching logs of each, if none is refused.
fn fewest(counts: &[usize], limits: &LogLimits, most: u64) -> usize {
    let (mut pieces, mut blocks, mut logs) = (0, 0, 0);
    for count in counts {
        let is_full = blocks + 1 > limits.blocks.unwrap_or(most).min(most);
        let is_over = limits.results.is_some_and(|results| logs + count > results);
        if pieces == 0 || is_full || is_over {
            (pieces, blocks, logs) = (pieces + 1, 0, 0);
        }
        (blocks, logs) = (blocks + 1, logs + count);
    }
    pieces
}

const MOST: u64 = 64;

async fn holds(case: Case) {
    let probe = Probe { fails_each: case.fails_each, ..probe(&case.chain, case.limits.clone()) };
    let size = RangeSize::new(case.first, MOST).unwrap();
    let reader = LogReader::new(probe.clone()).with_size(size).with_in_flight(case.in_flight);
    let mut walk = reader.walk(case.filter.clone(), case.range.clone());
    let (pieces, error) = timeout(Duration::from_secs(60 * 60), read(&mut walk)).await.unwrap();

    // The naive filter, up to the first block with more logs than the node returns.
    let end = (*case.range.end()).min(u64::try_from(case.chain.len()).unwrap() - 1);
    let mut expected: Vec<Log> = Vec::new();
    let (mut counts, mut refused) = (Vec::new(), None);
    let script = probe.node.script();
    for height in *case.range.start()..=end {
        let logs = &script.logs[&hash(&at(usize::try_from(height).unwrap()))];
        let matching: Vec<Log> = logs.iter().filter(|log| case.filter.matches(log)).cloned().collect();
        if case.limits.results.is_some_and(|results| matching.len() > results) {
            refused = Some(height);
            break;
        }
        counts.push(matching.len());
        expected.extend(matching);
    }
    let found: Vec<Log> = pieces.iter().flat_map(|piece| piece.logs.clone()).collect();
    assert_eq!(found, expected);
    match (refused, error) {
        (Some(refused), Some(LogsError::OneBlock { height, .. })) => assert_eq!(height, refused),
        (None, None) => {}
        other => panic!("{other:?}"),
    }
    // Without a gap and without an overlap, and with the logs of their own heights.
    let mut next = *case.range.start();
    for piece in &pieces {
        assert_eq!(*piece.range.start(), next);
        assert!(piece.logs.iter().all(|log| piece.range.contains(&log.height)));
        next = piece.range.end() + 1;
    }
    assert_eq!(walk.next_height(), next);
    assert!(probe.most_in_flight.load(Ordering::Relaxed) <= case.in_flight);
    if case.fails_each.is_none() && refused.is_none() {
        let (asked, fewest) = (probe.asked.load(Ordering::Relaxed), fewest(&counts, &case.limits, MOST));
        // What is in flight when the size changes is refused together, and the size halves six times from 64 to 1.
        let bound = 4 * fewest + 7 * case.in_flight + 24;
        assert!(asked <= bound, "{asked} questions where {fewest} suffice");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 2_000, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn a_walk_returns_what_the_naive_filter_does_in_a_bounded_number_of_questions(case in cases()) {
        on_paused_clock(async move {
            holds(case).await;
            Ok(())
        })?;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_without_logs_says_so() {
    #[derive(Clone)]
    struct Bare(Node);

    impl InFront for Bare {
        fn node(&self) -> &Node {
            &self.0
        }
    }

    let client = Front(Bare(probe(&plain(3), LogLimits::default()).node));
    let mut walk = LogReader::new(client).walk(LogFilter::default(), 0..=2);
    let (pieces, error) = read(&mut walk).await;
    assert_eq!((pieces.len(), error.unwrap().to_string().contains("this client has no logs")), (0, true));
}

#[tokio::test(start_paused = true)]
async fn logs_of_a_block_are_found_on_any_branch() {
    let probe = probe(&plain(3), LogLimits::default());
    Tree::new("b0 b1 b2 b3\nb1 c2 c3 c4").advance(&probe.node, "c4");
    let logs = async |name: &str| {
        let answer = probe.node.logs(&LogFilter::default(), &LogScope::Block(hash(name))).await;
        answer.unwrap().map(|logs| logs.len())
    };
    assert_eq!((logs("b2").await, logs("c2").await, logs("x").await), (Some(1), Some(0), None));
    let range = probe.node.logs(&LogFilter::default(), &LogScope::Range(0..=4)).await.unwrap();
    assert_eq!(range.unwrap().iter().map(|log| log.height).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(probe.node.logs(&LogFilter::default(), &LogScope::Range(4..=5)).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_loses_nothing_and_asks_nothing_again() {
    let probe = probe(&plain(40), LogLimits::default());
    probe.node.script().latency = Duration::from_millis(100);
    let reader = LogReader::new(probe.clone()).with_size(RangeSize::new(5, 5).unwrap()).with_in_flight(2);
    let mut walk = reader.walk(LogFilter::default(), 0..=39).with_head(39);
    let mut pieces = Vec::new();
    loop {
        match timeout(Duration::from_millis(30), walk.next()).await {
            Ok(Some(piece)) => pieces.push(piece.unwrap()),
            Ok(None) => break,
            // Dropped in the middle.
            Err(_) => {}
        }
    }
    assert_eq!(heights(&pieces), (0..40).collect::<Vec<_>>());
    assert_eq!(probe.asked.load(Ordering::Relaxed), 8);
}

#[tokio::test(start_paused = true)]
async fn the_size_is_remembered_by_all_walks_over_a_node() {
    let probe = probe(&plain(100), LogLimits { blocks: Some(10), ..LogLimits::default() });
    let reader = LogReader::new(probe.clone()).with_in_flight(1).with_size(RangeSize::new(80, 80).unwrap());
    let asked = |walk: (Vec<LogPiece>, Option<LogsError>)| {
        assert_eq!((heights(&walk.0).len(), walk.1.is_none()), (20, true));
        probe.asked.swap(0, Ordering::Relaxed)
    };
    // 20 are refused.
    assert_eq!(asked(read(&mut reader.walk(LogFilter::default(), 0..=19)).await), 3);
    assert_eq!(asked(read(&mut reader.clone().walk(LogFilter::default(), 20..=39)).await), 2);
}

#[tokio::test(start_paused = true)]
async fn a_walk_ends_at_the_head_and_goes_on_when_the_head_does() {
    let probe = probe(&plain(8), LogLimits::default());
    probe.node.script().head = Some(hash("b4"));
    let reader = LogReader::new(probe.clone());
    let mut walk = reader.walk(LogFilter::default(), 2..=6);
    assert_eq!(heights(&read(&mut walk).await.0), [2, 3, 4]);
    assert_eq!(walk.next_height(), 5);
    assert!(walk.next().await.is_none());
    probe.node.script().head = Some(hash("b7"));
    assert_eq!(heights(&read(&mut walk).await.0), [5, 6]);
    // The end of the range: nothing is asked any more.
    let calls = probe.node.script().calls.clone();
    assert!(walk.next().await.is_none());
    assert_eq!(probe.node.script().calls, calls);

    // The head that is given is not asked for.
    let mut walk = reader.walk(LogFilter::default(), 2..=6).with_head(3);
    probe.node.script().calls.clear();
    assert_eq!(heights(&read(&mut walk).await.0), [2, 3]);
    // The probe asks for the head once a question.
    assert_eq!(probe.node.script().calls.get("head"), Some(&1));
}

#[tokio::test(start_paused = true)]
async fn blocks_that_the_node_has_not_after_all_are_missing_and_asked_again() {
    let probe = probe(&plain(8), LogLimits::default());
    let reader =
        LogReader::new(probe.node.clone()).with_size(RangeSize::new(2, 2).unwrap()).with_in_flight(3);
    let mut walk = reader.walk(LogFilter::default(), 0..=7).with_head(7);
    probe.node.script().head = Some(hash("b4"));
    for range in [0..=1, 2..=3] {
        assert_eq!(walk.next().await.unwrap().unwrap().range, range);
    }
    let missing = walk.next().await.unwrap().unwrap_err();
    assert!(matches!(missing, LogsError::Missing { from: 4, to: 5 }) && missing.is_retryable(), "{missing}");
    assert_eq!(walk.next_height(), 4);
    probe.node.script().head = Some(hash("b7"));
    assert_eq!(heights(&read(&mut walk).await.0), [4, 5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_returned_after_all_that_is_complete_below_it() {
    // The second question fails, and the first takes longest.
    let probe = Probe { fails_each: Some(2), ..probe(&plain(8), LogLimits::default()) };
    let reader = LogReader::new(probe).with_size(RangeSize::new(2, 2).unwrap());
    let mut walk = reader.walk(LogFilter::default(), 2..=7);
    assert_eq!(walk.next().await.unwrap().unwrap().range, 2..=3);
    let error = walk.next().await.unwrap().unwrap_err();
    assert!(matches!(error, LogsError::Node(ChainError::RateLimited { .. })), "{error}");
    assert_eq!(walk.next_height(), 4);
    assert_eq!(heights(&read(&mut walk).await.0), [4, 5, 6, 7]);
    assert_eq!(reader.size().blocks(), 2);
}

#[tokio::test(start_paused = true)]
async fn the_highest_range_ends() {
    let probe = probe(&plain(1), LogLimits::default());
    let mut walk = LogReader::new(probe.node.clone()).walk(LogFilter::default(), u64::MAX..=u64::MAX);
    assert!(walk.next().await.is_none());
    // The node has no such block, whatever it is said to have.
    let mut walk =
        LogReader::new(probe.node).walk(LogFilter::default(), u64::MAX..=u64::MAX).with_head(u64::MAX);
    assert!(matches!(walk.next().await, Some(Err(LogsError::Missing { from: u64::MAX, to: u64::MAX }))));
}

/// Each answer comes in two steps, and must be there within 5 s, as with a request over a network.
#[tokio::test(start_paused = true)]
async fn a_caller_that_takes_its_time_changes_no_size() {
    let probe = Probe { limit: Some(Duration::from_secs(5)), ..probe(&plain(40), LogLimits::default()) };
    let reader = LogReader::new(probe.clone()).with_size(RangeSize::new(5, 5).unwrap());
    let mut walk = reader.walk(LogFilter::default(), 0..=39);
    let mut pieces = Vec::new();
    while let Some(piece) = walk.next().await {
        pieces.push(piece.unwrap());
        advance(Duration::from_secs(6)).await;
    }
    assert_eq!(heights(&pieces), (0..40).collect::<Vec<_>>());
    assert_eq!((probe.asked.load(Ordering::Relaxed), reader.size().blocks()), (8, 5));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_walk_asks_nothing_more() {
    let probe = probe(&plain(40), LogLimits::default());
    probe.node.script().latency = Duration::from_millis(100);
    let reader = LogReader::new(probe.clone()).with_size(RangeSize::new(5, 5).unwrap());
    let mut walk = reader.walk(LogFilter::default(), 0..=39).with_head(39);
    timeout(Duration::from_millis(30), walk.next()).await.unwrap_err();
    // Here, in the reader, in the walk, and in each of four questions.
    assert_eq!(Arc::strong_count(&probe.asked), 7);
    drop(walk);
    sleep(Duration::from_millis(1)).await;
    assert_eq!(Arc::strong_count(&probe.asked), 2);
}
