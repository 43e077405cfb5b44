//! A wait judges every publication: what held for one cycle is seen, although no task yielded in
//! between.

use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::runtime::{Cause, StateKind};
use watchkeeper::{
    DynError, ObservationConfig, ObservationControl, ObservationRuntime, ObservedSource, Observer,
    StaticSourceProvider, async_trait,
};

use crate::common::threads::{Flavour, Tally, block_on, executor, poll_once};
use crate::common::{each_second, ms};

/// Asks for the next cycle in each poll, so that its driver runs cycle after cycle without a pause.
struct Restless {
    control: Arc<OnceLock<ObservationControl>>,
}

const LAST: u64 = 50;

#[async_trait]
impl Observer for Restless {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<u64>, DynError> {
        *polls += 1;
        if *polls < LAST {
            let _ = poll_once(self.control.get().unwrap().poll_now());
        }
        if *polls == 20 { Err("the twentieth fails".into()) } else { Ok(vec![*polls]) }
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_driver_runs_many_cycles_in_one_go() {
    let slot = Arc::new(OnceLock::new());
    let observer = Restless { control: Arc::clone(&slot) };
    let sources = StaticSourceProvider::new(vec![]);
    let runtime = ObservationRuntime::start(sources, observer, each_second()).await.unwrap();
    slot.set(runtime.control()).unwrap();
    let handle = runtime.handle();

    let began = Instant::now();
    let third = handle.eventually("the third poll", |polls| *polls == 3).within(ms(5_000));
    let failed = handle.reaches(StateKind::Failed).within(ms(5_000));
    let refreshing = handle.reaches(StateKind::Refreshing).within(ms(5_000));
    let latest = async {
        let first = handle.watch().changed().await.unwrap();
        (first.cycle, handle.latest_snapshot().unwrap().cycle)
    };
    let (third, failed, refreshing, latest) = tokio::join!(third, failed, refreshing, latest);

    assert_eq!(third.unwrap().cycle, 3);
    let failed = failed.unwrap();
    assert_eq!((failed.cycle, failed.last_error.unwrap().cause), (20, Cause::Error), "a passing state");
    assert_eq!(refreshing.unwrap().cycle, 1);
    assert_eq!(latest, (LAST, LAST), "nobody was let in between");
    assert_eq!(began.elapsed(), ms(1_000), "all of it at the first tick");
}

/// A wait that is made while cycles are published judges the present snapshot and each one after it,
/// none twice and none left out.
#[test]
fn from_the_moment_it_is_made_on_real_threads() {
    const CYCLES: u64 = 150;
    let executor = executor(Flavour::MultiThread);
    let config = ObservationConfig { interval: Duration::from_secs(3600), ..ObservationConfig::default() };
    let sources = StaticSourceProvider::new(vec![]);
    let runtime = executor.block_on(ObservationRuntime::start(sources, Tally::default(), config)).unwrap();
    let handle = runtime.handle();
    for round in 1..=40 {
        let last = round * CYCLES;
        let wait_for_the_last = || {
            let mut judged = Vec::new();
            let wait = handle.eventually("the last of this round", |n| {
                judged.push(*n);
                *n == last
            });
            block_on(wait.or_now().within(Duration::from_secs(60))).unwrap();
            let first = judged[0];
            assert_eq!(judged, (first..=last).collect::<Vec<_>>(), "round {round}");
        };
        thread::scope(|scope| {
            scope.spawn(wait_for_the_last);
            scope.spawn(wait_for_the_last);
            let control = runtime.control();
            for _ in 0..CYCLES {
                block_on(control.poll_now_and_wait()).unwrap();
            }
        });
        assert_eq!(handle.latest_snapshot().unwrap().value, last);
    }
}
