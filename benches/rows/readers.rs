//! Readers that never rest, and a loop that has to keep its pace.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::{Entry, Side, entries, old_loop, two_workers, watchkeeper};
use crate::measure::{Row, Table, Unit, alternate};

const READERS: usize = 8;
const ENTRIES: usize = 1_000_000;
const INTERVAL: Duration = Duration::from_millis(50);
/// Cycles that are timed.
const CYCLES: u32 = 15;

pub(crate) fn measure(table: &mut Table) {
    let lost = |side| 1.0 - cycles_per_second(side, READERS) / cycles_per_second(side, 0);
    let lost = alternate(5, || lost(Side::Old), || lost(Side::New));
    // A loop that was quicker with readers than without was disturbed: that is no measurement.
    let what = "8 busy readers beside the loop, 1M entries: cycles lost";
    table.add(Row::compare(what, Unit::Share, &lost, "under 5 %", |lost| lost.new.abs() < 0.05));
}

/// Publishes a large value; each poll is a permit.
struct Large(Arc<Semaphore>);

#[async_trait]
impl Observer for Large {
    type Source = ();
    type State = Vec<Entry>;
    type Snapshot = Vec<Entry>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<Vec<Entry>, DynError> {
        Ok(entries(ENTRIES))
    }

    async fn poll(&self, _: &[ObservedSource<()>], _: &mut Vec<Entry>) -> Result<Vec<()>, DynError> {
        self.0.add_permits(1);
        Ok(Vec::new())
    }

    fn snapshot(&self, entries: &Vec<Entry>) -> Vec<Entry> {
        entries.clone()
    }
}

fn cycles_per_second(side: Side, readers: usize) -> f64 {
    let polls = Arc::new(Semaphore::new(0));
    two_workers().block_on(async {
        let observer = Large(Arc::clone(&polls));
        match side {
            Side::Old => {
                let old = old_loop(observer, INTERVAL).await;
                let read = old.reader();
                beside(readers, move || read().map(|snapshot| snapshot.value[0]), &polls).await
            }
            Side::New => {
                let config = ObservationConfig { interval: INTERVAL, ..Default::default() };
                let new = watchkeeper(observer, config).await;
                let handle = new.handle();
                let read = move || handle.latest_snapshot().map(|snapshot| snapshot.value[0]);
                let counted = beside(readers, read, &polls).await;
                let _ = new.stop().await;
                counted
            }
        }
    })
}

/// Times the polls. Readers are tasks of the loop's own executor, as request handlers are.
async fn beside<R>(readers: usize, read: R, polls: &Semaphore) -> f64
where
    R: Fn() -> Option<Entry> + Clone + Send + 'static,
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
    polls.acquire().await.expect("never closed").forget();
    let began = Instant::now();
    polls.acquire_many(CYCLES).await.expect("never closed").forget();
    let took = began.elapsed();
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.expect("readers do not panic");
    }
    f64::from(CYCLES) / took.as_secs_f64()
}
