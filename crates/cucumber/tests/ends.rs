//! How the observers of a scenario end when its end is not clean.
#![allow(clippy::unwrap_used, reason = "what the tests share is no test to clippy")]

use std::fmt::Write as _;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, span};
use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::{ControlError, StateKind};
use watchkeeper::source::SourceHealth;
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource,
    StaticSourceProvider, async_trait,
};
use watchkeeper_cucumber::{Observers, StepError};

const SOON: Duration = Duration::from_secs(5);

/// One source that answers one.
async fn one() -> ObservationRuntime<PerSource<(), u64>> {
    let sources = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
    let observer = PerSource::new(|_| async { Ok::<_, DynError>(1) });
    ObservationRuntime::start(sources, observer, ObservationConfig::default()).await.unwrap()
}

/// A scenario with an invariant that was violated.
async fn violated(label: &str) -> Observers {
    let mut observers = Observers::new();
    let runtime = one().await;
    let handle = runtime.handle();
    observers.add("raft", runtime).unwrap();
    let invariant = handle.invariant(label, |_| false);
    invariant.violated().await;
    observers.hold(invariant);
    observers
}

/// Its poll blocks the thread until it is released.
struct Blocking {
    blocks: mpsc::UnboundedSender<()>,
    release: Mutex<Receiver<()>>,
}

#[async_trait]
impl Observer for Blocking {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        let _ = self.blocks.send(());
        // Dropping the sender releases it.
        let _ = self.release.lock().map(|release| release.recv());
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_blocks_its_thread_is_named() {
    let (hold, release) = channel();
    let config =
        ObservationConfig { stop_timeout: Duration::from_millis(50), ..ObservationConfig::default() };
    let (blocks, mut has_begun) = mpsc::unbounded_channel();
    let blocking = Blocking { blocks, release: Mutex::new(release) };
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(Vec::new()), blocking, config).await.unwrap();
    runtime.control().poll_now().await.unwrap();
    has_begun.recv().await.unwrap();

    let mut observers = Observers::new();
    observers.add("raft", runtime).unwrap();
    let unfinished = observers.finish().await.unwrap_err();
    assert_eq!(unfinished.detached, [Arc::from("raft")]);
    assert_eq!(
        unfinished.to_string(),
        "these observers were stopped and left code running that blocks its thread: raft; move that into \
         spawn_blocking"
    );
    drop(hold);
}

#[tokio::test(start_paused = true)]
async fn an_invariant_that_panics_leaves_no_observer_running() {
    let runtime = one().await;
    let handle = runtime.handle();
    let mut observers = Observers::new();
    observers.hold(handle.invariant("it can be judged", |_| -> bool { panic!("it cannot") }));
    observers.add("raft", runtime).unwrap();
    handle.eventually("it was judged", |_| true).within(SOON).await.unwrap();

    let unfinished = observers.finish().await.unwrap_err().to_string();
    assert!(unfinished.contains("app code panicked: it cannot"), "{unfinished}");
    assert_eq!(handle.state().kind(), StateKind::Stopped);
}

/// Its `source_health` panics.
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
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}

    fn source_health((): &(), _: &str) -> Option<SourceHealth> {
        panic!("no health")
    }
}

#[tokio::test(start_paused = true)]
async fn the_source_health_of_an_observer_may_panic() {
    let sources = StaticSourceProvider::new(vec![ObservedSource::new("n1", ())]);
    let runtime = ObservationRuntime::start(sources, Panics, ObservationConfig::default()).await.unwrap();
    let handle = runtime.handle();
    let mut observers = Observers::new();
    observers.add("raft", runtime).unwrap();
    observers.finish().await.unwrap();
    assert_eq!(handle.state().kind(), StateKind::Stopped);
}

#[tokio::test(start_paused = true)]
async fn finish_may_be_called_twice() {
    let mut observers = Observers::new();
    observers.finish().await.unwrap();
    observers.finish().await.unwrap();
    assert!(observers.handle("raft").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_violation_that_a_step_has_returned_is_reported_again() {
    let mut observers = violated("one is two").await;
    for _ in 0..2 {
        let calm = observers.handle("raft").unwrap().stays_fresh().during(SOON);
        let ended = observers.wait(calm).await;
        assert!(matches!(ended, Err(StepError::Violated(_))), "{ended:?}");
    }
    let unfinished = observers.finish().await.unwrap_err();
    let [unmet] = &unfinished.unheld[..] else { panic!("{unfinished}") };
    assert_eq!((unmet.outcome(), unmet.label()), (UnmetOutcome::Violated, "one is two"));
    observers.finish().await.unwrap();
}

/// It is cut off at every await.
#[tokio::test(start_paused = true)]
async fn a_finish_that_is_cut_off_loses_no_violation() {
    let shared = one().await;
    let mut cut = 0;
    for polls in 0..30 {
        let mut observers = violated("one is two").await;
        // This invariant is on a running observer: its end needs a poll by the executor.
        observers.hold(shared.handle().invariant("it goes on", |_| true));
        let mut end = Box::pin(observers.finish());
        let mut ended = None;
        for _ in 0..polls {
            ended = poll_fn(|context| {
                Poll::Ready(match end.as_mut().poll(context) {
                    Poll::Ready(ended) => Some(ended),
                    Poll::Pending => None,
                })
            })
            .await;
            if ended.is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(end);
        cut += u32::from(ended.is_none());
        let ended = match ended {
            Some(ended) => ended,
            None => observers.finish().await,
        };
        let unheld = ended.unwrap_err().unheld;
        let labels: Vec<&str> = unheld.iter().map(watchkeeper::wait::Unmet::label).collect();
        assert_eq!(labels.first(), Some(&"one is two"), "cut off after {polls} polls");
    }
    assert!((2..30).contains(&cut), "cut off {cut} times");
}

#[tokio::test(start_paused = true)]
async fn only_the_pauses_of_a_scenario_are_undone() {
    let suite = ObservationGroup::new();
    for name in ["ours", "before", "other's", "its own way"] {
        suite.add_as(name, one().await).unwrap();
    }
    let paused = || {
        let members = suite.statuses().into_iter().filter(|member| member.paused);
        members.map(|member| member.name.to_string()).collect::<Vec<_>>()
    };
    suite.control("before").unwrap().pause().await.unwrap();

    let (mut scenario, mut other) = (Observers::sharing(&suite), Observers::sharing(&suite));
    other.control("other's").unwrap().pause().await.unwrap();
    for name in ["ours", "before", "other's"] {
        scenario.control(name).unwrap().pause().await.unwrap();
    }
    // Resumed and paused again, as before the scenario.
    scenario.control("before").unwrap().resume().await.unwrap();
    scenario.control("before").unwrap().pause().await.unwrap();
    // Used for something else, and not paused.
    scenario.control("its own way").unwrap().poll_now().await.unwrap();
    assert_eq!(paused(), ["ours", "before", "other's"]);

    scenario.finish().await.unwrap();
    assert_eq!(paused(), ["before", "other's"]);
    other.finish().await.unwrap();
    assert_eq!(paused(), ["before"]);
    suite.stop_all().await;
}

/// One shared observer, and a function that returns whether it is paused.
async fn one_shared() -> (ObservationGroup, impl Fn(&ObservationGroup) -> bool) {
    let suite = ObservationGroup::new();
    suite.add_as("s", one().await).unwrap();
    (suite, |suite| suite.status("s").unwrap().paused)
}

/// The control was returned while another scenario had paused the observer.
#[tokio::test(start_paused = true)]
async fn a_pause_by_a_control_from_before_is_undone() {
    let (suite, is_paused) = one_shared().await;
    let (mut a, mut b) = (Observers::sharing(&suite), Observers::sharing(&suite));
    a.control("s").unwrap().pause().await.unwrap();
    let control = b.control("s").unwrap();
    a.finish().await.unwrap();
    assert!(!is_paused(&suite));
    control.pause().await.unwrap();
    assert!(is_paused(&suite));
    b.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_scenario_that_only_polls_resumes_no_pause_of_another() {
    let (suite, is_paused) = one_shared().await;
    let (mut a, mut b) = (Observers::sharing(&suite), Observers::sharing(&suite));
    b.control("s").unwrap().poll_now().await.unwrap();
    a.control("s").unwrap().pause().await.unwrap();
    b.finish().await.unwrap();
    assert!(is_paused(&suite));
    a.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn the_resumes_of_a_scenario_are_undone() {
    let (suite, is_paused) = one_shared().await;
    suite.control("s").unwrap().pause().await.unwrap();
    for drops in [false, true] {
        let mut scenario = Observers::sharing(&suite);
        scenario.control("s").unwrap().resume().await.unwrap();
        assert!(!is_paused(&suite));
        if drops {
            drop(scenario);
            tokio::time::sleep(Duration::from_millis(1)).await;
        } else {
            scenario.finish().await.unwrap();
        }
        assert!(is_paused(&suite));
    }
    suite.stop_all().await;
}

/// The second scenario begins while the first one has paused the observer, which was not paused before.
#[tokio::test(start_paused = true)]
async fn a_pause_of_another_scenario_is_not_a_pause_of_the_suite() {
    let (suite, is_paused) = one_shared().await;
    let mut a = Observers::sharing(&suite);
    a.control("s").unwrap().pause().await.unwrap();
    let mut b = Observers::sharing(&suite);
    b.control("s").unwrap().resume().await.unwrap();
    b.control("s").unwrap().pause().await.unwrap();
    a.finish().await.unwrap();
    assert!(is_paused(&suite), "the other one has paused it as well");
    b.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

/// The next scenario begins before the observer has confirmed the resume.
#[tokio::test(start_paused = true)]
async fn a_pause_of_a_dropped_scenario_is_not_a_pause_of_the_suite() {
    let (suite, is_paused) = one_shared().await;
    let first = Observers::sharing(&suite);
    first.control("s").unwrap().pause().await.unwrap();
    drop(first);
    let mut next = Observers::sharing(&suite);
    next.control("s").unwrap().pause().await.unwrap();
    next.finish().await.unwrap();
    assert!(!is_paused(&suite));

    // The next scenario sees what the suite itself does between scenarios.
    suite.control("s").unwrap().pause().await.unwrap();
    let mut last = Observers::sharing(&suite);
    last.control("s").unwrap().resume().await.unwrap();
    last.finish().await.unwrap();
    assert!(is_paused(&suite));
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn the_pauses_of_a_dropped_scenario_are_undone() {
    let suite = ObservationGroup::new();
    suite.add_as("shared", one().await).unwrap();
    let scenario = Observers::sharing(&suite);
    scenario.control("shared").unwrap().pause().await.unwrap();
    drop(scenario);
    let handle = suite.handle("shared").unwrap();
    handle.eventually("it goes on", |_| true).within(SOON).await.unwrap();
    assert!(!suite.status("shared").unwrap().paused);
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn finish_survives_that_a_step_stopped_a_paused_observer() {
    let suite = ObservationGroup::new();
    suite.add_as("shared", one().await).unwrap();
    let mut scenario = Observers::sharing(&suite);
    let control = scenario.control("shared").unwrap();
    control.pause().await.unwrap();
    let _ = control.stop().await;
    scenario.finish().await.unwrap();
}

/// Polls a future once, and drops it.
fn poll_once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

/// Fills the queue of controls: the observer takes none until the test yields to the executor.
fn fill(suite: &ObservationGroup) {
    let control = suite.control("s").unwrap();
    for _ in 0..16 {
        assert!(poll_once(control.poll_now()).is_pending());
    }
    assert!(matches!(poll_once(control.poll_now()), Poll::Ready(Err(ControlError::Full { .. }))));
}

/// Waits until all controls are taken.
async fn taken(suite: &ObservationGroup) {
    let control = suite.control("s").unwrap();
    while let Err(ControlError::Full { .. }) = control.poll_now().await {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_request_does_not_count() {
    let (suite, is_paused) = one_shared().await;
    let (mut a, mut b) = (Observers::sharing(&suite), Observers::sharing(&suite));
    a.control("s").unwrap().pause().await.unwrap();
    fill(&suite);
    let refused = b.control("s").unwrap().resume().await;
    assert!(matches!(refused, Err(ControlError::Full { .. })), "{refused:?}");
    taken(&suite).await;
    a.finish().await.unwrap();
    assert!(!is_paused(&suite));
    b.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

/// The scenario has paused the observer, and its request to resume it was refused.
#[tokio::test(start_paused = true)]
async fn a_refused_request_leaves_the_one_before_it() {
    let (suite, is_paused) = one_shared().await;
    let mut scenario = Observers::sharing(&suite);
    let control = scenario.control("s").unwrap();
    control.pause().await.unwrap();
    fill(&suite);
    control.resume().await.unwrap_err();
    taken(&suite).await;
    assert!(is_paused(&suite));
    scenario.finish().await.unwrap();
    assert!(!is_paused(&suite));

    // A request refused after the end does not change the state before the scenario.
    fill(&suite);
    control.pause().await.unwrap_err();
    taken(&suite).await;
    let mut next = Observers::sharing(&suite);
    next.control("s").unwrap().pause().await.unwrap();
    next.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_undo_is_sent_again() {
    let (suite, is_paused) = one_shared().await;
    // The next scenario that begins sends it again.
    let dropped = Observers::sharing(&suite);
    dropped.control("s").unwrap().pause().await.unwrap();
    fill(&suite);
    drop(dropped);
    taken(&suite).await;
    assert!(is_paused(&suite));
    let mut next = Observers::sharing(&suite);
    taken(&suite).await;
    assert!(!is_paused(&suite));

    // A scenario that ends sends it again.
    let mut refused = Observers::sharing(&suite);
    refused.control("s").unwrap().pause().await.unwrap();
    fill(&suite);
    assert_eq!(refused.finish().await.unwrap_err().still_paused, [Arc::from("s")]);
    taken(&suite).await;
    assert!(is_paused(&suite));
    next.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

#[tokio::test(start_paused = true)]
async fn a_finish_that_was_refused_and_cut_off_can_be_called_again() {
    let (suite, is_paused) = one_shared().await;
    for is_full in [false, true] {
        let mut scenario = Observers::sharing(&suite);
        scenario.add("own", one().await).unwrap();
        scenario.control("s").unwrap().pause().await.unwrap();
        fill(&suite);
        // It awaits the stop of its own observer.
        assert!(poll_once(scenario.finish()).is_pending());
        if is_full {
            assert_eq!(scenario.finish().await.unwrap_err().still_paused, [Arc::from("s")]);
            taken(&suite).await;
            Observers::sharing(&suite).finish().await.unwrap();
        } else {
            taken(&suite).await;
            scenario.finish().await.unwrap();
        }
        assert!(!is_paused(&suite));
    }
    suite.stop_all().await;
}

/// Cut off after the resume was sent, and before it was confirmed.
#[tokio::test(start_paused = true)]
async fn a_second_finish_awaits_the_requests_of_the_first() {
    let (suite, is_paused) = one_shared().await;
    let mut scenario = Observers::sharing(&suite);
    scenario.control("s").unwrap().pause().await.unwrap();
    assert!(poll_once(scenario.finish()).is_pending());
    assert!(is_paused(&suite), "it is sent, and not taken");
    scenario.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

/// The observer is not driven while the scenario ends.
#[test]
fn a_second_finish_names_observers_that_have_not_confirmed() {
    let runtime =
        || tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let (observed, test) = (runtime(), runtime());
    let (suite, is_paused) = observed.block_on(one_shared());
    let mut scenario = test.block_on(async { Observers::sharing(&suite) });
    observed.block_on(scenario.control("s").unwrap().pause()).unwrap();
    test.block_on(async {
        timeout(Duration::from_secs(1), scenario.finish()).await.unwrap_err();
        let unfinished = scenario.finish().await.unwrap_err();
        assert_eq!(
            unfinished.to_string(),
            "these observers of the suite were paused or resumed, and did not confirm that this was undone: s; undo it \
             before the scenario ends"
        );
    });
    observed.block_on(taken(&suite));
    assert!(!is_paused(&suite));
    observed.block_on(suite.stop_all());
}

#[tokio::test(start_paused = true)]
async fn a_pause_by_the_suite_after_a_dropped_scenario_is_restored() {
    let (suite, is_paused) = one_shared().await;
    let dropped = Observers::sharing(&suite);
    dropped.control("s").unwrap().pause().await.unwrap();
    drop(dropped);
    taken(&suite).await;
    assert!(!is_paused(&suite));

    suite.control("s").unwrap().pause().await.unwrap();
    let mut next = Observers::sharing(&suite);
    next.control("s").unwrap().resume().await.unwrap();
    assert!(!is_paused(&suite));
    next.finish().await.unwrap();
    assert!(is_paused(&suite));
    suite.stop_all().await;
}

/// The request of the end is not confirmed yet.
#[tokio::test(start_paused = true)]
async fn a_scenario_that_begins_while_another_ends_does_not_keep_its_pause() {
    let (suite, is_paused) = one_shared().await;
    let mut a = Observers::sharing(&suite);
    a.control("s").unwrap().pause().await.unwrap();
    let mut end = Box::pin(a.finish());
    assert!(poll_once(&mut end).is_pending());
    assert!(is_paused(&suite));
    let mut b = Observers::sharing(&suite);
    end.await.unwrap();
    b.control("s").unwrap().pause().await.unwrap();
    b.finish().await.unwrap();
    assert!(!is_paused(&suite));
    suite.stop_all().await;
}

/// Keeps the warnings of this package.
struct Warnings(Arc<Mutex<String>>);

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::WARN && metadata.target().starts_with("watchkeeper_cucumber")
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut FieldText(&mut self.0.lock().unwrap()));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

struct FieldText<'a>(&'a mut String);

impl Visit for FieldText<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        writeln!(self.0, "{value:?}").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_violation_in_a_dropped_scenario_is_logged() {
    let text = Arc::default();
    let _guard = tracing::subscriber::set_default(Warnings(Arc::clone(&text)));
    let warnings = || std::mem::take(&mut *text.lock().unwrap());

    let mut observers = violated("one is two").await;
    observers.hold(observers.handle("raft").unwrap().invariant("it goes on", |_| true));
    drop(observers);
    let dropped = warnings();
    for part in [
        "a scenario has ended, and its end was not awaited: a background invariant was violated\nviolated: \"one is two\"",
        "these invariants were not collected: it goes on; let the run call `.after(after)`",
    ] {
        assert!(dropped.contains(part), "{dropped}");
    }

    let mut observers = violated("one is two").await;
    observers.finish().await.unwrap_err();
    drop(observers);
    drop(Observers::new());
    assert_eq!(warnings(), "");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_violations_are_a_bounded_text() {
    let mut observers = violated("one is two").await;
    for n in 0..1_000 {
        let invariant =
            observers.handle("raft").unwrap().invariant(format!("number {n}\u{1b}[2J"), |_| false);
        observers.hold(invariant);
    }
    let calm = observers.handle("raft").unwrap().eventually("a cycle more", |_| true).within(SOON);
    calm.await.unwrap();
    let unfinished = observers.finish().await.unwrap_err();
    let text = unfinished.to_string();
    assert_eq!(unfinished.unheld.len(), 1_001);
    assert!(text.len() < 20_000, "{} bytes", text.len());
    assert!(text.contains("\n991 more background invariants did not hold: number 9\\u{1b}[2J, "), "{text}");
    assert_eq!(format!("{unfinished:?}"), text);
}

#[tokio::test]
async fn the_text_of_an_error_is_bounded_and_escaped_and_its_debug_is_the_same() {
    let many: Vec<Arc<str>> = (0..10_000).map(|n| Arc::from(format!("node\n{n}\u{1b}[2J"))).collect();
    let long = "a\n\u{1b}[2J".repeat(100_000);
    let duration = |given: &str| watchkeeper_cucumber::parse_duration(given).unwrap_err();
    let errors = [
        Observers::new().handle(&long).unwrap_err(),
        StepError::UnknownObserver { name: "rift".to_owned(), known: many },
        duration(&long),
        duration(&format!("5 {}", "x".repeat(1_000_000))),
        StepError::Count { given: "9".repeat(1_000_000), what: "events", least: 1 },
        StepError::UnknownState { name: long.clone() },
        StepError::UnknownCondition { name: long.clone() },
        StepError::NoJson { observer: long.clone() },
        StepError::Detached { observer: long },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.len() < 2_000, "{} bytes: {text}", text.len());
        assert!(!text.contains(['\n', '\u{1b}']), "{text}");
        assert_eq!(format!("{error:?}"), text);
    }
}
