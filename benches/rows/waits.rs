//! What pending waits cost, and how soon they know.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::{NEVER, old_loop, one_thread, two_workers, watchkeeper};
use crate::measure::{Row, Samples, Table, Unit};

const WAITS: usize = 10_000;
const CYCLES: u64 = 30;
/// A cycle refreshes, polls and succeeds: each is a publication.
const PUBLICATIONS: f64 = 3.0;
const SAMPLING: Duration = Duration::from_millis(100);

pub(crate) fn measure(table: &mut Table) {
    pending(table);
    latency(table);
}

/// When the first and the last of all waits judged one cycle.
#[derive(Default)]
struct Judged {
    calls: AtomicU64,
    first: Mutex<Option<Instant>>,
    last: Mutex<Option<Instant>>,
}

impl Judged {
    fn judge(&self) {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed) % WAITS as u64;
        let at = match nth {
            0 => &self.first,
            nth if nth == WAITS as u64 - 1 => &self.last,
            _ => return,
        };
        *at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn take(at: &Mutex<Option<Instant>>) -> Option<Instant> {
        at.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// On one thread the publisher is done when the first waiter runs.
fn pending(table: &mut Table) {
    let judged = Arc::new(Judged::default());
    let (mut publisher, mut waiters) = (Vec::new(), Vec::new());
    one_thread().block_on(async {
        let runtime =
            watchkeeper(Counts::default(), ObservationConfig { interval: NEVER, ..Default::default() }).await;
        let (handle, control) = (runtime.handle(), runtime.control());
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..WAITS {
            let judged = Arc::clone(&judged);
            let wait = handle.eventually("the impossible", move |_| {
                judged.judge();
                false
            });
            tasks.spawn(wait.within(Duration::from_secs(3600)));
        }
        tokio::task::yield_now().await;
        for _ in 0..CYCLES {
            let began = Instant::now();
            control.poll_now().await.expect("it runs");
            let last = loop {
                if let Some(last) = Judged::take(&judged.last) {
                    break last;
                }
                tokio::task::yield_now().await;
            };
            let first = Judged::take(&judged.first).expect("there is a first where there is a last");
            publisher.push((first - began).as_secs_f64() / WAITS as f64 / PUBLICATIONS);
            waiters.push((last - first).as_secs_f64() / WAITS as f64 / PUBLICATIONS);
        }
        let _ = runtime.stop().await;
    });
    let missed = WAITS as u64 * CYCLES - judged.calls.load(Ordering::Relaxed);
    let (publisher, waiters) = (Samples::new(publisher), Samples::new(waiters));
    let what = format!("10,000 pending waits: publisher's time, a wait and publication (missed: {missed})");
    table.add(Row::alone(what, Unit::Seconds, &publisher, "under 200 ns, none missed", |cost| {
        cost < 200e-9 && missed == 0
    }));
    let what = "10,000 pending waits: waiters' own time, a wait and publication";
    table.add(Row::alone(what, Unit::Seconds, &waiters, "reported", |_| true));
}

fn latency(table: &mut Table) {
    let sampled = two_workers().block_on(async {
        let stamps = Stamps::default();
        let handle = old_loop(Counts { stamps: stamps.clone() }, PACE).await;
        let count = || handle.latest_snapshot().map_or(0, |snapshot| snapshot.value);
        let mut taken = Vec::new();
        for round in 0..60 {
            let target = count() + 1 + round * 7 % 23;
            while count() < target {
                tokio::time::sleep(SAMPLING).await;
            }
            taken.push(stamps.since(target));
        }
        handle.stop();
        Samples::new(taken)
    });
    let waited = two_workers().block_on(async {
        let stamps = Stamps::default();
        let config = ObservationConfig { interval: PACE, ..Default::default() };
        let runtime = watchkeeper(Counts { stamps: stamps.clone() }, config).await;
        let handle = runtime.handle();
        let mut taken = Vec::new();
        for round in 0..200 {
            let now = handle.latest_snapshot().expect("cycle 0 was published").value;
            let target = now + 1 + round * 7 % 23;
            let met = handle.eventually("the target", |count| *count >= target).or_now();
            met.within(Duration::from_secs(60)).await.expect("it counts on");
            taken.push(stamps.since(target));
        }
        Samples::new(taken)
    });
    let shown = |samples: &Samples| {
        let [p50, p99] = [0.5, 0.99].map(|q| Unit::Seconds.show(samples.quantile(q)));
        format!("p50 {p50}, p99 {p99} ({})", samples.count())
    };
    let met = waited.quantile(0.99) < sampled.quantile(0.5);
    let what = "from a poll's end to a waiter that knows, beside sampling each 100 ms";
    table.add(Row::observed(what, shown(&sampled), shown(&waited), "p99 below the sampler's p50", met));
}

const PACE: Duration = Duration::from_millis(5);

/// When each count was reached.
#[derive(Clone, Default)]
struct Stamps(Arc<Mutex<Vec<Instant>>>);

impl Stamps {
    fn push(&self) -> u64 {
        let mut stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stamps.push(Instant::now());
        stamps.len() as u64
    }

    fn since(&self, count: u64) -> f64 {
        let stamps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stamps[count as usize - 1].elapsed().as_secs_f64()
    }
}

/// Counts its polls.
#[derive(Default)]
struct Counts {
    stamps: Stamps,
}

#[async_trait]
impl Observer for Counts {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], count: &mut u64) -> Result<Vec<()>, DynError> {
        *count = self.stamps.push();
        Ok(Vec::new())
    }

    fn snapshot(&self, count: &u64) -> u64 {
        *count
    }
}
