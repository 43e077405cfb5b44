//! The lifecycle machine with its schedule and publisher: the driver's work between two awaits.

#[cfg(all(test, watchkeeper_loom))]
pub(crate) mod loom_rig;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper_fsm::{
    Cause, Command, Event, Lifecycle, Options, Stage, State, StateKind, StopReason, WorkId,
};

use crate::config::{ObservationConfig, Pace};
use crate::control::{Control, Request};
use crate::cursor::First;
use crate::driver::publisher::{FirstCycle, Moment, Payload, Position, Publisher};
use crate::driver::schedule::Schedule;
use crate::error::DynError;
use crate::observer::Observer;
use crate::panics::{AppValue, AppValues, catch, discard_logged};
use crate::publish::shared::Shared;
use crate::source::duplicates::settle;
use crate::source::{ObservedSource, SourceChange};
use crate::tap::weight;
use crate::task::inbox::{Ended, Machine};
use crate::task::lifetime::Lifetime;
use crate::text::error_chain::chain;
use crate::time::later;

/// The output of a provider.
pub(crate) type RefreshOutput<S> = Result<AppValues<ObservedSource<S>>, DynError>;
/// The output of `init`, with its snapshot.
pub(crate) type InitOutput<O> =
    Result<(AppValue<<O as Observer>::State>, AppValue<<O as Observer>::Snapshot>), DynError>;
/// The output of `poll`, with its snapshot.
pub(crate) type PollOutput<O> =
    Result<(AppValue<<O as Observer>::Snapshot>, AppValues<<O as Observer>::Event>), DynError>;

pub(crate) struct Core<O: Observer> {
    machine: Lifecycle,
    /// The machine's position after the last event.
    position: Position,
    life: Arc<Lifetime<StopReason>>,
    pace: Pace,
    schedule: Schedule,
    /// The armed tick, if there is one.
    armed: Option<Instant>,
    wake_pending: bool,
    /// When the last event was taken.
    latest: Instant,
    cycle_began: Instant,
    /// When a wake may start the next cycle.
    wakes_from: Instant,
    publisher: Publisher<O>,
}

impl<O: Observer> Core<O> {
    pub(crate) fn new(
        shared: Arc<Shared<O::Snapshot, O::Event>>,
        life: Arc<Lifetime<StopReason>>,
        config: &ObservationConfig,
        keeps_state: bool,
        first_cycle: Option<FirstCycle>,
    ) -> Self {
        let start = shared.clock.started();
        let First { generation, cycle, .. } = shared.history.first();
        let machine = Lifecycle::new(Options {
            keeps_state_on_timeout: keeps_state,
            first_generation: generation,
            first_cycle: cycle,
        });
        Self {
            position: position(&machine),
            machine,
            schedule: Schedule::new(start, config.interval, config.offset, config.retry),
            armed: None,
            wake_pending: false,
            latest: start,
            cycle_began: start,
            wakes_from: start,
            publisher: Publisher::new(shared, first_cycle),
            life,
            pace: config.pace(),
        }
    }

    pub(crate) fn pace(&self) -> &Pace {
        &self.pace
    }

    /// The work in flight: its stage and its id.
    pub(crate) fn work(&self) -> Option<(Stage, WorkId)> {
        self.machine.in_flight()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.position.state.kind() == StateKind::Stopped
    }

    pub(crate) fn start(&mut self) {
        self.publisher.shared.begin();
        self.apply(Instant::now(), Event::Start, &mut Payload::Nothing, None, &mut None);
    }

    /// The provider reports an unchanged set. Nothing was fetched, so no time has passed.
    pub(crate) fn unchanged(&mut self, work: WorkId, state: &mut Option<AppValue<O::State>>) {
        self.publisher.set_cycle = Some(self.machine.cycle());
        self.apply(self.latest, Event::Refreshed { work }, &mut Payload::Nothing, None, state);
    }

    /// The refresh has ended. Returns whether its set was accepted.
    pub(crate) fn refreshed(
        &mut self,
        work: WorkId,
        ended: Ended<RefreshOutput<O::Source>>,
        sources: &mut AppValues<ObservedSource<O::Source>>,
        state: &mut Option<AppValue<O::State>>,
    ) -> bool {
        let set = match result_of(ended, self.pace.refresh_timeout) {
            Some(Ok(set)) => set,
            Some(Err(failure)) => {
                self.failed(work, Stage::SourceRefresh, failure, state);
                return false;
            }
            None => return false,
        };
        match settle(self.publisher.names(), set, self.pace.duplicates) {
            Ok(settled) => {
                let (cycle, interval) = (self.machine.cycle(), self.pace.interval);
                let change = self.publisher.take_over(cycle, interval, settled, sources);
                self.apply(Instant::now(), Event::Refreshed { work }, &mut Payload::Nothing, change, state);
                true
            }
            Err(refused) => {
                let message = refused.to_string();
                let error = Some(AppValue::new(DynError::from(refused)));
                let failure = WorkFailure { cause: Cause::Error, message, error };
                self.failed(work, Stage::SourceRefresh, failure, state);
                false
            }
        }
    }

    /// The observer's `init` has ended.
    pub(crate) fn initialized(
        &mut self,
        work: WorkId,
        ended: Ended<InitOutput<O>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        match result_of(ended, self.pace.init_timeout) {
            Some(Ok((built, snapshot))) => {
                *state = Some(built);
                let mut payload = self.payload(snapshot, AppValues::new(Vec::new()));
                self.apply(Instant::now(), Event::Initialized { work }, &mut payload, None, state);
            }
            Some(Err(failure)) => self.failed(work, Stage::Init, failure, state),
            None => {}
        }
    }

    /// The observer's `poll` has ended.
    pub(crate) fn polled(
        &mut self,
        work: WorkId,
        ended: Ended<PollOutput<O>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        match result_of(ended, self.pace.poll_timeout) {
            Some(Ok((snapshot, events))) => {
                let mut payload = self.payload(snapshot, events);
                self.apply(Instant::now(), Event::Polled { work }, &mut payload, None, state);
            }
            Some(Err(failure)) => self.failed(work, Stage::Poll, failure, state),
            None => {}
        }
    }

    /// The weight is computed by app code, so this runs before the clock is read.
    fn payload(&self, snapshot: AppValue<O::Snapshot>, events: AppValues<O::Event>) -> Payload<O> {
        let weight = weight::<O>(&self.publisher.shared, &snapshot, &events);
        Payload::Success { snapshot, events, weight }
    }

    fn failed(
        &mut self,
        work: WorkId,
        stage: Stage,
        WorkFailure { cause, message, error }: WorkFailure,
        state: &mut Option<AppValue<O::State>>,
    ) {
        let mut payload = Payload::Failure { message, error };
        self.apply(Instant::now(), Event::WorkFailed { work, stage, cause }, &mut payload, None, state);
    }

    /// Feeds one event to the machine and executes its commands.
    fn apply(
        &mut self,
        now: Instant,
        event: Event,
        payload: &mut Payload<O>,
        sources: Option<Box<SourceChange>>,
        state: &mut Option<AppValue<O::State>>,
    ) {
        // The time of a deadline may be earlier than that of the last control.
        let now = now.max(self.latest);
        self.latest = now;
        let mut success = None;
        let mut failure = None;
        let commands = self.machine.handle(event);
        let (before, after) = (self.position, position(&self.machine));
        let held = self.holds_ticks(&before);
        if self.holds_ticks(&after) != held {
            self.schedule.pass(now, held);
        }
        for command in commands.iter() {
            match *command {
                Command::Refresh { .. } => {
                    self.cycle_began = now;
                    self.wakes_from = later(now, self.pace.min_gap);
                    self.wake_pending = false;
                    self.schedule.begins(!matches!(event, Event::Start | Event::Tick));
                }
                Command::Publish { cycle, generation } => {
                    let is_polled = matches!(event, Event::Polled { .. });
                    let moment = self.moment(cycle);
                    let payload = payload.take();
                    success = self.publisher.succeeded(&moment, (generation, is_polled), &self.pace, payload);
                    self.schedule.succeeded();
                }
                Command::Forget => {
                    if let (Some(panic), Payload::Failure { message, .. }) =
                        (state.take().and_then(AppValue::discard), &mut *payload)
                    {
                        message.push_str("; dropping its state panicked as well: ");
                        message.push_str(&panic);
                    }
                }
                Command::Record { cycle, stage, cause, consecutive } => {
                    self.schedule.failed(now, self.machine.is_paused());
                    let moment = self.moment(cycle);
                    let (recorded, start_failed) =
                        self.publisher.failed(&moment, (stage, cause), consecutive, payload.take());
                    if start_failed {
                        self.life.request_stop(StopReason::StartFailed);
                    }
                    failure = Some(recorded);
                }
                Command::Arm => self.arm(now, event == Event::Resume, &after),
                Command::Disarm => self.armed = None,
                // The driver reads the work in flight; the race drops it at the stop.
                Command::Init { .. } | Command::Poll { .. } | Command::Cancel { .. } => {}
                Command::Finish { reason } => {
                    self.trace_transition(&before, &after);
                    self.position = after;
                    self.life.end(reason);
                    return;
                }
                Command::Rejected { event, state } => tracing::trace!(?event, %state, "rejected"),
            }
        }
        if success.is_some() || failure.is_some() || sources.is_some() {
            let moment = self.moment(self.machine.cycle());
            self.publisher.publish(&moment, (&before, &after), success, failure, sources);
        } else if after != before || matches!(event, Event::Refreshed { .. }) {
            // An unchanged source set is published too: readers see that it is of this cycle.
            let moment = self.moment(self.machine.cycle());
            self.publisher.publish_position(&moment, &before, &after);
        }
        self.trace_transition(&before, &after);
        self.position = after;
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

    fn moment(&self, cycle: u64) -> Moment {
        let missed_ticks = self.schedule.missed();
        Moment { now: self.latest, cycle, cycle_began: self.cycle_began, missed_ticks }
    }

    fn arm(&mut self, now: Instant, resumed: bool, at: &Position) {
        let retry = if self.backs_off(at) { self.schedule.next_try(now, resumed) } else { None };
        self.armed = Some(retry.unwrap_or_else(|| self.schedule.next_tick(now)));
    }

    /// Whether a failed cycle waits for a retry with its own delay.
    fn backs_off(&self, at: &Position) -> bool {
        self.schedule.backs_off() && matches!(at.state, State::Failed { .. })
    }

    /// Takes a control, and returns the number of the cycle that a `PollNow` starts.
    fn control(&mut self, control: Control) -> u64 {
        let event = match control {
            Control::Pause => Event::Pause,
            Control::Resume => Event::Resume,
            Control::PollNow => Event::PollNow,
        };
        self.apply(Instant::now(), event, &mut Payload::Nothing, None, &mut None);
        self.machine.poll_now_cycle()
    }

    /// Whether points of the grid are passed over on purpose.
    fn holds_ticks(&self, at: &Position) -> bool {
        at.paused || self.backs_off(at)
    }

    /// When the pending wake may start a cycle. A delayed retry also covers the wake.
    fn wake_due(&self) -> Option<Instant> {
        let may = self.wake_pending && !self.holds_ticks(&self.position);
        may.then_some(self.wakes_from)
    }
}

fn position(machine: &Lifecycle) -> Position {
    Position { state: machine.state(), paused: machine.is_paused() }
}

/// How a unit of work failed.
struct WorkFailure {
    cause: Cause,
    message: String,
    error: Option<AppValue<DynError>>,
}

/// The result of a unit of work; `None` if it was dropped.
fn result_of<T>(ended: Ended<Result<T, DynError>>, timeout: Duration) -> Option<Result<T, WorkFailure>> {
    let failed = |cause, message, error| Some(Err(WorkFailure { cause, message, error }));
    match ended {
        Ended::Done(Ok(output)) => Some(Ok(output)),
        // The error's text is app code.
        Ended::Done(Err(error)) => match catch(|| chain(&*error)) {
            Ok(message) => failed(Cause::Error, message, Some(AppValue::new(error))),
            Err(panic) => {
                discard_logged(error, "an error");
                failed(Cause::Error, format!("an error whose text panicked: {panic}"), None)
            }
        },
        Ended::TimedOut => failed(Cause::TimedOut, format!("timed out after {timeout:?}"), None),
        Ended::Panicked(panic) => failed(Cause::Panicked, format!("panicked: {panic}"), None),
        Ended::Dropped => None,
    }
}

impl<O: Observer> Machine for Core<O> {
    type Item = Request;
    type Reason = StopReason;

    fn accepts(&self) -> bool {
        !self.is_over()
    }

    fn take(&mut self, Request { control, reply }: Request) {
        // The caller may have stopped waiting.
        let _ = reply.send(self.control(control));
    }

    fn stop(&mut self, reason: StopReason) {
        self.apply(Instant::now(), Event::Stop(reason), &mut Payload::Nothing, None, &mut None);
    }

    fn drops_work(&self) -> bool {
        self.is_over()
    }

    fn latest(&self) -> Instant {
        self.latest
    }

    fn is_waiting(&self) -> bool {
        self.machine.in_flight().is_none() && !self.is_over()
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

    fn flush(&mut self) {
        self.publisher.flush();
    }
}
