//! Readers that never rest, beside a loop that has to keep its pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::{Side, old_loop, two_workers, watchkeeper};
use crate::measure::{Row, Table, Unit, alternate};

const READERS: usize = 8;
const ENTRIES: usize = 1_000_000;
const INTERVAL: Duration = Duration::from_millis(10);
const WINDOW: Duration = Duration::from_millis(700);

pub(crate) fn measure(table: &mut Table) {
    let lost = |side| 1.0 - cycles(side, READERS) / cycles(side, 0);
    let lost = alternate(5, || lost(Side::Old), || lost(Side::New));
    let what = "8 busy readers beside the loop, 1M entries: cycles lost";
    table.add(Row::compare(what, Unit::Share, &lost, "under 5 %", |lost| lost.new < 0.05));
}

/// Publishes a large value, and counts how often.
struct Large(Arc<AtomicU64>);

#[async_trait]
impl Observer for Large {
    type Source = ();
    type State = Vec<u64>;
    type Snapshot = Vec<u64>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Vec<u64>, DynError> {
        Ok(vec![7; ENTRIES])
    }

    async fn poll(&self, _: &[ObservedSource<()>], _: &mut Vec<u64>) -> Result<Vec<()>, DynError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }

    fn snapshot(&self, entries: &Vec<u64>) -> Vec<u64> {
        entries.clone()
    }
}

/// How many cycles fit into the window.
fn cycles(side: Side, readers: usize) -> f64 {
    let polls = Arc::new(AtomicU64::new(0));
    let executor = two_workers();
    executor.block_on(async {
        let observer = Large(Arc::clone(&polls));
        match side {
            Side::Old => {
                let old = old_loop(observer, INTERVAL).await;
                let read = old.reader();
                count(&polls, readers, move || read().map(|snapshot| snapshot.value[0])).await
            }
            Side::New => {
                let config = ObservationConfig { interval: INTERVAL, ..Default::default() };
                let new = watchkeeper(observer, config).await;
                let handle = new.handle();
                let read = move || handle.latest_snapshot().map(|snapshot| snapshot.value[0]);
                let counted = count(&polls, readers, read).await;
                let _ = new.stop().await;
                counted
            }
        }
    })
}

/// Readers are tasks of the loop's own executor, as request handlers are.
async fn count<R>(polls: &AtomicU64, readers: usize, read: R) -> f64
where
    R: Fn() -> Option<u64> + Clone + Send + 'static,
{
    let over = Arc::new(AtomicBool::new(false));
    let tasks: Vec<_> = (0..readers)
        .map(|_| {
            let (over, read) = (Arc::clone(&over), read.clone());
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    std::hint::black_box(read());
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let (before, began) = (polls.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(WINDOW).await;
    let counted = polls.load(Ordering::Relaxed) - before;
    let per_second = counted as f64 / began.elapsed().as_secs_f64();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("readers do not panic");
    }
    per_second
}
