//! A recorded run is published by a feed: waits judge it as they judge a live one, by its time and not by ours.
//!
//! `cargo run --example replay`

use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedStart};
use watchkeeper::subscription::{Record, TapLimits};
use watchkeeper::wait::UnmetOutcome;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, PerSource, observe};

type Nodes = PerSource<Instant, u64>;

/// A node that grows by one a second, and refuses from its 20th second to its 30th.
async fn height(node: ObservedSource<Instant>) -> Result<u64, DynError> {
    match node.source.elapsed().as_secs() {
        20..30 => Err("connection refused".into()),
        second => Ok(second),
    }
}

/// A minute of a run, as a tap gives it: every publication, in order. `watchkeeper-journal` keeps them on disk.
async fn record(config: &ObservationConfig) -> Result<Vec<Record<Nodes>>, DynError> {
    let runtime = observe(config.clone(), [("n1", Instant::now())], height).await?;
    let mut tap = runtime.handle().tap(TapLimits::default());
    let minute = runtime.handle().all_sources("n1 is at 60", |height| *height == 60);
    minute.within(Duration::from_secs(90)).await?;
    let _ = runtime.stop().await;
    let mut records = Vec::new();
    while let Ok(record) = tap.recv().await {
        records.push(record);
    }
    Ok(records)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let config = ObservationConfig::from(Duration::from_secs(1));
    let records = record(&config).await?;
    println!("{} publications", records.len());

    let first = records.first().ok_or("a minute has publications")?;
    let mut feed: Feed<Nodes> = Feed::new(&config, FeedStart::from(first))?;
    let handle = feed.handle();
    // Made before the first record, so that they judge all of them; windows are of the run's time.
    let seconds = Duration::from_secs;
    let failing = handle.source_failing("n1").within(seconds(30));
    let past_40 = handle.eventually("past 40", |nodes| nodes.answer("n1") > Some(&40)).within(seconds(50));
    let too_early = handle.eventually("past 40", |nodes| nodes.answer("n1") > Some(&40)).within(seconds(30));
    let answers = handle.invariant("n1 answers", |nodes| nodes.answer("n1").is_some());
    for record in &records {
        feed.record(record)?;
    }
    assert_eq!(past_40.await?.value.answer("n1"), Some(&41));
    assert_eq!(too_early.await.expect_err("it takes 40 s").outcome(), UnmetOutcome::NotMet);
    let failing = failing.await?;
    println!("n1 was failing in cycle {}", failing.cycle);
    assert_eq!(failing.cycle, 20);
    let violated = answers.finish().await.expect_err("it refused for 10 s");
    println!("{violated}");
    assert_eq!(violated.outcome(), UnmetOutcome::Violated);
    Ok(())
}
