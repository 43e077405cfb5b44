//! An early `?` in a poll that has changed its state loses events for good. `Transactional` polls on a copy.
//!
//! `cargo run --example transactional`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchkeeper::runtime::Transactional;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider,
    async_trait,
};

/// Reads queues, one after the other. Its state is how many it has read; a queue that is down fails the poll.
struct Reader;

type Queue = Arc<AtomicBool>; // whether it is up

#[async_trait]
impl Observer for Reader {
    type Source = Queue;
    type State = u64;
    type Snapshot = u64;
    type Event = u64; // the number of a message

    async fn init(&self, _: &[ObservedSource<Queue>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, queues: &[ObservedSource<Queue>], read: &mut u64) -> Result<Vec<u64>, DynError> {
        let mut messages = Vec::new();
        for queue in queues {
            if !queue.source.load(Ordering::SeqCst) {
                return Err(format!("{} is down", queue.name).into()); // what `messages` holds is lost
            }
            *read += 1;
            messages.push(*read);
        }
        Ok(messages)
    }

    fn snapshot(&self, read: &u64) -> u64 {
        *read
    }
}

/// Two cycles that succeed, with one between them in which the second queue is down. Returns all messages.
async fn messages(
    observer: impl Observer<Source = Queue, Event = u64, Snapshot = u64>,
) -> Result<Vec<u64>, DynError> {
    let queues = [Queue::new(true.into()), Queue::new(true.into())];
    let sources = [("q1", &queues[0]), ("q2", &queues[1])];
    let sources = sources.map(|(name, queue)| ObservedSource::new(name, queue.clone()));
    let config = ObservationConfig { interval: Duration::from_secs(3600), ..Default::default() }; // by hand
    let provider = StaticSourceProvider::new(sources.into());
    let runtime = ObservationRuntime::start(provider, observer, config).await?;
    runtime.poll_now_and_wait().await?;
    queues[1].store(false, Ordering::SeqCst);
    let failed = runtime.poll_now_and_wait().await.expect_err("q2 is down");
    println!("{failed}");
    queues[1].store(true, Ordering::SeqCst);
    runtime.poll_now_and_wait().await?;
    Ok(runtime.handle().history().iter().flat_map(|batch| batch.events.clone()).collect())
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    assert_eq!(
        messages(Reader).await?,
        [1, 2, 4, 5],
        "the third is lost: its cycle failed after it was read"
    );
    assert_eq!(messages(Transactional::new(Reader)).await?, [1, 2, 3, 4]);
    Ok(())
}
