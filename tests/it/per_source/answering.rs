//! A dead source does not count as answering, although its last answer stays fresh for seconds.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use watchkeeper::runtime::Cause;
use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};

use super::{Probes, Says, start};
use crate::common::{at, ms};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Dies {
    Refusing,
    Hanging,
    Never,
}

/// `bad` answers until 0.3 s, `late` from 1.5 s on; asked each 250 ms.
async fn bad_and_late(dies: Dies) -> ObservationRuntime<PerSource<(), u32>> {
    let began = Instant::now();
    let probe = move |node: ObservedSource<()>| async move {
        match (&*node.name, began.elapsed()) {
            ("bad", elapsed) if elapsed < ms(300) || dies == Dies::Never => Ok(1),
            ("late", elapsed) if elapsed >= ms(1_500) => Ok(1),
            ("bad", _) if dies == Dies::Hanging => pending().await,
            _ => Err(DynError::from("connection refused")),
        }
    };
    let interval = ms(250);
    let nodes = ["bad", "late"].map(|name| ObservedSource::new(name, ()));
    let config = ObservationConfig { interval, ..ObservationConfig::default() };
    let observer = PerSource::new(probe);
    ObservationRuntime::start(StaticSourceProvider::new(nodes.into()), observer, config).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_dead_source_does_not_pass_while_its_last_answer_is_fresh() {
    for dies in [Dies::Refusing, Dies::Hanging, Dies::Never] {
        let start = Instant::now();
        let runtime = bad_and_late(dies).await;
        let handle = runtime.handle();
        let (all, two, closure, fresh) = tokio::join!(
            handle.all_sources("all answer", |_| true).within(ms(4_000)),
            handle.at_least_sources(2, "two answer", |_| true).within(ms(4_000)),
            handle.eventually("two answer", |nodes| nodes.answering().count() == 2).within(ms(4_000)),
            async {
                at(start, 1_400).await;
                handle.source_fresh("bad").or_now().within(ms(1_000)).await
            },
        );
        let ended =
            [all, two, closure, fresh].map(|ended| ended.map(|_| ()).map_err(|unmet| unmet.outcome()));
        let expected = if dies == Dies::Never { Ok(()) } else { Err(UnmetOutcome::NotMet) };
        assert_eq!(ended, [expected; 4], "{dies:?}");
        let any = handle.any_source("one answers", |_| true).within(ms(1_000)).await;
        assert!(any.is_ok(), "{dies:?}: late does");
    }
}

/// Each answer takes four intervals; the next probe is in flight nearly all the time.
#[tokio::test(start_paused = true)]
async fn slow_sources_that_are_healthy_answer() {
    let probe = |_: ObservedSource<()>| async {
        sleep(Duration::from_secs(1)).await;
        Ok::<_, DynError>(1_u32)
    };
    let interval = ms(250);
    let nodes = ["n1", "n2"].map(|name| ObservedSource::new(name, ()));
    let config = ObservationConfig { interval, ..ObservationConfig::default() };
    let observer = PerSource::new(probe);
    let start = Instant::now();
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(nodes.into()), observer, config).await.unwrap();
    let handle = runtime.handle();
    handle.all_sources("all answer", |_| true).within(ms(4_000)).await.unwrap();
    assert!(start.elapsed() <= ms(2_250), "by the second answer: {:?}", start.elapsed());
    // From any moment on: their probes are in flight nearly all the time, and slow is not silent.
    let both = |nodes: &watchkeeper::per_source::PerSourceSnapshot<u32>| nodes.answering().count() == 2;
    for later in [0, 10, 300, 900] {
        sleep(ms(later)).await;
        let invariant = handle.invariant("both answer", both);
        handle.always("both answer", both).during(ms(10_000)).await.unwrap();
        handle.always("both answer", both).or_now().during(ms(2_000)).await.unwrap();
        invariant.finish().await.unwrap();
    }
}

/// Most answers of a source come after the cycle that asked for them.
#[tokio::test(start_paused = true)]
async fn an_invariant_holds_over_sources_that_answer_after_their_cycle() {
    let probe = |_: ObservedSource<()>| async {
        sleep(ms(60)).await;
        Ok::<_, DynError>(1_u32)
    };
    let nodes = ["n1", "n2", "n3"].map(|name| ObservedSource::new(name, ()));
    let config = ObservationConfig { interval: ms(100), ..ObservationConfig::default() };
    let observer = PerSource::new(probe);
    let runtime =
        ObservationRuntime::start(StaticSourceProvider::new(nodes.into()), observer, config).await.unwrap();
    let handle = runtime.handle();
    handle.all_sources("all answer", |_| true).within(ms(4_000)).await.unwrap();
    for later in 0..20 {
        sleep(ms(17)).await;
        let invariant = handle.invariant("all answer", |nodes| nodes.answering().count() == 3);
        sleep(ms(1_000)).await;
        invariant.finish().await.unwrap_or_else(|unmet| panic!("{later}: {unmet}"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_source_must_do_to_count_as_answering() {
    let began = Instant::now() + Duration::from_secs(100);
    let answered = |took: u64| {
        let mut facts = SourceFacts::default();
        facts.answered(began, began + ms(took));
        facts
    };
    let failed = {
        let mut facts = answered(10);
        facts.failed(ProbeFailure::new(began, began + ms(20), Cause::Error, "refused"));
        facts
    };
    let in_flight = |took: u64| {
        let mut facts = answered(took);
        facts.began(began + ms(1_000));
        facts
    };
    // (what is known, when; whether it answers)
    let cases = [
        ("nothing is known", SourceFacts::default(), 0, false),
        ("it answered", answered(10), 1_999, true),
        ("it answered too long ago", answered(10), 2_000, false),
        ("it failed since", failed, 500, false),
        ("a probe is in flight for as long as a cycle waits", in_flight(10), 1_300, true),
        ("for longer", in_flight(10), 1_301, false),
        ("a slow one, for twice what it took", in_flight(200), 1_400, true),
        ("for longer than that", in_flight(200), 1_401, false),
    ];
    for (name, facts, millis, expected) in cases {
        let health = SourceHealth::new(facts, ms(2_000)).collecting_for(ms(300));
        assert_eq!(health.is_answering(began + ms(millis)), expected, "{name}");
    }
    let by_default = SourceHealth::new(in_flight(10), ms(2_000));
    assert_eq!(by_default.collect_for, ms(500));
}

//   0 s      0.5 s            1 s      1.5 s                   2 s
//   answer   hangs from now   asked    it was waited for       in flight for 1 s
#[tokio::test(start_paused = true)]
async fn one_that_falls_silent_is_no_longer_among_those_that_answer() {
    let probes = Probes::new();
    let began = Instant::now();
    let (runtime, _) = start(&["n1", "n2"], probes.observer()).await;
    at(began, 500).await;
    probes.set("n2", Says::Hang);
    let names = || {
        let seen = runtime.handle().latest_snapshot().unwrap();
        let fresh = seen.value.fresh(seen.value.taken_at()).count();
        let answering = seen.value.answering().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        (answering.join(" "), fresh)
    };
    at(began, 1_700).await;
    assert_eq!(names(), ("n1 n2".to_owned(), 2), "not longer than a cycle waits");
    at(began, 2_700).await;
    assert_eq!(names(), ("n1".to_owned(), 2), "both are fresh by their age");
    let why = runtime.handle().why_stale("n2");
    assert_eq!(why, "n2 is silent: last answer 2.7 s ago; probe in flight for 1.7 s");
}
