//! Code without the macros of cucumber needs no dependency on it.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::convert::Infallible;
use std::time::Duration;

use watchkeeper::source::SharedSources;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource};
use watchkeeper_cucumber::cucumber::writer::Stats as _;
use watchkeeper_cucumber::cucumber::{self, Cucumber, step::Collection};
use watchkeeper_cucumber::{Observed, Observers, after, with_steps};

#[derive(Debug)]
struct World(Observers);

impl cucumber::World for World {
    type Error = Infallible;

    async fn new() -> Result<Self, Infallible> {
        let probe = |_: ObservedSource<()>| async { Ok::<_, DynError>(1) };
        let observer = PerSource::new(probe);
        let config =
            ObservationConfig { interval: Duration::from_millis(100), ..ObservationConfig::default() };
        let sources = SharedSources::new(vec![ObservedSource::new("n1", ())]);
        let mut observers = Observers::new();
        observers.add("one", ObservationRuntime::start(sources, observer, config).await.unwrap()).unwrap();
        Ok(Self(observers))
    }
}

impl Observed for World {
    fn observers(&mut self) -> &mut Observers {
        &mut self.0
    }
}

#[tokio::test(start_paused = true)]
async fn a_world_without_macros_runs_with_the_reexports() {
    let features = tempfile::tempdir().unwrap();
    let feature =
        "Feature: F\n  Scenario: S\n    Then the observer \"one\" source \"n1\" is fresh within 2 s\n";
    std::fs::write(features.path().join("one.feature"), feature).unwrap();
    let run = Cucumber::<World, _, _, _, _>::new().steps(with_steps(Collection::new())).after(after);
    let writer = run.with_default_cli().run(features.path().to_owned()).await;
    assert_eq!((writer.passed_steps(), writer.execution_has_failed()), (1, false));
}
