//! The rows of the table.

pub(crate) mod cycle;
pub(crate) mod faults;
pub(crate) mod idle;
mod laps;
pub(crate) mod publish;
pub(crate) mod readers;
pub(crate) mod reads;
pub(crate) mod stop;
pub(crate) mod subscribers;
pub(crate) mod supervise;
pub(crate) mod waits;

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use watchkeeper::StaticSourceProvider;
use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, async_trait};

use self::supervise::Contestant;
use crate::old_loop::{OldLoop, Pace};

/// Longer than any measurement: nothing ticks.
const NEVER: Duration = Duration::from_secs(24 * 3600);

/// Which of the two loops is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Old,
    New,
}

/// A measurement that runs in a separate process.
pub(crate) fn child(part: &str, side: &str, count: &str) {
    let side = if side == "old" { Side::Old } else { Side::New };
    let count = count.parse().expect("a number of loops");
    match part {
        "reads" => reads::child(side),
        "cycle" => cycle::child(side),
        "per-source" => cycle::child_of_sources(side, count),
        "subscribers" => subscribers::child(side, count),
        "idle" => idle::child(side, count),
        "intervals" => idle::child_of_intervals(side, count),
        "stop" => stop::child(side, count),
        "stop-one" => stop::child_of_one(side, count),
        "supervise" if side == Side::Old => supervise::child(Contestant::Loop, count),
        "supervise-actor" if side == Side::Old => supervise::child(Contestant::Actor, count),
        "supervise" | "supervise-actor" => supervise::child(Contestant::Machine, count),
        "supervise-idle" if side == Side::Old => supervise::child_of_idle(Contestant::Loop),
        "supervise-idle" => supervise::child_of_idle(Contestant::Machine),
        _ => unreachable!("no part {part:?} runs in a separate process"),
    }
}

/// One thread, as tests have it.
fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("the system gives one more executor")
}

/// Two workers, as services have on this machine.
fn two_workers() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().expect("the system gives two more threads")
}

/// What an app that keeps flat data knows of one thing: five numbers.
type Entry = [u64; 5];

fn entries(count: usize) -> Vec<Entry> {
    (0..).map(|nth| [nth; 5]).take(count).collect()
}

/// One source, for observers that ask none.
fn only_source() -> StaticSourceProvider<()> {
    StaticSourceProvider::new(vec![ObservedSource::new("only", ())])
}

/// Publishes copies of one value for ever, as an app with its own structure does.
pub(crate) struct Fixed<S>(pub(crate) S);

#[async_trait]
impl<S: Clone + Send + Sync + 'static> Observer for Fixed<S> {
    type Source = ();
    type State = S;
    type Snapshot = S;
    type Event = ();

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<S, DynError> {
        Ok(self.0.clone())
    }

    async fn poll(&self, _: &[ObservedSource<()>], _: &mut S) -> Result<Vec<()>, DynError> {
        Ok(Vec::new())
    }

    fn snapshot(&self, state: &S) -> S {
        state.clone()
    }
}

async fn old_loop<O>(observer: O, interval: Duration) -> OldLoop<O>
where
    O: Observer<Source = (), Snapshot: Clone>,
{
    let pace = Pace::Interval { interval, offset: interval };
    OldLoop::start(only_source(), observer, 64, pace).await.expect("its first poll succeeds")
}

async fn watchkeeper<O>(observer: O, config: ObservationConfig) -> ObservationRuntime<O>
where
    O: Observer<Source = ()>,
{
    ObservationRuntime::start(only_source(), observer, config).await.expect("its first cycle succeeds")
}
