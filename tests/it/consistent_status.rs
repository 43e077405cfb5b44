//! A status is of one moment: state, cycle, snapshot, error and freshness belong together for every
//! reader, while cycles succeed and fail.

use std::thread;

use watchkeeper::runtime::{ObservationStatus, StateKind};

use crate::common::threads::{Flavour, Tally, block_on, executor};

const CYCLES: u64 = 5_000;

#[test]
fn under_concurrent_readers() {
    let executor = executor(Flavour::MultiThread);
    let runtime = executor.block_on(Tally { each_third_fails: true, ..Tally::default() }.start(8));
    let handle = runtime.handle();
    thread::scope(|scope| {
        let by_status = || {
            let mut cycle = 0;
            while cycle < CYCLES {
                let status = handle.status();
                check(&status);
                assert!(status.cycle >= cycle, "back from cycle {cycle} to {}", status.cycle);
                cycle = status.cycle;
            }
        };
        scope.spawn(by_status);
        scope.spawn(by_status);
        // A woken reader sees it as consistently as one that polls.
        scope.spawn(|| {
            let mut watch = handle.watch();
            let mut last = None;
            let all = watch.wait_for(|status| {
                check(status);
                let news = Some((status.cycle, status.state));
                assert!(news != last || status.freshness.is_stale(), "published twice: {status:?}");
                last = news;
                status.cycle >= CYCLES
            });
            block_on(all).map(|_| ()).unwrap();
        });
    });
}

/// Every third cycle fails, and each other one finds one event: the rest follows from cycle and state.
fn check(status: &ObservationStatus<Tally>) {
    let cycle = status.cycle;
    let fails = |cycle: u64| cycle > 0 && cycle.is_multiple_of(3);
    let done = match status.state.kind() {
        StateKind::Idle | StateKind::Failed => cycle,
        StateKind::Refreshing | StateKind::Polling => cycle - 1,
        StateKind::Starting | StateKind::Stopped => panic!("{status:?}"),
    };
    let last_success = if fails(done) { done - 1 } else { done };
    let snapshot = status.snapshot.as_ref().unwrap();
    assert_eq!(snapshot.cycle, last_success, "{status:?}");
    assert_eq!(snapshot.value, last_success - last_success / 3, "{status:?}");
    assert_eq!(snapshot.cursor.seq(), snapshot.value, "{status:?}");
    let failed = status.last_error.as_ref().map(|failure| failure.cycle);
    assert_eq!(failed, fails(done).then_some(done), "{status:?}");
    if status.state.kind() == StateKind::Idle {
        assert!(!fails(cycle), "{status:?}");
    }
    if status.state.kind() == StateKind::Failed {
        assert!(fails(cycle), "{status:?}");
    }
    let began = snapshot.observed_at - snapshot.elapsed;
    assert_eq!(status.freshness.last_success(), Some(began), "{status:?}");
    assert_eq!(status.generation, 1, "{status:?}");
}
