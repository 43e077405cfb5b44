//! A consumer that must not lose: killed between handling and commit, and slower than the history is long, it handles
//! every order at least once. The rules behind it are in docs/consumer.md.
//!
//! `cargo run --example lossless`

use std::sync::Arc;
use std::time::Duration;

use tokio::{sync::watch, time::sleep};
use watchkeeper::per_source::SourceEvent::{self, Appeared, Changed, Recovered};
use watchkeeper::subscription::RecvError;
use watchkeeper::{DynError, ObservationConfig, ObservationHandle, ObservedSource, PerSource, observe};

/// What outlives the process. An order is its position, from 1.
#[derive(Default)]
struct Store {
    newest: watch::Sender<u64>,
    committed: watch::Sender<u64>,
    handled: watch::Sender<Vec<u64>>, // for the assertions
}

/// What is not committed: after a restart, and after a gap, it is there once more.
async fn open(orders: ObservedSource<Arc<Store>>) -> Result<Vec<u64>, DynError> {
    Ok((*orders.source.committed.borrow() + 1..=*orders.source.newest.borrow()).collect())
}

fn opened(event: &SourceEvent<Vec<u64>>) -> Option<Vec<u64>> {
    if let Appeared { value, .. } | Changed { new: value, .. } = event { Some(value.to_vec()) } else { None }
}

type Orders = ObservationHandle<PerSource<Arc<Store>, Vec<u64>>>;
/// Returns how often it went back to the snapshot: after a gap, and when a source that had no answer in it recovers.
async fn consume(observed: Orders, store: Arc<Store>) -> Result<u64, DynError> {
    let mut gaps = 0;
    loop {
        let snapshot = observed.latest_snapshot().ok_or("no snapshot")?; // at first, and after a gap
        let mut batches = observed.subscribe_from(snapshot.cursor)?;
        let mut open = snapshot.value.answer("orders").cloned().unwrap_or_default();
        loop {
            for position in open {
                if position > *store.committed.borrow() {
                    store.handled.send_modify(|handled| handled.push(position)); // handle ..
                    sleep(Duration::from_secs(2)).await; // a kill here: this order comes once more
                    store.committed.send_replace(position); // .. then commit
                }
            }
            open = match batches.recv().await {
                Ok(batch) if batch.events.iter().any(|event| matches!(event, Recovered { .. })) => break,
                Ok(batch) => batch.events.iter().filter_map(opened).flatten().collect(),
                Err(RecvError::Closed(_)) => return Ok(gaps),
                Err(RecvError::Lagged { .. } | RecvError::Rebuilt { .. }) => break,
            };
        }
        gaps += 1;
    }
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), DynError> {
    let store = Arc::new(Store { newest: watch::Sender::new(3), ..Store::default() });
    let config = ObservationConfig { history_limit: 2, ..Duration::from_millis(250).into() };
    let runtime = observe(config.clone(), [("orders", store.clone())], open).await?;
    let consumer = tokio::spawn(consume(runtime.handle(), store.clone()));
    store.handled.subscribe().wait_for(|handled| *handled == [1, 2]).await?;
    consumer.abort(); // before the second order is committed; its runtime dies with it
    drop(runtime);

    let runtime = observe(config, [("orders", store.clone())], open).await?;
    let consumer = tokio::spawn(consume(runtime.handle(), store.clone()));
    for newest in 4..=20 {
        sleep(Duration::from_millis(250)).await;
        store.newest.send_replace(newest);
    }
    store.committed.subscribe().wait_for(|committed| *committed == 20).await?;
    let _ = runtime.stop().await;
    assert!(consumer.await?? > 0, "it was slower than the history is long");
    assert!(store.handled.borrow().iter().copied().eq([1, 2].into_iter().chain(2..=20)));
    Ok(())
}
