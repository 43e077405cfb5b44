//! Waits for one source with observers other than `PerSource`.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Transactional;
use watchkeeper::source::{SourceFacts, SourceHealth};
use watchkeeper::wait::{InvalidWait, UnmetOutcome};
use watchkeeper::{
    DynError, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider, async_trait,
};

use crate::common::{Act, App, Call, at, each_second, ms};

#[tokio::test(start_paused = true)]
async fn an_observer_that_keeps_nothing_by_source_makes_the_wait_invalid() {
    let start = Instant::now();
    let runtime = App::new().start(each_second()).await;
    let handle = runtime.handle();
    let waits = [handle.source_fresh("a"), handle.source_stale("a"), handle.source_failing("a")];
    for (nth, wait) in (0..).zip(waits) {
        let unmet = wait.within(ms(5_000)).await.unwrap_err();
        assert_eq!(unmet.outcome(), UnmetOutcome::Invalid(InvalidWait::NoSourceHealth), "wait {nth}");
        assert_eq!(start.elapsed(), ms(1_000), "by the first cycle that counts");
        let report = unmet.to_string();
        let expected =
            "invalid wait (the observer keeps nothing by source: have it implement source_health): ";
        assert!(report.starts_with(expected), "{report}");
        assert!(
            report.ends_with("\n  nothing is known of a: its observer keeps nothing by source"),
            "{report}"
        );
    }
}

/// For any observer it is known that a source has left.
#[tokio::test(start_paused = true)]
async fn a_source_vanishes_for_any_observer() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    app.set(&["b"]);
    let met = runtime.handle().source_vanished("a").within(ms(5_000)).await.unwrap();
    assert_eq!((met.cycle, start.elapsed()), (1, ms(1_000)));
    let report = runtime.handle().source_vanished("b").within(ms(2_500)).await.unwrap_err().to_string();
    assert!(report.contains("within 2.5s\n  judged "), "it is there, which needs no explanation: {report}");
}

/// It is known to be in the set although the log no longer shows when it joined.
#[tokio::test(start_paused = true)]
async fn a_source_that_joined_long_ago_can_vanish() {
    let app = App::new();
    app.then(Call::Poll, (0..600).map(|n| if n % 2 == 0 { Act::Ok(vec![]) } else { Act::Err("down") }));
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    at(start, 600_500).await;
    let wait = runtime.handle().source_vanished("a").within(ms(5_000));
    app.set(&["b"]);
    assert_eq!(wait.await.unwrap().cycle, 601);
}

/// Knows of each source that it has failed as often as it was polled.
#[derive(Clone)]
struct Failing;

#[async_trait]
impl Observer for Failing {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<()>, DynError> {
        *polls += 1;
        Ok(vec![])
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }

    fn source_health(polls: &u64, _: &str) -> Option<SourceHealth> {
        let mut facts = SourceFacts::default();
        facts.consecutive_failures = polls / 2;
        Some(SourceHealth::new(facts, Duration::from_secs(1)))
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_observer_says_what_it_keeps() {
    let plain = ObservationRuntime::start(App::new(), Failing, each_second()).await.unwrap();
    let wrapped =
        ObservationRuntime::start(App::new(), Transactional::new(Failing), each_second()).await.unwrap();
    let (plain, wrapped) = tokio::join!(
        plain.handle().source_failing("a").within(ms(5_000)),
        wrapped.handle().source_failing("a").within(ms(5_000)),
    );
    assert_eq!((plain.unwrap().cycle, wrapped.unwrap().cycle), (2, 2), "wrapped, it keeps the same");
}

/// An observer may know the name of no source: that is not explained.
#[tokio::test(start_paused = true)]
async fn a_name_that_no_source_has_is_not_explained_by_an_observer_that_knows_all() {
    let runtime = ObservationRuntime::start(App::new(), Failing, each_second()).await.unwrap();
    let handle = runtime.handle();
    let report = handle.source_fresh("n9").within(ms(2_500)).await.unwrap_err().to_string();
    let unknown = "no source is called \"n9\"; the sources are a";
    assert!(report.contains(&format!("\n  {unknown}\n")), "{report}");
    assert_eq!(handle.why_stale("n9"), unknown);
}

/// Asks one more of its sources in each poll.
struct OneByOne;

#[async_trait]
impl Observer for OneByOne {
    type Source = ();
    type State = usize;
    type Snapshot = Vec<String>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<usize, DynError> {
        Ok(1)
    }

    async fn poll(&self, _: &[ObservedSource<()>], looked: &mut usize) -> Result<Vec<()>, DynError> {
        *looked += 1;
        Ok(vec![])
    }

    fn snapshot(&self, looked: &usize) -> Vec<String> {
        ["a", "b", "c"].iter().take(*looked).map(ToString::to_string).collect()
    }

    fn source_health(looked: &Vec<String>, name: &str) -> Option<SourceHealth> {
        looked.iter().find(|known| *known == name)?;
        let mut facts = SourceFacts::default();
        facts.consecutive_failures = 1;
        Some(SourceHealth::new(facts, Duration::from_secs(1)))
    }
}

//   0 s   1 s    2 s
//   a     a, b   a, b, c
#[tokio::test(start_paused = true)]
async fn a_source_that_the_observer_knows_nothing_of_yet_is_waited_for() {
    let app = App::new();
    app.set(&["a", "b", "c"]);
    let start = Instant::now();
    let runtime = ObservationRuntime::start(app, OneByOne, each_second()).await.unwrap();
    let handle = runtime.handle();
    assert_eq!(handle.why_stale("c"), "nothing is known of c yet");
    let always = handle.always("any", |_| true);
    let (now, later) = tokio::join!(
        handle.source_failing("c").or_now().within(ms(5_000)),
        handle.source_failing("c").within(ms(5_000)),
    );
    assert_eq!((now.unwrap().cycle, later.unwrap().cycle, start.elapsed()), (2, 2, ms(2_000)));
    // Nothing is judged before it is known of each source that it was asked.
    assert_eq!(always.during(ms(3_500)).await.unwrap().cycle, 3);
    let unmet = handle.always("any", |_| true).during(ms(100)).await.unwrap_err();
    assert_eq!(unmet.judged(), 0);
}

/// `asked_since` of a custom observer applies to the predicates, wrapped or not.
#[derive(Clone)]
struct Asked;

#[async_trait]
impl Observer for Asked {
    type Source = ();
    type State = Vec<Instant>;
    type Snapshot = Vec<Instant>;
    type Event = Instant;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Vec<Instant>, DynError> {
        Ok(vec![Instant::now()])
    }

    async fn poll(
        &self,
        _: &[ObservedSource<()>],
        asked: &mut Vec<Instant>,
    ) -> Result<Vec<Instant>, DynError> {
        asked.push(Instant::now());
        Ok(asked.clone())
    }

    fn snapshot(&self, asked: &Vec<Instant>) -> Vec<Instant> {
        asked.clone()
    }

    fn asked_since(asked: &Vec<Instant>, since: Instant) -> Option<Vec<Instant>> {
        Some(asked.iter().copied().filter(|asked| *asked >= since).collect())
    }

    fn asked_at(event: &Instant) -> Option<Instant> {
        Some(*event)
    }
}

#[tokio::test(start_paused = true)]
async fn a_custom_observer_says_what_was_asked_since() {
    async fn seen<O>(observer: O) -> (usize, usize, usize)
    where
        O: Observer<Source = (), Snapshot = Vec<Instant>, Event = Instant>,
    {
        let start = Instant::now();
        let runtime = ObservationRuntime::start(App::new(), observer, each_second()).await.unwrap();
        let handle = runtime.handle();
        at(start, 2_500).await;
        let (made, now, event) = tokio::join!(
            handle.eventually("any", |_| true).within(ms(2_000)),
            handle.eventually("any", |_| true).or_now().within(ms(2_000)),
            handle.event("any", |_| true).within(ms(2_000)),
        );
        (made.unwrap().value.len(), now.unwrap().value.len(), event.unwrap().index)
    }
    let expected = (1, 3, 3);
    assert_eq!(seen(Asked).await, expected);
    assert_eq!(seen(Transactional::new(Asked)).await, expected, "wrapped");
}

/// Its first state knows of no source: only a poll asks them.
struct LooksLater;

#[async_trait]
impl Observer for LooksLater {
    type Source = ();
    type State = Option<SourceHealth>;
    type Snapshot = Option<SourceHealth>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Self::State, DynError> {
        Ok(None)
    }

    async fn poll(&self, _: &[ObservedSource<()>], known: &mut Self::State) -> Result<Vec<()>, DynError> {
        let mut facts = SourceFacts::default();
        facts.answered(Instant::now(), Instant::now());
        *known = Some(SourceHealth::new(facts, ms(3_000)));
        Ok(Vec::new())
    }

    fn snapshot(&self, known: &Self::State) -> Self::Snapshot {
        known.clone()
    }

    fn source_health(known: &Self::Snapshot, _: &str) -> Option<SourceHealth> {
        known.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_whose_init_asks_nothing_is_not_refused() {
    let source = || StaticSourceProvider::new(vec![ObservedSource::new("a", ())]);
    let runtime = ObservationRuntime::start(source(), LooksLater, each_second()).await.unwrap();
    runtime.handle().source_fresh("a").or_now().within(ms(5_000)).await.unwrap();
    let runtime = ObservationRuntime::start_in_background(source(), LooksLater, each_second()).unwrap();
    let handle = runtime.handle();
    let (fresh, always) = tokio::join!(
        handle.source_fresh("a").within(ms(5_000)),
        handle.always("known", Option::is_some).during(ms(5_000))
    );
    fresh.unwrap();
    assert!(always.is_err(), "the first state is judged like any other");
}
