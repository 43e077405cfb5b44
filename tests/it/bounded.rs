//! What a person reads, and what is kept for it, is bounded in bytes for any number of sources and for names, errors
//! and snapshots of any size. What was cut is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use tokio::time::Instant;
use watchkeeper::group::{AnyHandle, ObservationGroup};
use watchkeeper::per_source::SourceEvent;
use watchkeeper::source::SharedSources;
use watchkeeper::wait::{Inconclusive, Unmet, UnmetOutcome};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource,
    StaticSourceProvider, async_trait,
};

use crate::common::{Act, App, Call, at, each_second, ms, refusing_duplicates};

const REPORT: usize = 16 * 1_024;

/// In each form: the text, and JSON with its feature.
fn assert_bounded(unmet: &Unmet) -> String {
    let report = unmet.to_string();
    assert!(report.len() <= REPORT, "{} bytes:\n{report}", report.len());
    assert_eq!(format!("{unmet:?}"), report);
    #[cfg(feature = "json")]
    {
        let json = unmet.to_json().to_string();
        assert!(json.len() <= 96 * 1_024, "{} bytes: {json}", json.len());
    }
    report
}

fn longest_line(text: &str) -> usize {
    text.lines().map(str::len).max().unwrap_or_default()
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_failing_sources_make_a_short_report() {
    let refuse = |node: ObservedSource<()>| async move {
        Err::<u32, _>(DynError::from(format!("{}: {}", node.name, "connection refused ".repeat(20))))
    };
    let nodes = (0..10_000).map(|n| ObservedSource::new(format!("node-{n:05}"), ())).collect();
    let observer = PerSource::new(refuse);
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(nodes), observer, each_second()).await.unwrap();
    let handle = runtime.handle();
    let unmet = handle.any_source("any answers", |_| true).within(ms(2_500)).await.unwrap_err();
    let report = assert_bounded(&unmet);
    assert!(longest_line(&report) < 1_500, "{} bytes", longest_line(&report));
    let (_, sources) = report.split_once("\n  sources: ").unwrap();
    assert!(sources.len() < 3_000, "{} bytes: {sources}", sources.len());
    let named = sources.lines().next().unwrap();
    assert!(named.starts_with("node-00000, node-00001, ") && named.ends_with(" more"), "{named}");
    let shown =
        sources.lines().filter(|line| line.contains("has never answered; 3 consecutive failures")).count();
    assert!(
        shown > 0 && sources.ends_with(&format!("\n    and {} more in trouble", 10_000 - shown)),
        "{sources}"
    );

    let why = handle.why_stale("node-9");
    assert!(why.len() < 1_000 && why.ends_with(" more"), "{why}");
    let status = format!("{:?}", AnyHandle::new("nodes", &handle).status());
    assert!(status.len() < 2_000, "{} bytes", status.len());
}

/// Here they vanish in each cycle, and as many new ones come.
#[tokio::test(start_paused = true)]
async fn names_that_are_new_in_each_cycle_make_a_short_report() {
    let start = Instant::now();
    let runtime = App::new();
    let sources = SharedSources::new(vec![]);
    let runtime = ObservationRuntime::start(sources.clone(), runtime, each_second()).await.unwrap();
    let wait = runtime.handle().eventually("the impossible", |_| false).show(|_| String::new());
    let wait = tokio::spawn(wait.within(ms(20_500)));
    for cycle in 0..20 {
        let name = |n| ObservedSource::new(format!("c{cycle}-{n}"), ());
        sources.replace((0..10_000).map(name).collect());
        at(start, cycle * 1_000 + 1_500).await;
    }
    let report = assert_bounded(&wait.await.unwrap().unwrap_err());
    assert!(report.contains("s sources joined: c19-0, c19-1, "), "{report}");
    assert!(longest_line(&report) < 500, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_megabyte_is_cut_wherever_it_is_printed() {
    let name = "n".repeat(1_000_000);
    let set = SharedSources::new(vec![ObservedSource::new(&name, ())]);
    let refuse = |_| async { Err::<u32, _>(DynError::from("down")) };
    let observer = PerSource::new(refuse);
    let runtime = ObservationRuntime::start(set.clone(), observer, refusing_duplicates()).await.unwrap();
    let handle = runtime.handle();
    let mut wait = handle.source_fresh(&name).within(ms(2_500));
    let explained = wait.explain();
    let debugged = format!("{wait:?}");
    let report = assert_bounded(&(&mut wait).await.unwrap_err());
    set.insert("another", ());
    set.replace(vec![ObservedSource::new(&name, ()), ObservedSource::new(&name, ())]);
    let start = Instant::now();
    at(start, 1_500).await;
    let failure = handle.last_error().unwrap();
    let any = AnyHandle::new(&name, &handle);
    let group = ObservationGroup::new();
    group.add_as(&name[..256], runtime).unwrap();
    let again = ObservationRuntime::start_in_background(App::new(), App::new(), each_second()).unwrap();
    let refused = group.add_as(&name[..256], again).unwrap_err();
    let events = handle.history();
    let texts = [
        ("report", report),
        ("explain", explained),
        ("the wait", debugged),
        ("why_stale", handle.why_stale(&name)),
        ("why_stale of another", handle.why_stale(&name[1..])),
        ("the failure", format!("{failure:?} {failure}")),
        ("the refusal", refused.to_string()),
        ("the handle", format!("{any:?} {:?}", any.eventually("nothing", |_| false))),
        ("its status", format!("{:?} {:?}", any.status(), handle.status())),
        ("the sources", format!("{set:?}")),
        ("an event", events[0].events[0].to_string()),
        ("an invariant", format!("{:?}", any.invariant(name.clone(), |_| true))),
        ("a snapshot", format!("{:?}", handle.latest_snapshot().unwrap().value)),
    ];
    for (what, text) in texts {
        assert!(text.len() < 4_000, "{what} has {} bytes", text.len());
        assert!(text.contains("nnnnn") && text.contains(" more bytes)"), "{what}: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_five_megabytes_is_recorded_by_its_beginning_and_a_count() {
    let app = App::new();
    app.then(Call::Poll, (0..3).map(|_| Act::Fail(|| "x".repeat(5_000_000).into())));
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let unmet = handle.eventually("the impossible", |_| false).within(ms(3_500)).await.unwrap_err();
    let failures = handle.failures();
    assert_eq!(failures.len(), 3);
    for failure in failures.iter().chain(unmet.failures()) {
        let Some((begin, rest)) = failure.message.split_once(" ... (") else { panic!("{failure}") };
        assert_eq!(rest, format!("{} more bytes)", 5_000_000 - begin.len()));
        assert!(failure.message.len() <= 1_024, "{} bytes", failure.message.len());
    }
    let report = assert_bounded(&unmet);
    assert_eq!(report.matches("xxx ... (").count(), 1, "an error once: {report}");
    assert!(report.contains("cycles 1 to 3 failed in poll, 3 times in 2.000s: xxx"), "{report}");

    let probe = |_| async { Err::<u32, _>(DynError::from("y".repeat(5_000_000))) };
    let nodes = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
    let runtime = ObservationRuntime::start(nodes, PerSource::new(probe), each_second()).await.unwrap();
    let why = runtime.handle().why_stale("n1");
    assert!(why.len() < 1_200 && why.ends_with(" more bytes)"), "{why}");
}

/// The text of a panic has no bound.
#[tokio::test(start_paused = true)]
async fn a_panic_of_five_megabytes_is_recorded_by_its_beginning_and_a_count() {
    let app = App::new();
    let large: &'static str = Box::leak("z".repeat(5_000_000).into_boxed_str());
    app.then(Call::Poll, [Act::Panic(large)]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().reaches(watchkeeper::runtime::StateKind::Failed).within(ms(5_000));
    let failure = wait.await.unwrap().last_error.unwrap();
    assert!(failure.message.len() <= 1_024 && failure.message.starts_with("panicked: zzz"), "{failure}");
    assert!(failure.message.ends_with(" more bytes)"), "{failure}");
}

/// Quotation marks are escaped as text and once more as JSON, in each part of a report.
#[tokio::test(start_paused = true)]
async fn quotation_marks_everywhere_make_no_longer_report() {
    let evil = r#"\"\"#.repeat(10_000);
    let answer = evil.clone();
    let probe = move |node: ObservedSource<u64>| {
        let answer = answer.clone();
        async move {
            if node.source.is_multiple_of(2) {
                Err(DynError::from(format!("{} {answer}", node.source)))
            } else {
                Ok(answer)
            }
        }
    };
    let set = SharedSources::new(vec![]);
    let runtime = ObservationRuntime::start(set.clone(), PerSource::new(probe), each_second()).await.unwrap();
    let start = Instant::now();
    let handle = runtime.handle();
    let wait = tokio::spawn(handle.never(evil.clone(), |nodes| nodes.len() > 30).during(ms(60_000)));
    for cycle in 1..50 {
        let name = |n| format!("{n}{evil}");
        set.replace((0..cycle).map(|n| ObservedSource::new(name(n), n)).collect());
        at(start, cycle * 1_000 + 500).await;
    }
    let unmet = wait.await.unwrap().unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::Violated);
    let report = assert_bounded(&unmet);
    assert!(report.len() > 8 * 1_024 && report.ends_with(" more in trouble"), "{report}");
}

/// `count` records, which count how often they are shown.
#[derive(Clone)]
struct Records {
    count: usize,
    shown: Arc<Shown>,
}

#[derive(Default)]
struct Shown {
    snapshots: AtomicUsize,
    records: AtomicUsize,
}

struct Record<'a>(usize, &'a Shown);

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.1.records.fetch_add(1, Relaxed);
        write!(f, "record {}", self.0)
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shown.snapshots.fetch_add(1, Relaxed);
        f.debug_list().entries((0..self.count).map(|n| Record(n, &self.shown))).finish()
    }
}

/// Emits an event in each cycle.
struct Recorder(Records);

#[async_trait]
impl Observer for Recorder {
    type Source = ();
    type State = u64;
    type Snapshot = Records;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<u64>, DynError> {
        *polls += 1;
        Ok(vec![*polls])
    }

    fn snapshot(&self, _: &u64) -> Records {
        self.0.clone()
    }
}

async fn record(count: usize) -> (ObservationRuntime<Recorder>, Arc<Shown>) {
    let shown = Arc::new(Shown::default());
    let recorder = Recorder(Records { count, shown: Arc::clone(&shown) });
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(vec![]), recorder, each_second()).await.unwrap();
    (runtime, shown)
}

#[tokio::test(start_paused = true)]
async fn of_three_hundred_thousand_records_a_report_shows_the_first_and_asks_for_no_more() {
    let (runtime, shown) = record(300_000).await;
    let handle = runtime.handle();
    let eventually = handle.eventually("the impossible", |_| false).within(ms(1_500)).await.unwrap_err();
    let records = |at_most: usize| {
        let records = shown.records.swap(0, Relaxed);
        assert!(records < at_most * 16 * 1_024 / "record 0,\n".len(), "{records} records were shown");
        assert_eq!(shown.snapshots.swap(0, Relaxed), at_most, "each once");
    };
    // Before the window, and at its end.
    records(2);
    let always = handle.always("none of them", |_| false).during(ms(60_000)).await.unwrap_err();
    // The violation is the last snapshot.
    records(2);
    for unmet in [eventually, always] {
        let report = assert_bounded(&unmet);
        assert!(report.contains("    [\n        record 0,\n        record 1,\n"), "{report}");
        let cut = report.lines().find(|line| line.contains("record") && line.contains(" ... (more than "));
        assert!(cut.is_some_and(|line| line.ends_with(" more bytes)")), "{report}");
        assert!(!report.contains("  changes"), "{report}");
    }
}

/// However long the wait lasts.
#[tokio::test(start_paused = true)]
async fn a_long_wait_shows_nine_snapshots_once_each() {
    let (runtime, shown) = record(3).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).within(ms(600_500));
    let report = assert_bounded(&wait.await.unwrap_err());
    assert_eq!((shown.snapshots.load(Relaxed), shown.records.load(Relaxed)), (9, 27));
    assert!(report.contains("judged 600; the last snapshot, of cycle 600:"), "{report}");
}

/// Its `Debug` returns an error (`true`) or panics (`false`).
#[derive(Clone)]
struct Unshowable(bool);

impl fmt::Debug for Unshowable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unshowable { ")?;
        assert!(self.0, "scripted panic of a Debug");
        Err(fmt::Error)
    }
}

struct Showing(Unshowable);

#[async_trait]
impl Observer for Showing {
    type Source = ();
    type State = ();
    type Snapshot = Unshowable;
    type Event = Unshowable;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<Unshowable>, DynError> {
        Ok(vec![self.0.clone()])
    }

    fn snapshot(&self, (): &()) -> Unshowable {
        self.0.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn a_debug_that_panics_or_fails_keeps_the_report() {
    let cases = [
        (true, " ... (its Debug returned an error)"),
        (false, " ... (its Debug panicked: scripted panic of a Debug)"),
    ];
    for (fails, expected) in cases {
        let sources = StaticSourceProvider::new(vec![]);
        let observer = Showing(Unshowable(fails));
        let runtime = ObservationRuntime::start(sources, observer, each_second()).await.unwrap();
        let handle = runtime.handle();
        let (eventually, always, event) = tokio::join!(
            handle.eventually("the impossible", |_| false).within(ms(2_500)),
            handle.always("none", |_| false).during(ms(2_500)),
            handle.event("another", |_| false).within(ms(2_500)),
        );
        let (eventually, always, event) = (eventually.unwrap_err(), always.unwrap_err(), event.unwrap_err());
        assert_eq!(eventually.outcome(), UnmetOutcome::NotMet);
        assert_eq!((always.outcome(), always.first_violation()), (UnmetOutcome::Violated, Some(1)));
        assert_eq!((event.outcome(), event.judged()), (UnmetOutcome::NotMet, 2));
        for unmet in [&eventually, &always, &event] {
            let report = assert_bounded(unmet);
            assert!(report.contains(&format!("    Unshowable {{ {expected}\n")), "{report}");
            assert!(report.contains("\n  lifecycle\n") && report.ends_with("\n  sources: none"), "{report}");
        }
        assert!(event.to_string().contains(&format!("    cycle 2: Unshowable {{ {expected}\n")), "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_show_that_panics_keeps_the_report() {
    let runtime = App::new().start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false);
    let unmet = wait.show(|_| panic!("scripted panic of a show")).within(ms(2_500)).await.unwrap_err();
    assert_eq!((unmet.outcome(), unmet.judged()), (UnmetOutcome::NotMet, 2));
    let report = assert_bounded(&unmet);
    assert!(report.contains("    (showing it panicked: scripted panic of a show)\n"), "{report}");
}

/// `source_health` is app code.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_about_its_sources_keeps_the_report() {
    struct Panics;

    #[async_trait]
    impl Observer for Panics {
        type Source = ();
        type State = ();
        type Snapshot = ();
        type Event = ();

        async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
            Ok(())
        }

        async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
            Ok(vec![])
        }

        fn snapshot(&self, (): &()) {}

        fn source_health((): &(), _: &str) -> Option<watchkeeper::source::SourceHealth> {
            panic!("scripted\npanic of an observer")
        }
    }

    let runtime = ObservationRuntime::start(App::new(), Panics, each_second()).await.unwrap();
    let wait = runtime.handle().eventually("the impossible", |()| false);
    let report = assert_bounded(&wait.within(ms(2_500)).await.unwrap_err());
    let expected = "\n  sources: a\n    (what is known of them is not shown: the observer panicked: scripted\\npanic \
                    of an observer)";
    assert!(report.ends_with(expected), "{report}");
}

/// A change of the order is no event: it pushes nothing out of the report.
#[tokio::test(start_paused = true)]
async fn names_in_another_order_push_no_failure_out_of_the_report() {
    let start = Instant::now();
    let app = App::new();
    app.then(Call::Poll, [Act::Err("down")]);
    app.set(&["a", "b"]);
    let runtime = app.start(each_second()).await;
    let wait = runtime.handle().eventually("the impossible", |_| false).show(|_| String::new());
    let wait = tokio::spawn(wait.within(ms(400_500)));
    for cycle in 0..400 {
        app.set(if cycle % 2 == 0 { &["b", "a"] } else { &["a", "b"] });
        at(start, cycle * 1_000 + 1_500).await;
        let expected = if cycle % 2 == 0 { "b a" } else { "a b" };
        assert_eq!(
            runtime.handle().status().source_names.join(" "),
            expected,
            "the order is known all the same"
        );
    }
    let unmet = wait.await.unwrap().unwrap_err();
    assert_eq!((unmet.failures().len(), unmet.failures_cut()), (1, 0));
    let lifecycle = "  lifecycle\n    +0.000s idle, cycle 0\n    +1.000s cycle 1 failed in poll: down\n    \
                     +400.000s cycles 2 to 400 succeeded\n    +400.500s idle, cycle 400\n";
    assert!(unmet.to_string().contains(lifecycle), "{unmet}");
}

/// The rest of the log makes no difference.
#[tokio::test(start_paused = true)]
async fn failures_are_complete_inside_the_window_or_their_number_is_reported() {
    let app = App::new();
    // Alternating, so that each failure is a separate entry.
    let acts = (0..1_200).map(|n| if n % 2 == 0 { Act::Err("down") } else { Act::Ok(vec![]) });
    app.then(Call::Poll, acts);
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    let handle = runtime.handle();
    let wait =
        |window| handle.eventually("the impossible", |_| false).show(|_| String::new()).within(ms(window));
    // Awaited late, when they have missed publications too. Failures after their windows do not count.
    let (short, long) = (wait(500_500), wait(600_500));
    at(start, 700_500).await;
    let (short, long) = (short.await.unwrap_err(), long.await.unwrap_err());
    // Of 350 failures the newest 256 are kept: those of the cycles 189 to 699.
    for (unmet, in_the_window, lost) in [(&short, 250, 94), (&long, 300, 94)] {
        let (kept, cut) = (unmet.failures(), unmet.failures_cut());
        assert_eq!((kept.len() as u64, cut), (in_the_window - lost, lost));
        assert_eq!((kept[0].cycle, kept.last().unwrap().cycle), (189, 2 * in_the_window - 1));
        let line = format!("\n  failures: {in_the_window}, of which the oldest {lost} were dropped\n");
        assert!(assert_bounded(unmet).contains(&line), "{unmet}");
        #[cfg(feature = "json")]
        {
            let json = unmet.to_json();
            let shown = json["failures"].as_array().unwrap().len() as u64;
            assert_eq!((shown, &json["failures_cut"]), (98, &lost.into()), "8 KiB hold so many");
            assert_eq!(json["failures_not_shown"], in_the_window - shown);
        }
    }
    // Inside what is kept, they are complete.
    let unmet = wait(100_500).await.unwrap_err();
    assert_eq!((unmet.failures().len(), unmet.failures_cut()), (50, 0));
    assert!(!unmet.to_string().contains("\n  failures: "), "{unmet}");
}

/// Emits `events` events in each cycle, and counts the live ones.
struct Floods {
    events: usize,
    live: Arc<()>,
}

#[derive(Clone)]
struct Drop_(#[allow(dead_code, reason = "it is counted")] Arc<()>);

#[async_trait]
impl Observer for Floods {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = Drop_;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<Drop_>, DynError> {
        *polls += 1;
        Ok((0..self.events).map(|_| Drop_(Arc::clone(&self.live))).collect())
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

impl fmt::Debug for Drop_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a drop")
    }
}

async fn flood(events: usize) -> (ObservationRuntime<Floods>, Arc<()>) {
    let live = Arc::new(());
    let observer = Floods { events, live: Arc::clone(&live) };
    let config = ObservationConfig { history_limit: 1, ..each_second() };
    let sources = StaticSourceProvider::new(vec![]);
    (ObservationRuntime::start(sources, observer, config).await.unwrap(), live)
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_nobody_polls_pins_a_hundred_thousand_events() {
    let (runtime, live) = flood(10_000).await;
    let start = Instant::now();
    let handle = runtime.handle();
    let event = handle.event("another", |_| false).within(ms(30_500));
    let snapshot = handle.eventually("thirty polls", |polls| *polls == 30).within(ms(30_500));
    at(start, 30_500).await;
    let pinned = Arc::strong_count(&live);
    assert!(pinned <= 110_010, "{pinned} events are pinned");
    let unmet = event.await.unwrap_err();
    let UnmetOutcome::Inconclusive(Inconclusive::FellBehind { missed }) = unmet.outcome() else {
        panic!("{unmet}")
    };
    assert_eq!((missed, unmet.judged()), (20, 29), "of each cycle the publication with its events");
    assert_eq!(snapshot.await.unwrap().cycle, 30, "a wait for a snapshot pins no events, and misses nothing");
    assert!(Arc::strong_count(&live) <= 10_010, "those of the history are left");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_keeps_up_sees_batches_of_any_size() {
    let (runtime, _live) = flood(150_000).await;
    let unmet = runtime.handle().event("another", |_| false).within(ms(3_500)).await.unwrap_err();
    assert_eq!(unmet.outcome(), UnmetOutcome::NotMet);
    assert!(unmet.to_string().contains("  events: 450000, the last:\n"), "{unmet}");
}

/// Sets of 60,000 names of which all are new.
#[tokio::test(start_paused = true)]
async fn a_wait_that_nobody_polls_pins_few_sets_of_names() {
    let start = Instant::now();
    let sources = SharedSources::new(vec![]);
    let runtime = ObservationRuntime::start(sources.clone(), App::new(), each_second()).await.unwrap();
    let handle = runtime.handle();
    let wait = handle.eventually("the impossible", |_| false).within(ms(10_500));
    let mut names = Vec::new();
    for cycle in 0..10 {
        sources.replace((0..30_000).map(|n| ObservedSource::new(format!("c{cycle}-{n}"), ())).collect());
        at(start, cycle * 1_000 + 1_500).await;
        names.push(Arc::downgrade(&handle.status().source_names[0]));
    }
    let pinned = names.iter().filter(|name| name.strong_count() > 0).count();
    assert!(pinned <= 4, "the names of {pinned} sets are pinned");
    let unmet = wait.await.unwrap_err();
    assert!(
        matches!(unmet.outcome(), UnmetOutcome::Inconclusive(Inconclusive::FellBehind { .. })),
        "{unmet}"
    );
}

#[cfg(feature = "json")]
#[tokio::test(start_paused = true)]
async fn a_json_value_of_any_size_is_replaced_by_its_beginning_with_a_note() {
    use serde_json::json;

    let runtime = App::new().start(each_second()).await;
    let show = |seen: &crate::common::View| json!({ "polls": seen.polls, "heights": vec![7; 1_000_000] });
    let wait = runtime.handle().always("few polls", |seen| seen.polls < 2).show_json(show);
    let unmet = wait.during(ms(60_000)).await.unwrap_err();
    assert_bounded(&unmet);
    let json = unmet.to_json();
    for shown in [&json["last"], &json["first_violation"]] {
        assert_eq!((&shown["cycle"], shown["value"].is_string()), (&json!(2), true), "{shown}");
        assert!(shown["value"].as_str().unwrap().starts_with("{\n  \"heights\": [\n    7,\n"), "{shown}");
        assert_eq!(shown["note"], "it has more than 16 KiB: this is the beginning of its text");
    }
}

/// Unlike `Debug`, the app's own way to show a snapshot cannot be ended half-way.
#[tokio::test(start_paused = true)]
async fn a_large_snapshot_that_an_app_shows_is_shown_once() {
    let shown = Arc::new(AtomicUsize::new(0));
    let runtime = App::new().start(each_second()).await;
    let wait = |size: usize| {
        let shown = Arc::clone(&shown);
        let show = move |seen: &crate::common::View| {
            shown.fetch_add(1, Relaxed);
            format!("polls: {}\n{}", seen.polls, "x".repeat(size))
        };
        runtime.handle().eventually("nothing", |_| false).show(show).within(ms(20_000))
    };
    let unmet = wait(1_000_000).await.unwrap_err();
    let line = "\n  changes: not compared: a snapshot takes more than 16 KiB to show\n";
    assert!(unmet.to_string().contains(line), "{unmet}");
    #[cfg(feature = "json")]
    assert_eq!(unmet.to_json()["snapshots_not_compared"], 20, "one of before, and those of 19 cycles");
    assert_eq!(shown.swap(0, Relaxed), 1);
    let unmet = wait(10).await.unwrap_err();
    assert!(unmet.to_string().contains("polls: "), "{unmet}");
    assert!(shown.load(Relaxed) > 1, "small ones are compared");
}

#[tokio::test(start_paused = true)]
async fn an_event_shows_values_of_any_size_in_a_line() {
    let large = |nth: u8| Arc::new(vec![nth; 1_000_000]);
    let name: Arc<str> = "n1".into();
    let changed =
        SourceEvent::Changed { source: name, old: large(1), new: large(2), asked_at: Instant::now() };
    let text = changed.to_string();
    assert!(text.starts_with("n1: [1, 1, 1") && text.contains(" -> [2, 2, 2") && text.len() < 400, "{text}");
    assert_eq!(format!("{changed:?}"), text, "so do timelines that show events by Debug");
}
