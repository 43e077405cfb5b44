//! A feed has the waits, watches and subscriptions of a runtime, over what is published by hand.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedFailure, FeedStart, FeedSuccess};
use watchkeeper::group::AnyHandle;
use watchkeeper::runtime::{Cause, ObservationStatus, State, StateKind, StopReason};
use watchkeeper::source::{ProbeFailure, SharedSources, SourceFacts, SourceHealth};
use watchkeeper::subscription::{CursorError, Record, RecordKind, RecvError, TapLimits};
use watchkeeper::wait::{Mark, Wait, WatchError};
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationHandle, ObservationRuntime,
    ObservationRuntimeError, ObservedSource, Observer, async_trait,
};

use crate::common::threads::poll_once;
use crate::common::{at, ms};

/// What is known of each source, and how often they were asked.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    polls: u64,
    facts: BTreeMap<String, SourceFacts>,
}

/// Follows the timeline below.
struct Nodes {
    start: Instant,
}

impl Nodes {
    fn second(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

//  0 s   n1, n2         4 to 6 s   n1 fails        9 s   a poll fails      11 s   one panics: a rebuild
// 12 s   a poll takes 3.5 s: stale at 13.5 s      17 to 19.6 s paused     21 s   the stop
//  3 s   n3 joins       7 s   n2 leaves
#[async_trait]
impl Observer for Nodes {
    type Source = ();
    type State = Known;
    type Snapshot = Known;
    type Event = u64;

    async fn init(&self, nodes: &[ObservedSource<()>]) -> Result<Known, DynError> {
        let mut known = Known::default();
        self.look(nodes, &mut known);
        Ok(known)
    }

    async fn poll(&self, nodes: &[ObservedSource<()>], known: &mut Known) -> Result<Vec<u64>, DynError> {
        let second = self.second();
        if (9.0..9.4).contains(&second) {
            return Err("down".into());
        }
        assert!(!(11.0..11.4).contains(&second), "a bug");
        if (12.0..12.4).contains(&second) {
            tokio::time::sleep(ms(3_500)).await;
        }
        self.look(nodes, known);
        known.polls += 1;
        Ok(if known.polls.is_multiple_of(3) { vec![known.polls, known.polls + 1] } else { vec![] })
    }

    fn snapshot(&self, known: &Known) -> Known {
        known.clone()
    }

    fn source_health(known: &Known, name: &str) -> Option<SourceHealth> {
        known.facts.get(name).map(|facts| SourceHealth::new(facts.clone(), ms(1_200)))
    }

    fn asked_since(known: &Known, since: Instant) -> Option<Known> {
        let facts = known
            .facts
            .iter()
            .map(|(name, facts)| (name.clone(), facts.asked_since(since).unwrap_or_else(|| facts.clone())));
        Some(Known { polls: known.polls, facts: facts.collect() })
    }
}

impl Nodes {
    fn look(&self, nodes: &[ObservedSource<()>], known: &mut Known) {
        known.facts.retain(|name, _| nodes.iter().any(|node| node.name == *name));
        for node in nodes {
            let facts = known.facts.entry(node.name.clone()).or_default();
            let now = Instant::now();
            facts.began(now);
            if node.name == "n1" && (4.0..6.0).contains(&self.second()) {
                facts.failed(ProbeFailure::new(now, now, Cause::Error, "refused"));
            } else {
                facts.answered(now, now);
            }
        }
    }
}

fn config() -> ObservationConfig {
    ObservationConfig {
        interval: ms(500),
        history_limit: 4,
        stale_after: Some(ms(1_500)),
        ..ObservationConfig::default()
    }
}

/// From where a wait counts.
#[derive(Clone, Copy, Debug)]
enum From {
    Begun,
    Now,
    Mark(Mark),
}

type Verdict = Pin<Box<dyn Future<Output = String> + Send>>;

fn verdict<T: 'static>(wait: Wait<'static, Nodes, T>, met: fn(&T) -> String) -> Verdict {
    Box::pin(async move {
        match wait.await {
            Ok(value) => format!("met by {}", met(&value)),
            Err(unmet) => format!(
                "{:?}, judged {}, violated by {:?}, {} failures, reason {:?}",
                unmet.outcome(),
                unmet.judged(),
                unmet.first_violation(),
                unmet.failures().len(),
                unmet.reason()
            ),
        }
    })
}

macro_rules! start {
    ($from:expr, $wait:expr) => {
        match $from {
            From::Begun => $wait,
            From::Now => $wait.or_now(),
            From::Mark(mark) => $wait.after(mark),
        }
    };
}

/// A wait of each kind.
fn all_kinds(handle: &ObservationHandle<Nodes>, from: From, window: Duration) -> Vec<(String, Verdict)> {
    let snapshot = |snapshot: &Arc<watchkeeper::ObservationSnapshot<Known>>| {
        format!("cycle {}, polls {}", snapshot.cycle, snapshot.value.polls)
    };
    let status = |status: &ObservationStatus<Nodes>| {
        format!("cycle {}, {:?}, fresh {}", status.cycle, status.state, status.freshness.is_fresh())
    };
    let mut all = Vec::new();
    let mut add =
        |kind: &str, verdict: Verdict| all.push((format!("{kind} from {from:?} for {window:?}"), verdict));
    let polls = |known: &Known| known.polls % 7 == 5;
    add("eventually", verdict(start!(from, handle.eventually("polls", polls)).within(window), snapshot));
    let reasons = |known: &Known| if known.polls < 9 { Err("few polls") } else { Ok(()) };
    add(
        "eventually many",
        verdict(start!(from, handle.eventually("many", reasons)).within(window), snapshot),
    );
    let some =
        handle.eventually_some("n3", |known: &Known| known.facts.contains_key("n3").then_some(known.polls));
    add("eventually_some", verdict(start!(from, some).within(window), |polls| format!("{polls}")));
    add(
        "always",
        verdict(start!(from, handle.always("few", |known| known.polls < 12)).during(window), snapshot),
    );
    add("never", verdict(start!(from, handle.never("polls", polls)).during(window), snapshot));
    let sources = |known: &Known| Some(known.facts.len());
    add(
        "stable_for",
        verdict(start!(from, handle.stable_for("as many", ms(1_100), sources)).within(window), snapshot),
    );
    let event = start!(from, handle.event("9", |event| *event == 9)).within(window);
    add("event", verdict(event, |met| format!("cycle {}, number {}", met.batch.cycle, met.index)));
    for state in [StateKind::Failed, StateKind::Starting, StateKind::Polling, StateKind::Stopped] {
        add(&format!("reaches {state}"), verdict(start!(from, handle.reaches(state)).within(window), status));
    }
    add("stays_fresh", verdict(start!(from, handle.stays_fresh()).during(window), status));
    add("becomes_stale", verdict(start!(from, handle.becomes_stale()).within(window), status));
    for name in ["n1", "n2", "nobody"] {
        add(
            &format!("fresh {name}"),
            verdict(start!(from, handle.source_fresh(name)).within(window), snapshot),
        );
        add(
            &format!("stale {name}"),
            verdict(start!(from, handle.source_stale(name)).within(window), snapshot),
        );
        add(
            &format!("failing {name}"),
            verdict(start!(from, handle.source_failing(name)).within(window), snapshot),
        );
        add(
            &format!("vanished {name}"),
            verdict(start!(from, handle.source_vanished(name)).within(window), status),
        );
    }
    let set = handle.source_set("two", |names| names.len() == 2);
    add("source_set", verdict(start!(from, set).within(window), status));
    all
}

/// When waits begin, in milliseconds.
const BEGIN: [u64; 6] = [0, 3_250, 8_750, 11_250, 14_250, 17_250];
const WINDOWS: [Duration; 2] = [ms(2_130), ms(6_070)];

fn begun_at(handle: &ObservationHandle<Nodes>, marks: &mut Vec<Mark>) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    for window in WINDOWS {
        all.extend(all_kinds(handle, From::Begun, window));
        all.extend(all_kinds(handle, From::Now, window));
        if let Some(mark) = marks.last() {
            let since = all_kinds(handle, From::Mark(*mark), window);
            // A mark's `Debug` has the publication's number, which is the run's own.
            all.extend(
                since
                    .into_iter()
                    .map(|(kind, verdict)| (kind.split('(').next().unwrap().to_owned(), verdict)),
            );
        }
    }
    marks.push(handle.mark());
    all
}

/// The verdict of each wait, and when it came, in milliseconds.
type Verdicts = Vec<(String, String, u128)>;

async fn live() -> (Verdicts, Vec<Record<Nodes>>, Vec<String>) {
    let start = Instant::now();
    let sources = SharedSources::new(Vec::new());
    let set = |names: &[&str]| {
        let _ = sources.replace(names.iter().map(|name| ObservedSource::new(*name, ())).collect());
    };
    set(&["n1", "n2"]);
    let runtime =
        ObservationRuntime::start_in_background(sources.clone(), Nodes { start }, config()).unwrap();
    let handle = runtime.handle();
    let mut tap = handle.tap(TapLimits { records: 10_000, ..TapLimits::default() });
    let (mut waits, mut marks) = (Vec::new(), Vec::new());
    let mut batches = handle.subscribe();
    let mut steps = BEGIN.map(|millis| (millis, "waits")).to_vec();
    steps.extend([(2_900, "+n3"), (6_900, "-n2"), (16_900, "pause"), (19_600, "resume"), (21_130, "stop")]);
    steps.sort_unstable();
    for (millis, what) in steps {
        if millis > 0 {
            at(start, millis).await;
        }
        match what {
            "+n3" => set(&["n1", "n2", "n3"]),
            "-n2" => set(&["n1", "n3"]),
            "pause" => runtime.control().pause().await.unwrap(),
            "resume" => runtime.control().resume().await.unwrap(),
            "stop" => drop(runtime.stop().await),
            _ => waits.extend(begun_at(&handle, &mut marks).into_iter().map(|(kind, verdict)| {
                let judged = tokio::spawn(async move { (verdict.await, start.elapsed().as_millis()) });
                (format!("{kind} at {millis}"), judged)
            })),
        }
    }
    let mut verdicts = Vec::new();
    for (kind, judged) in waits {
        let (verdict, when) = judged.await.unwrap();
        verdicts.push((kind, verdict, when));
    }
    let mut records = Vec::new();
    while let Ok(record) = tap.recv().await {
        records.push(record);
    }
    let mut heard = Vec::new();
    while let Some(item) = batches.try_recv() {
        heard.push(format!("{item:?}"));
        if matches!(item, Err(RecvError::Closed(_))) {
            break;
        }
    }
    (verdicts, records, heard)
}

fn replayed(records: &[Record<Nodes>]) -> (Verdicts, Vec<Record<Nodes>>, Vec<String>) {
    let start = records[0].at;
    let mut feed = Feed::new(&config(), FeedStart::from(&records[0])).unwrap();
    let handle = feed.handle();
    let mut tap = handle.tap(TapLimits { records: 10_000, ..TapLimits::default() });
    let mut batches = handle.subscribe();
    let (mut heard, mut again) = (Vec::new(), Vec::new());
    let (mut verdicts, mut waits, mut marks): (Verdicts, _, _) =
        (Vec::new(), Vec::<(String, Verdict)>::new(), Vec::new());
    let mut look = |waits: &mut Vec<(String, Verdict)>, now: Instant| {
        waits.retain_mut(|(kind, verdict)| {
            match verdict.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                std::task::Poll::Ready(judged) => {
                    verdicts.push((std::mem::take(kind), judged, (now - start).as_millis()));
                    false
                }
                std::task::Poll::Pending => true,
            }
        });
    };
    let mut records = records.iter().peekable();
    for millis in (0..22_000).step_by(10) {
        if millis == 0 {
            waits.extend(
                begun_at(&handle, &mut marks).into_iter().map(|(kind, wait)| (format!("{kind} at 0"), wait)),
            );
        }
        while let Some(record) = records.next_if(|record| record.at <= start + ms(millis)) {
            feed.record(record).unwrap();
            look(&mut waits, feed.now());
        }
        if feed.advance(start + ms(millis)).is_ok() {
            look(&mut waits, feed.now());
        }
        if millis > 0 && BEGIN.contains(&millis) {
            let begun = begun_at(&handle, &mut marks).into_iter();
            waits.extend(begun.map(|(kind, wait)| (format!("{kind} at {millis}"), wait)));
            look(&mut waits, feed.now());
        }
        while let Some(item) = batches.try_recv() {
            let over = matches!(item, Err(RecvError::Closed(_)));
            heard.push(format!("{item:?}"));
            if over {
                break;
            }
        }
    }
    assert!(waits.is_empty(), "{} waits have no verdict", waits.len());
    while let Some(Ok(record)) = tap.try_recv() {
        again.push(record);
    }
    (verdicts, again, heard)
}

/// The same code judges, by the records' time: each wait gives the same verdict at the same moment.
#[tokio::test(start_paused = true)]
async fn a_replay_gives_every_wait_the_verdict_of_the_run_at_the_same_moment() {
    let (mut verdicts, records, heard) = live().await;
    let before = Instant::now();
    let (mut again, records_again, heard_again) = replayed(&records);
    assert_eq!(Instant::now(), before, "no time passes in a replay");
    verdicts.sort();
    again.sort();
    assert_eq!(verdicts.len(), again.len());
    for (live, replayed) in verdicts.iter().zip(&again) {
        assert_eq!(live, replayed);
    }
    // Each outcome occurs: the comparison covers them all.
    for outcome in ["met by", "NotMet", "Violated", "Stale", "Paused", "Stopped"] {
        let count = verdicts.iter().filter(|(_, verdict, _)| verdict.contains(outcome)).count();
        assert!(count > 0, "no wait was {outcome}");
    }
    // The tap of a replay has the records of the run.
    assert_eq!(records.len(), records_again.len());
    for (one, other) in records.iter().zip(&records_again) {
        assert_eq!((one.number, one.at, one.system_time), (other.number, other.at, other.system_time));
        assert_eq!(
            (one.kind(), one.transition, &one.sources),
            (other.kind(), other.transition, &other.sources)
        );
        assert_eq!(
            (one.cursor, one.event_count, &one.batch),
            (other.cursor, other.event_count, &other.batch)
        );
        assert_eq!((&one.snapshot, &one.failure), (&other.snapshot, &other.failure));
        assert_eq!(one.status.freshness, other.status.freshness);
    }
    let batches =
        |heard: &[String]| heard.iter().filter(|item| item.starts_with("Ok")).cloned().collect::<Vec<_>>();
    let (heard, heard_again) = (batches(&heard), batches(&heard_again));
    assert!(
        heard_again.ends_with(&heard),
        "the live reader came late, and has the newest:\n{heard:?}\n{heard_again:?}"
    );
}

type ByHand = Feed<Nodes>;

fn by_hand() -> (ByHand, ObservationHandle<Nodes>, Instant) {
    let start = FeedStart::now();
    let feed = Feed::new(&config(), start).unwrap();
    let handle = feed.handle();
    (feed, handle, start.at)
}

fn success(cycle: u64, began: Instant, events: &[u64]) -> FeedSuccess<Known, u64> {
    let value = Known { polls: cycle, facts: BTreeMap::new() };
    FeedSuccess { cycle, generation: 1, began, is_polled: cycle > 0, value, events: events.to_vec() }
}

fn failure(cycle: u64, began: Instant) -> FeedFailure {
    let (stage, cause) = (Stage::Poll, Cause::Error);
    FeedFailure { cycle, began, stage, cause, message: "x".repeat(100_000), rebuild: false }
}

/// Publications out of order are refused and change nothing.
#[tokio::test(start_paused = true)]
async fn what_cannot_have_happened_is_refused_and_changes_nothing() {
    type Publish = fn(&mut ByHand, Instant) -> Result<(), FeedError>;
    let cases: [(&str, Publish, FeedError); 13] = [
        (
            "success in the past",
            |feed, start| feed.success(start + ms(1_999), success(2, start, &[7])),
            FeedError::TimeWentBack { by: ms(1) },
        ),
        (
            "failure in the past",
            |feed, start| feed.failure(start, failure(2, start)),
            FeedError::TimeWentBack { by: ms(2_000) },
        ),
        (
            "sources in the past",
            |feed, start| feed.sources(start, 2, ["x"]),
            FeedError::TimeWentBack { by: ms(2_000) },
        ),
        (
            "transition in the past",
            |feed, start| feed.transition(start, State::Polling, 2, false),
            FeedError::TimeWentBack { by: ms(2_000) },
        ),
        (
            "advance into the past",
            |feed, start| feed.advance(start),
            FeedError::TimeWentBack { by: ms(2_000) },
        ),
        (
            "stop in the past",
            |feed, start| feed.stop(start, StopReason::Requested),
            FeedError::TimeWentBack { by: ms(2_000) },
        ),
        (
            "success before its cycle",
            |feed, start| feed.success(start + ms(3_000), success(2, start + ms(3_001), &[7])),
            FeedError::BeforeItsCycle { by: ms(1) },
        ),
        (
            "failure before its cycle",
            |feed, start| feed.failure(start + ms(3_000), failure(2, start + ms(4_000))),
            FeedError::BeforeItsCycle { by: ms(1_000) },
        ),
        (
            "a cycle twice",
            |feed, start| feed.success(start + ms(3_000), success(1, start, &[7])),
            FeedError::CycleWentBack { cycle: 1, newest: 1 },
        ),
        (
            "an older cycle",
            |feed, start| feed.failure(start + ms(3_000), failure(0, start)),
            FeedError::CycleWentBack { cycle: 0, newest: 1 },
        ),
        (
            "work in a cycle that has ended",
            |feed, start| feed.transition(start + ms(3_000), State::Polling, 1, false),
            FeedError::CycleWentBack { cycle: 1, newest: 1 },
        ),
        (
            "an older generation",
            |feed, start| {
                feed.success(start + ms(3_000), FeedSuccess { generation: 0, ..success(2, start, &[7]) })
            },
            FeedError::GenerationWentBack { generation: 0, newest: 1 },
        ),
        (
            "no room for more",
            |feed, start| feed.success(start + ms(3_000), success(u64::MAX, start, &[7])),
            FeedError::TooLarge { field: "cycle", value: u64::MAX },
        ),
    ];
    for (name, publish, expected) in cases {
        let (mut feed, handle, start) = by_hand();
        feed.success(start + ms(1_000), success(0, start, &[])).unwrap();
        feed.failure(start + ms(2_000), failure(1, start + ms(1_500))).unwrap();
        let mut watch = handle.watch();
        assert_eq!(publish(&mut feed, start), Err(expected), "{name}");
        assert!(poll_once(Box::pin(watch.changed()).as_mut()).is_pending(), "{name}");
        assert_eq!((feed.now(), handle.status().cycle), (start + ms(2_000), 1), "{name}");
        // It goes on.
        feed.success(start + ms(3_000), success(2, start + ms(2_500), &[8])).unwrap();
        assert_eq!(handle.history()[0].seq, 0, "{name}");
        feed.stop(start + ms(3_000), StopReason::Requested).unwrap();
        let after = publish(&mut feed, start + ms(10_000));
        assert_eq!(
            after,
            Err(FeedError::Ended(StopReason::Requested)),
            "{name}: nothing comes after the end"
        );
    }
    let numbers = FeedStart { cycle: u64::MAX, ..FeedStart::now() };
    let refused = Feed::<Nodes>::new(&config(), numbers).map(|_| ()).unwrap_err();
    assert!(matches!(refused, ObservationRuntimeError::InvalidFeedStart { field: "cycle", .. }), "{refused}");
    let refused =
        Feed::<Nodes>::new(&ObservationConfig { interval: Duration::ZERO, ..config() }, FeedStart::now());
    assert!(matches!(refused, Err(ObservationRuntimeError::InvalidInterval { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_follow_is_refused() {
    let (mut feed, handle, start) = by_hand();
    let mut tap = handle.tap(TapLimits::default());
    for n in 0..4 {
        feed.success(start + ms(n * 1_000), success(n, start, &[n])).unwrap();
    }
    let records: Vec<_> = std::iter::from_fn(|| tap.try_recv()).map(Result::unwrap).collect();
    // From the middle of the run: its cursors are valid, and nothing is missing.
    let mut replay: ByHand = Feed::new(&config(), FeedStart::from(&records[1])).unwrap();
    assert_eq!(replay.record(&records[0]).unwrap_err(), FeedError::TimeWentBack { by: ms(1_000) });
    replay.record(&records[1]).unwrap();
    assert_eq!(replay.record(&records[1]).unwrap_err(), FeedError::RecordsMissing { expected: 3, found: 2 });
    assert_eq!(replay.record(&records[3]).unwrap_err(), FeedError::RecordsMissing { expected: 3, found: 4 });
    replay.record(&records[2]).unwrap();
    let mut batches = replay.handle().subscribe_from(records[0].cursor).unwrap();
    assert_eq!(batches.try_recv().unwrap().unwrap().events, [1]);
    assert_eq!(batches.try_recv().unwrap().unwrap().events, [2]);
    let beyond = replay.handle().subscribe_from(records[3].cursor).map(|_| ());
    assert_eq!(beyond, Err(CursorError::Future { seq: 4, published: 3 }));
    let mut other: ByHand = Feed::new(&config(), FeedStart { at: start, ..FeedStart::now() }).unwrap();
    assert_eq!(other.record(&records[0]).unwrap_err(), FeedError::Foreign);
    let mut later: ByHand =
        Feed::new(&config(), FeedStart { at: start, ..FeedStart::from(&records[2]) }).unwrap();
    assert_eq!(later.record(&records[1]).unwrap_err(), FeedError::Foreign);
}

#[tokio::test(start_paused = true)]
async fn by_hand_everything_that_reads_a_runtime_reads_a_feed() {
    let (mut feed, handle, start) = by_hand();
    assert_eq!((handle.state(), handle.status().cycle), (State::Starting, 0));
    let (mut watch, mut batches) = (handle.watch(), handle.subscribe());
    let invariant = handle.invariant("few polls", |known| known.polls < 100);
    let any = AnyHandle::new("fed", &handle);
    let reached = any.reaches(StateKind::Failed).within(Duration::from_secs(60));

    feed.sources(start + ms(10), 0, ["n1", "n2"]).unwrap();
    assert_eq!(watch.changed().await.unwrap().source_names.join(" "), "n1 n2");
    feed.success(start + ms(20), success(0, start, &[])).unwrap();
    feed.transition(start + ms(500), State::Refreshing, 1, false).unwrap();
    feed.sources(start + ms(510), 1, ["n2"]).unwrap();
    feed.transition(start + ms(510), State::Polling, 1, false).unwrap();
    assert_eq!(watch.changed().await.unwrap().state, State::Polling);
    feed.failure(start + ms(600), failure(1, start + ms(500))).unwrap();
    assert_eq!(reached.await.unwrap().cycle, 1);
    let failed = handle.last_error().unwrap();
    assert!(failed.message.len() <= 1_024 && failed.consecutive == 1 && failed.source_count == 1);
    feed.failure(start + ms(700), failure(2, start + ms(650))).unwrap();
    assert_eq!((handle.failures().len(), handle.last_error().unwrap().consecutive), (2, 2));
    feed.transition(
        start + ms(700),
        State::Failed { stage: Stage::Poll, consecutive: 2, rebuild: false },
        2,
        true,
    )
    .unwrap();
    assert!(handle.status().paused);

    // A success of a new generation, with events.
    let rebuilt = FeedSuccess { generation: 2, ..success(3, start + ms(1_000), &[4, 5]) };
    feed.success(start + ms(1_000), rebuilt).unwrap();
    assert_eq!(batches.recv().await, Err(RecvError::Rebuilt { generation: 2 }));
    assert_eq!(batches.recv().await.unwrap().events, [4, 5]);
    let snapshot = handle.latest_snapshot().unwrap();
    assert_eq!((snapshot.event_count, snapshot.cursor.seq(), snapshot.source_count), (2, 1, 1));
    assert!(handle.freshness().is_fresh());

    // Time alone makes it stale, and wakes the wait for it.
    watch.status();
    let mut turned = Box::pin(watch.changed());
    assert!(poll_once(turned.as_mut()).is_pending());
    tokio::time::sleep(Duration::from_secs(100)).await;
    assert!(poll_once(turned.as_mut()).is_pending(), "tokio's time does not move the feed's");
    feed.advance(start + ms(2_500)).unwrap();
    assert!(turned.await.unwrap().freshness.is_stale());
    let stale = handle.becomes_stale().within(Duration::from_secs(1)).await.unwrap();
    assert_eq!(stale.freshness.age(), Some(ms(1_500)));

    let mut pending = Box::pin(batches.recv());
    assert!(poll_once(pending.as_mut()).is_pending());
    drop(feed);
    assert_eq!(pending.await, Err(RecvError::Closed(StopReason::Dropped)));
    assert_eq!(handle.stop_reason(), Some(StopReason::Dropped));
    assert_eq!(invariant.finish().await.unwrap().judged, 2);
    let mut watch = handle.watch();
    assert_eq!(watch.changed().await.map(|_| ()), Err(WatchError::Closed(StopReason::Dropped)));
}

/// A tap of a feed numbers what is published by hand.
#[tokio::test(start_paused = true)]
async fn a_feed_can_be_tapped() {
    let (mut feed, handle, start) = by_hand();
    let mut tap = handle.tap(TapLimits::default());
    feed.sources(start, 0, ["n1"]).unwrap();
    feed.success(start + ms(20), success(0, start, &[1])).unwrap();
    feed.stop(start + ms(30), StopReason::Requested).unwrap();
    for (number, kind, millis) in
        [(1, RecordKind::Sources, 0), (2, RecordKind::Success, 20), (3, RecordKind::Stop, 30)]
    {
        let record = tap.recv().await.unwrap();
        assert_eq!((record.number, record.kind(), record.at - start), (number, kind, ms(millis)));
        assert_eq!(record.system_time, handle.system_time(record.at));
    }
}
