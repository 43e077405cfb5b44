//! Cycles of a runtime that is recorded, beside one that is not.

use std::path::Path;
use std::time::{Duration, Instant};

use watchkeeper::subscription::TapLimits;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};
use watchkeeper_journal::run::{RunJournal, SerdeFormat};
use watchkeeper_journal::{Durability, JournalConfig};

use super::table::{Goal, Row, median};

const CYCLES: u32 = 5_000;

/// Counts, with an event in each tenth cycle.
struct Counter;

#[async_trait]
impl Observer for Counter {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], count: &mut u64) -> Result<Vec<u64>, DynError> {
        *count += 1;
        Ok(if count.is_multiple_of(10) { vec![*count] } else { vec![] })
    }

    fn snapshot(&self, count: &u64) -> u64 {
        *count
    }
}

/// Cycles a second on one thread, each requested when the one before has ended. All that a recording does on that thread is
/// in it, and of what its own threads do, what they take from two cores.
async fn rate(directory: Option<&Path>) -> f64 {
    let config = ObservationConfig::from(Duration::from_secs(3_600));
    let sources = StaticSourceProvider::new(vec![ObservedSource::new("one", ())]);
    let runtime = ObservationRuntime::start(sources, Counter, config.clone()).await.expect("it starts");
    let mut journal = None;
    if let Some(directory) = directory {
        let settings = JournalConfig {
            durability: Durability::Group,
            segments: 1_000,
            reserve: 0,
            ..JournalConfig::default()
        };
        let opened: RunJournal<Counter> =
            RunJournal::open(directory, "counter", settings, SerdeFormat).await.expect("it opens");
        // No observation polls that often: what waits for the disk is more than by default.
        let limits = TapLimits { records: 100_000, ..TapLimits::default() };
        let recording = opened.record_with(&runtime.handle(), &config, limits).expect("it is the only one");
        journal = Some((opened, recording));
    }
    let control = runtime.control();
    let began = Instant::now();
    for _ in 0..CYCLES {
        control.poll_now_and_wait().await.expect("it polls");
    }
    let elapsed = began.elapsed().as_secs_f64();
    let _ = runtime.stop().await;
    if let Some((journal, recording)) = journal {
        let health = recording.finished().await;
        assert!(health.is_ok() && health.recorded > u64::from(CYCLES), "{health:?}");
        journal.close().await.expect("it closes");
    }
    f64::from(CYCLES) / elapsed
}

pub(crate) fn row(directory: &Path, rounds: usize) -> Row {
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut recorded, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let place = tempfile::tempdir_in(directory).expect("the target directory can be written");
        recorded.push(executor.block_on(rate(Some(place.path()))));
        alone.push(executor.block_on(rate(None)));
    }
    Row::new("cycles, recorded", median(recorded), "cycles", median(alone), Goal::None)
}
