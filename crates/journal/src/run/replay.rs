//! Publishing a recorded run in a feed.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use watchkeeper::feed::{Feed, FeedError, FeedFailure, FeedLoss, FeedStart, FeedSuccess};
use watchkeeper::report::debug_as_text;
use watchkeeper::runtime::{State, StopReason};
use watchkeeper::{ObservationConfig, ObservationHandle, ObservationRuntimeError, Observer};

use super::RunError;
use super::format::{RunClock, RunFormat};
use super::record::{Kind, RunRecord, Settings};
use super::subscription::{first_where, of_instance};
use crate::reader::ReadFrom;
use crate::record::ReadItem;
use crate::view::{JournalView, ViewReader};

/// A recorded run as a feed: its handle, subscriptions and waits are those of a runtime.
///
/// Nothing is published before the first [`step`](Self::step) or [`play`](Self::play): make waits before it. The feed's
/// clock is that of the record: windows end by the time of the records, at any speed of reading, and a wait has the
/// verdict that it had in the run.
///
/// The runs of several processes that resumed each other are one run; the time between two of them is that of the wall
/// clock. If the last process did not resume the one before, the replay has its records alone.
pub struct Replay<O: Observer, F> {
    feed: Feed<O>,
    format: Arc<F>,
    clock: RunClock,
    /// The number of the last record, and the count of events after it, by which gaps are found.
    number: Option<u64>,
    event_count: u64,
    /// When the present process began to record.
    started: SystemTime,
    reader: ViewReader,
    next: Option<(u64, RunRecord)>,
}

/// Why a replay does not continue.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The run cannot be read.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Nothing is recorded.
    #[error("nothing is recorded in {place}: record a run first, or give the directory of another one")]
    Empty {
        /// The directory.
        place: String,
    },
    /// The feed cannot be made.
    #[error("the recorded settings cannot be used: {0}")]
    Settings(ObservationRuntimeError),
    /// The record cannot be published.
    #[error(
        "record {number} does not follow the ones before it: {source}; check the journal with `journal check`"
    )]
    Order {
        /// The record's number in the journal.
        number: u64,
        /// The feed's error.
        #[source]
        source: FeedError,
    },
}

debug_as_text!(ReplayError);

impl<O: Observer, F: RunFormat<O>> Replay<O, F> {
    /// The run `name` in a directory. It needs no lock: the run may still be recorded. It reads the files on the calling
    /// thread, 1 MiB at a time, as `step` and `play` do.
    ///
    /// # Errors
    ///
    /// [`ReplayError`].
    pub fn open(directory: impl Into<PathBuf>, name: &str, format: F) -> Result<Self, ReplayError> {
        let path = super::path(&directory.into(), name)?;
        Self::of(&JournalView::open(path).map_err(RunError::from)?, format)
    }

    /// The run in the journal of a view.
    ///
    /// # Errors
    ///
    /// [`ReplayError`].
    pub fn of(view: &JournalView, format: F) -> Result<Self, ReplayError> {
        let empty = || ReplayError::Empty { place: view.medium.place() };
        let source = view.scan_source();
        let newest = source.last_record().map_err(RunError::from)?.ok_or_else(empty)?;
        let instance = RunRecord::read(&newest)?.cursor.0.instance();
        let first = first_where(&source, |record| of_instance(record, instance))?;
        let mut reader = view.reader(ReadFrom::Number(first)).map_err(|_| empty())?;
        let (number, record) = next_record(&mut reader)?.ok_or_else(empty)?;
        let settings = match &record.run {
            Some(settings) => settings.clone(),
            None => settings(view, number)?.ok_or_else(empty)?,
        };
        let config = ObservationConfig {
            name: settings.name,
            interval: Duration::from_nanos(settings.interval_ns),
            stale_after: settings.stale_after_ns.map(Duration::from_nanos),
            history_limit: settings.history_limit,
            ..ObservationConfig::default()
        };
        let clock = RunClock::new(Instant::now());
        let feed = Feed::new(&config, start(&record, &clock)).map_err(ReplayError::Settings)?;
        Ok(Self {
            feed,
            format: Arc::new(format),
            clock,
            number: None,
            event_count: record.event_count - events_of(&record),
            started: wall(&record, -record.at),
            reader,
            next: Some((number, record)),
        })
    }

    /// The read side of the run.
    #[must_use]
    pub fn handle(&self) -> ObservationHandle<O> {
        self.feed.handle()
    }

    /// The time on the feed's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.feed.now()
    }

    /// When the recording of the present process began, on the feed's clock.
    #[must_use]
    pub fn recorded_at(&self) -> Instant {
        self.clock.instant(0)
    }

    /// When the next record is due; `None` after the last one.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.next.as_ref().map(|(_, record)| self.clock.instant(record.at).max(self.feed.now()))
    }

    /// Moves the feed's clock, up to the next record at most. Returns the new time.
    pub fn advance(&mut self, to: Instant) -> Instant {
        let to = self.next_at().map_or(to, |next| to.min(next));
        // A time in the past changes nothing.
        let _ = self.feed.advance(to);
        self.feed.now()
    }

    /// Publishes the next record. Returns `false` after the last one.
    ///
    /// # Errors
    ///
    /// [`ReplayError`]; nothing further can be published.
    pub fn step(&mut self) -> Result<bool, ReplayError> {
        let Some((number, record)) = self.next.take() else { return Ok(false) };
        let next = next_record(&mut self.reader);
        self.publish(number, record, matches!(next, Ok(Some(_))))?;
        self.next = next?;
        Ok(true)
    }

    /// Publishes all records, and lets other tasks run after each one, so that waits follow.
    ///
    /// Waits, watches and taps hold what they have not read within their limits, as with a runtime. On a runtime of several
    /// threads a wait may fall behind: await it in the same task, with `tokio::join!`, or use [`step`](Self::step).
    ///
    /// If the record ends without a stop, because its process was killed, it publishes the end as
    /// [`StopReason::Shutdown`]; [`step`](Self::step) does not.
    ///
    /// # Errors
    ///
    /// As [`step`](Self::step).
    pub async fn play(&mut self) -> Result<(), ReplayError> {
        while self.step()? {
            tokio::task::yield_now().await;
        }
        if self.feed.handle().stop_reason().is_none() {
            let _ = self.feed.stop(self.feed.now(), StopReason::Shutdown);
        }
        Ok(())
    }

    fn publish(&mut self, number: u64, record: RunRecord, continues: bool) -> Result<(), ReplayError> {
        let is_first = self.number.is_none();
        // Another process counts its publications from the beginning.
        let is_next = record.kind == Kind::Start || self.number.is_some_and(|last| record.number <= last);
        if is_next && !is_first {
            self.next_process(&record);
        }
        let at = self.clock.instant(record.at).max(self.feed.now());
        if !is_first {
            self.gap(number, &record, at, is_next)?;
        }
        (self.number, self.event_count) = (Some(record.number), record.event_count);
        let order = |source| ReplayError::Order { number, source };
        let (cycle, state) = (record.cycle, State::from(record.state));
        if let Some(names) = &record.sources {
            self.feed
                .sources(self.before(&record, at), first_cycle(&record), names.iter().cloned())
                .map_err(order)?;
        }
        if let Some(success) = record.success {
            let at = success.at.map_or(at, |at| self.clock.instant(at).max(self.feed.now()));
            let success = self.success(number, success, at)?;
            self.feed.success(at, success).map_err(order)?;
        }
        if let Some(failure) = record.failure {
            let failure = FeedFailure {
                cycle: failure.cycle,
                began: at.checked_sub(Duration::from_nanos(failure.took_ns)).unwrap_or(at),
                stage: failure.stage.into(),
                cause: failure.cause.into(),
                message: failure.message,
                rebuild: failure.rebuild,
            };
            self.feed.failure(at, failure).map_err(order)?;
        }
        if let State::Stopped { reason } = state {
            // What follows is of another process, which continues the run.
            return if continues { Ok(()) } else { self.feed.stop(at, reason).map_err(order) };
        }
        let status = self.feed.handle().status();
        if status.state != state || status.paused != record.paused || status.cycle != cycle {
            self.feed.transition(at, state, cycle, record.paused).map_err(order)?;
        }
        Ok(())
    }

    /// When the sources of a record are published: before a success of the past.
    fn before(&self, record: &RunRecord, at: Instant) -> Instant {
        let success = record.success.as_ref().and_then(|success| success.at);
        success.map_or(at, |at| self.clock.instant(at).max(self.feed.now()))
    }

    fn success(
        &self,
        number: u64,
        success: super::record::Success,
        at: Instant,
    ) -> Result<FeedSuccess<O::Snapshot, O::Event>, ReplayError> {
        let failed = |what| move |source| ReplayError::Run(RunError::Format { number, what, source });
        let value = self.format.read_snapshot(success.value, &self.clock).map_err(failed("snapshot"))?;
        let read = |event| self.format.read_event(event, &self.clock).map_err(failed("event"));
        Ok(FeedSuccess {
            cycle: success.cycle,
            generation: success.generation,
            began: at.checked_sub(Duration::from_nanos(success.took_ns)).unwrap_or(at),
            is_polled: success.is_polled,
            value,
            events: success.events.into_iter().map(read).collect::<Result<_, _>>()?,
        })
    }

    /// Marks what is missing before the record.
    fn gap(
        &mut self,
        number: u64,
        record: &RunRecord,
        at: Instant,
        is_next: bool,
    ) -> Result<(), ReplayError> {
        let events = events_of(record);
        let before = record.cursor.0.seq() - u64::from(events > 0);
        let batches = before.saturating_sub(self.feed.cursor().seq());
        let last = self.number.unwrap_or(record.number);
        // What another process has lost before its first record is at least its batches.
        let between = if is_next { 0 } else { record.number.saturating_sub(last).saturating_sub(1) };
        let publications = between.max(batches);
        if publications == 0 {
            return Ok(());
        }
        let lost = (record.event_count - events).saturating_sub(self.event_count);
        let events = if batches == 0 { 0 } else { lost.max(batches) };
        let loss = FeedLoss { publications, batches, events };
        self.feed.lost(at, loss).map_err(|source| ReplayError::Order { number, source })
    }

    /// Continues with the clock of the next process.
    fn next_process(&mut self, record: &RunRecord) {
        let started = wall(record, -record.at);
        let between = started.duration_since(self.started).unwrap_or_default();
        let start = self.clock.instant(i64::try_from(between.as_nanos()).unwrap_or(i64::MAX));
        self.clock = RunClock::new(start.max(self.feed.now()));
        self.started = started;
    }
}

impl<O: Observer, F> fmt::Debug for Replay<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").field("feed", &self.feed).finish_non_exhaustive()
    }
}

/// The start of a feed right before this record.
fn start(record: &RunRecord, clock: &RunClock) -> FeedStart {
    let events = events_of(record);
    let success_at = record.success.as_ref().and_then(|success| success.at);
    let first = success_at.map_or(record.at, |at| at.min(record.at));
    FeedStart {
        at: clock.instant(first),
        system_time: wall(record, first - record.at),
        cursor: Some(record.cursor.0.at(record.cursor.0.seq() - u64::from(events > 0))),
        cycle: first_cycle(record),
        event_count: record.event_count - events,
    }
}

/// The first cycle that the record has something of.
fn first_cycle(record: &RunRecord) -> u64 {
    let success = record.success.as_ref().map(|success| success.cycle);
    success.or(record.failure.as_ref().map(|failure| failure.cycle)).unwrap_or(record.cycle)
}

fn events_of(record: &RunRecord) -> u64 {
    record.success.as_ref().map_or(0, |success| success.events.len() as u64)
}

/// The wall time `nanos` after the record's.
fn wall(record: &RunRecord, nanos: i64) -> SystemTime {
    let (time, by) = (record.time.0, Duration::from_nanos(nanos.unsigned_abs()));
    let moved = if nanos < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    moved.unwrap_or(time)
}

/// The settings of the run, which are repeated now and then.
fn settings(view: &JournalView, from: u64) -> Result<Option<Settings>, ReplayError> {
    let Ok(mut reader) = view.reader(ReadFrom::Number(from)) else { return Ok(None) };
    while let Some((_, record)) = next_record(&mut reader)? {
        if record.run.is_some() {
            return Ok(record.run);
        }
    }
    // A short rest of a run that was retired up to here.
    Ok(Some(Settings { name: None, interval_ns: 1_000_000_000, stale_after_ns: None, history_limit: 64 }))
}

/// The next record and its number in the journal. Gaps are found by the records themselves.
fn next_record(reader: &mut ViewReader) -> Result<Option<(u64, RunRecord)>, RunError> {
    for item in reader {
        if let ReadItem::Record(record) = item? {
            return Ok(Some((record.number(), RunRecord::read(&record)?)));
        }
    }
    Ok(None)
}
