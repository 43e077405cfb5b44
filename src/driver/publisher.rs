//! Publishes batches, snapshots, failures and the source set, in this order.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use watchkeeper_fsm::{Cause, Stage, State, StateKind};

use crate::config::{Pace, logged_name};
use crate::cursor::{Cursor, First};
use crate::error::ObservationFailure;
use crate::error::{DynError, ObservationRuntimeError};
use crate::observer::Observer;
use crate::panics::{AppValue, AppValues, discard_logged};
use crate::publish::history::{Announced, ObservationBatch};
use crate::publish::log::LogEvent;
use crate::publish::shared::{HasWork, Shared, Writing};
use crate::source::duplicates::Settled;
use crate::source::{LeftOut, ObservedSource, SourceChange, SourceNames};
use crate::status::{ObservationSnapshot, Published};
use crate::text::{self, MESSAGE, names, one_line};

/// Byte limit of an error, and of a list of names, in a log line.
const LOGGED: usize = 1_000;

/// The data of an event, for the commands that follow it.
pub(super) enum Payload<O: Observer> {
    Nothing,
    Success { snapshot: AppValue<O::Snapshot>, events: AppValues<O::Event>, weight: usize },
    Failure { message: String, error: Option<AppValue<DynError>> },
}

impl<O: Observer> Payload<O> {
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nothing)
    }
}

/// The caller that waits for the first cycle. While there is one, the cycle must not fail.
pub(crate) struct FirstCycle {
    pub(crate) report: oneshot::Sender<Result<(), ObservationRuntimeError>>,
}

/// The visible position of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) state: State,
    pub(super) paused: bool,
}

/// The published moment. A success or failure has its own cycle, a change of state that of the machine.
pub(super) struct Moment {
    pub(super) now: Instant,
    pub(super) cycle: u64,
    pub(super) cycle_began: Instant,
    pub(super) missed_ticks: u64,
}

/// A snapshot that is ready to be published.
pub(super) struct Success<O: Observer> {
    snapshot: Arc<ObservationSnapshot<O::Snapshot>>,
    batch: Option<Arc<ObservationBatch<O::Event>>>,
    stale_after: Duration,
}

/// Memory that is reused.
struct Scratch<E> {
    wakers: Vec<Waker>,
    announced: Announced<E>,
}

pub(super) struct Publisher<O: Observer> {
    pub(super) shared: Arc<Shared<O::Snapshot, O::Event>>,
    /// The position after the last publication.
    cursor: Cursor,
    /// How far batches may be read, once it is announced.
    readable: Cursor,
    announced: Cursor,
    event_count: u64,
    names: SourceNames,
    /// The cycle that refreshed the names.
    pub(super) set_cycle: Option<u64>,
    /// The sources that were left out of the last set.
    left_out: Option<Arc<LeftOut>>,
    failing: u64,
    /// The first source set is known, and the start was logged.
    begun: bool,
    /// A publication has readers that were not woken yet.
    to_wake: bool,
    scratch: Scratch<O::Event>,
    first_cycle: Option<FirstCycle>,
}

impl<O: Observer> Publisher<O> {
    pub(super) fn new(shared: Arc<Shared<O::Snapshot, O::Event>>, first_cycle: Option<FirstCycle>) -> Self {
        let First { generation, seq, event_count, .. } = shared.history.first();
        let cursor = Cursor { instance: shared.history.instance(), generation, seq };
        Self {
            shared,
            cursor,
            readable: cursor,
            announced: cursor,
            event_count,
            names: SourceNames::from([]),
            set_cycle: None,
            left_out: None,
            failing: 0,
            begun: false,
            to_wake: false,
            scratch: Scratch { wakers: Vec::new(), announced: Announced::default() },
            first_cycle,
        }
    }

    /// The source set of the last refresh.
    pub(super) fn names(&self) -> &SourceNames {
        &self.names
    }

    /// The last step of publishing: makes batches readable and wakes readers.
    pub(super) fn flush(&mut self) {
        if self.announced != self.readable {
            self.announced = self.readable;
            self.shared.history.announce(self.readable, &mut self.scratch.announced);
        }
        if std::mem::take(&mut self.to_wake) {
            self.shared.wake(&mut self.scratch.wakers);
        }
    }

    /// Makes a set the current one, and logs its changes.
    pub(super) fn take_over(
        &mut self,
        cycle: u64,
        interval: Duration,
        settled: Settled<O::Source>,
        sources: &mut AppValues<ObservedSource<O::Source>>,
    ) -> Option<Box<SourceChange>> {
        let Settled { sources: set, change, left_out } = settled;
        *sources = set;
        self.set_cycle = Some(cycle);
        let change = change.map(|(names, change)| {
            self.names = names;
            change
        });
        if !self.begun {
            self.begun = true;
            self.log_start(interval);
        } else if let Some(SourceChange { joined, left }) = change.as_deref() {
            for (what, list) in [("sources joined", joined), ("sources left", left)] {
                if !list.is_empty() {
                    let (count, sources) = (list.len(), self.names.len());
                    tracing::info!(cycle, count, names = listed(list), sources, "{what}");
                }
            }
        }
        self.note_left_out(cycle, left_out);
        change
    }

    fn log_start(&self, interval: Duration) {
        tracing::info!(
            name = self.shared.name.as_deref().map(logged_name),
            observer = std::any::type_name::<O>(),
            ?interval,
            history_limit = self.shared.history.limit(),
            sources = self.names.len(),
            names = listed(&self.names),
            "observation started"
        );
    }

    /// Warns once, and again when other names are affected.
    fn note_left_out(&mut self, cycle: u64, left_out: Option<Arc<LeftOut>>) {
        match (&self.left_out, &left_out) {
            (None, None) => return,
            (Some(_), None) => tracing::info!(cycle, "every source has a name of its own again"),
            (Some(known), Some(now)) if known.concerns_the_same(now) => {}
            (_, Some(now)) => tracing::warn!(
                cycle,
                names = names(now.names(), LOGGED),
                unnamed = now.unnamed,
                left_out = now.count(),
                "sources without a name of their own are left out: give every source its own, \
                 or set ObservationConfig::duplicates to Refuse"
            ),
        }
        self.left_out = left_out;
    }

    /// Publishes all changes of one event together. The batch was pushed before; the wake-ups follow in `flush`.
    pub(super) fn publish(
        &mut self,
        moment: &Moment,
        (before, after): (&Position, &Position),
        success: Option<Success<O>>,
        failure: Option<Arc<ObservationFailure>>,
        sources: Option<Box<SourceChange>>,
    ) {
        let Moment { now, cycle, .. } = *moment;
        let sources = sources.and_then(|change| LogEvent::sources(&change, cycle));
        let (mut snapshot, batch, stale_after) = match success {
            Some(Success { snapshot, batch, stale_after }) => (Some(snapshot), batch, stale_after),
            None => (None, None, Duration::ZERO),
        };
        let began = snapshot.as_ref().map(|snapshot| now - snapshot.elapsed);
        let succeeded =
            snapshot.as_ref().map(|snapshot| (snapshot.cycle, snapshot.generation, snapshot.elapsed));
        let failed = failure.clone();
        let (mut replaced, mut replaced_names) = (None, None);
        let published = self.shared.publish(now, batch.as_ref(), |writing| {
            self.write_position(moment, after, writing.status);
            if let Some(what) = sources {
                writing.log(what);
            }
            let status = &mut *writing.status;
            if !Arc::ptr_eq(&status.source_names, &self.names) {
                replaced_names = Some(std::mem::replace(&mut status.source_names, Arc::clone(&self.names)));
            }
            if let Some(snapshot) = snapshot.take() {
                status.generation = snapshot.generation;
                status.last_success = began;
                status.stale_after = stale_after;
                status.last_error = None;
                let cycle = snapshot.cycle;
                replaced = status.snapshot.replace(snapshot);
                writing.log(LogEvent::Succeeded { first: cycle, last: cycle });
            } else if let Some(failure) = failure {
                let what = LogEvent::failed(&failure);
                status.last_error = Some(failure);
                status.failures += 1;
                writing.log(what);
            } else {
                Self::log_rebuild(before, after, writing);
            }
            Self::log_pause(before, after, writing);
        });
        // A publication that is refused after the end is not announced.
        if let Some(HasWork(wakes)) = published {
            self.to_wake |= wakes;
            if began.is_some() {
                self.readable = self.cursor;
            }
        }
        // Logged after publishing, because a `tracing` subscriber may be slow.
        if let Some((cycle, generation, elapsed)) = succeeded {
            self.log_success(cycle, generation, elapsed, batch.as_deref());
        }
        if let Some(failure) = failed {
            self.log_failure(&failure);
        }
        // Separately: the destructors of both may panic.
        discard_logged(replaced, "a replaced snapshot");
        if snapshot.is_some() {
            discard_logged(snapshot, "a snapshot that came after the end");
        }
        drop((batch, replaced_names));
        // Reported after publishing, so that cycle 0 can be read.
        if began.is_some()
            && let Some(FirstCycle { report }) = self.first_cycle.take()
        {
            let _ = report.send(Ok(()));
        }
    }

    fn log_success(
        &mut self,
        cycle: u64,
        generation: u64,
        elapsed: Duration,
        batch: Option<&ObservationBatch<O::Event>>,
    ) {
        if self.failing > 0 {
            tracing::info!(cycle, after_failures = self.failing, "recovered");
            self.failing = 0;
        }
        let events = batch.map_or(0, |batch| batch.events.len());
        tracing::debug!(cycle, generation, ?elapsed, sources = self.names.len(), events, "cycle succeeded");
    }

    fn log_failure(&mut self, failure: &ObservationFailure) {
        let ObservationFailure { cycle, stage, cause, consecutive, message, .. } = failure;
        self.failing = *consecutive;
        let error = one_line(message, MESSAGE);
        if consecutive.is_power_of_two() {
            tracing::warn!(cycle, %stage, %cause, consecutive, error, "cycle failed");
        } else {
            tracing::debug!(cycle, %stage, %cause, consecutive, error, "cycle failed");
        }
    }

    /// Publishes the machine's position only.
    pub(super) fn publish_position(&mut self, moment: &Moment, before: &Position, after: &Position) {
        let published = self.shared.publish(moment.now, None, |writing| {
            self.write_position(moment, after, writing.status);
            Self::log_rebuild(before, after, writing);
            Self::log_pause(before, after, writing);
        });
        self.to_wake |= published == Some(HasWork(true));
    }

    fn write_position(&self, moment: &Moment, after: &Position, status: &mut Published<O::Snapshot>) {
        if after.state != status.state {
            (status.state, status.since) = (after.state, moment.now);
        }
        status.paused = after.paused;
        status.cycle = moment.cycle;
        status.next_cycle = status.cycle + 1;
        status.missed_ticks = moment.missed_ticks;
        status.set_cycle = self.set_cycle;
    }

    /// Refreshing and polling are part of every cycle, and not logged.
    fn log_rebuild(before: &Position, after: &Position, writing: &mut Writing<'_, O::Snapshot>) {
        if after.state.kind() == StateKind::Starting && before.state != after.state {
            writing.log(LogEvent::Entered(after.state));
        }
    }

    fn log_pause(before: &Position, after: &Position, writing: &mut Writing<'_, O::Snapshot>) {
        match (before.paused, after.paused) {
            (false, true) => writing.log(LogEvent::Paused),
            (true, false) => writing.log(LogEvent::Resumed),
            _ => {}
        }
    }

    /// Step one of publishing a success: the batch.
    pub(super) fn succeeded(
        &mut self,
        moment: &Moment,
        (generation, is_polled): (u64, bool),
        pace: &Pace,
        payload: Payload<O>,
    ) -> Option<Success<O>> {
        let Payload::Success { snapshot: value, events, weight } = payload else { return None };
        let Moment { now, cycle, cycle_began, .. } = *moment;
        let elapsed = now - cycle_began;
        let stale_after = pace.stale_after(elapsed);
        let history = &self.shared.history;
        let system_time = self.shared.clock.wall(now, now);
        let source_count = self.names.len();
        if generation != self.cursor.generation {
            self.cursor.generation = generation;
            history.begin_generation(generation);
        }
        let mut pushed = None;
        if !events.is_empty() {
            let batch = Arc::new(ObservationBatch {
                generation,
                seq: self.cursor.seq,
                cycle,
                observed_at: now,
                system_time,
                source_count,
                events: events.into_inner(),
                began: cycle_began,
                fresh: elapsed < stale_after,
            });
            // Refused if the runtime has ended in between.
            if history.push(Arc::clone(&batch)).is_ok() {
                self.cursor.seq += 1;
                self.event_count += batch.events.len() as u64;
                pushed = Some(batch);
            }
        }
        let snapshot = Arc::new(ObservationSnapshot {
            generation,
            cycle,
            cursor: self.cursor,
            observed_at: now,
            system_time,
            elapsed,
            source_count,
            event_count: self.event_count,
            value: value.into_inner(),
            left_out: self.left_out.clone(),
            weight,
            is_polled,
        });
        Some(Success { snapshot, batch: pushed, stale_after })
    }

    /// The failure of a cycle, and whether the start has failed with it.
    pub(super) fn failed(
        &mut self,
        moment: &Moment,
        (stage, cause): (Stage, Cause),
        consecutive: u64,
        payload: Payload<O>,
    ) -> (Arc<ObservationFailure>, bool) {
        let (message, error) = match payload {
            Payload::Failure { message, error } => (text::message(&message), error),
            Payload::Nothing | Payload::Success { .. } => (cause.to_string(), None),
        };
        let is_start = self.first_cycle.is_some();
        if let Some(FirstCycle { report }) = self.first_cycle.take() {
            let source = error.map_or_else(|| message.clone().into(), AppValue::into_inner);
            let unread = report.send(Err(match stage {
                Stage::SourceRefresh => ObservationRuntimeError::SourceRefresh { source },
                Stage::Init | Stage::Poll => ObservationRuntimeError::ObserverInit { source },
            }));
            discard_logged(unread, "the error of a start that was given up");
        }
        let Moment { now, cycle, cycle_began, .. } = *moment;
        let failure = ObservationFailure {
            generation: self.cursor.generation,
            cycle,
            observed_at: now,
            system_time: self.shared.clock.wall(now, now),
            elapsed: now - cycle_began,
            source_count: self.names.len(),
            stage,
            cause,
            message,
            consecutive,
        };
        (Arc::new(failure), is_start)
    }
}

fn listed(all: &[Arc<str>]) -> String {
    names(all.iter().map(|name| &**name), LOGGED)
}
