//! The machine with everything it is about: what the driver does between two awaits.

#[cfg(all(test, watchkeeper_loom))]
pub(crate) mod loom_rig;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;
use watchkeeper_fsm::{
    Cause, Command, Event, Lifecycle, Options, Stage, State, StateKind, StopReason, WorkId,
};

use crate::DynError;
use crate::clock::later;
use crate::config::{LONGEST_NAME, ObservationConfig, Pace};
use crate::cursor::{Cursor, First};
use crate::duplicates::{LeftOut, Settled, settle};
use crate::error::{ObservationRuntimeError, chain};
use crate::failure::ObservationFailure;
use crate::history::{Announced, ObservationBatch};
use crate::log::LogEvent;
use crate::observer::Observer;
use crate::panics::{AppValue, AppValues, catch, discard_logged};
use crate::runner::{Ended, Lifetime, Machine};
use crate::schedule::Schedule;
use crate::shared::{HasWork, Shared, Writing};
use crate::source::{ObservedSource, SourceChange, SourceNames};
use crate::status::{ObservationSnapshot, Published};
use crate::tap::weight;
use crate::text::{self, MESSAGE, names, one_line};

/// Bytes of a line in the log that are of an error, and of a list of names.
const LOGGED: usize = 1_000;

/// What a provider gives.
pub(crate) type RefreshOutput<S> = Result<AppValues<ObservedSource<S>>, DynError>;
/// What an `init` gives, with its snapshot.
pub(crate) type InitOutput<O> =
    Result<(AppValue<<O as Observer>::State>, AppValue<<O as Observer>::Snapshot>), DynError>;
/// What a `poll` gives, with its snapshot.
pub(crate) type PollOutput<O> =
    Result<(AppValue<<O as Observer>::Snapshot>, AppValues<<O as Observer>::Event>), DynError>;

/// What the driver is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NextWork {
    Refresh(WorkId),
    Init(WorkId),
    Poll(WorkId),
    Wait,
    Finish,
}

/// What somebody may ask of a running observation.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Pause,
    Resume,
    PollNow,
}

/// What an event brings along for the commands that follow it.
enum Payload<O: Observer> {
    Nothing,
    Success { snapshot: AppValue<O::Snapshot>, events: AppValues<O::Event>, weight: usize },
    Failure { message: String, error: Option<AppValue<DynError>> },
}

impl<O: Observer> Payload<O> {
    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Nothing)
    }
}

/// Memory that is used again and again.
struct Scratch<E> {
    wakers: Vec<Waker>,
    announced: Announced<E>,
}

/// Who waits for the first cycle, and whether it may fail.
pub(crate) struct FirstCycle {
    pub(crate) tell: oneshot::Sender<Result<(), ObservationRuntimeError>>,
}

/// What everyone sees of the machine.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    state: State,
    paused: bool,
}

impl Position {
    fn of(machine: &Lifecycle) -> Self {
        Self { state: machine.state(), paused: machine.is_paused() }
    }
}

pub(crate) struct Core<O: Observer> {
    machine: Lifecycle,
    /// Where it was after the last event.
    position: Position,
    shared: Arc<Shared<O::Snapshot, O::Event>>,
    life: Arc<Lifetime>,
    pace: Pace,
    schedule: Schedule,
    next_work: NextWork,
    /// The tick, when one is armed.
    armed: Option<Instant>,
    wake_pending: bool,
    /// When the last event was taken.
    latest: Instant,
    cycle_began: Instant,
    /// When a wake may start the next one.
    wakes_from: Instant,
    /// Right after what was published last.
    cursor: Cursor,
    /// As far as batches may be read, once that is announced.
    readable: Cursor,
    announced: Cursor,
    event_count: u64,
    names: SourceNames,
    /// The cycle whose refresh gave the names.
    set_cycle: Option<u64>,
    /// What could not be told apart in the last set.
    left_out: Option<Arc<LeftOut>>,
    failing: u64,
    /// The first source set is known, and the start was logged.
    begun: bool,
    /// Somebody waits for what was published and was not woken yet.
    to_wake: bool,
    scratch: Scratch<O::Event>,
    first_cycle: Option<FirstCycle>,
}

impl<O: Observer> Core<O> {
    pub(crate) fn new(
        shared: Arc<Shared<O::Snapshot, O::Event>>,
        life: Arc<Lifetime>,
        config: &ObservationConfig,
        keeps_state: bool,
        first_cycle: Option<FirstCycle>,
    ) -> Self {
        let start = shared.clock.started();
        let First { generation, seq, cycle, event_count } = shared.history.first();
        let cursor = Cursor { instance: shared.history.instance(), generation, seq };
        let machine = Lifecycle::new(Options {
            keeps_state_on_timeout: keeps_state,
            first_generation: generation,
            first_cycle: cycle,
        });
        Self {
            position: Position::of(&machine),
            machine,
            schedule: Schedule::new(start, config.interval, config.offset, config.retry),
            next_work: NextWork::Wait,
            armed: None,
            wake_pending: false,
            latest: start,
            cycle_began: start,
            wakes_from: start,
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
            shared,
            life,
            pace: config.pace(),
        }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    pub(crate) fn next_work(&self) -> NextWork {
        self.next_work
    }

    pub(crate) fn start(&mut self) {
        self.shared.begin();
        self.apply(Instant::now(), Event::Start, &mut Payload::Nothing, None, &mut None);
    }

    /// The provider says that its set is the one that is known. Nothing was done for it, and no time has passed.
    pub(crate) fn unchanged(&mut self, work: WorkId, state: &mut Option<AppValue<O::State>>) {
        self.set_cycle = Some(self.machine.cycle());
        self.apply(self.latest, Event::Refreshed { work }, &mut Payload::Nothing, None, state);
    }

    /// The provider has answered, or has not. Says whether its set is the present one.
    pub(crate) fn refreshed(
        &mut self,
        work: WorkId,
        ended: Ended<RefreshOutput<O::Source>>,
        sources: &mut AppValues<ObservedSource<O::Source>>,
        state: &mut Option<AppValue<O::State>>,
    ) -> bool {
        let set = match Self::sort_out(ended, self.pace.refresh_timeout) {
            Outcome::Done(set) => set,
            Outcome::Stopped => return false,
            Outcome::Failed(cause, failure) => {
                self.failed(work, Stage::SourceRefresh, cause, failure, state);
                return false;
            }
        };
        match settle(&self.names, set, self.pace.duplicates) {
            Ok(settled) => {
                let change = self.take_over(settled, sources);
                self.set_cycle = Some(self.machine.cycle());
                self.apply(Instant::now(), Event::Refreshed { work }, &mut Payload::Nothing, change, state);
                true
            }
            Err(refused) => {
                let failure = (refused.to_string(), Some(AppValue::new(DynError::from(refused))));
                self.failed(work, Stage::SourceRefresh, Cause::Error, failure, state);
                false
            }
        }
    }

    /// Makes a set the present one, and logs what is new in it.
    fn take_over(
        &mut self,
        settled: Settled<O::Source>,
        sources: &mut AppValues<ObservedSource<O::Source>>,
    ) -> Option<Box<SourceChange>> {
        let Settled { sources: set, change, left_out } = settled;
        *sources = set;
        let change = change.map(|(names, change)| {
            self.names = names;
            change
        });
        if !self.begun {
            self.begun = true;
            self.log_start();
        } else if let Some(SourceChange { joined, left }) = change.as_deref() {
            for (what, list) in [("sources joined", joined), ("sources left", left)] {
                if !list.is_empty() {
                    let (count, sources) = (list.len(), self.names.len());
                    tracing::info!(
                        cycle = self.machine.cycle(),
                        count,
                        names = listed(list),
                        sources,
                        "{what}"
                    );
                }
            }
        }
        self.note_left_out(left_out);
        change
    }

    fn log_start(&self) {
        tracing::info!(
            name = self.shared.name.as_deref().map(logged_name),
            observer = std::any::type_name::<O>(),
            interval = ?self.pace.interval,
            history_limit = self.shared.history.limit(),
            sources = self.names.len(),
            names = listed(&self.names),
            "observation started"
        );
    }

    /// Warns once, and again when other names are concerned.
    fn note_left_out(&mut self, left_out: Option<Arc<LeftOut>>) {
        let cycle = self.machine.cycle();
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

    /// The observer's `init` has ended.
    pub(crate) fn initialized(
        &mut self,
        work: WorkId,
        ended: Ended<InitOutput<O>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        match Self::sort_out(ended, self.pace.init_timeout) {
            Outcome::Done((built, snapshot)) => {
                *state = Some(built);
                let mut carried = self.carried(snapshot, AppValues::new(Vec::new()));
                self.apply(Instant::now(), Event::Initialized { work }, &mut carried, None, state);
            }
            Outcome::Stopped => {}
            Outcome::Failed(cause, failure) => self.failed(work, Stage::Init, cause, failure, state),
        }
    }

    /// The observer's `poll` has ended.
    pub(crate) fn polled(
        &mut self,
        work: WorkId,
        ended: Ended<PollOutput<O>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        match Self::sort_out(ended, self.pace.poll_timeout) {
            Outcome::Done((snapshot, events)) => {
                let mut carried = self.carried(snapshot, events);
                self.apply(Instant::now(), Event::Polled { work }, &mut carried, None, state);
            }
            Outcome::Stopped => {}
            Outcome::Failed(cause, failure) => self.failed(work, Stage::Poll, cause, failure, state),
        }
    }

    /// What it weighs is app code to say: before the clock is read.
    fn carried(&self, snapshot: AppValue<O::Snapshot>, events: AppValues<O::Event>) -> Payload<O> {
        let weight = weight::<O>(&self.shared, &snapshot, &events);
        Payload::Success { snapshot, events, weight }
    }

    fn sort_out<T>(ended: Ended<Result<T, DynError>>, timeout: Duration) -> Outcome<T> {
        match ended {
            Ended::Done(Ok(output)) => Outcome::Done(output),
            // The error's text is app code.
            Ended::Done(Err(error)) => match catch(|| chain(&*error)) {
                Ok(message) => Outcome::Failed(Cause::Error, (message, Some(AppValue::new(error)))),
                Err(panic) => {
                    let message = format!("an error whose text panicked: {panic}");
                    discard_logged(error, "an error");
                    Outcome::Failed(Cause::Error, (message, None))
                }
            },
            Ended::TimedOut => {
                Outcome::Failed(Cause::TimedOut, (format!("timed out after {timeout:?}"), None))
            }
            Ended::Panicked(panic) => Outcome::Failed(Cause::Panicked, (format!("panicked: {panic}"), None)),
            Ended::Stopped => Outcome::Stopped,
        }
    }

    fn failed(
        &mut self,
        work: WorkId,
        stage: Stage,
        cause: Cause,
        (message, error): (String, Option<AppValue<DynError>>),
        state: &mut Option<AppValue<O::State>>,
    ) {
        let mut carried = Payload::Failure { message, error };
        self.apply(Instant::now(), Event::WorkFailed { work, stage, cause }, &mut carried, None, state);
    }

    /// Has the machine take one event, which came at `now`, and does what it commands.
    fn apply(
        &mut self,
        now: Instant,
        event: Event,
        carried: &mut Payload<O>,
        sources: Option<Box<SourceChange>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        // A deadline may have been looked at before the control that was taken last.
        let now = now.max(self.latest);
        self.latest = now;
        let mut success = None;
        let mut failure = None;
        let commands = self.machine.handle(event);
        let (before, after) = (self.position, Position::of(&self.machine));
        let held = self.holds_ticks(&before);
        if self.holds_ticks(&after) != held {
            self.schedule.pass(now, held);
        }
        for command in commands.iter() {
            match *command {
                Command::Refresh { work, .. } => {
                    self.next_work = NextWork::Refresh(work);
                    self.cycle_began = now;
                    self.wakes_from = later(now, self.pace.min_gap);
                    self.wake_pending = false;
                    self.schedule.begins(!matches!(event, Event::Start | Event::Tick));
                }
                Command::Init { work, .. } => self.next_work = NextWork::Init(work),
                Command::Poll { work, .. } => self.next_work = NextWork::Poll(work),
                Command::Publish { cycle, generation } => {
                    self.next_work = NextWork::Wait;
                    let is_polled = matches!(event, Event::Polled { .. });
                    success = self.succeeded(now, (cycle, is_polled), generation, carried.take());
                }
                Command::Forget => {
                    if let (Some(panic), Payload::Failure { message, .. }) =
                        (state.take().and_then(AppValue::discard), &mut *carried)
                    {
                        message.push_str("; dropping its state panicked as well: ");
                        message.push_str(&panic);
                    }
                }
                Command::Record { cycle, stage, cause, consecutive } => {
                    self.next_work = NextWork::Wait;
                    let recorded = self.recorded(now, cycle, (stage, cause), consecutive, carried.take());
                    failure = Some(recorded);
                }
                Command::Arm => self.arm(now, event == Event::Resume, &after),
                Command::Disarm => self.armed = None,
                // The race drops the work when it sees the stop.
                Command::Cancel { .. } => {}
                Command::Finish { reason } => {
                    self.next_work = NextWork::Finish;
                    self.trace_transition(&before, &after);
                    self.position = after;
                    self.life.end(reason);
                    return;
                }
                Command::Rejected { event, state } => tracing::trace!(?event, %state, "rejected"),
            }
        }
        if success.is_some() || failure.is_some() || sources.is_some() {
            self.publish(now, (&before, &after), success, failure, sources);
        } else if after != before || matches!(event, Event::Refreshed { .. }) {
            // Which sources there are is news also where they are the same and nothing has moved: it is of this
            // cycle.
            self.publish_position(now, &before, &after);
        }
        self.trace_transition(&before, &after);
        self.position = after;
    }

    /// Makes everything one event has changed known at once. The batch was pushed before; the
    /// wake-ups follow in `flush`.
    fn publish(
        &mut self,
        now: Instant,
        (before, after): (&Position, &Position),
        success: Option<Success<O>>,
        failure: Option<Arc<ObservationFailure>>,
        sources: Option<Box<SourceChange>>,
    ) {
        let cycle = self.machine.cycle();
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
            self.write_position(now, after, writing.status);
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
        // What is refused, because the end came in between, stays unread.
        if let Some(HasWork(wakes)) = published {
            self.to_wake |= wakes;
            if began.is_some() {
                self.readable = self.cursor;
            }
        }
        // A subscriber may be slow: what was published at `now` is in its queues by then.
        if let Some((cycle, generation, elapsed)) = succeeded {
            self.log_success(cycle, generation, elapsed, batch.as_deref());
        }
        if let Some(failure) = failed {
            self.log_failure(&failure);
        }
        // Each on its own: both may hold values whose destructors panic.
        discard_logged(replaced, "a replaced snapshot");
        if snapshot.is_some() {
            discard_logged(snapshot, "a snapshot that came after the end");
        }
        drop((batch, replaced_names));
        // Whoever is told that it has started finds cycle 0 published.
        if began.is_some()
            && let Some(FirstCycle { tell }) = self.first_cycle.take()
        {
            let _ = tell.send(Ok(()));
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

    /// Publishes what the machine is doing, and nothing else.
    fn publish_position(&mut self, now: Instant, before: &Position, after: &Position) {
        let published = self.shared.publish(now, None, |writing| {
            self.write_position(now, after, writing.status);
            Self::log_rebuild(before, after, writing);
            Self::log_pause(before, after, writing);
        });
        self.to_wake |= published == Some(HasWork(true));
    }

    fn write_position(&self, now: Instant, after: &Position, status: &mut Published<O::Snapshot>) {
        if after.state != status.state {
            (status.state, status.since) = (after.state, now);
        }
        status.paused = after.paused;
        status.cycle = self.machine.cycle();
        status.next_cycle = status.cycle + 1;
        status.missed_ticks = self.schedule.missed();
        status.set_cycle = self.set_cycle;
    }

    fn trace_transition(
        &self,
        Position { state: from, .. }: &Position,
        Position { state: to, .. }: &Position,
    ) {
        if tracing::enabled!(tracing::Level::TRACE) && to != from {
            tracing::trace!(%from, %to, cycle = self.machine.cycle(), "transition");
        }
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
    fn succeeded(
        &mut self,
        now: Instant,
        (cycle, is_polled): (u64, bool),
        generation: u64,
        carried: Payload<O>,
    ) -> Option<Success<O>> {
        let Payload::Success { snapshot: value, events, weight } = carried else { return None };
        let elapsed = now - self.cycle_began;
        let stale_after = self.pace.stale_after(elapsed);
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
                began: self.cycle_began,
                fresh: elapsed < stale_after,
            });
            // Refused when it has ended in between: nothing is published any more.
            if history.push(Arc::clone(&batch)).is_ok() {
                self.cursor.seq += 1;
                self.event_count += batch.events.len() as u64;
                pushed = Some(batch);
            }
        }
        self.schedule.succeeded();
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

    fn recorded(
        &mut self,
        now: Instant,
        cycle: u64,
        (stage, cause): (Stage, Cause),
        consecutive: u64,
        carried: Payload<O>,
    ) -> Arc<ObservationFailure> {
        let (message, error) = match carried {
            Payload::Failure { message, error } => (text::message(&message), error),
            Payload::Nothing | Payload::Success { .. } => (cause.to_string(), None),
        };
        self.schedule.failed(now, self.machine.is_paused());
        if let Some(FirstCycle { tell }) = self.first_cycle.take() {
            let source = error.map_or_else(|| message.clone().into(), AppValue::into_inner);
            let unread = tell.send(Err(match stage {
                Stage::SourceRefresh => ObservationRuntimeError::SourceRefresh { source },
                Stage::Init | Stage::Poll => ObservationRuntimeError::ObserverInit { source },
            }));
            discard_logged(unread, "the error of a start that was given up");
            self.life.request_stop(StopReason::StartFailed);
        }
        Arc::new(ObservationFailure {
            generation: self.cursor.generation,
            cycle,
            observed_at: now,
            system_time: self.shared.clock.wall(now, now),
            elapsed: now - self.cycle_began,
            source_count: self.names.len(),
            stage,
            cause,
            message,
            consecutive,
        })
    }

    fn arm(&mut self, now: Instant, resumed: bool, at: &Position) {
        let retry = if self.backs_off(at) { self.schedule.next_try(now, resumed) } else { None };
        self.armed = Some(retry.unwrap_or_else(|| self.schedule.next_tick(now)));
    }

    /// Whether a failed cycle waits for a retry with a delay of its own.
    fn backs_off(&self, at: &Position) -> bool {
        self.schedule.backs_off() && matches!(at.state, State::Failed { .. })
    }

    /// Whether points of the grid come to pass that nobody means to use.
    fn holds_ticks(&self, at: &Position) -> bool {
        at.paused || self.backs_off(at)
    }

    /// When the pending wake may start a cycle. A retry that has a delay of its own takes it along.
    fn wake_due(&self) -> Option<Instant> {
        let may = self.wake_pending && !self.holds_ticks(&self.position);
        may.then_some(self.wakes_from)
    }
}

fn listed(all: &[Arc<str>]) -> String {
    names(all.iter().map(|name| &**name), LOGGED)
}

/// A name of the app's, in a line of the log.
pub(crate) fn logged_name(name: &str) -> String {
    one_line(name, LONGEST_NAME)
}

/// A snapshot that is ready to be published.
struct Success<O: Observer> {
    snapshot: Arc<ObservationSnapshot<O::Snapshot>>,
    batch: Option<Arc<ObservationBatch<O::Event>>>,
    stale_after: Duration,
}

/// What became of a unit of work.
enum Outcome<T> {
    Done(T),
    Failed(Cause, (String, Option<AppValue<DynError>>)),
    Stopped,
}

impl<O: Observer> Machine for Core<O> {
    type Control = Control;
    /// The cycle that a `PollNow` starts.
    type Reply = u64;

    fn control(&mut self, control: Control) -> u64 {
        let event = match control {
            Control::Pause => Event::Pause,
            Control::Resume => Event::Resume,
            Control::PollNow => Event::PollNow,
        };
        self.apply(Instant::now(), event, &mut Payload::Nothing, None, &mut None);
        self.machine.poll_now_cycle()
    }

    fn stop(&mut self, reason: StopReason) {
        self.apply(Instant::now(), Event::Stop(reason), &mut Payload::Nothing, None, &mut None);
    }

    fn latest(&self) -> Instant {
        self.latest
    }

    fn is_waiting(&self) -> bool {
        self.next_work == NextWork::Wait
    }

    fn deadline(&self) -> Option<Instant> {
        match (self.armed, self.wake_due()) {
            (Some(tick), Some(wake)) => Some(tick.min(wake)),
            (tick, wake) => tick.or(wake),
        }
    }

    fn due(&mut self, now: Instant) {
        if self.armed.is_some_and(|tick| tick <= now) {
            if !self.holds_ticks(&self.position) {
                self.schedule.fired();
            }
            self.armed = None;
            self.apply(now, Event::Tick, &mut Payload::Nothing, None, &mut None);
        } else if self.wake_due().is_some_and(|wake| wake <= now) {
            self.apply(now, Event::PollNow, &mut Payload::Nothing, None, &mut None);
        }
    }

    fn woken(&mut self) {
        self.wake_pending = true;
    }

    /// The last step of publishing: batches may be read, and whoever waits is woken.
    fn flush(&mut self) {
        if self.announced != self.readable {
            self.announced = self.readable;
            self.shared.history.announce(self.readable, &mut self.scratch.announced);
        }
        if std::mem::take(&mut self.to_wake) {
            self.shared.wake(&mut self.scratch.wakers);
        }
    }
}
