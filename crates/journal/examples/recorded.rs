//! Records an observation in two processes, then judges waits over the recording.
//!
//! `cargo run -p watchkeeper-journal --example recorded [DIR]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, PerSource, StaticSourceProvider,
};
use watchkeeper_journal::JournalConfig;
use watchkeeper_journal::run::{PerSourceFormat, Replay, RunJournal};

/// Three nodes that count, and one of them does not answer for a while.
type Nodes = PerSource<Arc<AtomicU64>, u64>;

async fn height(node: ObservedSource<Arc<AtomicU64>>) -> Result<u64, DynError> {
    match node.source.fetch_add(1, Ordering::Relaxed) {
        height @ 4..8 if node.name == "n2" => Err(format!("down at {height}").into()),
        height => Ok(height),
    }
}

/// What each of the two processes does.
async fn process(directory: &std::path::Path, from: u64, polls: u64) -> Result<(), DynError> {
    let journal: RunJournal<Nodes, _> =
        RunJournal::open(directory, "nodes", JournalConfig::default(), PerSourceFormat).await?;
    let interval = Duration::from_millis(50);
    let config = ObservationConfig { interval, resume: journal.resume().await?, ..Default::default() };
    let nodes = ["n1", "n2", "n3"].map(|name| ObservedSource::new(name, Arc::new(AtomicU64::new(from))));
    let provider = StaticSourceProvider::new(nodes.into());
    let runtime = ObservationRuntime::start_in_background(provider, PerSource::new(height), config.clone())?;
    let recording = journal.record(&runtime.handle(), &config)?;
    let done = runtime.handle().all_sources("polled", |height| *height >= from + polls);
    done.within(Duration::from_secs(20)).await?;
    let _ = runtime.stop().await;
    let health = recording.finished().await;
    println!("recorded {} publications, lost {}", health.recorded, health.lost);
    journal.close().await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), DynError> {
    let temporary = tempfile::tempdir()?;
    let directory = std::env::args_os().nth(1).map_or(temporary.path().into(), std::path::PathBuf::from);
    process(&directory, 0, 10).await?;
    process(&directory, 100, 5).await?;

    let mut replay: Replay<Nodes, _> = Replay::open(&directory, "nodes", PerSourceFormat)?;
    let handle = replay.handle();
    let failing = handle.source_failing("n2").within(Duration::from_secs(30));
    let high = handle.all_sources("past 100", |height| *height > 100).within(Duration::from_secs(30));
    let fifty = handle.never("a node at 50", |nodes| nodes.answering().any(|(_, height)| **height == 50));
    let (failing, high, fifty, played) =
        tokio::join!(failing, high, fifty.during(Duration::from_millis(300)), replay.play());
    played?;
    let (failing, high) = (failing?, high?);
    println!("n2 was failing in cycle {}", failing.cycle);
    println!("all nodes were past 100 in generation {}", high.generation);
    println!("no node was at 50: {}", fifty.is_ok());
    assert!(failing.generation == 1 && high.generation == 2 && fifty.is_ok());
    Ok(())
}
