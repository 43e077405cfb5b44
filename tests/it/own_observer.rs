//! A custom observer that keeps facts by source is explained like `PerSource`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
use watchkeeper::{
    DynError, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider, async_trait,
};

use crate::common::{at, each_second, ms};

/// Answers or fails by a script; keeps nothing but facts.
#[derive(Clone, Default)]
struct Own {
    down: Arc<Mutex<BTreeMap<String, &'static str>>>,
}

type Known = BTreeMap<String, SourceFacts>;

#[async_trait]
impl Observer for Own {
    type Source = ();
    type State = Known;
    type Snapshot = Known;
    type Event = ();

    async fn init(&self, sources: &[ObservedSource<()>]) -> Result<Known, DynError> {
        let mut known = Known::new();
        self.poll(sources, &mut known).await?;
        Ok(known)
    }

    async fn poll(&self, sources: &[ObservedSource<()>], known: &mut Known) -> Result<Vec<()>, DynError> {
        for source in sources {
            let facts = known.entry(source.name.clone()).or_default();
            let began = Instant::now();
            facts.began(began);
            match self.down.lock().unwrap().get(&source.name) {
                None => _ = facts.answered(began, began),
                Some(why) => _ = facts.failed(ProbeFailure::new(began, began, Cause::Error, *why)),
            }
        }
        Ok(Vec::new())
    }

    fn snapshot(&self, known: &Known) -> Known {
        known.clone()
    }

    fn source_health(known: &Known, name: &str) -> Option<SourceHealth> {
        known.get(name).map(|facts| SourceHealth::new(facts.clone(), ms(2_000)))
    }
}

#[tokio::test(start_paused = true)]
async fn its_sources_are_waited_for_and_explained() {
    let own = Own::default();
    own.down.lock().unwrap().insert("n2".to_owned(), "connection refused");
    let began = Instant::now();
    let names = ["n1", "n2"].map(|name| ObservedSource::new(name, ()));
    let provider = StaticSourceProvider::new(names.to_vec());
    let runtime = ObservationRuntime::start(provider, own.clone(), each_second()).await.unwrap();
    let handle = runtime.handle();
    at(began, 3_500).await;
    assert_eq!(handle.why_stale("n1"), "n1 is fresh: last answer 0.5 s ago");
    let expected = "n2 has never answered; 4 consecutive failures, last 0.5 s ago: connection refused";
    assert_eq!(handle.why_stale("n2"), expected);

    handle.source_fresh("n1").within(ms(2_000)).await.unwrap();
    handle.source_failing("n2").within(ms(2_000)).await.unwrap();
    let unmet = handle.source_fresh("n2").within(ms(2_500)).await.unwrap_err();
    assert!(unmet.to_string().contains("last 0.5 s ago: connection refused"), "{unmet}");

    own.down.lock().unwrap().clear();
    handle.source_fresh("n2").within(ms(2_500)).await.unwrap();
    own.down.lock().unwrap().insert("n1".to_owned(), "reset by peer");
    handle.source_failing("n1").within(ms(2_500)).await.unwrap();
    let why = handle.why_stale("n1");
    assert!(why.starts_with("n1 is failing: ") && why.ends_with(": reset by peer"), "{why}");
}

/// What an observer may do must not depend on how `PerSource` does it.
#[test]
fn observer_and_waits_know_nothing_of_per_source() {
    fn check(path: &Path, checked: &mut usize) {
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                check(&entry.unwrap().path(), checked);
            }
            return;
        }
        *checked += 1;
        let text = fs::read_to_string(path).unwrap();
        let code = text.lines().map(|line| line.split("//").next().unwrap());
        for (number, line) in (1..).zip(code) {
            let found = ["per_source", "PerSource", "SourceView"].iter().any(|word| line.contains(word));
            assert!(!found, "{}:{number}: {line}", path.display());
        }
    }
    let mut checked = 0;
    for place in ["observer.rs", "source/health.rs", "wait"] {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(place), &mut checked);
    }
    assert!(checked > 10, "{checked} files");
}
