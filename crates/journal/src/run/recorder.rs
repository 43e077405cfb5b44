//! Recording the publications of a runtime.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use watchkeeper::report::{error_chain, one_line};
use watchkeeper::runtime::{ObservationStatus, State};
use watchkeeper::subscription::{Cursor, Record, RecordKind, Tap, TapError, TapLimits};
use watchkeeper::{
    DynError, ObservationBatch, ObservationConfig, ObservationFailure, ObservationHandle,
    ObservationSnapshot, Observer,
};

use super::format::{RunClock, RunFormat, nanos};
use super::record::{Failure, Kind, Lost, RunRecord, Settings, Success, Text, Time};
use super::{RunError, RunJournal};
use crate::entry::Entry;
use crate::error::AppendError;
use crate::journal::{Appended, Journal};

/// How often the settings are repeated, in records, so that a replay can begin in the middle.
const SETTINGS: u64 = 1_000;
/// How many answers may be outstanding before the next record waits.
const ANSWERS: usize = 4_096;
const MESSAGE: usize = 300;

/// A recording in progress. It ends with the runtime, also if this value is dropped.
#[derive(Debug)]
pub struct Recording {
    health: watch::Receiver<RunHealth>,
}

/// The state of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunHealth {
    /// How many records were written as durably as the journal's level promises: the start, and one for each publication.
    pub recorded: u64,
    /// How many publications are missing in the record.
    pub lost: u64,
    /// The last loss, on one line: why, and what to do.
    pub problem: Option<String>,
    /// Whether the runtime has ended, and everything was answered.
    pub is_over: bool,
}

impl RunHealth {
    /// Whether nothing is missing.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.lost == 0
    }
}

impl Recording {
    /// The state now.
    #[must_use]
    pub fn health(&self) -> RunHealth {
        self.health.borrow().clone()
    }

    /// The state and its changes.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<RunHealth> {
        self.health.clone()
    }

    /// Waits for the end of the runtime and for the last answer.
    pub async fn finished(mut self) -> RunHealth {
        // An error means that the executor has shut down.
        let _ = self.health.wait_for(|health| health.is_over).await;
        self.health()
    }
}

impl<O: Observer, F: RunFormat<O>> RunJournal<O, F> {
    /// Records each publication of a runtime, or of a [live](watchkeeper::feed::Feed::live) feed, from now on. The
    /// observation never waits for the journal; snapshots become JSON in a task of the same executor.
    ///
    /// `config` is that of the runtime: a replay needs its interval, its `stale_after` and its name. Call it right after
    /// [`start_in_background`](watchkeeper::ObservationRuntime::start_in_background) to record everything. Otherwise the
    /// record begins with what is known by now.
    ///
    /// # Errors
    ///
    /// [`RunError::InProgress`]: another recording has not finished.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn record(
        &self,
        handle: &ObservationHandle<O>,
        config: &ObservationConfig,
    ) -> Result<Recording, RunError> {
        self.record_with(handle, config, TapLimits::default())
    }

    /// The same with limits for what waits for a slow disk. What is beyond them is lost, and the exact gap is recorded.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    ///
    /// # Panics
    ///
    /// As [`record`](Self::record).
    pub fn record_with(
        &self,
        handle: &ObservationHandle<O>,
        config: &ObservationConfig,
        limits: TapLimits,
    ) -> Result<Recording, RunError> {
        let recording = InProgress::begin(&self.recordings).ok_or(RunError::InProgress)?;
        let (tap, status, cursor) = begin(handle, limits);
        let (changes, health) = watch::channel(RunHealth::default());
        let changes = Arc::new(changes);
        let (answers, answered) = mpsc::channel(ANSWERS);
        let known = config.resume.map_or(0, |resume| resume.event_count);
        let last = Point {
            number: tap.next_number() - 1,
            cursor: status.snapshot.as_ref().map_or(cursor, |snapshot| snapshot.cursor),
            event_count: status.snapshot.as_ref().map_or(known, |snapshot| snapshot.event_count),
        };
        let recorder = Recorder {
            journal: self.journal.clone(),
            format: Arc::clone(&self.format),
            clock: RunClock::new(Instant::now()),
            began: SystemTime::now(),
            settings: settings(config),
            since_settings: 0,
            paused: status.paused,
            last,
            unrecorded: None,
            answers,
            health: Arc::clone(&changes),
            observer: std::marker::PhantomData,
        };
        tokio::spawn(confirm(answered, changes, recording));
        tokio::spawn(recorder.run(tap, status));
        Ok(Recording { health })
    }
}

/// A tap, and the status right before its first record.
fn begin<O: Observer>(
    handle: &ObservationHandle<O>,
    limits: TapLimits,
) -> (Tap<O>, ObservationStatus<O>, Cursor) {
    loop {
        let mut tap = handle.tap(limits);
        let (status, cursor) = (handle.status(), handle.subscribe().cursor());
        // Something that was published in between would be in both.
        match tap.try_recv() {
            Some(Ok(_) | Err(TapError::Lost { .. })) => {}
            _ => return (tap, status, cursor),
        }
    }
}

fn settings(config: &ObservationConfig) -> Settings {
    Settings {
        name: config.name.clone(),
        interval_ns: nanos(config.interval),
        stale_after_ns: config.stale_after.map(nanos),
        history_limit: config.history_limit,
    }
}

/// An outstanding answer, or the number of publications that are not recorded.
enum Answer {
    Pending(std::pin::Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>),
    Lost(u64, String),
}

/// Waits for the answers in order.
async fn confirm(
    mut answers: mpsc::Receiver<Answer>,
    health: Arc<watch::Sender<RunHealth>>,
    recording: InProgress,
) {
    while let Some(answer) = answers.recv().await {
        let (recorded, lost, problem) = match answer {
            Answer::Lost(count, why) => (0, count, Some(why)),
            Answer::Pending(answer) => match answer.await {
                Ok(_) => (1, 0, None),
                Err(error) => (0, 1, Some(one_line(&error_chain(&error), MESSAGE))),
            },
        };
        if let Some(problem) = &problem {
            tracing::error!(lost, problem, "publications of a run are not recorded");
        }
        health.send_modify(|health| {
            health.recorded += recorded;
            health.lost += lost;
            if problem.is_some() {
                health.problem = problem;
            }
        });
    }
    drop(recording);
    health.send_modify(|health| health.is_over = true);
}

/// Counts as a recording while it lives.
struct InProgress(watch::Sender<u64>);

impl InProgress {
    fn begin(recordings: &watch::Sender<u64>) -> Option<Self> {
        let begins = |recordings: &mut u64| {
            *recordings += 1;
            *recordings == 1
        };
        let is_first = recordings.send_if_modified(begins);
        let counted = Self(recordings.clone());
        is_first.then_some(counted)
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.send_modify(|recordings| *recordings -= 1);
    }
}

/// Where the record is.
#[derive(Clone, Copy)]
struct Point {
    number: u64,
    cursor: Cursor,
    event_count: u64,
}

struct Recorder<O: Observer, F> {
    journal: Journal,
    format: Arc<F>,
    clock: RunClock,
    began: SystemTime,
    settings: Settings,
    since_settings: u64,
    paused: bool,
    /// After the last recorded publication.
    last: Point,
    /// Why the publications since then are not recorded.
    unrecorded: Option<String>,
    answers: mpsc::Sender<Answer>,
    health: Arc<watch::Sender<RunHealth>>,
    observer: std::marker::PhantomData<fn() -> O>,
}

impl<O: Observer, F: RunFormat<O>> Recorder<O, F> {
    async fn run(mut self, mut tap: Tap<O>, status: ObservationStatus<O>) {
        let is_over = matches!(status.state, State::Stopped { .. });
        let start = match self.start(&status).and_then(|start| Ok(Entry::new(&start)?)) {
            Ok(entry) => Ok(entry),
            Err(error) => {
                // The run needs its start, even without what was known by then.
                self.lose(1, one_line(&error_chain(&*error), MESSAGE)).await;
                let mut known = status.clone();
                known.snapshot = None;
                self.start(&known).and_then(|start| Ok(Entry::new(&start)?))
            }
        };
        self.write(start, self.last).await;
        drop(status);
        if is_over {
            return;
        }
        loop {
            match tap.recv().await {
                Ok(record) => self.record(&record).await,
                Err(TapError::Lost { first, last }) => {
                    let why = "the journal was slower than the observation: raise the tap's limits, or use a faster disk";
                    self.lose(last - first + 1, why.to_owned()).await;
                }
                Err(_) => break,
            }
        }
    }

    async fn lose(&mut self, count: u64, why: String) {
        self.unrecorded = Some(why.clone());
        let _ = self.answers.send(Answer::Lost(count, why)).await;
    }

    /// Records what is known at the start.
    fn start(&mut self, status: &ObservationStatus<O>) -> Result<RunRecord, DynError> {
        let success = match &status.snapshot {
            Some(snapshot) => {
                let success = self.success(snapshot, None)?;
                Some(Success { at: Some(self.clock.nanos(snapshot.observed_at)), ..success })
            }
            None => None,
        };
        Ok(RunRecord {
            kind: Kind::Start,
            at: 0,
            time: Time(self.began),
            number: self.last.number,
            cursor: Text(self.last.cursor),
            cycle: status.cycle,
            event_count: self.last.event_count,
            state: status.state.into(),
            paused: status.paused,
            // Before the first refresh no set is known, not even an empty one.
            sources: (success.is_some() || !status.source_names.is_empty())
                .then(|| Arc::clone(&status.source_names)),
            success,
            failure: status.last_error.as_deref().map(|failure| failed(failure, status.state)),
            run: Some(self.settings.clone()),
            lost: None,
        })
    }

    async fn record(&mut self, record: &Record<O>) {
        let point = Point { number: record.number, cursor: record.cursor, event_count: record.event_count };
        let entry = self.text(record).and_then(|text| Ok(Entry::new(&text)?));
        self.paused = record.status.paused;
        self.write(entry, point).await;
    }

    fn text(&mut self, record: &Record<O>) -> Result<RunRecord, DynError> {
        let status = &record.status;
        let success = match &record.snapshot {
            Some(snapshot) => Some(self.success(snapshot, record.batch.as_deref())?),
            None => None,
        };
        let is_confirmed = record.transition.is_none()
            && success.is_none()
            && record.failure.is_none()
            && status.paused == self.paused;
        let shows_set = record.sources.is_some() || status.state == State::Polling || is_confirmed;
        self.since_settings += 1;
        let repeats = self.since_settings >= SETTINGS;
        if repeats {
            self.since_settings = 0;
        }
        Ok(RunRecord {
            kind: match record.kind() {
                RecordKind::Stop => Kind::Stop,
                RecordKind::Success => Kind::Success,
                RecordKind::Failure => Kind::Failure,
                RecordKind::Sources => Kind::Sources,
                _ => Kind::Transition,
            },
            at: self.clock.nanos(record.at),
            time: Time(record.system_time),
            number: record.number,
            cursor: Text(record.cursor),
            cycle: status.cycle,
            event_count: record.event_count,
            state: status.state.into(),
            paused: status.paused,
            sources: shows_set.then(|| Arc::clone(&status.source_names)),
            success,
            failure: record.failure.as_deref().map(|failure| failed(failure, status.state)),
            run: repeats.then(|| self.settings.clone()),
            lost: self.lost(record),
        })
    }

    /// What is missing before this record.
    fn lost(&mut self, record: &Record<O>) -> Option<Lost> {
        let why = self.unrecorded.clone()?;
        let events = record.batch.as_ref().map_or(0, |batch| batch.events.len() as u64);
        let before = record.batch.as_ref().map_or(record.cursor.seq(), |batch| batch.seq);
        Some(Lost {
            publications: (record.number - self.last.number).saturating_sub(1),
            batches: before.saturating_sub(self.last.cursor.seq()),
            events: (record.event_count - self.last.event_count).saturating_sub(events),
            why,
        })
    }

    fn success(
        &self,
        snapshot: &ObservationSnapshot<O::Snapshot>,
        batch: Option<&ObservationBatch<O::Event>>,
    ) -> Result<Success, DynError> {
        let events = batch.map_or(&[][..], |batch| &batch.events);
        let write = || -> Result<_, DynError> {
            let value = self.format.write_snapshot(&snapshot.value, &self.clock)?;
            let write = |event| self.format.write_event(event, &self.clock);
            Ok((value, events.iter().map(write).collect::<Result<_, _>>()?))
        };
        let (value, events) =
            catch_unwind(AssertUnwindSafe(write)).map_err(|_| "the format has panicked")??;
        Ok(Success {
            cycle: snapshot.cycle,
            generation: snapshot.generation,
            took_ns: nanos(snapshot.elapsed),
            is_polled: snapshot.is_polled,
            at: None,
            value,
            events,
        })
    }

    async fn write(&mut self, entry: Result<Entry, DynError>, point: Point) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => return self.lose(1, one_line(&error_chain(&*error), MESSAGE)).await,
        };
        match self.journal.submit_entry(entry).await {
            Ok(answer) => {
                self.last = point;
                self.unrecorded = None;
                let _ = self.answers.send(Answer::Pending(Box::pin(answer))).await;
            }
            Err(error) => self.lose(1, one_line(&error_chain(&error), MESSAGE)).await,
        }
    }
}

fn failed(failure: &ObservationFailure, state: State) -> Failure {
    Failure {
        cycle: failure.cycle,
        took_ns: nanos(failure.elapsed),
        stage: failure.stage.into(),
        cause: failure.cause.into(),
        message: failure.message.clone(),
        rebuild: matches!(state, State::Failed { rebuild: true, .. }),
    }
}

impl<O: Observer, F> fmt::Debug for Recorder<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("health", &*self.health.borrow()).finish_non_exhaustive()
    }
}
