//! Batches and their subscribers.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError as Gone;
use tokio::task::JoinSet;
use watchkeeper::subscription::{RecvError, Subscription};
use watchkeeper::{DynError, ObservedSource, Observer, async_trait};

use super::laps::{Driven, Laps};
use super::{Side, one_thread, only_source};
use crate::measure::{Medians, Row, Table, Unit, alternate, child, cpu_time, median, processes};
use crate::old_loop::Batch;

pub(crate) fn measure(table: &mut Table) {
    fan_out(table, 1, "0.4 times, nothing lost", |fan_out| fan_out.ratio >= 0.4);
    fan_out(table, 100, "1.2 times, nothing lost", |fan_out| fan_out.ratio >= 1.2);
    fan_out(table, 1_000, "1.3 times, nothing lost", |fan_out| fan_out.ratio >= 1.3);
    sleeper(table);
    catch_up(table);
}

/// Finds one new thing in each poll.
struct News(Laps);

#[async_trait]
impl Observer for News {
    type Source = ();
    type State = u64;
    type Snapshot = u64;
    type Event = u64;

    async fn init(&self, _: &[ObservedSource<()>]) -> Result<u64, DynError> {
        Ok(0)
    }

    async fn poll(&self, _: &[ObservedSource<()>], polls: &mut u64) -> Result<Vec<u64>, DynError> {
        *polls = self.0.lap().await;
        Ok(vec![*polls])
    }

    fn snapshot(&self, polls: &u64) -> u64 {
        *polls
    }
}

/// Either side's subscription, reduced to what is counted.
enum Reader {
    Old(Receiver<Arc<Batch<u64>>>),
    New(Subscription<u64>),
}

/// What one call has brought.
enum Got {
    Batch,
    Missed(u64),
}

impl Reader {
    fn of(driven: &Driven<News>) -> Self {
        match driven {
            Driven::Old(old) => Self::Old(old.subscribe()),
            Driven::New(runtime) => Self::New(runtime.handle().subscribe()),
        }
    }

    async fn recv(&mut self) -> Got {
        match self {
            Self::Old(receiver) => match receiver.recv().await {
                Ok(_) => Got::Batch,
                Err(Gone::Lagged(missed)) => Got::Missed(missed),
                Err(Gone::Closed) => unreachable!("the loop outlives its readers"),
            },
            Self::New(subscription) => match subscription.recv().await {
                Ok(_) => Got::Batch,
                Err(RecvError::Lagged { missed, .. }) => Got::Missed(missed),
                Err(end) => unreachable!("the runtime outlives its readers: {end}"),
            },
        }
    }

    /// Reads until `batches` were received or missed; returns how many were missed. After every
    /// `rest_every` it sleeps a millisecond.
    async fn read(&mut self, batches: u64, rest_every: u64) -> u64 {
        let (mut received, mut missed) = (0, 0);
        while received + missed < batches {
            match self.recv().await {
                Got::Batch => received += 1,
                Got::Missed(more) => {
                    missed += more;
                    continue;
                }
            }
            if rest_every > 0 && received % rest_every == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(received + missed, batches, "every batch is received, or known to be missed");
        missed
    }
}

/// Starts a loop that publishes `batches`, and hands out `readers` subscribed from the first on.
async fn publish(
    side: Side,
    batches: u64,
    yield_every: u64,
    history_limit: usize,
    readers: usize,
) -> (Driven<News>, Vec<Reader>, tokio::sync::oneshot::Receiver<Duration>) {
    let (laps, finished) = Laps::new(side, (0, batches), yield_every);
    let config = laps.config(history_limit);
    // Nothing is polled before this task yields: one thread.
    let driven = Driven::start(side, only_source(), News(laps), config).await;
    let readers = (0..readers).map(|_| Reader::of(&driven)).collect();
    (driven, readers, finished)
}

async fn end(driven: Driven<News>) {
    if let Driven::New(runtime) = driven {
        let _ = runtime.stop().await;
    }
}

fn fan_out(table: &mut Table, subscribers: usize, goal: &str, met: impl Fn(Medians) -> bool) {
    let [rate, (old_lost, new_lost)] = processes(9, "subscribers", &subscribers.to_string());
    let many =
        if subscribers == 1 { "one subscriber".to_owned() } else { format!("{subscribers} subscribers") };
    let (old_lost, new_lost) = (old_lost.quantile(1.0), new_lost.quantile(1.0));
    let what = format!("batches to {many}, publisher yields every 32 (lost: {old_lost}, {new_lost})");
    table.add(Row::compare(what, Unit::PerSecond, &rate, goal, |rate| met(rate) && new_lost == 0.0));
}

/// Measures in a separate process: batches per second, and how many were lost.
pub(crate) fn child(side: Side, subscribers: usize) {
    let batches: u64 = match subscribers {
        1 => 100_000,
        100 => 10_000,
        _ => 1_500,
    };
    let lost = Cell::new(0);
    let rate = median(3, || {
        one_thread().block_on(async {
            let (driven, readers, _finished) = publish(side, batches, 32, 64, subscribers).await;
            let began = cpu_time();
            let mut tasks: JoinSet<u64> =
                readers.into_iter().map(|mut reader| async move { reader.read(batches, 0).await }).collect();
            while let Some(missed) = tasks.join_next().await {
                lost.update(|lost| lost + missed.expect("readers do not panic"));
            }
            let took = cpu_time().saturating_sub(began);
            end(driven).await;
            batches as f64 / took.as_secs_f64()
        })
    });
    child::print(&[rate, lost.get() as f64]);
}

/// It rests a millisecond after every 100 batches, while the publisher does not.
fn sleeper(table: &mut Table) {
    const BATCHES: u64 = 100_000;
    let run = |side| {
        one_thread().block_on(async {
            let (driven, mut readers, _finished) = publish(side, BATCHES, 32, 64, 1).await;
            let missed = readers[0].read(BATCHES, 100).await;
            end(driven).await;
            missed as f64 / BATCHES as f64
        })
    };
    let lost = alternate(5, || run(Side::Old), || run(Side::New));
    // `read` has checked the count.
    let what = "a subscriber that sleeps, history of 64: batches lost";
    table.add(Row::compare(what, Unit::Share, &lost, "the exact count is reported", |_| true));
}

/// It sleeps until everything was published, and the history holds it all.
fn catch_up(table: &mut Table) {
    const BATCHES: u64 = 1 << 17;
    let lost = Cell::new(0);
    let run = |side: Side| {
        one_thread().block_on(async {
            let (driven, mut readers, finished) = publish(side, BATCHES, 0, 1 << 17, 1).await;
            finished.await.expect("the last lap ends");
            let began = cpu_time();
            let missed = readers[0].read(BATCHES, 0).await;
            let took = cpu_time().saturating_sub(began);
            if side == Side::New {
                lost.update(|lost| lost + missed);
            }
            end(driven).await;
            BATCHES as f64 / took.as_secs_f64()
        })
    };
    let rate = alternate(9, || run(Side::Old), || run(Side::New));
    let what = "a subscriber that slept catches up with 131k batches of the history";
    let goal = "nothing lost, 10 M batches/s";
    let met = |rate: Medians| rate.new >= 10e6 && lost.get() == 0;
    table.add(Row::compare(what, Unit::PerSecond, &rate, goal, met));
}
