//! The smallest observation: a file's length, watched while something else writes to it.
//!
//! `cargo run --example counter`

use std::path::PathBuf;
use std::time::Duration;

use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

struct Lengths;

#[async_trait]
impl Observer for Lengths {
    type Source = PathBuf;
    type State = u64;
    type Snapshot = u64;
    type Event = u64; // by how much it grew

    async fn init(&self, files: &[ObservedSource<PathBuf>]) -> Result<u64, DynError> {
        total(files).await
    }

    async fn poll(&self, files: &[ObservedSource<PathBuf>], length: &mut u64) -> Result<Vec<u64>, DynError> {
        let now = total(files).await?;
        let grown = now.saturating_sub(std::mem::replace(length, now));
        Ok(if grown > 0 { vec![grown] } else { Vec::new() })
    }

    fn snapshot(&self, length: &u64) -> u64 {
        *length
    }
}

async fn total(files: &[ObservedSource<PathBuf>]) -> Result<u64, DynError> {
    let mut sum = 0;
    for file in files {
        sum += tokio::fs::metadata(&file.source).await?.len();
    }
    Ok(sum)
}

#[tokio::main]
async fn main() -> Result<(), DynError> {
    let path = std::env::temp_dir().join(format!("watchkeeper-counter-{}", std::process::id()));
    std::fs::write(&path, "one")?;
    let files = StaticSourceProvider::new(vec![ObservedSource::new("file", path.clone())]);
    let config = ObservationConfig { interval: Duration::from_millis(50), ..Default::default() };
    let runtime = ObservationRuntime::start(files, Lengths, config).await?;
    // A write of the whole file would first make it empty, and a poll could see that.
    std::io::Write::write_all(&mut std::fs::File::options().append(true).open(&path)?, b" two")?;
    let grown = runtime.handle().eventually("7 bytes", |length| *length == 7);
    let seen = grown.within(Duration::from_secs(5)).await?;
    assert_eq!(seen.value, 7);
    println!("cycle {}: {} bytes", seen.cycle, seen.value);
    std::fs::remove_file(&path)?;
    let grown: u64 = runtime.handle().history().iter().flat_map(|batch| batch.events.clone()).sum();
    assert_eq!(grown, 4);
    println!("stop: {:?}", runtime.stop().await);
    Ok(())
}
