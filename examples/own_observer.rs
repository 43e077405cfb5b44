//! A custom observer that keeps what it knows of each source, so that waits and reports say why one fails.
//!
//! `cargo run --example own_observer`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

/// The length of each file, one after the other. Where all are asked at once, `PerSource` does this for you.
struct Lengths;

/// By name: the last length, and what is known of the source.
type Known = BTreeMap<String, (Option<u64>, SourceFacts)>;

async fn look(files: &[ObservedSource<PathBuf>], known: &mut Known) {
    known.retain(|name, _| files.iter().any(|file| file.name == *name));
    for file in files {
        let (length, facts) = known.entry(file.name.clone()).or_default();
        let began = Instant::now();
        facts.began(began);
        match tokio::fs::metadata(&file.source).await {
            Ok(found) => {
                facts.answered(began, Instant::now());
                *length = Some(found.len());
            }
            Err(error) => {
                // A snapshot has only what this poll has found: a wait must not be met by an older length.
                *length = None;
                facts.failed(ProbeFailure::new(began, Instant::now(), Cause::Error, error.to_string()));
            }
        }
    }
}

#[async_trait]
impl Observer for Lengths {
    type Source = PathBuf;
    type State = Known;
    type Snapshot = Known;
    type Event = ();

    async fn init(&self, files: &[ObservedSource<PathBuf>]) -> Result<Known, DynError> {
        let mut known = Known::new();
        look(files, &mut known).await;
        Ok(known)
    }

    async fn poll(&self, files: &[ObservedSource<PathBuf>], known: &mut Known) -> Result<Vec<()>, DynError> {
        look(files, known).await;
        Ok(Vec::new())
    }

    fn snapshot(&self, known: &Known) -> Known {
        known.clone()
    }

    fn source_health(known: &Known, name: &str) -> Option<SourceHealth> {
        known.get(name).map(|(_, facts)| SourceHealth::new(facts.clone(), Duration::from_secs(2)))
    }
}

#[tokio::main]
async fn main() -> Result<(), DynError> {
    let folder = std::env::temp_dir().join(format!("watchkeeper-own-observer-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let file = |name: &str| ObservedSource::new(name, folder.join(name));
    std::fs::write(folder.join("there"), "one")?;
    let files = StaticSourceProvider::new(vec![file("there"), file("missing")]);
    let config = ObservationConfig { interval: Duration::from_millis(50), ..Default::default() };
    let runtime = ObservationRuntime::start(files, Lengths, config).await?;
    let handle = runtime.handle();

    handle.source_fresh("there").within(Duration::from_secs(5)).await?;
    println!("{}", handle.why_stale("missing"));
    let unmet = handle
        .source_fresh("missing")
        .within(Duration::from_millis(300))
        .await
        .expect_err("no source is called so");
    assert!(unmet.to_string().contains("missing has never answered; "), "{unmet}");
    std::fs::write(folder.join("missing"), "two")?;
    handle.source_fresh("missing").within(Duration::from_secs(5)).await?;
    println!("{}, then {:?}", handle.why_stale("missing"), runtime.stop().await);
    Ok(std::fs::remove_dir_all(&folder)?)
}
