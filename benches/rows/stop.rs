//! Ending a loop whose poll does not end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use watchkeeper::group::ObservationGroup;
use watchkeeper::runtime::StopOutcome;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::{Side, old_loop, two_workers, watchkeeper};
use crate::measure::{Row, Table, Unit, child, median, processes};

/// The next poll comes at once.
const SOON: Duration = Duration::from_millis(1);

pub(crate) fn measure(table: &mut Table) {
    let [stop] = processes(9, "stop-one", "200");
    let what = "stop while a poll hangs, p50 (the old loop's is not acknowledged: until the poll is dropped)";
    let goal = "acknowledged, under 50 us";
    table.add(Row::compare(what, Unit::Seconds, &stop, goal, |stop| stop.new < 50e-6));

    let [stop] = processes(7, "stop", "10000");
    let what = "10,000 hung loops stopped (Watchkeeper: by a group, all acknowledged)";
    table.add(Row::compare(what, Unit::Seconds, &stop, "within 50 ms", |stop| stop.new < 50e-3));

    blocked(table);
}

/// Counts the polls that hang, and notifies of each change.
#[derive(Default)]
struct Hung {
    count: AtomicUsize,
    changed: Notify,
}

impl Hung {
    async fn reaches(&self, count: usize) {
        while self.count.load(Ordering::Acquire) != count {
            self.changed.notified().await;
        }
    }
}

/// Hangs in its first poll.
struct Hangs(Arc<Hung>);

#[async_trait]
impl Observer for Hangs {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        struct Gone<'a>(&'a Hung);
        impl Drop for Gone<'_> {
            fn drop(&mut self) {
                self.0.count.fetch_sub(1, Ordering::Release);
                self.0.changed.notify_one();
            }
        }
        self.0.count.fetch_add(1, Ordering::Release);
        self.0.changed.notify_one();
        let _gone = Gone(&self.0);
        std::future::pending().await
    }

    fn snapshot(&self, (): &()) {}
}

fn config() -> ObservationConfig {
    ObservationConfig { interval: SOON, ..Default::default() }
}

fn stop_one(side: Side) -> f64 {
    two_workers().block_on(async {
        let hung = Arc::new(Hung::default());
        let observer = Hangs(Arc::clone(&hung));
        let took = match side {
            Side::Old => {
                let old = old_loop(observer, SOON).await;
                hung.reaches(1).await;
                let began = Instant::now();
                old.stop();
                hung.reaches(0).await;
                began.elapsed()
            }
            Side::New => {
                let new = watchkeeper(observer, config()).await;
                hung.reaches(1).await;
                let began = Instant::now();
                assert_eq!(new.stop().await, StopOutcome::Stopped);
                began.elapsed()
            }
        };
        took.as_secs_f64()
    })
}

/// Measures in a separate process: the median of `times` stops.
pub(crate) fn child_of_one(side: Side, times: usize) {
    child::print(&[median(times, || stop_one(side))]);
}

/// Measures in a separate process: a heap that earlier repetitions have fragmented is no fair start.
pub(crate) fn child(side: Side, count: usize) {
    child::print(&[stop_many(side, count)]);
}

fn stop_many(side: Side, count: usize) -> f64 {
    two_workers().block_on(async {
        let hung = Arc::new(Hung::default());
        let took = match side {
            Side::Old => {
                let mut olds = Vec::with_capacity(count);
                for _ in 0..count {
                    olds.push(old_loop(Hangs(Arc::clone(&hung)), SOON).await);
                }
                hung.reaches(count).await;
                let began = Instant::now();
                olds.iter().for_each(super::OldLoop::stop);
                hung.reaches(0).await;
                began.elapsed()
            }
            Side::New => {
                let group = ObservationGroup::new();
                for nth in 0..count {
                    let new = watchkeeper(Hangs(Arc::clone(&hung)), config()).await;
                    group.add_as(&nth.to_string(), new).expect("each has its own name");
                }
                hung.reaches(count).await;
                let began = Instant::now();
                let outcomes = group.stop_all().await;
                let took = began.elapsed();
                assert!(outcomes.iter().all(|(_, outcome)| *outcome == StopOutcome::Stopped));
                took
            }
        };
        took.as_secs_f64()
    })
}

/// Blocks its thread in its first poll, until it is released; then it returns.
struct Blocks {
    blocked: Arc<Notify>,
    let_go: std::sync::Mutex<mpsc::Receiver<()>>,
    went_on: Arc<Notify>,
}

#[async_trait]
impl Observer for Blocks {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<()>, DynError> {
        *polls += 1;
        self.blocked.notify_one();
        self.let_go.lock().map_err(|_| "blocked once before")?.recv()?;
        Ok(Vec::new())
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        self.went_on.notify_one();
    }
}

fn blocked(table: &mut Table) {
    const DEADLINE: Duration = Duration::from_millis(200);
    let executor = two_workers();
    let observer = || {
        let (let_go, held) = mpsc::channel();
        let (blocked, went_on) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let let_go_of = std::sync::Mutex::new(held);
        let observer =
            Blocks { blocked: Arc::clone(&blocked), let_go: let_go_of, went_on: Arc::clone(&went_on) };
        (observer, let_go, blocked, went_on)
    };
    let old_published = executor.block_on(async {
        let (observer, let_go, blocked, went_on) = observer();
        let old = old_loop(observer, SOON).await;
        blocked.notified().await;
        old.stop();
        let_go.send(()).expect("the poll is blocked");
        // Its abort waits for the next await, and a late interval has none: a second poll may come.
        drop(let_go);
        went_on.notified().await;
        old.latest_snapshot().map(|snapshot| snapshot.value)
    });
    let (outcome, took, new_published) = executor.block_on(async {
        let (observer, let_go, blocked, went_on) = observer();
        let config = ObservationConfig { interval: SOON, stop_timeout: DEADLINE, ..Default::default() };
        let new = watchkeeper(observer, config).await;
        blocked.notified().await;
        let began = Instant::now();
        let outcome = new.stop().await;
        let took = began.elapsed();
        let_go.send(()).expect("the poll is blocked");
        went_on.notified().await;
        (outcome, took, new.handle().latest_snapshot().map(|snapshot| snapshot.value))
    });
    let late = |published: Option<u64>| {
        if published == Some(0) { "it publishes nothing later" } else { "it publishes later" }
    };
    table.add(Row::observed(
        "stop while a poll blocks its thread",
        format!("never reported; {}", late(old_published)),
        format!("{outcome:?} after {:.0} ms; {}", took.as_secs_f64() * 1e3, late(new_published)),
        &format!("`Detached` at the stop deadline ({DEADLINE:?})"),
        outcome == StopOutcome::Detached
            && took.abs_diff(DEADLINE) < Duration::from_millis(20)
            && new_published == Some(0),
    ));
}
