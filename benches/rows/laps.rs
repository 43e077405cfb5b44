//! Driving either loop as fast as it goes, and counting.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use watchkeeper::{ObservationConfig, ObservationRuntime, Observer, SourceProvider};

use super::{NEVER, Side, one_thread};
use crate::measure::cpu_time;
use crate::old_loop::{OldLoop, Pace};

/// Counts the polls of one observer, and takes the CPU time between two of them.
///
/// The old loop runs unpaced. The runtime is woken from inside each poll (`ObservationConfig::wake`
/// with the least `min_gap`), so its figures contain a wake, and a reading of the clock, per cycle.
pub(crate) struct Laps {
    polls: AtomicU64,
    wake: Option<Arc<Notify>>,
    /// After every `yield_every` polls the observer yields to other tasks.
    yield_every: u64,
    /// The polls between which time is taken.
    from: u64,
    to: u64,
    began: Mutex<Option<Duration>>,
    done: Mutex<Option<oneshot::Sender<Duration>>>,
}

impl Laps {
    pub(crate) fn new(
        side: Side,
        (warm_up, counted): (u64, u64),
        yield_every: u64,
    ) -> (Self, oneshot::Receiver<Duration>) {
        let (done, finished) = oneshot::channel();
        let laps = Self {
            polls: AtomicU64::new(0),
            wake: (side == Side::New).then(Arc::default),
            yield_every,
            from: warm_up,
            to: warm_up + counted,
            began: Mutex::default(),
            done: Mutex::new(Some(done)),
        };
        (laps, finished)
    }

    /// The config under which the runtime polls as fast as it can.
    pub(crate) fn config(&self, history_limit: usize) -> ObservationConfig {
        ObservationConfig {
            interval: NEVER,
            history_limit,
            wake: self.wake.clone(),
            min_gap: Duration::from_nanos(1),
            ..Default::default()
        }
    }

    /// To be called first in each poll. The last lap never ends.
    pub(crate) async fn lap(&self) -> u64 {
        let poll = self.polls.fetch_add(1, Ordering::Relaxed);
        if poll == self.from {
            *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(cpu_time());
        }
        if poll == self.to {
            self.finish();
            std::future::pending::<()>().await;
        }
        if let Some(wake) = &self.wake {
            wake.notify_one();
        }
        if self.yield_every > 0 && poll % self.yield_every == self.yield_every - 1 {
            tokio::task::yield_now().await;
        }
        poll
    }

    fn finish(&self) {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(began), Some(done)) = (*began, done) {
            // An error only says that nobody waits any more.
            let _ = done.send(cpu_time().saturating_sub(began));
        }
    }
}

/// A running loop of either kind that polls as fast as it can.
pub(crate) enum Driven<O: Observer> {
    Old(OldLoop<O>),
    New(ObservationRuntime<O>),
}

impl<O> Driven<O>
where
    O: Observer<Snapshot: Clone>,
{
    /// `laps` has to be the one that `observer` counts.
    pub(crate) async fn start(
        side: Side,
        provider: impl SourceProvider<O::Source>,
        observer: O,
        config: ObservationConfig,
    ) -> Self {
        match side {
            Side::Old => {
                let started = OldLoop::start(provider, observer, config.history_limit, Pace::Unpaced).await;
                Self::Old(started.expect("its first poll succeeds"))
            }
            Side::New => {
                let wake = config.wake.clone();
                let started = ObservationRuntime::start(provider, observer, config).await;
                wake.expect("the laps of the runtime wake it").notify_one();
                Self::New(started.expect("its first cycle succeeds"))
            }
        }
    }
}

/// The CPU seconds that one cycle takes, on one thread, when cycle follows cycle.
pub(crate) fn seconds_per_cycle<O>(
    side: Side,
    provider: impl SourceProvider<O::Source>,
    (warm_up, counted): (u64, u64),
    observer: impl FnOnce(Laps) -> O,
) -> f64
where
    O: Observer<Snapshot: Clone>,
{
    let (laps, finished) = Laps::new(side, (warm_up, counted), 0);
    let config = laps.config(64);
    let took = one_thread().block_on(async {
        let driven = Driven::start(side, provider, observer(laps), config).await;
        let took = finished.await.expect("the last lap ends");
        if let Driven::New(runtime) = &driven {
            let _ = runtime.stop().await;
        }
        took
    });
    took.as_secs_f64() / counted as f64
}
