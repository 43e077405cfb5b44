//! Counts what a runtime allocates. The observer here allocates nothing, so that every allocation is the runtime's.

use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use tokio::runtime::{Builder, Runtime};
use watchkeeper::subscription::TapLimits;
use watchkeeper::{ObservationHandle, ObservationRuntime};

use crate::common::stateless::{Idle, idle};
use crate::common::{each_second, ms};

/// Its clock is paused: nothing else happens.
fn executor() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Cycles begin half a second after the seconds.
fn start(executor: &Runtime) -> ObservationRuntime<Idle<u8>> {
    let runtime = executor.block_on(async {
        let runtime = ObservationRuntime::start([("n1", 1)], idle(), each_second()).await.unwrap();
        tokio::time::sleep(ms(500)).await;
        runtime
    });
    seconds(executor, 10);
    runtime
}

fn seconds(executor: &Runtime, count: u64) -> AllocationInfo {
    measure(|| executor.block_on(async { tokio::time::sleep(Duration::from_secs(count)).await }))
}

#[test]
fn an_idle_runtime_holds_less_than_4_5_kib() {
    const COUNT: u64 = 64;
    let executor = executor();
    // The executor, the clock and threads allocate once.
    let mut runtimes = vec![start(&executor)];
    runtimes.reserve(COUNT.try_into().unwrap());
    let held = measure(|| runtimes.extend((0..COUNT).map(|_| start(&executor))));
    let (bytes, blocks) =
        (held.bytes_current / COUNT.cast_signed(), held.count_current / COUNT.cast_signed());
    assert!(bytes < 4_608 && blocks <= 24, "{bytes} bytes in {blocks} blocks");
}

/// The snapshot, and the future of `poll`.
const PER_CYCLE: u64 = 2;

#[test]
fn a_cycle_allocates_the_same_each_time_and_keeps_nothing() {
    let executor = executor();
    let _runtime = start(&executor);
    let [ten, thousand] = [10, 1_000].map(|count| seconds(&executor, count));
    assert_eq!(thousand.count_total - ten.count_total, 990 * PER_CYCLE, "{ten:?} {thousand:?}");
    assert_eq!([ten.bytes_current, thousand.bytes_current], [0, 0]);
}

/// Taps, subscriptions, waits and watches cost something only while they exist.
#[test]
fn what_was_dropped_costs_nothing() {
    fn with<T>(executor: &Runtime, make: impl FnOnce(&ObservationHandle<Idle<u8>>) -> T) -> [u64; 2] {
        let runtime = start(executor);
        let one = executor.block_on(async { make(&runtime.handle()) });
        let while_there = seconds(executor, 100).count_total;
        executor.block_on(async { drop(one) });
        seconds(executor, 1);
        [while_there, seconds(executor, 100).count_total]
    }
    let executor = executor();
    let [alone, _] = with(&executor, |_| ());
    let costs = [
        ("a tap", with(&executor, |handle| handle.tap(TapLimits::default())), true),
        (
            "a wait",
            with(&executor, |handle| handle.eventually("never", |()| false).within(ms(900_000))),
            true,
        ),
        ("a subscription", with(&executor, ObservationHandle::subscribe), false),
        ("a watch", with(&executor, ObservationHandle::watch), false),
        ("a handle", with(&executor, Clone::clone), false),
    ];
    for (what, [while_there, gone], costs) in costs {
        assert_eq!(
            (while_there > alone, gone),
            (costs, alone),
            "{what}: {while_there}, {gone}, alone {alone}"
        );
    }
}
