//! A feed goes on after a gap, and every reader knows exactly what is missing.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedFailure, FeedLoss, FeedStart, FeedSuccess};
use watchkeeper::runtime::{Cause, State, StopReason};
use watchkeeper::subscription::{Record, RecvError, TapError, TapLimits};
use watchkeeper::wait::{Inconclusive, UnmetOutcome};
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationHandle, ObservationRuntime,
    ObservationRuntimeError, ObservedSource, Observer, async_trait,
};

use crate::common::ms;
use crate::common::threads::poll_once;

/// Counts its polls, and emits each count.
struct Counter;

#[async_trait]
impl Observer for Counter {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], count: &mut u64) -> Result<Vec<u64>, DynError> {
        *count += 1;
        Ok(if count.is_multiple_of(3) { Vec::new() } else { vec![*count, *count + 100] })
    }

    fn snapshot(&self, count: &u64) -> u64 {
        *count
    }
}

/// A feed by hand, in which one cycle ends each second.
struct Fed {
    feed: Feed<Counter>,
    start: Instant,
    cycle: u64,
}

impl Fed {
    fn new(history_limit: usize) -> Self {
        let start = FeedStart::now();
        let config = ObservationConfig { history_limit, ..ObservationConfig::default() };
        Self { feed: Feed::new(&config, start).unwrap(), start: start.at, cycle: 0 }
    }

    fn handle(&self) -> ObservationHandle<Counter> {
        self.feed.handle()
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_secs(self.cycle)
    }

    fn success(&mut self, events: &[u64]) {
        let (cycle, began) = (self.cycle, self.now());
        let events = events.to_vec();
        let success = FeedSuccess { cycle, generation: 1, began, is_polled: true, value: cycle, events };
        self.feed.success(began, success).unwrap();
        self.cycle += 1;
    }

    fn lost(&mut self, publications: u64, batches: u64) {
        let loss = FeedLoss { publications, batches, events: 2 * batches };
        self.feed.lost(self.now(), loss).unwrap();
    }
}

fn lagged(item: Option<Result<impl Sized, RecvError>>) -> (u64, u64) {
    match item {
        Some(Err(RecvError::Lagged { missed, resume })) => (missed, resume.seq()),
        Some(Err(other)) => panic!("{other}"),
        Some(Ok(_)) => panic!("a batch"),
        None => panic!("nothing"),
    }
}

//  batches   0 1 2 | 3 4 5 6 lost | 7 | 8 lost | 9
#[tokio::test(start_paused = true)]
async fn a_subscription_returns_what_it_had_then_exactly_how_much_is_missing() {
    let mut fed = Fed::new(64);
    let (mut slow, mut quick) = (fed.handle().subscribe(), fed.handle().subscribe());
    (0..3).for_each(|n| fed.success(&[n]));
    let before = fed.handle().latest_snapshot().unwrap();
    for n in 0..3 {
        assert_eq!(quick.try_recv().unwrap().unwrap().seq, n);
    }
    let mut waiting = Box::pin(quick.recv());
    assert!(poll_once(waiting.as_mut()).is_pending());
    fed.lost(10, 4);
    assert_eq!(lagged(Some(waiting.await)), (4, 7), "it is woken by the gap itself");
    assert!(quick.try_recv().is_none());
    fed.success(&[7, 7]);
    fed.lost(1, 1);
    fed.success(&[9]);
    assert_eq!(quick.try_recv().unwrap().unwrap().events, [7, 7]);
    assert_eq!(lagged(quick.try_recv()), (1, 9));
    assert_eq!(quick.try_recv().unwrap().unwrap().events, [9]);
    // One that comes late has what the history holds, on both sides of each gap.
    for n in 0..3 {
        assert_eq!(slow.try_recv().unwrap().unwrap().events, [n]);
    }
    assert_eq!((lagged(slow.try_recv()), slow.cursor().seq()), ((4, 7), 7));
    assert_eq!(slow.try_recv().unwrap().unwrap().seq, 7);
    let mut from = fed.handle().subscribe_from(before.cursor).unwrap();
    assert_eq!(lagged(from.try_recv()), (4, 7));
    let seqs: Vec<_> = fed.handle().history().iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs, [0, 1, 2, 7, 9]);
    let newest = fed.handle().latest_snapshot().unwrap();
    assert_eq!((newest.cursor.seq(), newest.event_count), (10, 3 + 8 + 2 + 2 + 1));
    // A gap at the very end, and the stop after it.
    fed.lost(3, 2);
    let mut last = fed.handle().subscribe_from(newest.cursor).unwrap();
    fed.feed.stop(fed.now(), StopReason::Requested).unwrap();
    assert_eq!(lagged(last.try_recv()), (2, 12));
    assert_eq!(last.try_recv().unwrap().unwrap_err(), RecvError::Closed(StopReason::Requested));
}

/// For any history, readers and times, what is returned and what is missing add up to everything.
#[tokio::test(start_paused = true)]
async fn every_batch_is_returned_once_or_counted_once() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut fed = Fed::new(random.usize(0..6));
        let mut readers: Vec<_> = (0..3).map(|_| (fed.handle().subscribe(), 0, 0)).collect();
        for _ in 0..60 {
            match random.u8(0..4) {
                0 => fed.lost(random.u64(5..8), random.u64(0..5)),
                1 => fed.success(&[]),
                _ => fed.success(&[1]),
            }
            for (subscription, next, missed_so_far) in &mut readers {
                for _ in 0..random.u8(0..3) {
                    match subscription.try_recv() {
                        Some(Ok(batch)) => {
                            assert_eq!(batch.seq, *next, "seed {seed}");
                            *next += 1;
                        }
                        Some(Err(RecvError::Lagged { missed, resume })) => {
                            (*next, *missed_so_far) = (*next + missed, *missed_so_far + missed);
                            assert!(missed > 0 && resume.seq() == *next, "seed {seed}");
                        }
                        Some(Err(other)) => panic!("{other}"),
                        None => {}
                    }
                }
            }
        }
        let all = fed.handle().subscribe().cursor().seq();
        for (subscription, next, _) in &mut readers {
            while let Some(item) = subscription.try_recv() {
                *next = item.map_or_else(|lagged| lagged_to(&lagged), |batch| batch.seq + 1);
            }
            assert_eq!((*next, subscription.cursor().seq()), (all, all), "seed {seed}");
        }
    }
}

fn lagged_to(error: &RecvError) -> u64 {
    let RecvError::Lagged { resume, .. } = error else { panic!("{error}") };
    resume.seq()
}

#[tokio::test(start_paused = true)]
async fn a_tap_returns_exactly_which_publications_are_missing() {
    let mut fed = Fed::new(4);
    let mut tap = fed.handle().tap(TapLimits::default());
    fed.success(&[1]);
    fed.lost(10, 2);
    fed.success(&[]);
    assert_eq!(tap.try_recv().unwrap().unwrap().number, 1);
    assert_eq!(tap.try_recv().unwrap().unwrap_err(), TapError::Lost { first: 2, last: 11 });
    let record = tap.try_recv().unwrap().unwrap();
    assert_eq!((record.number, record.cursor.seq(), record.event_count), (12, 3, 5));
    assert!(tap.try_recv().is_none());
}

fn outcome<T>(ended: Result<T, watchkeeper::wait::Unmet>) -> Option<UnmetOutcome> {
    ended.err().map(|unmet| unmet.outcome())
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lives_across_a_gap_knows_that_it_has_missed_something() {
    let fell_behind = |missed| Some(UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed }));
    let window = Duration::from_secs(20);
    let mut fed = Fed::new(64);
    let handle = fed.handle();
    fed.success(&[1]);
    let early = handle.mark();
    let met_after = handle.eventually("6", |n| *n == 6).within(window);
    let not_met = handle.eventually("99", |n| *n == 99).within(window);
    let always = handle.always("small", |n| *n < 99).during(window);
    let violated = handle.never("6", |n| *n == 6).during(window);
    let fresh = handle.stays_fresh().during(window);
    let event = handle.event("99", |event| *event == 99).within(window);
    let reaches = handle.reaches(State::Polling).within(window);
    let builder = handle.eventually("99", |n| *n == 99);
    let invariant = handle.invariant("small", |n| *n < 99);
    fed.success(&[2]);
    fed.lost(5, 2);
    fed.success(&[3]);
    let late = handle.mark();
    // From before the mark: nothing that counts is missing.
    let marked = builder.after(late).within(window);
    let made_after = handle.eventually("99", |n| *n == 99).within(window);
    let of_before = handle.event("99", |event| *event == 99).after(early).within(window);
    (0..30).for_each(|n| fed.success(&[n]));
    assert_eq!(met_after.await.unwrap().value, 6);
    assert_eq!(outcome(violated.await), Some(UnmetOutcome::Violated));
    assert_eq!(outcome(not_met.await), fell_behind(5));
    assert_eq!(outcome(always.await), fell_behind(5));
    assert_eq!(outcome(fresh.await), fell_behind(5));
    assert_eq!(outcome(event.await), fell_behind(5));
    assert_eq!(outcome(reaches.await), fell_behind(5));
    assert_eq!(outcome(marked.await), Some(UnmetOutcome::NotMet));
    assert_eq!(outcome(made_after.await), Some(UnmetOutcome::NotMet));
    let unmet = of_before.await.unwrap_err();
    assert_eq!(Some(unmet.outcome()), fell_behind(2), "two batches that may have had it: {unmet}");
    fed.feed.stop(fed.now(), StopReason::Requested).unwrap();
    assert_eq!(outcome(invariant.finish().await), fell_behind(5));
}

#[tokio::test(start_paused = true)]
async fn a_loss_that_cannot_be_is_refused_and_changes_nothing() {
    let loss = |publications, batches, events| FeedLoss { publications, batches, events };
    let (max, half) = (u64::MAX, u64::MAX / 2);
    let cases = [
        (loss(1, 2, 2), FeedError::InvalidLoss(loss(1, 2, 2))),
        (loss(2, 2, 1), FeedError::InvalidLoss(loss(2, 2, 1))),
        (loss(2, 0, 1), FeedError::InvalidLoss(loss(2, 0, 1))),
        (loss(max, 0, 0), FeedError::TooLarge { field: "publications", value: max }),
        (loss(half, half, half), FeedError::TooLarge { field: "publications", value: half + 1 }),
        (loss(5, 5, max), FeedError::TooLarge { field: "event_count", value: max }),
    ];
    for (loss, expected) in cases {
        let mut fed = Fed::new(4);
        fed.success(&[1]);
        let mut watch = fed.handle().watch();
        let mut batches = fed.handle().subscribe();
        assert_eq!(fed.feed.lost(fed.now(), loss), Err(expected), "{loss:?}");
        assert!(expected.to_string().len() < 300 && !expected.to_string().contains("  "), "{expected}");
        assert!(poll_once(Box::pin(watch.changed()).as_mut()).is_pending() && batches.try_recv().is_none());
        assert_eq!(
            fed.feed.lost(fed.start.checked_sub(ms(1)).unwrap(), loss).unwrap_err(),
            FeedError::TimeWentBack { by: ms(1) }
        );
        fed.feed.stop(fed.now(), StopReason::Requested).unwrap();
        assert_eq!(fed.feed.lost(fed.now(), loss).unwrap_err(), FeedError::Ended(StopReason::Requested));
    }
    // Nothing at all is no loss.
    let mut fed = Fed::new(4);
    fed.lost(0, 0);
    fed.success(&[1]);
    assert_eq!(fed.handle().history()[0].seq, 0);
}

/// A run of twenty cycles, of which a tap with room for three records has kept up with the first and the last.
async fn a_run_with_gaps() -> Vec<Result<Record<Counter>, TapError>> {
    let config = ObservationConfig { interval: Duration::from_secs(3_600), ..ObservationConfig::default() };
    let runtime = ObservationRuntime::start([("n1", ())], Counter, config).await.unwrap();
    let mut tap = runtime.handle().tap(TapLimits { records: 3, ..TapLimits::default() });
    let mut items = Vec::new();
    for n in 0..20 {
        runtime.poll_now_and_wait().await.unwrap();
        tokio::time::advance(ms(500)).await;
        if n < 3 || n == 15 {
            items.extend(std::iter::from_fn(|| tap.try_recv()));
        }
    }
    items.extend(std::iter::from_fn(|| tap.try_recv()));
    let _ = runtime.stop().await;
    while let Ok(record) = tap.recv().await {
        items.push(Ok(record));
    }
    items
}

#[tokio::test(start_paused = true)]
async fn a_replay_goes_on_after_what_its_tap_has_lost() {
    let items = a_run_with_gaps().await;
    let records = || items.iter().filter_map(|item| item.as_ref().ok());
    let first = records().next().unwrap();
    let mut feed: Feed<Counter> = Feed::new(&ObservationConfig::default(), first.into()).unwrap();
    let mut batches = feed.handle().subscribe();
    let mut tap = feed.handle().tap(TapLimits::default());
    let missed = feed.handle().eventually("99", |n| *n == 99).within(Duration::from_secs(3_600));
    let mut lost = Vec::new();
    for item in &items {
        match item {
            Ok(record) if lost.last().is_some_and(|(_, last)| *last + 1 == record.number) => {
                assert!(matches!(feed.record(record), Err(FeedError::RecordsMissing { .. })));
                feed.lost_before(record).unwrap();
                feed.lost_before(record).unwrap(); // Once is enough.
                feed.record(record).unwrap();
            }
            Ok(record) => feed.record(record).unwrap(),
            Err(TapError::Lost { first, last }) => lost.push((*first, *last)),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(lost.len() >= 2, "{lost:?}");
    let all: u64 = lost.iter().map(|(first, last)| last - first + 1).sum();
    let unmet = missed.await.unwrap_err();
    assert_eq!(
        unmet.outcome(),
        UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason: StopReason::Requested })
    );
    // The tap of the replay has the records of the run, and the same gaps, with its own numbers.
    let mut gaps = 0;
    let again: Vec<_> = std::iter::from_fn(|| tap.try_recv())
        .take_while(|item| !matches!(item, Err(TapError::Closed(_))))
        .filter_map(|item| {
            item.inspect_err(|error| {
                if let TapError::Lost { first, last } = error {
                    gaps += last - first + 1;
                }
            })
            .ok()
        })
        .collect();
    assert_eq!(gaps, all);
    assert_eq!(again.len(), records().count());
    for (one, other) in records().zip(&again) {
        assert_eq!(
            (one.cursor, one.event_count, &one.batch),
            (other.cursor, other.event_count, &other.batch)
        );
    }
    let (mut next, mut returned) = (batches.cursor().seq(), 0);
    while let Some(item) = batches.try_recv() {
        match item {
            Ok(batch) => {
                assert_eq!(batch.seq, next);
                (next, returned) = (next + 1, returned + 1);
            }
            Err(RecvError::Lagged { missed, resume }) => {
                next += missed;
                assert_eq!(resume.seq(), next);
            }
            Err(_) => break,
        }
    }
    let newest = feed.handle().latest_snapshot().unwrap();
    assert_eq!((next, newest.event_count), (newest.cursor.seq(), 28));
    assert_eq!(returned, records().filter(|record| record.batch.is_some()).count());
}

#[tokio::test(start_paused = true)]
async fn a_record_may_not_precede_what_was_published_by_hand() {
    let items = a_run_with_gaps().await;
    let records: Vec<_> = items.into_iter().filter_map(Result::ok).collect();
    let begun = || Feed::<Counter>::new(&ObservationConfig::default(), FeedStart::from(&records[0])).unwrap();
    let cycle = 1_000;
    let (mut feed, at) = (begun(), records[0].at);
    let (began, generation) = (at, 1);
    let success = FeedSuccess { cycle, generation, began, is_polled: true, value: 7, events: Vec::new() };
    feed.success(at, success).unwrap();
    for record in &records[..3] {
        let expected = FeedError::CycleWentBack { cycle: record.status.cycle, newest: 1_000 };
        assert_eq!(feed.record(record), Err(expected));
        assert_eq!(feed.lost_before(record), Err(expected));
    }
    let mut feed = begun();
    let (stage, cause, message) = (Stage::Poll, Cause::Error, "down".to_owned());
    let cycle = records[0].status.cycle;
    feed.failure(at, FeedFailure { cycle, began, stage, cause, message, rebuild: false }).unwrap();
    assert_eq!(
        feed.record(&records[0]),
        Err(FeedError::CycleWentBack { cycle, newest: cycle }),
        "it has ended"
    );
    let mut feed = begun();
    let later = FeedSuccess { cycle, generation: 2, began, is_polled: false, value: 7, events: Vec::new() };
    feed.success(at, later).unwrap();
    let back = FeedError::GenerationWentBack { generation: 1, newest: 2 };
    assert_eq!(feed.record(&records[0]), Err(back));
}

/// Fields of a record are public; what a feed rests on is what was published.
#[tokio::test(start_paused = true)]
async fn a_record_that_was_changed_is_refused() {
    let items = a_run_with_gaps().await;
    let records: Vec<_> = items.into_iter().filter_map(Result::ok).collect();
    let (nth, whole) = records.iter().enumerate().find(|(_, record)| record.batch.is_some()).unwrap();
    let other = records.iter().rfind(|record| record.batch.is_some()).unwrap();
    type Change = fn(&mut Record<Counter>, &Record<Counter>);
    let cases: [(&str, Change); 6] = [
        ("number", |record, _| record.number = u64::MAX),
        ("snapshot", |record, other| record.snapshot.clone_from(&other.snapshot)),
        ("batch", |record, other| record.batch.clone_from(&other.batch)),
        ("batch", |record, _| record.snapshot = None),
        ("cursor", |record, other| record.cursor = other.cursor),
        ("event_count", |record, _| record.event_count = u64::MAX),
    ];
    for (field, change) in cases {
        let mut feed: Feed<Counter> = Feed::new(&ObservationConfig::default(), (&records[0]).into()).unwrap();
        records[..nth].iter().for_each(|record| feed.record(record).unwrap());
        let mut changed = whole.clone();
        change(&mut changed, other);
        assert_eq!(feed.record(&changed), Err(FeedError::Altered { field }));
        assert_eq!(feed.lost_before(&changed), Err(FeedError::Altered { field }));
        feed.record(whole).unwrap();
    }
}

/// The last moment there is, or the first.
fn extreme(start: Instant, step: impl Fn(Instant, Duration) -> Option<Instant>) -> Instant {
    let steps = (0..64).rev().map(|bit| Duration::from_secs(1 << bit));
    steps.fold(start, |at, more| step(at, more).unwrap_or(at))
}

#[tokio::test(start_paused = true)]
async fn moments_near_the_end_of_time_are_refused_or_survived() {
    let now = Instant::now();
    let (first, last) =
        (extreme(now, |at, less| at.checked_sub(less)), extreme(now, |at, more| at.checked_add(more)));
    let start = |at| FeedStart { at, ..FeedStart::now() };
    let refused = Feed::<Counter>::new(&ObservationConfig::default(), start(last)).map(drop).unwrap_err();
    assert!(matches!(refused, ObservationRuntimeError::FeedStartTooLate), "{refused}");

    let success = |cycle, began| {
        let (generation, is_polled) = (1, true);
        FeedSuccess { cycle, generation, began, is_polled, value: cycle, events: vec![cycle] }
    };
    let latest = last.checked_sub(Duration::from_secs(367 * 24 * 3_600)).unwrap();
    let eternity = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::MAX / 2 - 1);
    for system_time in [SystemTime::now(), eternity, SystemTime::UNIX_EPOCH] {
        let config =
            ObservationConfig { interval: Duration::from_secs(24 * 3_600), ..ObservationConfig::default() };
        let mut feed: Feed<Counter> = Feed::new(&config, FeedStart { system_time, ..start(first) }).unwrap();
        let handle = feed.handle();
        let mut tap = handle.tap(TapLimits::default());
        feed.success(first, success(0, first)).unwrap();
        assert!(handle.freshness().is_fresh());
        // From the first moment to the last: as long as a cycle can be.
        feed.success(latest, success(1, first)).unwrap();
        assert!(handle.freshness().is_fresh() && handle.status().freshness.age().is_some());
        let day = Duration::from_secs(24 * 3_600);
        let (stale, never) =
            (handle.becomes_stale().within(day), handle.eventually("9", |n| *n == 9).within(day));
        let same = handle.stable_for("one", day / 2, |n| Some(*n)).or_now().within(day);
        assert!(!same.explain().is_empty());
        for at in [last, last.checked_sub(Duration::from_secs(1)).unwrap()] {
            assert_eq!(feed.success(at, success(2, latest)), Err(FeedError::TooLate));
            assert_eq!(feed.sources(at, 2, ["n1"]), Err(FeedError::TooLate));
            assert_eq!(feed.advance(at), Err(FeedError::TooLate));
            assert_eq!(feed.stop(at, StopReason::Requested), Err(FeedError::TooLate));
            assert_eq!(
                feed.lost(at, FeedLoss { publications: 1, ..FeedLoss::default() }),
                Err(FeedError::TooLate)
            );
        }
        feed.advance(latest + day).unwrap();
        assert!(stale.await.is_err() && never.await.is_err() && same.await.is_ok());
        for record in std::iter::from_fn(|| tap.try_recv()).map(Result::unwrap) {
            let _ = (format!("{record:?}"), handle.system_time(record.at), record.system_time);
        }
        #[cfg(feature = "json")]
        {
            let show = |_: &u64| serde_json::Value::Null;
            let any = watchkeeper::group::AnyHandle::with_json_events("fed", &handle, show, |event| {
                serde_json::to_value(event)
            });
            let mut batches = any.subscribe_json_from(feed_start(&handle)).unwrap();
            assert!(batches.try_recv().unwrap().unwrap().to_json().is_object());
        }
    }
}

#[cfg(feature = "json")]
fn feed_start(handle: &ObservationHandle<Counter>) -> watchkeeper::subscription::Cursor {
    let newest = handle.latest_snapshot().unwrap().cursor.to_string();
    let mut fields: Vec<_> = newest.split('.').collect();
    *fields.last_mut().unwrap() = "0";
    fields.join(".").parse().unwrap()
}

/// A feed that begins in the middle of a run differs from a run that has just begun.
#[tokio::test(start_paused = true)]
async fn a_feed_is_given_which_snapshot_is_of_a_poll() {
    for (is_polled, expected) in [
        (true, UnmetOutcome::Invalid(watchkeeper::wait::InvalidWait::NoSourceHealth)),
        (false, UnmetOutcome::Inconclusive(Inconclusive::Stopped { reason: StopReason::Requested })),
    ] {
        let mut fed = Fed::new(4);
        let wait = fed.handle().source_fresh("n1").within(Duration::from_secs(20));
        fed.feed.sources(fed.start, 0, ["n1"]).unwrap();
        let (cycle, generation, began) = (0, 1, fed.start);
        fed.feed
            .success(began, FeedSuccess { cycle, generation, began, is_polled, value: 7, events: Vec::new() })
            .unwrap();
        assert_eq!(fed.handle().latest_snapshot().unwrap().is_polled, is_polled);
        fed.feed.stop(began, StopReason::Requested).unwrap();
        assert_eq!(outcome(wait.await), Some(expected));
    }
}
