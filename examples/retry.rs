//! Retries with backoff: a registry that is down is asked less and less often, and at once when somebody asks for it.
//!
//! `cargo run --example retry`

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use watchkeeper::runtime::{Backoff, Retry, StateKind};
use watchkeeper::source::source_fn;
use watchkeeper::{DynError, ObservationConfig, ObservationFailureStage, ObservedSource, observe};

async fn height(node: ObservedSource<u64>) -> Result<u64, DynError> {
    Ok(node.source)
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let [second, minute] = [Duration::from_secs(1), Duration::from_secs(60)];
    let is_up = Arc::new(AtomicBool::new(true));
    let registry = is_up.clone();
    let nodes = source_fn(move || {
        let is_up = registry.load(Ordering::SeqCst);
        async move {
            if is_up {
                Ok(vec![ObservedSource::new("n1", 7)])
            } else {
                Err(DynError::from("registry is down"))
            }
        }
    });
    // 1 s, 2 s, 4 s, 8 s, 8 s, ..; `jitter: 0.5` would take up to half of each away, at random by `seed`.
    let backoff = Backoff { first: second, max: 8 * second, jitter: 0.0, seed: 0 };
    let config = ObservationConfig { interval: second, retry: Retry::Backoff(backoff), ..Default::default() };
    let runtime = observe(config, nodes, height).await?;
    let handle = runtime.handle();

    is_up.store(false, Ordering::SeqCst);
    handle.reaches(StateKind::Failed).within(minute).await?;
    let mark = handle.mark();
    handle.becomes_stale().after(mark).within(minute).await?;
    tokio::time::sleep(minute / 2).await;
    let failures = handle.failures();
    let pauses: Vec<u64> =
        failures.windows(2).map(|pair| (pair[1].observed_at - pair[0].observed_at).as_secs()).collect();
    println!("{}; tried again after {pauses:?} s", failures[0]);
    assert_eq!(pauses[..5], [1, 2, 4, 8, 8]);
    assert!(failures.iter().all(|failure| failure.stage == ObservationFailureStage::SourceRefresh));

    // By hand it is tried at once; a success begins the delays again.
    is_up.store(true, Ordering::SeqCst);
    let snapshot = runtime.poll_now_and_wait().await?;
    assert_eq!(snapshot.value.answer("n1"), Some(&7));
    assert!(handle.last_error().is_none() && handle.failures().len() == failures.len());
    handle.always("n1 is at 7", |nodes| nodes.answer("n1") == Some(&7)).during(5 * second).await?;
    Ok(())
}
