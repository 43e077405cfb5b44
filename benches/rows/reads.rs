//! Reading the latest snapshot, while nothing else happens.

use std::time::Duration;

use watchkeeper::ObservationConfig;

use super::{Fixed, NEVER, entries, old_loop, one_thread, watchkeeper};
use crate::measure::{Medians, Row, Table, Unit, alternate, time_each};

pub(crate) fn measure(table: &mut Table) {
    row(table, "3 entries", entries(3), "under 15 ns", |read| read.new < 15e-9);
    row(table, "10k entries", entries(10_000), "50 times faster", |read| read.ratio >= 50.0);
    row(table, "1M entries", entries(1_000_000), "10,000 times faster", |read| read.ratio >= 10_000.0);
}

fn row<S>(table: &mut Table, size: &str, value: S, goal: &str, met: impl Fn(Medians) -> bool)
where
    S: Clone + Send + Sync + 'static,
{
    const BUDGET: Duration = Duration::from_millis(20);
    let executor = one_thread();
    let (old, new) = executor.block_on(async {
        let config = ObservationConfig { interval: NEVER, ..Default::default() };
        (old_loop(Fixed(value.clone()), NEVER).await, watchkeeper(Fixed(value), config).await)
    });
    let handle = new.handle();
    let read = alternate(
        21,
        || time_each(BUDGET, || old.latest_snapshot()),
        || time_each(BUDGET, || handle.latest_snapshot()),
    );
    table.add(Row::compare(format!("read the latest snapshot, {size}"), Unit::Seconds, &read, goal, met));
}
