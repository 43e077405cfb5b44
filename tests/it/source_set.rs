//! The source set is fetched in each cycle. A set with duplicate names is refused where the config says so.

use std::future::ready;
use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper::runtime::{Cause, State};
use watchkeeper::source::{Duplicates, SharedSources};
use watchkeeper::{
    DynError, ObservationConfig, ObservationFailureStage as Stage, ObservationRuntime, ObservedSource,
    Observer, async_trait,
};

use crate::common::stateless::stateless;
use crate::common::{at, each_second, ms};

/// Shows the sources that it was given, and how many polls its state has seen.
struct Show;

#[async_trait]
impl Observer for Show {
    type Source = u16;
    type State = (u64, String);
    type Snapshot = (u64, String);
    type Event = ();

    async fn init(&self, sources: &[ObservedSource<u16>]) -> Result<(u64, String), DynError> {
        Ok((0, shown(sources)))
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<u16>],
        state: &mut (u64, String),
    ) -> Result<Vec<()>, DynError> {
        *state = (state.0 + 1, shown(sources));
        Ok(Vec::new())
    }

    fn snapshot(&self, state: &(u64, String)) -> (u64, String) {
        state.clone()
    }
}

fn shown(sources: &[ObservedSource<u16>]) -> String {
    let shown: Vec<_> = sources.iter().map(|it| format!("{}:{}", it.name, it.source)).collect();
    shown.join(" ")
}

/// Names and ports.
type Set<'a> = &'a [(&'a str, u16)];

fn set(sources: Set<'_>) -> Vec<ObservedSource<u16>> {
    sources.iter().map(|(name, port)| ObservedSource::new(*name, *port)).collect()
}

async fn start(first: Set<'_>) -> (SharedSources<u16>, ObservationRuntime<Show>) {
    let sources = SharedSources::new(set(first));
    let config = ObservationConfig { duplicates: Duplicates::Refuse, ..each_second() };
    let runtime = ObservationRuntime::start(sources.clone(), Show, config).await.unwrap();
    (sources, runtime)
}

#[tokio::test(start_paused = true)]
async fn each_cycle_polls_the_set_as_it_is() {
    let began = Instant::now();
    let (sources, runtime) = start(&[("a", 1), ("b", 2)]).await;
    let handle = runtime.handle();
    assert_eq!(handle.latest_snapshot().unwrap().value.1, "a:1 b:2");
    // (what happens, the set from then on, the published names)
    let cases: [(&str, Set, &str); 8] = [
        ("nothing", &[("a", 1), ("b", 2)], "a b"),
        ("joined", &[("a", 1), ("b", 2), ("c", 3)], "a b c"),
        ("left", &[("b", 2), ("c", 3)], "b c"),
        ("replaced", &[("b", 9), ("c", 3)], "b c"),
        ("reordered", &[("c", 3), ("b", 9)], "c b"),
        ("joined and left", &[("d", 4), ("b", 9)], "d b"),
        ("all left", &[], ""),
        ("back", &[("a", 1)], "a"),
    ];
    for (cycle, (what, now, names)) in (1_u64..).zip(cases) {
        sources.replace(set(now));
        at(began, cycle * 1000 + 500).await;
        let status = handle.status();
        let snapshot = status.snapshot.unwrap();
        assert_eq!((status.state, snapshot.cycle), (State::Idle, cycle), "{what}");
        assert_eq!(snapshot.value, (cycle, shown(&set(now))), "{what}: polled by the same state");
        assert_eq!(status.source_names.join(" "), names, "{what}");
        assert_eq!(snapshot.source_count, now.len(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_refused_fails_its_cycle_and_costs_nothing_else() {
    let refused: [(Set, &str); 4] = [
        (
            &[("a", 1), ("b", 2), ("b", 3)],
            r#"two sources are named "b": give every source a name of its own"#,
        ),
        (&[("c", 3), ("c", 3)], r#"two sources are named "c": give every source a name of its own"#),
        (&[("a", 1), ("", 2)], "source number 2 has an empty name: give every source a name of its own"),
        (&[("", 1), ("", 2)], "source number 1 has an empty name: give every source a name of its own"),
    ];
    for (now, message) in refused {
        let began = Instant::now();
        let (sources, runtime) = start(&[("a", 1), ("b", 2)]).await;
        let handle = runtime.handle();
        at(began, 1500).await;
        let good = handle.latest_snapshot().unwrap();

        sources.replace(set(now));
        at(began, 2500).await;
        let status = handle.status();
        let failure = status.last_error.unwrap();
        assert_eq!((failure.stage, failure.cause, failure.cycle), (Stage::SourceRefresh, Cause::Error, 2));
        assert_eq!(failure.message, message);
        assert_eq!(failure.observed_at, began + ms(2000));
        assert_eq!(
            (status.source_names.join(" ").as_str(), failure.source_count),
            ("a b", 2),
            "{message}: the last good set is still known"
        );
        assert!(Arc::ptr_eq(&good, &status.snapshot.unwrap()), "{message}");

        sources.replace(set(&[("b", 2)]));
        at(began, 3500).await;
        let status = handle.status();
        assert_eq!((status.state, status.generation), (State::Idle, 1), "{message}");
        assert_eq!(status.snapshot.unwrap().value, (2, "b:2".into()), "{message}: the state was kept");
        assert_eq!(status.last_error, None);
    }
}

/// The names are known before the poll that uses them has an outcome.
#[tokio::test(start_paused = true)]
async fn names_are_published_also_when_the_poll_fails() {
    let began = Instant::now();
    let sources = SharedSources::new(set(&[("a", 1)]));
    let runtime =
        ObservationRuntime::start(sources.clone(), stateless(|| ready(Err("down".into()))), each_second())
            .await
            .unwrap();
    sources.insert("b", 2);
    at(began, 1500).await;
    let status = runtime.handle().status();
    assert_eq!(status.source_names.join(" "), "a b");
    assert_eq!(status.last_error.unwrap().source_count, 2);
    assert_eq!(status.snapshot.unwrap().source_count, 1, "the snapshot is the last success");
}
