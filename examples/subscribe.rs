//! Every batch of events in order, each exactly once; what a slow reader has missed is counted, and a rebuild is said.
//!
//! `cargo run --example subscribe`

use std::future::pending;
use std::time::Duration;

use watchkeeper::runtime::StopReason;
use watchkeeper::subscription::{Cursor, RecvError};
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

/// Counts its polls. The one after 10 hangs; its state is then dropped and built again.
struct Polls;

#[async_trait]
impl Observer for Polls {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], count: &mut u64) -> Result<Vec<u64>, DynError> {
        if *count == 10 {
            pending::<()>().await;
        }
        *count += 1;
        Ok(vec![*count])
    }

    fn snapshot(&self, count: &u64) -> u64 {
        *count
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let sources = StaticSourceProvider::new(vec![]);
    let config = ObservationConfig { history_limit: 4, ..Default::default() }; // the newest 4 batches
    let runtime = ObservationRuntime::start(sources, Polls, config).await?;
    let handle = runtime.handle();

    // After a snapshot nothing is missing and nothing comes twice.
    let snapshot = handle.latest_snapshot().ok_or("`start` returns after the first one")?;
    let mut batches = handle.subscribe_from(snapshot.cursor)?;
    assert_eq!(batches.recv().await?.events, [snapshot.value + 1]);

    // A cursor is a position between two batches, also as text.
    let position = batches.cursor().to_string();
    drop(batches);
    handle.eventually("it has polled 10 times", |count| *count == 10).within(Duration::from_secs(60)).await?;
    let mut batches = handle.subscribe_from(position.parse::<Cursor>()?)?;
    let Err(RecvError::Lagged { missed, resume }) = batches.recv().await else { return Err("no lag".into()) };
    println!("missed {missed} batches; reading goes on at batch {}", resume.seq());
    assert_eq!(missed, 10 - 1 - 4, "9 came since, and the history holds 4");
    for expected in 7..=10 {
        assert_eq!(batches.recv().await?.events, [expected]);
    }

    // The poll that hung is cut off after `poll_timeout`. What was read before is of a state that is gone.
    let rebuilt = batches.recv().await.expect_err("a rebuild comes before the batches after it");
    println!("{rebuilt}");
    assert_eq!(rebuilt, RecvError::Rebuilt { generation: 2 });
    assert_eq!(batches.recv().await?.events, [1]);

    let _ = runtime.stop().await;
    assert_eq!(batches.recv().await.expect_err("the end"), RecvError::Closed(StopReason::Requested));
    Ok(())
}
