//! Reading the latest snapshot, while nothing else happens.

use std::time::Duration;

use watchkeeper::ObservationConfig;

use super::{Fixed, NEVER, Side, entries, old_loop, one_thread, watchkeeper};
use crate::measure::{Row, Table, Unit, child, median, processes, time_each};

pub(crate) fn measure(table: &mut Table) {
    let [few, many, million] = processes(7, "reads", "1");
    let what = |size| format!("read the latest snapshot, {size}");
    table.add(Row::compare(what("3 entries"), Unit::Seconds, &few, "under 15 ns", |read| read.new < 15e-9));
    let goal = "50 times faster";
    table.add(Row::compare(what("10k entries"), Unit::Seconds, &many, goal, |read| read.ratio >= 50.0));
    let goal = "10,000 times faster";
    table.add(Row::compare(what("1M entries"), Unit::Seconds, &million, goal, |read| read.ratio >= 10_000.0));
}

/// Measures in a separate process.
pub(crate) fn child(side: Side) {
    child::print(&[read(side, entries(3)), read(side, entries(10_000)), read(side, entries(1_000_000))]);
}

fn read<S>(side: Side, value: S) -> f64
where
    S: Clone + Send + Sync + 'static,
{
    const BUDGET: Duration = Duration::from_millis(20);
    let executor = one_thread();
    match side {
        Side::Old => {
            let old = executor.block_on(old_loop(Fixed(value), NEVER));
            median(5, || time_each(BUDGET, || old.latest_snapshot()))
        }
        Side::New => {
            let config = ObservationConfig { interval: NEVER, ..Default::default() };
            let new = executor.block_on(watchkeeper(Fixed(value), config));
            let handle = new.handle();
            median(5, || time_each(BUDGET, || handle.latest_snapshot()))
        }
    }
}
