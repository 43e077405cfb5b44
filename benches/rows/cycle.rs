//! What a cycle costs beside the app's own work.

use std::time::Duration;

use watchkeeper::per_source::{PerSourceSnapshot, PerSourceState, SourceEvent};
use watchkeeper::source::source_fn;
use watchkeeper::{
    DynError, ObservationConfig, ObservedSource, Observer, PerSource, SourceProvider, StaticSourceProvider,
    async_trait,
};

use super::laps::{Laps, seconds_per_cycle};
use super::{Side, one_thread, only_source};
use crate::measure::{Row, Samples, Table, Unit, child, cpu_time, median, processes};

pub(crate) fn measure(table: &mut Table) {
    let [fixed, fetched] = processes(9, "cycle", "1");
    // The goals are times on a machine whose old loop takes 136 ns; on a slower one, multiples of its old loop's.
    let what = "cycle overhead, trivial observer, no events";
    let goal = "under 0.45 us, or 3.3 times the old loop's";
    table.add(Row::compare(what, Unit::Seconds, &fixed, goal, |cycle| {
        cycle.new < 0.45e-6 || cycle.ratio > 1.0 / 3.3
    }));
    let what = "the same, with a source set that is fetched in each cycle";
    let goal = "under 0.6 us, or 4.4 times the old loop's";
    table.add(Row::compare(what, Unit::Seconds, &fetched, goal, |cycle| {
        cycle.new < 0.6e-6 || cycle.ratio > 1.0 / 4.4
    }));
    for (count, name) in [("1000", "1k"), ("10000", "10k")] {
        per_source(table, count, name);
    }
}

/// Measures in a separate process.
pub(crate) fn child(side: Side) {
    const CYCLES: (u64, u64) = (1_000, 100_000);
    let fixed = median(5, || seconds_per_cycle(side, only_source(), CYCLES, Trivial));
    let fetched = median(5, || seconds_per_cycle(side, fetched(), CYCLES, Trivial));
    child::print(&[fixed, fetched]);
}

/// A set whose provider does not count its changes.
fn fetched() -> impl SourceProvider<()> {
    source_fn(|| async { Ok::<_, DynError>(vec![ObservedSource::new("only", ())]) })
}

/// Finds nothing, at once.
struct Trivial(Laps);

#[async_trait]
impl Observer for Trivial {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<()>, DynError> {
        *polls = self.0.lap().await;
        Ok(Vec::new())
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

/// `PerSource`, driven by laps.
struct Lapped {
    laps: Laps,
    probes: PerSource<u64, u64>,
}

#[async_trait]
impl Observer for Lapped {
    type Source = u64;
    type State = PerSourceState<u64>;
    type Snapshot = PerSourceSnapshot<u64>;
    type Event = SourceEvent<u64>;

    fn configured(&mut self, config: &ObservationConfig) {
        self.probes.configured(config);
    }

    async fn init(&self, sources: &[ObservedSource<u64>]) -> Result<Self::State, DynError> {
        self.probes.init(sources).await
    }

    async fn poll(
        &self,
        sources: &[ObservedSource<u64>],
        state: &mut Self::State,
    ) -> Result<Vec<SourceEvent<u64>>, DynError> {
        self.laps.lap().await;
        self.probes.poll(sources, state).await
    }

    fn snapshot(&self, state: &Self::State) -> Self::Snapshot {
        self.probes.snapshot(state)
    }
}

/// Answers at once, and always the same.
async fn probe(source: ObservedSource<u64>) -> Result<u64, DynError> {
    Ok(source.source)
}

fn sources(count: u64) -> Vec<ObservedSource<u64>> {
    (0..count).map(|nth| ObservedSource::new(format!("source-{nth}"), nth)).collect()
}

/// The whole cycle, less the time that awaiting the bare probes one after the other takes. To run them at once takes
/// longer for anybody.
fn per_source(table: &mut Table, count: &str, name: &str) {
    let [(bare, cycle)] = processes(7, "per-source", count);
    let beside = Samples::new(vec![cycle.median() - bare.median()]);
    let what = format!("`PerSource`, {name} sources, nothing changed: a source and cycle");
    let goal = format!(
        "under 1 us beside the probe itself ({:.0} ns, of {:.0} ns in all)",
        bare.median() * 1e9,
        cycle.median() * 1e9
    );
    table.add(Row::alone(what, Unit::Seconds, &beside, &goal, |beside| beside < 1e-6));
}

/// Measures in a separate process. The old side is the bare probes.
pub(crate) fn child_of_sources(side: Side, count: usize) {
    let (count, cycles) = (count as u64, (50_000 / count as u64).max(5));
    let each = |seconds: f64| seconds / count as f64;
    let bare = || {
        one_thread().block_on(async {
            let sources = sources(count);
            let began = cpu_time();
            for _ in 0..cycles {
                for source in &sources {
                    let answer = Box::pin(probe(source.clone())).await;
                    std::hint::black_box(answer.ok());
                }
            }
            each(cpu_time().saturating_sub(began).as_secs_f64() / cycles as f64)
        })
    };
    let cycle = || {
        each(seconds_per_cycle(Side::New, StaticSourceProvider::new(sources(count)), (2, cycles), |laps| {
            Lapped { laps, probes: PerSource::new(probe).probe_timeout(Duration::from_secs(1)) }
        }))
    };
    child::print(&[if side == Side::Old { median(5, bare) } else { median(5, cycle) }]);
}
