//! A custom observer that keeps what it knows of each source, so that waits and reports say why one fails.
//!
//! `cargo run --example own_observer`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::Cause;
use watchkeeper::source::{ProbeFailure, SourceFacts, SourceHealth};
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource};
use watchkeeper::{Observer, StaticSourceProvider, async_trait};

/// The length of each file, one after the other. Where all are asked at once, `PerSource` does this for you.
struct Lengths;

/// By name: the last length, and what is known of the source.
type Known = BTreeMap<String, (Option<u64>, SourceFacts)>;

#[async_trait]
impl Observer for Lengths {
    type Source = PathBuf;
    type State = Known;
    type Snapshot = Known;
    type Event = ();

    async fn init(&self, files: &[ObservedSource<PathBuf>]) -> Result<Known, DynError> {
        let mut known = Known::new();
        self.poll(files, &mut known).await?;
        Ok(known)
    }

    async fn poll(&self, files: &[ObservedSource<PathBuf>], known: &mut Known) -> Result<Vec<()>, DynError> {
        for file in files {
            let (length, facts) = known.entry(file.name.clone()).or_default();
            let began = Instant::now();
            facts.began(began);
            let found = tokio::fs::metadata(&file.source).await;
            match &found {
                Ok(_) => _ = facts.answered(began, Instant::now()),
                Err(why) => {
                    facts.failed(ProbeFailure::new(began, Instant::now(), Cause::Error, why.to_string()));
                }
            }
            *length = found.ok().map(|file| file.len()); // only what this poll has found, or an old length meets a wait
        }
        known.retain(|name, _| files.iter().any(|file| file.name == *name));
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
    let [soon, moment] = [5_000, 300].map(Duration::from_millis);
    let path = std::env::temp_dir().join(format!("watchkeeper-own-observer-{}", std::process::id()));
    let files = [("there", std::env::current_exe()?), ("missing", path.clone())];
    let files = files.map(|(name, path)| ObservedSource::new(name, path));
    let config = ObservationConfig::from(Duration::from_millis(50));
    let runtime = ObservationRuntime::start(StaticSourceProvider::new(files.into()), Lengths, config).await?;
    let handle = runtime.handle();
    handle.source_fresh("there").within(soon).await?;
    let unmet = handle.source_fresh("missing").within(moment).await.expect_err("there is no such file");
    assert!(unmet.to_string().contains("missing has never answered; "), "{unmet}");
    let whole = path.with_extension("new"); // renamed when it is whole: no poll sees the empty file
    std::fs::write(&whole, "two")?;
    std::fs::rename(&whole, &path)?;
    let seen = handle.source_fresh("missing").within(soon).await?;
    assert_eq!(seen.value["missing"].0, Some(3));
    Ok(std::fs::remove_file(&path)?)
}
