//! Sources that share a name, or have none, cost the others nothing: the first of each name is observed.

use std::sync::Arc;

use tokio::time::Instant;
use tracing::Level;
use watchkeeper::group::AnyHandle;
use watchkeeper::runtime::{Cause, StateKind};
use watchkeeper::source::SharedSources;
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime, ObservedSource,
    PerSource,
};

use crate::common::listener::Listener;
use crate::common::{App, at, each_second, ms};

/// Answers with its number, at once.
fn numbers() -> PerSource<u64, u64> {
    PerSource::new(|source: ObservedSource<u64>| async move {
        if source.source == u64::MAX { Err(DynError::from("down")) } else { Ok(source.source) }
    })
}

fn set(sources: &[(&str, u64)]) -> Vec<ObservedSource<u64>> {
    sources.iter().map(|(name, number)| ObservedSource::new(*name, *number)).collect()
}

const GIVEN_TWICE: &str = "the name is given to 2 sources: only the first is observed";

#[tokio::test(start_paused = true)]
async fn one_of_250_costs_the_other_249_nothing() {
    let mut sources: Vec<_> = (0..250).map(|n| ObservedSource::new(format!("n{n}"), n)).collect();
    sources[200].name = "n7".to_owned();
    let sources = SharedSources::new(sources);
    let began = Instant::now();
    let runtime = ObservationRuntime::start(sources.clone(), numbers(), each_second()).await.unwrap();
    let handle = runtime.handle();
    at(began, 2_500).await;
    let status = handle.status();
    assert_eq!((status.state.kind(), status.cycle), (StateKind::Idle, 2));
    assert_eq!((status.source_names.len(), handle.failures().len()), (249, 0));
    let seen = &status.snapshot.unwrap().value;
    assert_eq!(seen.answer("n7"), Some(&7), "the first one keeps its name");
    assert_eq!(seen.fresh(seen.taken_at()).count(), 249);
    assert!(seen.get("n200").is_none());
}

#[tokio::test(start_paused = true)]
async fn it_shows_as_the_failed_probe_of_that_name() {
    let sources = SharedSources::new(set(&[("a", 1), ("b", 2), ("a", 3)]));
    let began = Instant::now();
    let runtime = ObservationRuntime::start(sources.clone(), numbers(), each_second()).await.unwrap();
    let handle = runtime.handle();
    let any = AnyHandle::new("any", &handle);
    at(began, 1_500).await;
    assert!(handle.why_stale("a").contains(GIVEN_TWICE), "{}", handle.why_stale("a"));
    assert!(handle.why_stale("b").starts_with("b is fresh"), "{}", handle.why_stale("b"));
    let health = any.look(|seen| seen.source_health("a")).flatten().unwrap();
    let failure = health.facts.last_failure.clone().unwrap();
    assert!(health.is_failing());
    assert_eq!((&*failure.message, failure.cause), (GIVEN_TWICE, Cause::Error));
    assert!(!any.look(|seen| seen.source_health("b")).flatten().unwrap().is_failing());

    handle.source_failing("a").within(ms(5_000)).await.unwrap();
    let unmet = handle.source_failing("b").within(ms(2_000)).await.unwrap_err().to_string();
    assert!(unmet.contains(GIVEN_TWICE), "the report names the other one too: {unmet}");

    // Its own failure is not hidden.
    sources.replace(set(&[("a", u64::MAX), ("b", 2), ("a", 3)]));
    tokio::time::sleep(ms(2_000)).await;
    let why = handle.why_stale("a");
    assert!(why.contains(&format!("down; and {GIVEN_TWICE}")), "{why}");

    // Once the names are in order, it is as any other.
    sources.replace(set(&[("a", 1), ("b", 2), ("c", 3)]));
    tokio::time::sleep(ms(2_000)).await;
    assert!(handle.why_stale("a").starts_with("a is fresh"), "{}", handle.why_stale("a"));
    assert!(handle.failures().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_warns_once_and_again_when_other_names_are_concerned() {
    let listener = Listener::default();
    let _listening = tracing::subscriber::set_default(listener.clone());
    let warned = |cycle: u64, names: &str, unnamed: u64, left_out: u64| {
        format!(
            "sources without a name of their own are left out: give every source its own, or set \
             ObservationConfig::duplicates to Refuse cycle={cycle} names={names:?} unnamed={unnamed} \
             left_out={left_out}"
        )
    };
    let app = App::new();
    /// The set from then on, and what is warned of in the next cycle: names, how many have none and are left out.
    type Case<'a> = (&'a [&'a str], Option<(&'a str, u64, u64)>);
    let cases: [Case; 10] = [
        (&["a", "b"], None),
        (&["a", "b", "a"], Some(("a", 0, 1))),
        (&["a", "b", "a"], None),
        (&["a", "a", "b"], None),
        (&["a", "a", "b", "a", "c"], None),
        (&["a", "a", "b", "b", "b"], Some(("a, b", 0, 3))),
        (&["a", "a", "b", "b", ""], Some(("a, b", 1, 3))),
        (&["b", "", ""], Some(("none", 2, 2))),
        (&["a"], None),
        (&["a", "a"], Some(("a", 0, 1))),
    ];
    app.set(cases[0].0);
    let began = Instant::now();
    let runtime = app.start(each_second()).await;
    let mut expected = Vec::new();
    for (cycle, (set, warning)) in (1_u64..).zip(cases) {
        app.set(set);
        at(began, cycle * 1_000 + 500).await;
        expected.extend(warning.map(|(names, unnamed, left_out)| warned(cycle, names, unnamed, left_out)));
        assert_eq!(listener.lines(Level::WARN, ""), expected, "{set:?}");
        assert_eq!(runtime.handle().state().kind(), StateKind::Idle, "{set:?}");
    }
    let again = listener.lines(Level::INFO, "every source has a name of its own again");
    assert_eq!(again, ["every source has a name of its own again cycle=9"]);
}

#[tokio::test(start_paused = true)]
async fn a_set_in_which_nothing_has_a_name_is_refused() {
    let sources = SharedSources::new(set(&[("a", 1)]));
    let began = Instant::now();
    let config = ObservationConfig { poll_timeout: ms(500), ..each_second() };
    let runtime = ObservationRuntime::start(sources.clone(), numbers(), config).await.unwrap();
    let handle = runtime.handle();
    sources.replace(set(&[("", 1), ("", 2)]));
    at(began, 1_500).await;
    let failure = handle.last_error().unwrap();
    assert_eq!(failure.stage, Stage::SourceRefresh);
    assert_eq!(failure.message, "source number 1 has an empty name: give every source a name of its own");
    assert_eq!(handle.status().source_names, Arc::from([Arc::from("a")]), "what was known stays");
    sources.replace(set(&[("", 1), ("b", 2)]));
    at(began, 2_500).await;
    assert_eq!(handle.status().source_names, Arc::from([Arc::from("b")]));
    assert!(handle.last_error().is_none());
}
