//! The loop that Watchkeeper replaces, as it is written by hand around a distributed system.
//!
//! A task ticks by an interval, fetches a copy of its sources, polls, and puts a copy of everything
//! under one mutex; readers copy it out again. Events go to a broadcast channel. Dropping the loop aborts the
//! task. It takes the same [`Observer`]s as the runtime, so that both do the same work.

#![expect(dead_code, reason = "it keeps and offers what such a loop does, measured or not")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use watchkeeper::{BoxedSourceProvider, DynError, Observer, SourceProvider};

/// What one poll of the sources has shown.
#[derive(Clone)]
pub(crate) struct Snapshot<S> {
    pub(crate) cycle: u64,
    pub(crate) observed_at: SystemTime,
    pub(crate) source_count: usize,
    pub(crate) value: S,
}

/// What one poll of the sources has found new.
pub(crate) struct Batch<E> {
    pub(crate) cycle: u64,
    pub(crate) observed_at: SystemTime,
    pub(crate) events: Vec<E>,
}

struct Shared<S, E> {
    snapshot: Option<Snapshot<S>>,
    history: VecDeque<Arc<Batch<E>>>,
    last_error: Option<String>,
}

struct Common<S, E> {
    shared: Mutex<Shared<S, E>>,
    events: broadcast::Sender<Arc<Batch<E>>>,
    history_limit: usize,
}

impl<S, E> Common<S, E> {
    fn lock(&self) -> MutexGuard<'_, Shared<S, E>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often the old loop polls.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As it is used: an interval whose missed ticks are delayed, the first tick `offset` from now.
    Interval { interval: Duration, offset: Duration },
    /// One cycle after the other, to see what a cycle costs. No tokio interval is ever ready that
    /// often: its timer counts in milliseconds.
    Unpaced,
}

/// A running loop.
pub(crate) struct OldLoop<O: Observer> {
    common: Arc<Common<O::Snapshot, O::Event>>,
    task: JoinHandle<()>,
}

impl<O> OldLoop<O>
where
    O: Observer<Snapshot: Clone>,
{
    /// Polls once, then goes on polling in a task.
    pub(crate) async fn start(
        provider: impl SourceProvider<O::Source>,
        observer: O,
        history_limit: usize,
        pace: Pace,
    ) -> Result<Self, DynError> {
        let (events, _) = broadcast::channel(history_limit.max(1));
        let shared = Shared { snapshot: None, history: VecDeque::new(), last_error: None };
        let common = Arc::new(Common { shared: Mutex::new(shared), events, history_limit });
        let sources = provider.sources().await?;
        let state = observer.init(&sources).await?;
        let provider = Box::new(provider);
        let mut worker = Worker { common: Arc::clone(&common), provider, observer, state, cycle: 0 };
        worker.publish(sources.len(), Vec::new());
        let task = tokio::spawn(worker.run(pace));
        Ok(Self { common, task })
    }

    /// A copy of the last success.
    pub(crate) fn latest_snapshot(&self) -> Option<Snapshot<O::Snapshot>> {
        self.common.lock().snapshot.clone()
    }

    /// The newest batches.
    pub(crate) fn history(&self) -> Vec<Arc<Batch<O::Event>>> {
        self.common.lock().history.iter().cloned().collect()
    }

    /// The last failure, if no success came after it.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.common.lock().last_error.clone()
    }

    /// Every batch from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<Batch<O::Event>>> {
        self.common.events.subscribe()
    }

    /// A separate reader, for another thread or task.
    pub(crate) fn reader(&self) -> impl Fn() -> Option<Snapshot<O::Snapshot>> + Clone + Send + 'static {
        let common = Arc::clone(&self.common);
        move || common.lock().snapshot.clone()
    }

    /// Asks for the end. Nothing answers.
    pub(crate) fn stop(&self) {
        self.task.abort();
    }
}

impl<O: Observer> Drop for OldLoop<O> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Worker<O: Observer> {
    common: Arc<Common<O::Snapshot, O::Event>>,
    provider: BoxedSourceProvider<O::Source>,
    observer: O,
    state: O::State,
    cycle: u64,
}

impl<O> Worker<O>
where
    O: Observer<Snapshot: Clone>,
{
    async fn run(mut self, pace: Pace) {
        match pace {
            Pace::Interval { interval, offset } => {
                let mut ticks = tokio::time::interval_at(Instant::now() + offset, interval);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    self.cycle().await;
                }
            }
            Pace::Unpaced => loop {
                self.cycle().await;
            },
        }
    }

    async fn cycle(&mut self) {
        self.cycle += 1;
        match self.look().await {
            Ok((source_count, events)) => self.publish(source_count, events),
            Err(error) => self.common.lock().last_error = Some(error.to_string()),
        }
    }

    async fn look(&mut self) -> Result<(usize, Vec<O::Event>), DynError> {
        let sources = self.provider.sources().await?;
        let events = self.observer.poll(&sources, &mut self.state).await?;
        Ok((sources.len(), events))
    }

    fn publish(&mut self, source_count: usize, events: Vec<O::Event>) {
        let observed_at = SystemTime::now();
        let snapshot = Snapshot {
            cycle: self.cycle,
            observed_at,
            source_count,
            value: self.observer.snapshot(&self.state),
        };
        let batch = (!events.is_empty()).then(|| Arc::new(Batch { cycle: self.cycle, observed_at, events }));
        let mut shared = self.common.lock();
        shared.snapshot = Some(snapshot);
        shared.last_error = None;
        if let Some(batch) = batch {
            if shared.history.len() == self.common.history_limit {
                shared.history.pop_front();
            }
            shared.history.push_back(Arc::clone(&batch));
            drop(shared);
            // An error only says that nobody listens.
            let _ = self.common.events.send(batch);
        }
    }
}
