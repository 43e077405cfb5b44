//! A tap returns everything that is published, in order, and says exactly what it lost.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use futures_core::Stream;
use tokio::time::Instant;
use watchkeeper::runtime::{State, StopReason};
use watchkeeper::subscription::{Record, RecordKind, Tap, TapError, TapLimits};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource,
    StaticSourceProvider, async_trait,
};

use crate::common::threads::{Flavour, Tally, block_on, executor, poll_once};
use crate::common::{Act, App, Call, at, each_second, ms};

use RecordKind::{Stop, Success, Transition};

fn few(records: usize) -> TapLimits {
    TapLimits { records, ..TapLimits::default() }
}

fn read_all<O: Observer>(tap: &mut Tap<O>) -> Vec<Result<Record<O>, TapError>> {
    let mut all = Vec::new();
    while let Some(item) = tap.try_recv() {
        let over = matches!(item, Err(TapError::Closed(_)));
        all.push(item);
        if over {
            break;
        }
    }
    all
}

/// What is new in it, in a line.
fn line(record: &Record<App>) -> String {
    let mut parts = vec![format!("{:?} {}", record.kind(), record.status.cycle)];
    parts.extend(record.snapshot.iter().map(|snapshot| format!("polls {}", snapshot.value.polls)));
    parts.extend(record.batch.iter().map(|batch| format!("events {:?} in {}", batch.events, batch.seq)));
    parts.extend(record.failure.iter().map(|failure| failure.message.clone()));
    parts.extend(record.sources.iter().map(|sources| format!("+{:?} -{:?}", sources.joined, sources.left)));
    parts.extend(record.transition.map(|(from, to)| format!("{:?} -> {:?}", from.kind(), to.kind())));
    parts.extend(record.status.paused.then(|| "paused".to_owned()));
    parts.join(" ")
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_published_comes_in_order_with_its_number() {
    let app = App::new();
    app.then(Call::Poll, [Act::Ok(vec![10, 11]), Act::Err("down"), Act::Ok(vec![]), Act::Panic("lost")]);
    let start = Instant::now();
    let runtime = ObservationRuntime::start_in_background(app.clone(), app.clone(), each_second()).unwrap();
    let mut tap = runtime.handle().tap(TapLimits::default());
    assert_eq!(tap.next_number(), 1);
    at(start, 2_500).await;
    app.set(&["b", "a"]);
    at(start, 4_500).await;
    runtime.control().pause().await.unwrap();
    runtime.control().resume().await.unwrap();
    at(start, 5_500).await;
    let _ = runtime.stop().await;

    let records: Vec<_> = read_all(&mut tap);
    let (end, records) = records.split_last().unwrap();
    assert!(matches!(end, Err(TapError::Closed(StopReason::Requested))), "{end:?}");
    let records: Vec<_> = records.iter().map(|record| record.as_ref().unwrap()).collect();
    let lines: Vec<_> = records.iter().map(|record| line(record)).collect();
    let expected = [
        r#"Sources 0 +["a"] -[]"#,
        "Success 0 polls 0 Starting -> Idle",
        "Transition 1 Idle -> Refreshing",
        "Transition 1 Refreshing -> Polling",
        "Success 1 polls 1 events [10, 11] in 0 Polling -> Idle",
        "Transition 2 Idle -> Refreshing",
        "Transition 2 Refreshing -> Polling",
        "Failure 2 down Polling -> Failed",
        "Transition 3 Failed -> Refreshing",
        r#"Sources 3 +["b"] -[] Refreshing -> Polling"#,
        "Success 3 polls 2 Polling -> Idle",
        "Transition 4 Idle -> Refreshing",
        "Transition 4 Refreshing -> Polling",
        "Failure 4 panicked: lost Polling -> Failed",
        "Transition 4 paused",
        "Transition 4",
        "Transition 5 Failed -> Starting",
        "Transition 5",
        "Success 5 polls 0 Starting -> Idle",
        "Stop 5 Idle -> Stopped",
    ];
    assert_eq!(lines, expected);
    for (number, record) in (1..).zip(records) {
        assert_eq!(record.number, number);
        assert_eq!(record.system_time, runtime.handle().system_time(record.at), "{number}");
        if let Some(snapshot) = &record.snapshot {
            assert!(Arc::ptr_eq(snapshot, record.status.snapshot.as_ref().unwrap()), "{number}");
            assert_eq!((snapshot.observed_at, snapshot.generation), (record.at, record.status.generation));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_numbers_of_what_it_lost() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let mut tap = runtime.handle().tap(few(4));
    let first = tap.next_number();
    at(start, 3_500).await;
    // Nine were published. What was lost is known without another one.
    for number in first..first + 4 {
        assert_eq!(tap.try_recv().unwrap().unwrap().number, number);
    }
    let lost = TapError::Lost { first: first + 4, last: first + 8 };
    assert_eq!(tap.try_recv().unwrap().unwrap_err(), lost);
    assert!(lost.to_string().starts_with(&format!("lost 5 publications, {} to {}", first + 4, first + 8)));
    assert!(tap.try_recv().is_none(), "and is reported once");
    // One is read in between, and there is room for one.
    at(start, 5_500).await;
    assert_eq!(tap.try_recv().unwrap().unwrap().number, first + 9);
    runtime.control().pause().await.unwrap();
    for number in first + 10..first + 13 {
        assert_eq!(tap.try_recv().unwrap().unwrap().number, number);
    }
    assert_eq!(tap.try_recv().unwrap().unwrap_err(), TapError::Lost { first: first + 13, last: first + 14 });
    let paused = tap.try_recv().unwrap().unwrap();
    assert_eq!((paused.number, paused.kind(), paused.status.paused), (first + 15, Transition, true));
    assert_eq!(paused.snapshot, None, "the success was lost, and does not come with the pause");
}

#[tokio::test(start_paused = true)]
async fn the_stop_comes_also_where_there_is_no_room_and_ends_the_tap() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let mut tap = runtime.handle().tap(few(0));
    let mut stream = runtime.handle().tap(few(2));
    at(start, 1_500).await;
    let _ = runtime.stop().await;
    let first = tap.next_number();
    assert_eq!(tap.recv().await.unwrap().number, first, "one is held in any case");
    assert_eq!(tap.recv().await.unwrap_err(), TapError::Lost { first: first + 1, last: first + 2 });
    let last = tap.recv().await.unwrap();
    assert_eq!((last.number, last.kind()), (first + 3, Stop));
    for _ in 0..2 {
        assert_eq!(tap.recv().await.unwrap_err(), TapError::Closed(StopReason::Requested));
    }
    let mut next = || {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut stream).poll_next(&mut context) {
            Poll::Ready(item) => item.map(|item| item.map(|record| record.number)),
            Poll::Pending => panic!("the runtime has ended"),
        }
    };
    assert_eq!([next(), next()], [Some(Ok(first)), Some(Ok(first + 1))]);
    assert_eq!(next(), Some(Err(TapError::Lost { first: first + 2, last: first + 2 })));
    assert_eq!(next(), Some(Ok(first + 3)));
    assert_eq!(next(), Some(Err(TapError::Closed(StopReason::Requested))));
    assert_eq!([next(), next()], [None, None]);
    let mut late = runtime.handle().tap(few(2));
    assert_eq!(late.recv().await.unwrap_err(), TapError::Closed(StopReason::Requested));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_has_taken_nothing_and_one_that_waits_is_woken() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let mut tap = runtime.handle().tap(TapLimits::default());
    let first = tap.next_number();
    let mut pending = Box::pin(tap.recv());
    assert!(poll_once(pending.as_mut()).is_pending());
    drop(pending);
    let record = tap.recv().await.unwrap();
    assert_eq!((record.number, start.elapsed()), (first, ms(1_000)));
    assert!(matches!(record.transition, Some((State::Idle, State::Refreshing))));
}

/// Its values take as much as `weight` says, which is app code.
#[derive(Clone, Default)]
struct Heavy {
    weight: Option<usize>,
    /// The weight of each second success.
    other: Option<usize>,
}

static ASKED: AtomicUsize = AtomicUsize::new(0);

#[async_trait]
impl Observer for Heavy {
    type Source = ();
    type State = Option<usize>;
    type Snapshot = Option<usize>;
    type Event = Option<usize>;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Option<usize>, DynError> {
        Ok(self.weight)
    }

    async fn poll(
        &self,
        _: &[ObservedSource<()>],
        state: &mut Option<usize>,
    ) -> Result<Vec<Option<usize>>, DynError> {
        let others = [self.weight, self.other.or(self.weight)];
        *state = others[usize::from(*state == self.weight)];
        Ok(vec![*state])
    }

    fn snapshot(&self, state: &Option<usize>) -> Option<usize> {
        *state
    }

    fn weight(snapshot: &Option<usize>, events: &[Option<usize>]) -> usize {
        ASKED.fetch_add(1, Ordering::Relaxed);
        assert_eq!(events.len(), 1, "of a poll");
        snapshot.expect("a weight")
    }
}

/// 64 KiB, of which transitions take a part.
#[tokio::test(start_paused = true)]
async fn its_bytes_are_bounded_by_what_the_app_says_they_are() {
    const LIMIT: usize = 64 * 1_024;
    // (the weight of a success, how many successes are held of ten)
    for (weight, held) in
        [(Some(20_000), 3), (Some(LIMIT * 10), 0), (Some(usize::MAX), 0), (Some(0), 10), (None, 10)]
    {
        let start = Instant::now();
        let sources = StaticSourceProvider::new(vec![]);
        let runtime =
            ObservationRuntime::start(sources, Heavy { weight, other: None }, each_second()).await.unwrap();
        at(start, 1_500).await;
        let before = ASKED.load(Ordering::Relaxed);
        let mut tap = runtime.handle().tap(TapLimits { bytes: LIMIT, ..TapLimits::default() });
        let mut prompt = runtime.handle().tap(TapLimits { bytes: LIMIT, ..TapLimits::default() });
        let mut published = Vec::new();
        for second in 2..12 {
            at(start, second * 1_000 + 500).await;
            published.push(Arc::downgrade(&runtime.handle().latest_snapshot().unwrap()));
            let read = read_all(&mut prompt);
            let kinds: Vec<_> = read.iter().flatten().map(Record::kind).collect();
            // What it holds when the success comes are two transitions.
            let fits = weight.is_none_or(|weight| weight < LIMIT - 2_000);
            let all = [Transition, Transition, Success];
            assert_eq!(kinds, all[..if fits { 3 } else { 2 }], "{weight:?}");
        }
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, 10, "{weight:?}: once for each success");
        // What follows a success that was lost does not hold its snapshot. The tap holds the newest ones, and that of
        // the first.
        let alive = published.iter().filter(|snapshot| snapshot.strong_count() > 0).count();
        assert!(alive <= held + 2, "{weight:?}: {alive} are held");
        let kept = read_all(&mut tap);
        let successes = kept.iter().flatten().filter(|record| record.kind() == Success).count();
        assert_eq!(successes, held, "{weight:?}: {kept:?}");
        drop((tap, prompt));
        at(start, 15_500).await;
        assert_eq!(ASKED.load(Ordering::Relaxed) - before, 10, "{weight:?}: nobody asks any more");
    }
}

/// A small success that is held shows what changed since a large one that was lost, and does not hold it.
#[tokio::test(start_paused = true)]
async fn what_was_lost_is_not_held_by_what_came_after_it() {
    const LIMIT: usize = 64 * 1_024;
    let start = Instant::now();
    let heavy = Heavy { weight: Some(LIMIT * 10), other: Some(100) };
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(vec![]), heavy, each_second()).await.unwrap();
    let mut tap = runtime.handle().tap(TapLimits { bytes: LIMIT, ..TapLimits::default() });
    let mut published = Vec::new();
    for second in 1..21 {
        at(start, second * 1_000 + 500).await;
        published.push(Arc::downgrade(&runtime.handle().latest_snapshot().unwrap()));
    }
    let alive = published.iter().filter(|snapshot| snapshot.strong_count() > 0).count();
    let held = read_all(&mut tap);
    let successes = held.iter().flatten().filter(|record| record.kind() == Success).count();
    assert!(alive <= successes + 2, "{alive} are held, by {successes} successes");
}

/// Neither loses anything: a thread that reads at once, and one that gets numbers of what it lost.
#[test]
fn beside_a_busy_writer_records_and_losses_make_up_all_the_numbers() {
    let executor = executor(Flavour::MultiThread);
    let wake = Arc::new(tokio::sync::Notify::new());
    let config = ObservationConfig {
        wake: Some(Arc::clone(&wake)),
        min_gap: std::time::Duration::from_nanos(1),
        ..ObservationConfig::default()
    };
    let sources = StaticSourceProvider::new(vec![]);
    let runtime = executor.block_on(ObservationRuntime::start(sources, Tally::default(), config)).unwrap();
    let handle = runtime.handle();
    std::thread::scope(|scope| {
        let readers: Vec<_> = [1, 3, 100_000]
            .into_iter()
            .map(|records| {
                let mut tap = handle.tap(few(records));
                scope.spawn(move || {
                    let mut next = tap.next_number();
                    let mut seqs = Vec::new();
                    loop {
                        match block_on(tap.recv()) {
                            Ok(record) => {
                                assert_eq!(record.number, next);
                                next += 1;
                                seqs.extend(record.batch.map(|batch| batch.seq));
                            }
                            Err(TapError::Lost { first, last }) => {
                                assert!(first == next && last >= first && records < 100_000);
                                next = last + 1;
                            }
                            Err(TapError::Closed(_)) => return (next, seqs),
                            Err(other) => panic!("{other}"),
                        }
                    }
                })
            })
            .collect();
        while handle.latest_snapshot().unwrap().cycle < 2_000 {
            wake.notify_one();
            std::thread::yield_now();
        }
        let _ = executor.block_on(runtime.stop());
        let read: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
        assert!(read.iter().all(|(next, _)| *next == read[0].0), "all end with the stop");
        let all = &read[2].1;
        assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "the one with room has each batch");
    });
}

/// What each source answers: a text of a mebibyte that is never the same.
async fn text(source: ObservedSource<Arc<AtomicUsize>>) -> Result<String, DynError> {
    let nth = source.source.fetch_add(1, Ordering::Relaxed);
    Ok("x".repeat(1_024 * 1_024) + &nth.to_string())
}

/// Unweighed, an answer counts as what it is without its text.
#[tokio::test(start_paused = true)]
async fn the_answers_of_sources_are_weighed_as_the_app_says() {
    for (weighed, held) in [(true, 3), (false, 10)] {
        let start = Instant::now();
        let mut observer = PerSource::new(text);
        if weighed {
            observer = observer.weighing(String::len);
        }
        let sources = [("a", Arc::default())];
        let runtime = ObservationRuntime::start(sources, observer, each_second()).await.unwrap();
        at(start, 500).await;
        // Each success weighs its snapshot's answer, and the one before it, which its event shows.
        let mut tap = runtime.handle().tap(TapLimits { bytes: 7 * 1_024 * 1_024, ..TapLimits::default() });
        at(start, 10_500).await;
        let kept = read_all(&mut tap);
        let successes = kept.iter().flatten().filter(|record| record.kind() == Success).count();
        assert_eq!(successes, held, "weighed: {weighed}");
    }
}
