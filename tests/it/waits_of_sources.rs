//! Waits for one source with observers other than `PerSource`.

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::{
    DynError, InvalidWait, ObservationRuntime, ObservedSource, Observer, SourceFacts, SourceHealth,
    Transactional, UnmetOutcome, async_trait,
};

use crate::common::{Act, App, Call, at, each_second, ms};

#[tokio::test(start_paused = true)]
async fn an_observer_that_keeps_nothing_by_source_is_told_to() {
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
            report.contains("\n  nothing is known of a: its observer keeps nothing by source\n"),
            "{report}"
        );
    }
}

/// That a source has left is known of any observer's.
#[tokio::test(start_paused = true)]
async fn a_source_vanishes_whatever_the_observer_keeps() {
    let app = App::new();
    let start = Instant::now();
    let runtime = app.start(each_second()).await;
    app.set(&["b"]);
    let met = runtime.handle().source_vanished("a").within(ms(5_000)).await.unwrap();
    assert_eq!((met.cycle, start.elapsed()), (1, ms(1_000)));
}

/// It is known to be in the set although the log no longer tells when it joined.
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
        facts.failures_in_a_row = polls / 2;
        Some(SourceHealth::new(facts, Duration::from_secs(1)))
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_of_ones_own_says_what_it_keeps() {
    let plain = ObservationRuntime::start(App::new(), Failing, each_second()).await.unwrap();
    let wrapped =
        ObservationRuntime::start(App::new(), Transactional::new(Failing), each_second()).await.unwrap();
    let (plain, wrapped) = tokio::join!(
        plain.handle().source_failing("a").within(ms(5_000)),
        wrapped.handle().source_failing("a").within(ms(5_000)),
    );
    assert_eq!((plain.unwrap().cycle, wrapped.unwrap().cycle), (2, 2), "wrapped, it keeps the same");
}
