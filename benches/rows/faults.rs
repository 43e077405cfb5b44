//! What becomes of a loop whose app code misbehaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use watchkeeper::runtime::StateKind;
use watchkeeper::{
    DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, PerSource,
    StaticSourceProvider, async_trait,
};

use super::{old_loop, two_workers, watchkeeper};
use crate::measure::{Row, Table};
use crate::old_loop::{OldLoop, Pace};

const INTERVAL: Duration = Duration::from_millis(100);
/// The poll in which it happens: the third.
const FAULTY: u64 = 3;

pub(crate) fn measure(table: &mut Table) {
    let hook = std::panic::take_hook();
    // This panic is meant.
    std::panic::set_hook(Box::new(|_| {}));
    panics(table);
    std::panic::set_hook(hook);
    hangs(table);
    some_sources_hang(table);
}

/// What the faulty poll does.
#[derive(Clone, Copy)]
enum Fault {
    Panic,
    Hang,
}

struct Faulty(Fault, AtomicU64);

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self(fault, AtomicU64::new(0))
    }
}

#[async_trait]
impl Observer for Faulty {
    type Source = ();
    type State = ();
    type Snapshot = ();
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
        Ok(())
    }

    async fn poll(&self, _: &[ObservedSource<()>], (): &mut ()) -> Result<Vec<()>, DynError> {
        if self.1.fetch_add(1, Ordering::Relaxed) + 1 == FAULTY {
            match self.0 {
                Fault::Panic => panic!("a bug of the app"),
                Fault::Hang => std::future::pending().await,
            }
        }
        Ok(Vec::new())
    }

    fn snapshot(&self, (): &()) {}
}

/// Time passes as soon as nothing else is to be done.
fn paused_clock() -> Runtime {
    let mut builder = Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().expect("the system gives one more executor")
}

/// What the old loop shows ten intervals after it has begun.
async fn old_after_ten(fault: Fault) -> (u64, Option<String>) {
    let old = old_loop(Faulty::new(fault), INTERVAL).await;
    tokio::time::sleep(INTERVAL * 10 + INTERVAL / 2).await;
    (old.latest_snapshot().map_or(0, |snapshot| snapshot.cycle), old.last_error())
}

fn panics(table: &mut Table) {
    let (old_cycle, old_error) = paused_clock().block_on(old_after_ten(Fault::Panic));
    let (failure, cycle) = paused_clock().block_on(async {
        let config = ObservationConfig { interval: INTERVAL, ..Default::default() };
        let new = watchkeeper(Faulty::new(Fault::Panic), config).await;
        tokio::time::sleep(INTERVAL * 10 + INTERVAL / 2).await;
        let handle = new.handle();
        (handle.failures().first().cloned(), handle.latest_snapshot().map_or(0, |snapshot| snapshot.cycle))
    });
    let shown = |error: Option<String>| error.map_or_else(|| "no error".to_owned(), |error| error.clone());
    table.add(Row::observed(
        "a panic in poll 3, ten intervals later",
        format!("still cycle {old_cycle}, {}", shown(old_error)),
        format!(
            "cycle {cycle}; {}",
            failure.as_ref().map_or_else(|| "no failure".to_owned(), ToString::to_string)
        ),
        "a failure in the same cycle, the next cycle runs",
        failure.is_some_and(|failure| failure.cycle == FAULTY) && cycle == 10,
    ));
}

fn hangs(table: &mut Table) {
    let (old_cycle, old_error) = paused_clock().block_on(old_after_ten(Fault::Hang));
    let (state, due, stale_for) = paused_clock().block_on(async {
        let config = ObservationConfig { interval: INTERVAL, ..Default::default() };
        let new = watchkeeper(Faulty::new(Fault::Hang), config).await;
        let stale = new.handle().watch().wait_for(|status| status.freshness.is_stale()).await;
        let stale = stale.expect("the runtime goes on");
        let freshness = stale.freshness;
        let last = freshness.last_success().expect("there was a success");
        (stale.state, freshness.stale_after(), Instant::now() - last)
    });
    table.add(Row::observed(
        "a hang in poll 3",
        format!("still cycle {old_cycle}, {}", old_error.unwrap_or_else(|| "no error".to_owned())),
        format!("in {state}, stale {stale_for:?} after the last success, waiters woken (due: {due:?})"),
        "stale when due, waiters woken",
        state.kind() == StateKind::Polling && stale_for.saturating_sub(due) < Duration::from_millis(2),
    ));
}

const SOURCES: u64 = 1_000;
const HUNG: u64 = 10;
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Every hundredth hangs.
async fn probe(source: ObservedSource<u64>) -> Result<u64, DynError> {
    if source.source.is_multiple_of(SOURCES / HUNG) {
        std::future::pending::<()>().await;
    }
    Ok(source.source)
}

/// Probes all at once and waits for all, as it is written by hand.
struct JoinAll(Arc<AtomicU64>);

#[async_trait]
impl Observer for JoinAll {
    type Source = u64;
    type State = Vec<u64>;
    type Snapshot = Vec<u64>;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<u64>]) -> Result<Vec<u64>, DynError> {
        Ok(Vec::new())
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<u64>],
        answers: &mut Vec<u64>,
    ) -> Result<Vec<()>, DynError> {
        let mut probes: JoinSet<_> =
            sources.iter().map(|source| timeout(PROBE_TIMEOUT, probe(source.clone()))).collect();
        answers.clear();
        while let Some(answer) = probes.join_next().await {
            if let Ok(Ok(answer)) = answer? {
                answers.push(answer);
            }
        }
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Vec::new())
    }

    fn snapshot(&self, answers: &Vec<u64>) -> Vec<u64> {
        answers.clone()
    }
}

fn some_sources_hang(table: &mut Table) {
    const WINDOW: Duration = Duration::from_secs(4);
    let sources = || (0..SOURCES).map(|nth| ObservedSource::new(format!("source-{nth}"), nth));
    let provider = || StaticSourceProvider::new(sources().collect());
    let old_cycles = two_workers().block_on(async {
        let cycles = Arc::new(AtomicU64::new(0));
        let pace = Pace::Interval { interval: INTERVAL, offset: INTERVAL };
        let _old = OldLoop::start(provider(), JoinAll(Arc::clone(&cycles)), 64, pace).await;
        tokio::time::sleep(WINDOW).await;
        cycles.load(Ordering::Relaxed)
    });
    let (cycles, fresh, missed) = two_workers().block_on(async {
        let observer = PerSource::new(probe).probe_timeout(PROBE_TIMEOUT);
        let config = ObservationConfig { interval: INTERVAL, ..Default::default() };
        let new = ObservationRuntime::start(provider(), observer, config).await.expect("cycle 0 succeeds");
        let handle = new.handle();
        let before = handle.status().cycle;
        tokio::time::sleep(WINDOW).await;
        let status = handle.status();
        let snapshot = status.snapshot.expect("cycle 0 succeeded");
        (status.cycle - before, snapshot.value.fresh(Instant::now()).count(), status.missed_ticks)
    });
    let due = (WINDOW.as_millis() / INTERVAL.as_millis()) as u64;
    table.add(Row::observed(
        format!("1,000 sources, 10 of them hang: cycles in {WINDOW:?} at {INTERVAL:?}"),
        format!("{old_cycles} of {due}"),
        format!("{cycles} of {due}, {missed} ticks missed, {fresh} sources fresh"),
        "interval kept, 990 fresh",
        cycles + 1 >= due && fresh as u64 == SOURCES - HUNG,
    ));
}
