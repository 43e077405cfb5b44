//! Many runtimes that find nothing, once a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;
use watchkeeper::group::ObservationGroup;
use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};

use super::{Side, only_source, two_workers, watchkeeper};
use crate::measure::{Row, Table, Unit, child, cpu_time, processes, resident_bytes};
use crate::old_loop::{OldLoop, Pace};

const INTERVAL: Duration = Duration::from_secs(1);
/// Ticks that are measured.
const WATCHED: u32 = 4;

pub(crate) fn measure(table: &mut Table) {
    // Memory of one, share of a core, jitter.
    let [memory, cpu, jitter] = processes(5, "idle", "10000");
    let met = |bytes: f64| bytes < 4.5 * 1024.0;
    let what = "idle runtime: memory, one of 10,000";
    table.add(Row::compare(what, Unit::Bytes, &memory, "under 4.5 KiB", |memory| met(memory.new)));

    let what = "10,000 idle runtimes at 1 s, spread: CPU, share of a core";
    let met = |ratio: f64| ratio >= 1.0 / 1.3;
    table.add(Row::compare(what, Unit::Share, &cpu, "at most 1.3 times", |cpu| met(cpu.ratio)));

    let what = "10,000 idle runtimes at 1 s, spread by a group: jitter, p99";
    let met = |seconds: f64| seconds <= 4e-3;
    table.add(Row::compare(what, Unit::Seconds, &jitter, "4 ms", |jitter| met(jitter.new)));

    let [_, cpu, jitter] = processes(3, "idle", "100000");
    let what = "100,000 idle runtimes at 1 s, spread: CPU, share of a core";
    let met = |ratio: f64| ratio >= 1.0 / 1.6;
    table.add(Row::compare(what, Unit::Share, &cpu, "at most 1.6 times", |cpu| met(cpu.ratio)));
    let what = "100,000 idle runtimes at 1 s, spread by a group: jitter, p99";
    table.add(Row::compare(what, Unit::Seconds, &jitter, "reported", |_| true));

    // Both sides are bare intervals: tokio's own jitter, alone and with the cold memory of so many runtimes.
    let [jitter] = processes(3, "intervals", "100000");
    let what =
        "100,000 bare `tokio::time::interval`s, alone, and each beside 3.5 KiB that it touches: jitter, p99";
    table.add(Row::compare(what, Unit::Seconds, &jitter, "reported", |_| true));
}

/// Measures in a separate process.
pub(crate) fn child_of_intervals(side: Side, count: usize) {
    let beside = if side == Side::Old { 0 } else { 3_584 };
    child::print(&[two_workers().block_on(intervals(count, beside))]);
}

async fn intervals(count: usize, beside: usize) -> f64 {
    let ticks = Arc::new(Ticks::new());
    let group = ObservationGroup::new();
    for _ in 0..count {
        let config = group.spread(ObservationConfig { interval: INTERVAL, ..Default::default() });
        let first = tokio::time::Instant::now() + config.offset;
        let (ticks, last) = (Arc::clone(&ticks), AtomicU64::new(0));
        tokio::spawn(async move {
            let mut memory = vec![0_u8; beside];
            let mut interval = tokio::time::interval_at(first, INTERVAL);
            interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
            loop {
                interval.tick().await;
                ticks.tick(&last);
                memory.iter_mut().step_by(64).for_each(|byte| *byte = byte.wrapping_add(1));
            }
        });
    }
    tokio::time::sleep(INTERVAL * 2).await;
    ticks.forget();
    tokio::time::sleep(INTERVAL * WATCHED).await;
    ticks.p99()
}

/// Measures in a separate process.
pub(crate) fn child(side: Side, count: usize) {
    child::print(&two_workers().block_on(idle(side, count)));
}

async fn idle(side: Side, count: usize) -> [f64; 3] {
    let ticks = Arc::new(Ticks::new());
    let group = ObservationGroup::new();
    let mut olds = Vec::with_capacity(count);
    let mut news = Vec::with_capacity(count);
    // Allocates what the executor needs once.
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = resident_bytes();
    for _ in 0..count {
        let observer = Idle { ticks: Arc::clone(&ticks), last: AtomicU64::new(0) };
        let config = group.spread(ObservationConfig { interval: INTERVAL, ..Default::default() });
        if side == Side::Old {
            let pace = Pace::Interval { interval: INTERVAL, offset: config.offset };
            olds.push(
                OldLoop::start(only_source(), observer, 64, pace).await.expect("its first poll succeeds"),
            );
        } else {
            news.push(watchkeeper(observer, config).await);
        }
    }
    // Every one has ticked; some have not before.
    tokio::time::sleep(INTERVAL * 2).await;
    let memory = (resident_bytes() - before) / count as f64;
    ticks.forget();
    let before = cpu_time();
    tokio::time::sleep(INTERVAL * WATCHED).await;
    let per_poll = cpu_time().saturating_sub(before).as_secs_f64() / ticks.count() as f64;
    // On a busy machine some ticks come too late to be measured: this is what all of them cost.
    let share = per_poll * count as f64 / INTERVAL.as_secs_f64();
    [memory, share, ticks.p99()]
}

/// Finds nothing, and notes how far its polls lie apart.
struct Idle {
    ticks: Arc<Ticks>,
    last: AtomicU64,
}

#[async_trait]
impl Observer for Idle {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<()>, DynError> {
        *polls += 1;
        self.ticks.tick(&self.last);
        Ok(Vec::new())
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

/// How far the distances of ticks were from the interval: counts by tenths of a millisecond.
struct Ticks {
    began: Instant,
    off: Vec<AtomicU32>,
}

impl Ticks {
    const STEP_MICROS: u64 = 100;

    fn new() -> Self {
        Self { began: Instant::now(), off: (0..10_000).map(|_| AtomicU32::new(0)).collect() }
    }

    /// One tick of the loop whose tick before this came at `last`.
    fn tick(&self, last: &AtomicU64) {
        let now = self.began.elapsed().as_micros() as u64;
        let last = last.swap(now, Ordering::Relaxed);
        if last > 0 {
            self.note((now - last).abs_diff(INTERVAL.as_micros() as u64));
        }
    }

    fn note(&self, micros: u64) {
        let step = (micros / Self::STEP_MICROS) as usize;
        self.off[step.min(self.off.len() - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.off.iter().for_each(|count| count.store(0, Ordering::Relaxed));
    }

    fn count(&self) -> u64 {
        self.off.iter().map(|count| u64::from(count.load(Ordering::Relaxed))).sum()
    }

    /// The end of the step in which the hundredth part of all ticks begins, in seconds.
    fn p99(&self) -> f64 {
        let most = self.count() * 99 / 100;
        let mut so_far = 0;
        let within = self.off.iter().take_while(|count| {
            so_far += u64::from(count.load(Ordering::Relaxed));
            so_far < most
        });
        Duration::from_micros((within.count() as u64 + 1) * Self::STEP_MICROS).as_secs_f64()
    }
}
