//! A handle without a driver: its data is published by hand.

mod data;
mod records;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::runtime::Handle;
use tokio::time::Instant;
use watchkeeper_fsm::{State, StateKind, StopReason};

use crate::clock::{Clock, Fed};
use crate::config::ObservationConfig;
use crate::cursor::{Cursor, First, Instance, LAST_RESUMED};
use crate::error::ObservationFailure;
use crate::error::ObservationRuntimeError;
use crate::handle::ObservationHandle;
use crate::observer::Observer;
use crate::panics::{AppValue, AppValues};
use crate::publish::history::{Announced, History, ObservationBatch};
use crate::publish::log::LogEvent;
use crate::publish::shared::Shared;
use crate::source::SourceChange;
use crate::status::{ObservationSnapshot, Published};
use crate::tap::{SourcesChanged, weight};
use crate::task::lifetime::Terminate;
use crate::text;

pub use data::{FeedError, FeedFailure, FeedLoss, FeedStart, FeedSuccess};

/// The time that must be left after each moment of a feed, so that windows and ages can be represented.
const ROOM: Duration = Duration::from_secs(366 * 24 * 3_600);

/// A handle without a driver, for a recorded or a remote run: the feed's data is published by hand.
///
/// Waits, watches, subscriptions, taps and erased handles use the same code on the feed's [`handle`](Self::handle) as
/// on the handle of a runtime. Nothing is polled; the observer is needed only as a type.
///
/// # Time
///
/// A feed has its own clock, unless it is [live](Self::live). The clock moves only when something is published at a later moment, or by
/// [`advance`](Self::advance), or a [`lost`](Self::lost) part. In a replay windows therefore end by the time of the
/// records, at any speed of reading, and a wait has the same verdict as in the run. All instants are on that clock:
/// instants of the run's own process, or `start.at` plus the time since the start of the run.
///
/// `examples/replay.rs` records a run and judges waits over it.
///
/// # The end
///
/// [`stop`](Self::stop) publishes the end. A feed that is dropped earlier ends as [`StopReason::Dropped`].
///
/// # Examples
///
/// ```
/// # use std::time::Duration;
/// # use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};
/// # use watchkeeper::feed::{Feed, FeedError, FeedStart, FeedSuccess};
/// # use watchkeeper::runtime::StopReason;
/// # struct Heights;
/// # #[async_trait]
/// # impl Observer for Heights {
/// #     type Source = ();
/// #     type State = ();
/// #     type Snapshot = u64;
/// #     type Event = u64;
/// #     async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
/// #         Ok(())
/// #     }
/// #     async fn poll(&self, _: &[ObservedSource<()>], _: &mut ()) -> Result<Vec<u64>, DynError> {
/// #         Ok(Vec::new())
/// #     }
/// #     fn snapshot(&self, _: &()) -> u64 {
/// #         0
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let start = FeedStart::now();
/// let mut feed: Feed<Heights> = Feed::new(&ObservationConfig::default(), start)?;
/// let handle = feed.handle();
/// let mut batches = handle.subscribe();
/// let reached = handle.eventually("height 7", |height| *height == 7).within(Duration::from_secs(60));
/// let never = handle.never("height 9", |height| *height == 9).during(Duration::from_secs(60));
///
/// let second = |n| start.at + Duration::from_secs(n);
/// feed.sources(second(1), 0, ["n1", "n2"])?;
/// feed.success(second(2), FeedSuccess { cycle: 0, generation: 1, began: second(1), is_polled: false, value: 6, events: vec![6] })?;
/// feed.success(second(30), FeedSuccess { cycle: 1, generation: 1, began: second(30), is_polled: true, value: 7, events: vec![7] })?;
/// assert_eq!(reached.await?.value, 7);
/// assert_eq!(batches.recv().await?.events, [6]);
///
/// // A minute has passed in the run, and hardly any here.
/// feed.success(second(59), FeedSuccess { cycle: 2, generation: 1, began: second(59), is_polled: true, value: 8, events: vec![] })?;
/// feed.advance(second(60))?;
/// never.await?;
/// assert!(matches!(feed.advance(second(59)), Err(FeedError::TimeWentBack { .. })));
/// feed.stop(second(61), StopReason::Requested)?;
/// assert_eq!(handle.stop_reason(), Some(StopReason::Requested));
/// # Ok(())
/// # }
/// ```
pub struct Feed<O: Observer> {
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    fed: Arc<Fed>,
    config: ObservationConfig,
    /// The position right after the last published batch.
    cursor: Cursor,
    event_count: u64,
    /// The first cycle that has not ended.
    open_cycle: u64,
    consecutive_failures: u64,
    /// The number of the next record; `None` before the first record.
    next_record: Option<u64>,
}

impl<O: Observer> Feed<O> {
    /// A feed without publications: `Starting`, without sources and without data.
    ///
    /// It uses `name`, `interval`, `history_limit` and `stale_after` of the config. Its invariants run on the tokio
    /// runtime of the caller.
    ///
    /// # Errors
    ///
    /// [`ObservationRuntimeError`]: a field of the config or of `start` is out of its range, `start.at` is within a
    /// year of the latest time that can be represented, or there is no tokio runtime.
    pub fn new(config: &ObservationConfig, start: FeedStart) -> Result<Self, ObservationRuntimeError> {
        Self::begin(config, start, Clock::fed)
    }

    /// A feed on tokio's clock, from now on: for a live program that has its data from elsewhere than from polls.
    ///
    /// Windows, ages and staleness run by themselves, as with a runtime, and [`advance`](Self::advance) has no effect
    /// on them. Publish with the present [`Instant`]; a later one is refused. With a `cursor` of an earlier process the
    /// feed continues there: cursors up to it stay valid, and what they have missed is counted by
    /// [`Lagged`](crate::subscription::RecvError::Lagged).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use watchkeeper::{DynError, ObservationConfig, ObservedSource, Observer, async_trait};
    /// # use watchkeeper::feed::{Feed, FeedSuccess};
    /// # use tokio::time::Instant;
    /// # struct Heights;
    /// # #[async_trait]
    /// # impl Observer for Heights {
    /// #     type Source = ();
    /// #     type State = ();
    /// #     type Snapshot = u64;
    /// #     type Event = u64;
    /// #     async fn init(&self, _: &[ObservedSource<()>]) -> Result<(), DynError> {
    /// #         Ok(())
    /// #     }
    /// #     async fn poll(&self, _: &[ObservedSource<()>], _: &mut ()) -> Result<Vec<u64>, DynError> {
    /// #         Ok(Vec::new())
    /// #     }
    /// #     fn snapshot(&self, _: &()) -> u64 {
    /// #         0
    /// #     }
    /// # }
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), DynError> {
    /// let mut feed: Feed<Heights> = Feed::live(&ObservationConfig::default(), None)?;
    /// let reached = feed.handle().eventually("height 7", |height| *height == 7).within(Duration::from_secs(2));
    /// let now = Instant::now();
    /// let value = FeedSuccess { cycle: 0, generation: 1, began: now, is_polled: true, value: 6, events: vec![6] };
    /// feed.success(now, value)?;
    /// assert!(reached.await.is_err(), "the window ended by tokio's clock");
    /// # Ok(())
    /// # }
    /// ```
    pub fn live(config: &ObservationConfig, cursor: Option<Cursor>) -> Result<Self, ObservationRuntimeError> {
        let start = FeedStart { cursor, ..FeedStart::now() };
        Self::begin(config, start, |executor, _| Clock::of(executor))
    }

    fn begin(
        config: &ObservationConfig,
        start: FeedStart,
        clock: impl FnOnce(Handle, &Arc<Fed>) -> Clock,
    ) -> Result<Self, ObservationRuntimeError> {
        config.validate()?;
        let FeedStart { at, system_time, cursor, cycle, event_count } = start;
        let instance = cursor.map_or_else(Instance::random, |cursor| cursor.instance);
        let (generation, seq) = cursor.map_or((1, 0), |cursor| (cursor.generation, cursor.seq));
        let numbers = [
            ("cursor.generation", generation),
            ("cursor.seq", seq),
            ("cycle", cycle),
            ("event_count", event_count),
        ];
        if let Some((field, value)) = numbers.into_iter().find(|(_, value)| *value > LAST_RESUMED) {
            return Err(ObservationRuntimeError::InvalidFeedStart { field, value });
        }
        if at.checked_add(ROOM).is_none() {
            return Err(ObservationRuntimeError::FeedStartTooLate);
        }
        let executor = Handle::try_current().map_err(|_| ObservationRuntimeError::NoTokioRuntime)?;
        let fed = Fed::new(at, system_time);
        let history =
            History::new(instance, config.history_limit, First { generation, seq, cycle, event_count });
        let clock = clock(executor, &fed);
        let history = if clock.is_fed() { history } else { history.continuing() };
        let mut first = Published::before_the_start(at, config);
        (first.generation, first.cycle, first.next_cycle) = (generation, cycle, cycle);
        let names = (config.name.as_deref(), std::any::type_name::<O>());
        Ok(Self {
            shared: Arc::new(Shared::new(names, clock, history, first)),
            fed,
            config: config.clone(),
            cursor: Cursor { instance, generation, seq },
            event_count,
            open_cycle: cycle,
            consecutive_failures: 0,
            next_record: None,
        })
    }

    /// The read side; cloneable. A handle may outlive the feed.
    #[must_use]
    pub fn handle(&self) -> ObservationHandle<O> {
        ObservationHandle::new(Arc::clone(&self.shared))
    }

    /// The time on the feed's clock: the latest published or advanced moment; tokio's time for a [live](Self::live) feed.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.shared.clock.now()
    }

    /// The position right after the last published batch.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Publishes a success; the machine is then idle.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed, and `success` is dropped.
    pub fn success(
        &mut self,
        at: Instant,
        success: FeedSuccess<O::Snapshot, O::Event>,
    ) -> Result<(), FeedError> {
        let FeedSuccess { cycle, generation, began, is_polled, value, events } = success;
        // If they are refused, they are dropped one by one.
        let (value, events) = (AppValue::new(value), AppValues::new(events));
        self.check_cycle(at, began, cycle)?;
        if generation < self.cursor.generation {
            return Err(FeedError::GenerationWentBack { generation, newest: self.cursor.generation });
        }
        if generation > LAST_RESUMED {
            return Err(FeedError::TooLarge { field: "generation", value: generation });
        }
        let weight = weight::<O>(&self.shared, &value, &events);
        let mut next = self.shared.read(Published::clone);
        let elapsed = at.saturating_duration_since(began);
        let (system_time, source_count) = (self.wall(at), next.source_names.len());
        next.stale_after = self.config.pace().stale_after(elapsed);
        self.cursor.generation = generation;
        let batch = (!events.is_empty()).then(|| {
            let seq = self.cursor.seq;
            let (events, fresh) = (events.into_inner(), elapsed < next.stale_after);
            let observed_at = at;
            self.cursor.seq += 1;
            self.event_count += events.len() as u64;
            Arc::new(ObservationBatch {
                generation,
                seq,
                cycle,
                observed_at,
                system_time,
                source_count,
                events,
                began,
                fresh,
            })
        });
        let snapshot = ObservationSnapshot {
            generation,
            cycle,
            cursor: self.cursor,
            observed_at: at,
            system_time,
            elapsed,
            source_count,
            event_count: self.event_count,
            value: value.into_inner(),
            left_out: None,
            weight,
            is_polled,
        };
        (next.cycle, next.next_cycle, self.open_cycle) = (cycle, cycle + 1, cycle + 1);
        (next.generation, next.last_success, next.last_error) = (generation, Some(began), None);
        drop(AppValue::new(next.snapshot.replace(Arc::new(snapshot))));
        self.consecutive_failures = 0;
        enter(&mut next, at, State::Idle);
        self.publish(at, next, batch);
        Ok(())
    }

    /// Publishes a failure; the machine has then failed. The snapshot stays.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed.
    pub fn failure(&mut self, at: Instant, failure: FeedFailure) -> Result<(), FeedError> {
        let FeedFailure { cycle, began, stage, cause, message, rebuild } = failure;
        self.check_cycle(at, began, cycle)?;
        self.consecutive_failures += 1;
        let consecutive = self.consecutive_failures;
        let mut next = self.shared.read(Published::clone);
        next.last_error = Some(Arc::new(ObservationFailure {
            generation: self.cursor.generation,
            cycle,
            observed_at: at,
            system_time: self.wall(at),
            elapsed: at.saturating_duration_since(began),
            source_count: next.source_names.len(),
            stage,
            cause,
            message: text::message(&message),
            consecutive,
        }));
        next.failures += 1;
        (next.cycle, next.next_cycle, self.open_cycle) = (cycle, cycle + 1, cycle + 1);
        enter(&mut next, at, State::Failed { stage, consecutive, rebuild });
        self.publish(at, next, None);
        Ok(())
    }

    /// Publishes the source set that the refresh of `cycle` returned. The machine's state stays.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed.
    pub fn sources(
        &mut self,
        at: Instant,
        cycle: u64,
        names: impl IntoIterator<Item = impl Into<Arc<str>>>,
    ) -> Result<(), FeedError> {
        // The app's iterator runs outside of every lock.
        let names: Arc<[Arc<str>]> = names.into_iter().map(Into::into).collect();
        self.check_cycle(at, at, cycle)?;
        let mut next = self.shared.read(Published::clone);
        if next.source_names != names {
            next.source_names = names;
        }
        (next.cycle, next.next_cycle, next.set_cycle) = (cycle, cycle + 1, Some(cycle));
        self.publish(at, next, None);
        Ok(())
    }

    /// Publishes the machine's state, its cycle, and whether it is paused.
    ///
    /// [`State::Stopped`] is the end, as with [`stop`](Self::stop).
    ///
    /// # Errors
    ///
    /// [`FeedError`]: nothing has changed.
    pub fn transition(
        &mut self,
        at: Instant,
        state: State,
        cycle: u64,
        paused: bool,
    ) -> Result<(), FeedError> {
        if let State::Stopped { reason } = state {
            return self.stop(at, reason);
        }
        let newest = self.shared.read(|status| status.cycle);
        // A machine that waits is still in the cycle that has ended.
        self.check_cycle(at, at, if works(state) { cycle } else { cycle.max(self.open_cycle) })?;
        if cycle < newest {
            return Err(FeedError::CycleWentBack { cycle, newest });
        }
        let mut next = self.shared.read(Published::clone);
        (next.cycle, next.next_cycle, next.paused) = (cycle, cycle + 1, paused);
        enter(&mut next, at, state);
        self.publish(at, next, None);
        Ok(())
    }

    /// Moves the feed's clock to `at`, without a publication.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: `at` is in the past or too late, or the feed has ended.
    pub fn advance(&mut self, at: Instant) -> Result<(), FeedError> {
        self.check_time(at)?;
        self.fed.advance(at);
        Ok(())
    }

    /// Publishes the end, and wakes all readers.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: `at` is in the past or too late, or the feed has ended.
    pub fn stop(&mut self, at: Instant, reason: StopReason) -> Result<(), FeedError> {
        self.check_time(at)?;
        self.fed.advance(at);
        self.shared.terminate(reason);
        Ok(())
    }

    fn wall(&self, at: Instant) -> SystemTime {
        let clock = &self.shared.clock;
        clock.wall(at, clock.now())
    }

    fn check_time(&self, at: Instant) -> Result<(), FeedError> {
        if let State::Stopped { reason } = self.shared.read(|status| status.state) {
            return Err(FeedError::Ended(reason));
        }
        match self.fed.now().saturating_duration_since(at) {
            Duration::ZERO if at.checked_add(ROOM).is_none() => Err(FeedError::TooLate),
            Duration::ZERO if !self.shared.clock.is_fed() => {
                let by = at.saturating_duration_since(self.shared.clock.now());
                if by.is_zero() { Ok(()) } else { Err(FeedError::NotYet { by }) }
            }
            Duration::ZERO => Ok(()),
            by => Err(FeedError::TimeWentBack { by }),
        }
    }

    fn check_cycle(&self, at: Instant, began: Instant, cycle: u64) -> Result<(), FeedError> {
        self.check_time(at)?;
        let by = began.saturating_duration_since(at);
        if !by.is_zero() {
            return Err(FeedError::BeforeItsCycle { by });
        }
        let newest = self.shared.read(|status| status.cycle);
        if cycle < newest || cycle < self.open_cycle {
            return Err(FeedError::CycleWentBack { cycle, newest });
        }
        if cycle > LAST_RESUMED {
            return Err(FeedError::TooLarge { field: "cycle", value: cycle });
        }
        Ok(())
    }

    /// Makes `next` the status, in a runtime's order: the batch, the status, the head, the time, the wakers.
    fn publish(
        &self,
        at: Instant,
        mut next: Published<O::Snapshot>,
        batch: Option<Arc<ObservationBatch<O::Event>>>,
    ) {
        let before = self.shared.read(Published::clone);
        let logged = logged(&before, &next);
        let history = &self.shared.history;
        let announced = next.succeeded_since(&before).map(|snapshot| snapshot.cursor);
        if next.generation != before.generation {
            history.begin_generation(next.generation);
        }
        let batch = batch.filter(|batch| history.push(Arc::clone(batch)).is_ok());
        let _ = self.shared.publish(at, batch.as_ref(), |writing| {
            next.number = writing.status.number;
            std::mem::swap(writing.status, &mut next);
            logged.into_iter().flatten().for_each(|what| writing.log(what));
        });
        if let Some(cursor) = announced {
            history.announce(cursor, &mut Announced::default());
        }
        // A wait that polls in between sees the publication before its time has come.
        self.fed.advance(at);
        self.shared.wake(&mut Vec::new());
    }
}

/// Whether a cycle is in progress in this state.
fn works(state: State) -> bool {
    matches!(state.kind(), StateKind::Starting | StateKind::Refreshing | StateKind::Polling)
}

fn enter<S>(next: &mut Published<S>, at: Instant, state: State) {
    if next.state != state {
        (next.state, next.since) = (state, at);
    }
}

/// The log entries of a publication.
fn logged<S>(before: &Published<S>, next: &Published<S>) -> [Option<LogEvent>; 4] {
    let sources = (!Arc::ptr_eq(&before.source_names, &next.source_names)).then(|| {
        let SourcesChanged { joined, left, .. } =
            SourcesChanged::between(&before.source_names, &next.source_names);
        SourceChange { joined, left }
    });
    let outcome = match (next.succeeded_since(before), next.failed_since(before)) {
        (Some(snapshot), _) => Some(LogEvent::Succeeded { first: snapshot.cycle, last: snapshot.cycle }),
        (None, Some(failure)) => Some(LogEvent::failed(failure)),
        (None, None) if next.state == State::Starting && before.state != State::Starting => {
            Some(LogEvent::Entered(State::Starting))
        }
        (None, None) => None,
    };
    let pause = match (before.paused, next.paused) {
        (false, true) => Some(LogEvent::Paused),
        (true, false) => Some(LogEvent::Resumed),
        _ => None,
    };
    let end = next.is_over().then_some(LogEvent::Entered(next.state));
    [sources.and_then(|change| LogEvent::sources(&change, next.cycle)), outcome, pause, end]
}

impl<O: Observer> Drop for Feed<O> {
    fn drop(&mut self) {
        if !self.shared.read(Published::is_over) {
            self.shared.terminate(StopReason::Dropped);
        }
    }
}

impl<O: Observer> fmt::Debug for Feed<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (state, cycle) = self.shared.read(|status| (status.state, status.cycle));
        f.debug_struct("Feed").field("state", &state).field("cycle", &cycle).finish_non_exhaustive()
    }
}
