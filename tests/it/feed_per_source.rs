//! A run of `PerSource` becomes plain data: in a feed of that data, waits give the verdicts of the run.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedFailure, FeedStart, FeedSuccess};
use watchkeeper::per_source::{PerSourceSnapshot, PerSourceSnapshotError, SourceEvent};
use watchkeeper::runtime::{Cause, State};
use watchkeeper::source::{ProbeFailure, SharedSources, SourceFacts, SourceHealth};
use watchkeeper::subscription::{Cursor, Record, TapLimits};
use watchkeeper::wait::Wait;
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationHandle, ObservationRuntime,
    ObservedSource, PerSource,
};

use crate::common::{at, ms};

type Nodes = PerSource<u64, u64>;

fn config() -> ObservationConfig {
    ObservationConfig { interval: ms(500), history_limit: 100, ..ObservationConfig::default() }
}

//  n1: a value that counts; fails from 4 to 6 s     n2: hangs from 3 to 9 s, leaves at 12 s    n3: joins at 7 s, slow
//  n4: has never answered                                                                     the refresh fails at 15 s
async fn probe(start: Instant, node: ObservedSource<u64>) -> Result<u64, DynError> {
    let second = start.elapsed().as_secs_f64();
    match &*node.name {
        "n1" if (4.0..6.0).contains(&second) => Err("refused".into()),
        "n2" if (3.0..9.0).contains(&second) => std::future::pending().await,
        "n3" => {
            tokio::time::sleep(ms(180)).await;
            Ok(3)
        }
        "n4" => Err("never".into()),
        _ => Ok(start.elapsed().as_secs()),
    }
}

type Verdict = Pin<Box<dyn Future<Output = String> + Send>>;

fn verdict<T: 'static>(wait: Wait<'static, Nodes, T>, cycle: fn(&T) -> u64) -> Verdict {
    Box::pin(async move {
        match wait.await {
            Ok(value) => format!("met in cycle {}", cycle(&value)),
            Err(unmet) => format!("{:?}, reason {:?}", unmet.outcome(), unmet.reason()),
        }
    })
}

/// A wait of each kind that rests on what is known of the sources.
fn waits(handle: &ObservationHandle<Nodes>, window: Duration) -> Vec<(String, Verdict)> {
    let mut all = Vec::new();
    let mut add = |kind: String, verdict| all.push((format!("{kind} for {window:?}"), verdict));
    type Seen = Arc<watchkeeper::ObservationSnapshot<PerSourceSnapshot<u64>>>;
    let cycle = |seen: &Seen| seen.cycle;
    add("all".into(), verdict(handle.all_sources("all", |_| true).within(window), cycle));
    add("any 3".into(), verdict(handle.any_source("3", |value| *value == 3).within(window), cycle));
    add("three".into(), verdict(handle.at_least_sources(3, "three", |_| true).within(window), cycle));
    let reason = |seen: &PerSourceSnapshot<u64>| match seen.answer("n2") {
        Some(n2) if *n2 > 9 => Ok(()),
        n2 => Err(format!("n2 says {n2:?}")),
    };
    add("answer".into(), verdict(handle.eventually("n2 is past 9", reason).within(window), cycle));
    let held = |seen: &PerSourceSnapshot<u64>| seen.answering().count() >= 2;
    add("always".into(), verdict(handle.always("two answer", held).during(window), cycle));
    let answers = |seen: &PerSourceSnapshot<u64>| Some(seen.answering().count());
    add("stable".into(), verdict(handle.stable_for("as many", ms(1_600), answers).within(window), cycle));
    for name in ["n1", "n2", "n3", "n4"] {
        add(format!("fresh {name}"), verdict(handle.source_fresh(name).within(window), cycle));
        add(format!("stale {name}"), verdict(handle.source_stale(name).within(window), cycle));
        add(format!("failing {name}"), verdict(handle.source_failing(name).within(window), cycle));
        add(
            format!("vanished {name}"),
            verdict(handle.source_vanished(name).within(window), |seen| seen.cycle),
        );
        let recovered = move |event: &SourceEvent<u64>| matches!(event, SourceEvent::Recovered { source, .. } if &**source == name);
        add(
            format!("recovered {name}"),
            verdict(handle.event("it recovers", recovered).within(window), |met| met.batch.cycle),
        );
    }
    all
}

const BEGIN: [u64; 6] = [250, 2_750, 5_250, 8_250, 13_750, 16_750];
const WINDOWS: [Duration; 2] = [ms(3_130), ms(7_070)];

fn begun_at(handle: &ObservationHandle<Nodes>, millis: u64) -> Vec<(String, Verdict)> {
    let all = WINDOWS.into_iter().flat_map(|window| waits(handle, window));
    all.map(|(kind, wait)| (format!("{kind} at {millis}"), wait)).collect()
}

/// What a record is outside of its process: numbers and texts. Times are nanoseconds since the start.
#[derive(Debug)]
struct Plain {
    at: u64,
    cycle: u64,
    state: State,
    paused: bool,
    names: Vec<String>,
    success: Option<PlainSuccess>,
    failure: Option<(u64, u64, Stage, Cause, String)>,
}

#[derive(Debug)]
struct PlainSuccess {
    cycle: u64,
    generation: u64,
    took: u64,
    is_polled: bool,
    taken_at: u64,
    stale_after: u64,
    collect_for: u64,
    sources: Vec<(String, Option<u64>, PlainFacts)>,
    events: Vec<(&'static str, String, u64, u64, u64)>,
}

#[derive(Debug)]
struct PlainFacts {
    last_success: Option<u64>,
    last_elapsed: Option<u64>,
    changed_at: Option<u64>,
    in_flight_since: Option<u64>,
    counts: [u64; 3],
    last_failure: Option<(u64, u64, Cause, String)>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// Of one process.
#[derive(Clone, Copy)]
struct Times(Instant);

impl Times {
    fn to(self, at: Instant) -> u64 {
        nanos(at.duration_since(self.0))
    }

    fn back(self, at: u64) -> Instant {
        self.0 + Duration::from_nanos(at)
    }

    fn plain(self, record: &Record<Nodes>) -> Plain {
        let success = record.snapshot.as_ref().map(|snapshot| PlainSuccess {
            cycle: snapshot.cycle,
            generation: snapshot.generation,
            took: nanos(snapshot.elapsed),
            is_polled: snapshot.is_polled,
            taken_at: self.to(snapshot.value.taken_at()),
            stale_after: nanos(snapshot.value.stale_after()),
            collect_for: nanos(snapshot.value.collect_for()),
            sources: snapshot
                .value
                .iter()
                .map(|source| {
                    (source.name.to_string(), source.value.map(|value| **value), self.facts(source.facts))
                })
                .collect(),
            events: record
                .batch
                .iter()
                .flat_map(|batch| &batch.events)
                .map(|event| self.event(event))
                .collect(),
        });
        let failure = record.failure.as_ref().map(|failure| {
            (failure.cycle, nanos(failure.elapsed), failure.stage, failure.cause, failure.message.clone())
        });
        Plain {
            at: self.to(record.at),
            cycle: record.status.cycle,
            state: record.status.state,
            paused: record.status.paused,
            names: record.status.source_names.iter().map(ToString::to_string).collect(),
            success,
            failure,
        }
    }

    fn facts(self, facts: &SourceFacts) -> PlainFacts {
        let time = |at: Option<Instant>| at.map(|at| self.to(at));
        PlainFacts {
            last_success: time(facts.last_success),
            last_elapsed: facts.last_elapsed.map(nanos),
            changed_at: time(facts.changed_at),
            in_flight_since: time(facts.in_flight_since),
            counts: [facts.answers, facts.failures, facts.consecutive_failures],
            last_failure: facts.last_failure.as_ref().map(|failure| {
                (self.to(failure.began()), self.to(failure.at), failure.cause, failure.message.clone())
            }),
        }
    }

    fn facts_back(self, plain: &PlainFacts) -> SourceFacts {
        let time = |at: Option<u64>| at.map(|at| self.back(at));
        let mut facts = SourceFacts::default();
        facts.last_success = time(plain.last_success);
        facts.last_elapsed = plain.last_elapsed.map(Duration::from_nanos);
        facts.changed_at = time(plain.changed_at);
        facts.in_flight_since = time(plain.in_flight_since);
        [facts.answers, facts.failures, facts.consecutive_failures] = plain.counts;
        facts.last_failure = plain.last_failure.as_ref().map(|(began, at, cause, message)| {
            Arc::new(ProbeFailure::new(self.back(*began), self.back(*at), *cause, message))
        });
        facts
    }

    fn event(self, event: &SourceEvent<u64>) -> (&'static str, String, u64, u64, u64) {
        let (kind, old, new) = match event {
            SourceEvent::Appeared { value, .. } => ("appeared", 0, **value),
            SourceEvent::Changed { old, new, .. } => ("changed", **old, **new),
            SourceEvent::Failed { .. } => ("failed", 0, 0),
            SourceEvent::Recovered { failures, .. } => ("recovered", 0, *failures),
            SourceEvent::Vanished { last, .. } => ("vanished", last.as_ref().map_or(0, |last| **last), 0),
            other => panic!("{other}"),
        };
        (kind, event.source().to_string(), self.to(event.asked_at()), old, new)
    }

    fn event_back(
        self,
        (kind, source, asked_at, old, new): &(&str, String, u64, u64, u64),
    ) -> SourceEvent<u64> {
        let (source, asked_at) = (Arc::from(&**source), self.back(*asked_at));
        match *kind {
            "appeared" => SourceEvent::Appeared { source, value: Arc::new(*new), asked_at },
            "changed" => SourceEvent::Changed { source, old: Arc::new(*old), new: Arc::new(*new), asked_at },
            "failed" => {
                let failure = ProbeFailure::new(asked_at, asked_at, Cause::Error, "");
                SourceEvent::Failed { source, failure: Arc::new(failure) }
            }
            "recovered" => SourceEvent::Recovered { source, failures: *new, asked_at },
            _ => SourceEvent::Vanished { source, last: Some(Arc::new(*old)), asked_at },
        }
    }

    fn publish(self, feed: &mut Feed<Nodes>, plain: &Plain) {
        let Plain { at, cycle, state, paused, .. } = *plain;
        let at = self.back(at);
        if state == State::Polling {
            feed.sources(at, cycle, plain.names.iter().map(String::as_str)).unwrap();
        }
        if let Some(success) = &plain.success {
            let sources = success
                .sources
                .iter()
                .map(|(name, value, facts)| (&**name, value.map(Arc::new), self.facts_back(facts)));
            let (stale_after, collect_for) =
                (Duration::from_nanos(success.stale_after), Duration::from_nanos(success.collect_for));
            let taken_at = self.back(success.taken_at);
            if success.cycle == 0 {
                feed.sources(at, 0, plain.names.iter().map(String::as_str)).unwrap();
            }
            let success = FeedSuccess {
                cycle: success.cycle,
                generation: success.generation,
                began: at - Duration::from_nanos(success.took),
                is_polled: success.is_polled,
                value: PerSourceSnapshot::new(taken_at, stale_after, collect_for, sources).unwrap(),
                events: success.events.iter().map(|event| self.event_back(event)).collect(),
            };
            feed.success(at, success).unwrap();
        } else if let Some((cycle, took, stage, cause, message)) = &plain.failure {
            let (cycle, stage, cause, message) = (*cycle, *stage, *cause, message.clone());
            let began = at - Duration::from_nanos(*took);
            feed.failure(at, FeedFailure { cycle, began, stage, cause, message, rebuild: false }).unwrap();
        } else {
            feed.transition(at, state, cycle, paused).unwrap();
        }
    }
}

/// The verdict of each wait, and when it came, in milliseconds.
type Verdicts = Vec<(String, String, u128)>;

async fn live() -> (Verdicts, Vec<Record<Nodes>>, Instant) {
    let start = Instant::now();
    let sources = SharedSources::new(["n1", "n2", "n4"].map(|name| ObservedSource::new(name, 0)).into());
    let provider = {
        let sources = sources.clone();
        watchkeeper::source::source_fn(move || {
            let (now, sources) = (start.elapsed(), sources.clone());
            async move {
                match now.as_secs() {
                    15 => Err(DynError::from("no provider")),
                    _ => watchkeeper::SourceProvider::sources(&sources).await,
                }
            }
        })
    };
    let observer = Nodes::new(move |node| probe(start, node)).probe_timeout(Duration::from_secs(60));
    let runtime = ObservationRuntime::start_in_background(provider, observer, config()).unwrap();
    let handle = runtime.handle();
    let mut tap = handle.tap(TapLimits { records: 10_000, ..TapLimits::default() });
    let mut judged = Vec::new();
    let mut steps = BEGIN.map(|millis| (millis, "waits")).to_vec();
    steps.extend([(6_900, "+n3"), (11_900, "-n2"), (22_130, "stop")]);
    steps.sort_unstable();
    for (millis, what) in steps {
        at(start, millis).await;
        match what {
            "+n3" => drop(sources.insert("n3", 0)),
            "-n2" => drop(sources.remove("n2")),
            "stop" => drop(runtime.stop().await),
            _ => judged.extend(begun_at(&handle, millis).into_iter().map(|(kind, verdict)| {
                (kind, tokio::spawn(async move { (verdict.await, start.elapsed().as_millis()) }))
            })),
        }
    }
    let mut verdicts = Vec::new();
    for (kind, verdict) in judged {
        let (verdict, when) = verdict.await.unwrap();
        verdicts.push((kind, verdict, when));
    }
    let mut records = Vec::new();
    while let Ok(record) = tap.recv().await {
        records.push(record);
    }
    (verdicts, records, start)
}

/// In another process: its clock shows something else.
fn replayed(
    plain: &[Plain],
    times: Times,
) -> (Verdicts, Vec<Arc<watchkeeper::ObservationSnapshot<PerSourceSnapshot<u64>>>>) {
    let start = FeedStart {
        at: times.back(0),
        system_time: SystemTime::now(),
        cursor: None::<Cursor>,
        cycle: 0,
        event_count: 0,
    };
    let mut feed: Feed<Nodes> = Feed::new(&config(), start).unwrap();
    let handle = feed.handle();
    let (mut verdicts, mut waits, mut snapshots) = (Verdicts::new(), Vec::new(), Vec::new());
    let mut look = |waits: &mut Vec<(String, Verdict)>, millis: u64| {
        waits.retain_mut(|(kind, verdict)| {
            match verdict.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(judged) => {
                    verdicts.push((std::mem::take(kind), judged, u128::from(millis)));
                    false
                }
                Poll::Pending => true,
            }
        });
    };
    let mut plain = plain.iter().peekable();
    for millis in (0..25_000).step_by(10) {
        while let Some(record) = plain.next_if(|record| record.at <= millis * 1_000_000) {
            times.publish(&mut feed, record);
            snapshots.extend(record.success.as_ref().and_then(|_| handle.latest_snapshot()));
            look(&mut waits, record.at / 1_000_000);
        }
        if feed.advance(times.back(millis * 1_000_000)).is_ok() {
            look(&mut waits, millis);
        }
        if BEGIN.contains(&millis) {
            waits.extend(begun_at(&handle, millis));
            look(&mut waits, millis);
        }
    }
    assert!(waits.is_empty(), "{} waits have no verdict", waits.len());
    (verdicts, snapshots)
}

#[tokio::test(start_paused = true)]
async fn a_run_that_became_plain_data_gives_every_wait_its_verdict_again() {
    let (mut verdicts, records, start) = live().await;
    let plain: Vec<_> = records.iter().map(|record| Times(start).plain(record)).collect();
    let elsewhere = Times(start + Duration::from_secs(12_345));
    let (mut again, snapshots) = replayed(&plain, elsewhere);
    verdicts.sort();
    again.sort();
    assert_eq!(verdicts.len(), again.len());
    for (live, replayed) in verdicts.iter().zip(&again) {
        assert_eq!(live, replayed);
    }
    for outcome in ["met in cycle", "NotMet", "Violated", "Inconclusive"] {
        assert!(verdicts.iter().any(|(_, verdict, _)| verdict.contains(outcome)), "no wait was {outcome}");
    }
    // Each snapshot shows the same.
    let lived: Vec<_> = records.iter().filter_map(|record| record.snapshot.as_ref()).collect();
    assert_eq!((lived.len() > 30, lived.len()), (true, snapshots.len()));
    for (one, other) in lived.iter().zip(&snapshots) {
        assert_eq!((one.cycle, one.elapsed, one.is_polled), (other.cycle, other.elapsed, other.is_polled));
        assert_eq!(format!("{:?}", one.value), format!("{:?}", other.value));
        let answering = |seen: &PerSourceSnapshot<u64>| {
            seen.answering().map(|(name, value)| (name.to_string(), **value)).collect::<Vec<_>>()
        };
        assert_eq!(answering(&one.value), answering(&other.value));
    }
    assert!(!lived[0].is_polled);
}

#[test]
fn facts_that_contradict_each_other_are_refused() {
    type Change = fn(&mut SourceFacts, Instant);
    let taken_at = Instant::now() + Duration::from_secs(100);
    let later = Duration::from_secs(1);
    let cases: [(&str, Change); 12] = [
        ("a value and `last_success` come together", |facts, _| facts.last_success = None),
        ("`last_success` and `last_elapsed` come together", |facts, _| facts.last_elapsed = None),
        ("`consecutive_failures` without a `last_failure`", |facts, _| facts.consecutive_failures = 1),
        ("more `consecutive_failures` than `failures`", |facts, at| {
            facts.failed(ProbeFailure::new(at, at, Cause::Error, "down"));
            facts.consecutive_failures = 7;
        }),
        ("a `last_failure` without `failures`", |facts, at| {
            facts.last_failure = Some(Arc::new(ProbeFailure::new(at, at, Cause::Error, "down")));
        }),
        ("a value without `answers`", |facts, _| facts.answers = 0),
        ("its last answer came after the snapshot was taken", |facts, _| {
            facts.last_elapsed = Some(Duration::from_secs(1_000));
        }),
        ("its last answer came after the snapshot was taken", |facts, _| {
            facts.last_elapsed = Some(Duration::MAX);
        }),
        ("`changed_at` is after the snapshot was taken", |facts, at| {
            facts.changed_at = Some(at + Duration::from_secs(1));
        }),
        ("`last_failure` is after the snapshot was taken", |facts, at| {
            facts.failed(ProbeFailure::new(at, at + Duration::from_secs(1), Cause::Error, "down"));
        }),
        ("`in_flight_since` is after the snapshot was taken", |facts, at| {
            facts.began(at + Duration::from_secs(1));
        }),
        ("`last_success` is before `since`", |facts, at| facts.since = Some(at)),
    ];
    for (expected, change) in cases {
        let mut facts = SourceFacts::default();
        facts.answered(taken_at - later, taken_at - later / 2);
        facts.changed_at = Some(taken_at - later / 2);
        let made = |facts: &SourceFacts| {
            let sources = [("n0", None, SourceFacts::default()), ("n1", Some(Arc::new(7)), facts.clone())];
            PerSourceSnapshot::new(taken_at, later, later, sources)
        };
        assert_eq!(made(&facts).unwrap().answer("n1"), Some(&7));
        change(&mut facts, taken_at);
        let error = made(&facts).map(drop).unwrap_err();
        let PerSourceSnapshotError::Contradiction { name, what } = &error else { panic!("{error}") };
        assert_eq!((&**name, *what), ("n1", expected));
        assert!(error.to_string().contains(expected) && error.to_string().contains("\"n1\""), "{error}");
    }
    let mut unanswered = SourceFacts::default();
    unanswered.changed_at = Some(taken_at);
    let error = PerSourceSnapshot::<u64>::new(taken_at, later, later, [("n1", None, unanswered)]).map(drop);
    assert!(error.unwrap_err().to_string().contains("`changed_at` is of a value"));
}

#[test]
fn names_and_durations_are_checked_and_errors_are_bounded() {
    let (at, second) = (Instant::now(), Duration::from_secs(1));
    let made = |names: &[&str], stale_after, collect_for| {
        let sources: Vec<_> = names.iter().map(|name| (*name, None, SourceFacts::default())).collect();
        PerSourceSnapshot::<u64>::new(at, stale_after, collect_for, sources)
    };
    assert!(made(&[], second, Duration::ZERO).unwrap().is_empty());
    let empty = made(&["n1", ""], second, second).map(drop).unwrap_err();
    assert_eq!(empty, PerSourceSnapshotError::EmptyName { position: 2 });
    let long = "secret\n".repeat(10_000);
    let twice = made(&[&long, &long], second, second).map(drop).unwrap_err();
    assert!(twice.to_string().len() < 1_000 && !twice.to_string().contains('\n'), "{twice}");
    for (field, stale_after, collect_for) in [
        ("stale_after", Duration::ZERO, second),
        ("stale_after", Duration::from_secs(72 * 3_600 + 1), second),
        ("collect_for", second, Duration::MAX),
    ] {
        let wrong = made(&["n1"], stale_after, collect_for).map(drop).unwrap_err();
        assert!(
            matches!(&wrong, PerSourceSnapshotError::InvalidDuration { field: of, .. } if *of == field),
            "{wrong}"
        );
    }
    // What `PerSource` itself makes of the longest and the shortest interval.
    assert!(made(&["n1"], Duration::from_secs(72 * 3_600), Duration::ZERO).is_ok());
    let health = made(&["n1"], second, second / 2).unwrap().get("n1").unwrap().health();
    assert_eq!(health, SourceHealth::new(SourceFacts::default(), second).collecting_for(second / 2));
}
