//! The model: what a runtime must do, written a second time in the plainest way.
//!
//! One thread, a clock that is a number of milliseconds, and nothing is ever forgotten. Written from
//! the design, not from the runtime.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;
use watchkeeper::ObservationFailureStage as Stage;
use watchkeeper::runtime::{Cause, State, StopReason};

use crate::app::{Call, End, Memory, Script, View};
use crate::waiting::{Publication, Waiting};

/// How a runtime is configured; times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) interval: u64,
    pub(crate) offset: u64,
    pub(crate) history_limit: usize,
    pub(crate) refresh_timeout: u64,
    pub(crate) init_timeout: u64,
    pub(crate) poll_timeout: u64,
    pub(crate) stale_after: Option<u64>,
    /// The first delay and the cap, if failed cycles are retried with backoff.
    pub(crate) backoff: Option<(u64, u64)>,
    pub(crate) min_gap: u64,
    pub(crate) resume: Option<Past>,
    pub(crate) interruptible: bool,
}

/// What an earlier process has recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Past {
    pub(crate) at: Position,
    pub(crate) cycle: u64,
    pub(crate) event_count: u64,
}

impl Settings {
    /// Where the first batch will stand.
    pub(crate) fn begin(&self) -> Position {
        self.resume.map_or(Position { generation: 1, seq: 0 }, |past| Position {
            generation: past.at.generation + 1,
            seq: past.at.seq,
        })
    }

    pub(crate) fn first_cycle(&self) -> u64 {
        self.resume.map_or(0, |past| past.cycle + 1)
    }

    /// Not drawn: the seeds of lives that once failed would stand for others.
    pub(crate) fn refuses_duplicates(&self) -> bool {
        self.interval != 50 && self.interval != 250
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begun {
    /// The start, or a tick.
    ByItsTime,
    BySomebody,
}

/// What readers see of one moment.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Status {
    pub(crate) state: State,
    pub(crate) since: u64,
    pub(crate) paused: bool,
    pub(crate) generation: u64,
    pub(crate) cycle: u64,
    pub(crate) snapshot: Option<Rc<Snapshot>>,
    pub(crate) last_error: Option<Failure>,
    pub(crate) last_success: Option<u64>,
    pub(crate) stale_after: u64,
    pub(crate) names: Vec<String>,
    pub(crate) missed_ticks: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) cycle: u64,
    pub(crate) cursor: Position,
    pub(crate) at: u64,
    pub(crate) elapsed: u64,
    pub(crate) source_count: usize,
    pub(crate) event_count: u64,
    /// When its sources answered last.
    pub(crate) answered: Option<u64>,
    pub(crate) view: View,
}

/// A cursor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Batch {
    pub(crate) generation: u64,
    pub(crate) seq: u64,
    pub(crate) cycle: u64,
    pub(crate) at: u64,
    pub(crate) source_count: usize,
    pub(crate) events: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) generation: u64,
    pub(crate) cycle: u64,
    pub(crate) at: u64,
    pub(crate) elapsed: u64,
    pub(crate) source_count: usize,
    pub(crate) stage: Stage,
    pub(crate) cause: Cause,
    pub(crate) consecutive: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Control {
    Pause,
    Resume,
    PollNow,
}

enum Doing {
    Work { stage: Stage, run: Option<Run> },
    Waiting { failed: Option<Stage> },
    Over(StopReason),
}

/// One call of the app that is under way.
#[derive(Clone, Copy)]
struct Run {
    end: End,
    done: u64,
    deadline: u64,
}

#[allow(clippy::struct_excessive_bools, reason = "each is a separate fact")]
pub(crate) struct Model {
    pub(crate) settings: Settings,
    pub(crate) script: Script,
    pub(crate) now: u64,
    /// As published.
    pub(crate) status: Status,
    pub(crate) publications: u64,
    /// All that there ever were.
    pub(crate) batches: Vec<Batch>,
    /// Which of them were fresh when they came.
    pub(crate) fresh_batches: Vec<bool>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) waits: Vec<Waiting>,
    /// Every name that was ever in the set.
    pub(crate) names_ever: Vec<String>,
    /// Each leaving of a source, with its cycle.
    pub(crate) leavings: Vec<(u64, String)>,
    /// From and until when nothing could run.
    pub(crate) stalls: Vec<(u64, u64)>,
    epoch: Instant,
    doing: Doing,
    memory: Option<Memory>,
    builds: u64,
    names: Vec<String>,
    set_cycle: Option<u64>,
    /// Which of them are given to several sources, and which were when a cycle succeeded last.
    shared: Vec<String>,
    shared_at_success: Vec<String>,
    paused: bool,
    poll_now: bool,
    wake: bool,
    /// What began the cycle in flight.
    begun_by: Begun,
    /// How many delays the backoff has given out since the last success, and when the last one is over.
    delays: u64,
    retry_at: u64,
    cycle: u64,
    began: u64,
    consecutive: u64,
    tick: Option<u64>,
    /// Points of the grid that have come.
    points: u64,
    /// Those of them that should have started a cycle and did not yet.
    owed: u64,
    missed: u64,
}

impl Model {
    /// A runtime whose first cycle has begun.
    pub(crate) fn new(settings: Settings, script: Script, epoch: Instant) -> Self {
        let status = Status {
            state: State::Starting,
            since: 0,
            paused: false,
            generation: settings.begin().generation,
            cycle: settings.first_cycle(),
            snapshot: None,
            last_error: None,
            last_success: None,
            stale_after: settings.stale_after.unwrap_or_else(|| 2_000.max(3 * settings.interval)),
            names: Vec::new(),
            missed_ticks: 0,
        };
        Self {
            settings,
            script,
            now: 0,
            status,
            publications: 0,
            batches: Vec::new(),
            fresh_batches: Vec::new(),
            failures: Vec::new(),
            waits: Vec::new(),
            names_ever: Vec::new(),
            leavings: Vec::new(),
            stalls: Vec::new(),
            epoch,
            doing: Doing::Work { stage: Stage::SourceRefresh, run: None },
            memory: None,
            builds: 0,
            names: Vec::new(),
            set_cycle: None,
            shared: Vec::new(),
            shared_at_success: Vec::new(),
            paused: false,
            poll_now: false,
            wake: false,
            begun_by: Begun::ByItsTime,
            delays: 0,
            retry_at: 0,
            cycle: settings.first_cycle(),
            began: 0,
            consecutive: 0,
            tick: None,
            // The start itself is cycle 0's.
            points: u64::from(settings.offset == 0),
            owed: 0,
            missed: 0,
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.settings.begin().generation + self.builds.saturating_sub(1)
    }

    pub(crate) fn works(&self) -> bool {
        matches!(self.doing, Doing::Work { .. })
    }

    pub(crate) fn stopped(&self) -> Option<StopReason> {
        if let Doing::Over(reason) = self.doing { Some(reason) } else { None }
    }

    /// The states of the observer that are alive.
    pub(crate) fn states(&self) -> u64 {
        u64::from(self.memory.is_some() && self.stopped().is_none())
    }

    pub(crate) fn is_fresh(&self) -> bool {
        self.status.last_success.is_some_and(|began| self.now - began < self.status.stale_after)
    }

    /// How many batches were published, by earlier processes as well.
    pub(crate) fn published(&self) -> u64 {
        self.settings.begin().seq + self.batches.len() as u64
    }

    /// The batch of this number, if it is of this process.
    pub(crate) fn batch(&self, seq: u64) -> Option<&Batch> {
        let place = seq.checked_sub(self.settings.begin().seq)?;
        self.batches.get(usize::try_from(place).unwrap_or(usize::MAX))
    }

    /// Position 0 of the history that readers see.
    pub(crate) fn oldest_kept(&self) -> u64 {
        // One batch is kept for listeners.
        self.published() - self.batches.len().min(self.settings.history_limit.max(1)) as u64
    }

    /// The first cycle ends, whenever that is.
    pub(crate) fn first_cycle(&mut self) {
        self.run();
        while self.publications_of_cycles() == 0 {
            self.now = self.due().unwrap_or(self.now);
            self.run();
        }
    }

    fn publications_of_cycles(&self) -> u64 {
        self.builds + self.failures.len() as u64
    }

    /// Time passes, and everything is done when it becomes due.
    pub(crate) fn pass(&mut self, millis: u64) {
        let until = self.now + millis;
        while let Some(due) = self.due().filter(|due| *due <= until) {
            self.now = due;
            self.run();
        }
        self.now = until;
    }

    /// Time passes and nothing can run meanwhile.
    pub(crate) fn stall(&mut self, millis: u64) {
        self.stalls.push((self.now, self.now + millis));
        self.now += millis;
    }

    fn due(&self) -> Option<u64> {
        match self.doing {
            Doing::Work { run: Some(Run { done, deadline, .. }), .. } => Some(done.min(deadline)),
            Doing::Work { run: None, .. } => Some(self.now),
            Doing::Waiting { .. } => self.tick.into_iter().chain(self.wake_due()).min(),
            Doing::Over(_) => None,
        }
    }

    /// A retry with a backoff delay also serves the wakes that came before it.
    fn wake_due(&self) -> Option<u64> {
        let heard = self.wake && !self.paused && !self.retries();
        heard.then(|| self.now.max(self.began + self.settings.min_gap))
    }

    fn retries(&self) -> bool {
        self.settings.backoff.is_some() && matches!(self.doing, Doing::Waiting { failed: Some(_) })
    }

    /// Does what is due now.
    pub(crate) fn run(&mut self) {
        loop {
            match self.doing {
                Doing::Work { stage, run: None } => self.call(stage),
                Doing::Work { stage, run: Some(run) } => {
                    if run.done <= self.now {
                        self.ended(stage, run.end);
                    } else if run.deadline <= self.now {
                        let bad = run.end == End::HangBadly;
                        let cause = if bad { Cause::Panicked } else { Cause::TimedOut };
                        self.event(|model| model.fail(stage, cause));
                    } else {
                        break;
                    }
                }
                Doing::Waiting { failed } => {
                    if self.tick.is_some_and(|tick| tick <= self.now) {
                        let of_the_grid = failed.is_none() || self.settings.backoff.is_none();
                        self.event(|model| {
                            model.owed -= u64::from(of_the_grid);
                            model.begin_cycle();
                            model.begun_by = Begun::ByItsTime;
                        });
                    } else if self.wake_due().is_some_and(|due| due <= self.now) {
                        self.event(Self::begin_cycle);
                    } else {
                        break;
                    }
                }
                Doing::Over(_) => break,
            }
        }
    }

    /// Takes a control and answers which cycle a `PollNow` starts.
    pub(crate) fn control(&mut self, control: Control) -> u64 {
        let waits = matches!(self.doing, Doing::Waiting { .. });
        self.event(|model| match control {
            Control::Pause => {
                model.miss_what_is_owed();
                model.paused = true;
                model.tick = None;
            }
            Control::Resume => {
                if std::mem::take(&mut model.paused) && waits {
                    model.retry_at = model.now + model.delay();
                    model.arm();
                }
            }
            Control::PollNow if waits => model.begin_cycle(),
            Control::PollNow => model.poll_now = true,
        });
        self.cycle + u64::from(self.poll_now)
    }

    /// A wake: taken after the controls, and by a runtime that worked once its work waits.
    pub(crate) fn wake(&mut self, worked: bool) {
        while let Doing::Work { stage, run: None } = self.doing
            && worked
        {
            self.call(stage);
        }
        self.wake = true;
    }

    pub(crate) fn stop(&mut self, reason: StopReason) {
        if self.stopped().is_none() {
            self.event(|model| {
                model.doing = Doing::Over(reason);
                model.paused = false;
            });
        }
    }

    /// Calls the app.
    fn call(&mut self, stage: Stage) {
        let (call, timeout) = match stage {
            Stage::SourceRefresh => (Call::Sources, self.settings.refresh_timeout),
            Stage::Init => (Call::Init, self.settings.init_timeout),
            Stage::Poll => (Call::Poll, self.settings.poll_timeout),
        };
        if stage == Stage::SourceRefresh {
            self.began = self.now;
        }
        let act = self.script.next(call);
        if let (Stage::Poll, Some(memory)) = (stage, &mut self.memory) {
            memory.begun += 1;
        }
        let never = matches!(act.end, End::Hang | End::HangBadly);
        if act.after == 0 && !never {
            return self.ended(stage, act.end);
        }
        let done = if never { u64::MAX } else { self.now + act.after };
        let run = Some(Run { end: act.end, done, deadline: self.now + timeout });
        self.doing = Doing::Work { stage, run };
    }

    /// The app has answered.
    fn ended(&mut self, stage: Stage, end: End) {
        let End::Ok(events) = end else {
            let cause = if end == End::Panic { Cause::Panicked } else { Cause::Error };
            return self.event(|model| model.fail(stage, cause));
        };
        match stage {
            Stage::SourceRefresh => self.event(Self::refreshed),
            Stage::Init => self.event(|model| {
                if model.script.next(Call::Snapshot).end == End::Panic {
                    return model.fail(stage, Cause::Panicked);
                }
                model.memory = Some(Memory::default());
                model.builds += 1;
                model.succeed(Vec::new());
            }),
            Stage::Poll => self.event(|model| {
                let now = model.epoch + Duration::from_millis(model.now);
                let Some(memory) = &mut model.memory else { unreachable!("only a state is polled") };
                memory.polled(now);
                let events = memory.events(events);
                if model.script.next(Call::Snapshot).end == End::Panic {
                    return model.fail(stage, Cause::Panicked);
                }
                model.succeed(events);
            }),
        }
    }

    fn refreshed(&mut self) {
        let set = self.script.set;
        let is_first = |(at, name): (usize, &&str)| !name.is_empty() && !set[..at].contains(name);
        let names: Vec<String> =
            set.iter().enumerate().filter(|it| is_first(*it)).map(|(_, name)| (*name).to_owned()).collect();
        if names.len() < set.len() && (self.settings.refuses_duplicates() || names.is_empty()) {
            return self.fail(Stage::SourceRefresh, Cause::Error);
        }
        let given = |name: &String| set.iter().filter(|given| **given == *name).count();
        self.shared = names.iter().filter(|name| given(name) > 1).cloned().collect();
        self.names = names;
        self.set_cycle = Some(self.cycle);
        let stage = if self.memory.is_some() { Stage::Poll } else { Stage::Init };
        self.doing = Doing::Work { stage, run: None };
    }

    fn succeed(&mut self, events: Vec<u64>) {
        let (generation, cycle, at) = (self.generation(), self.cycle, self.now);
        let (elapsed, source_count) = (at - self.began, self.names.len());
        if !events.is_empty() {
            let seq = self.published();
            self.batches.push(Batch { generation, seq, cycle, at, source_count, events });
        }
        let cursor = Position { generation, seq: self.published() };
        let events: usize = self.batches.iter().map(|batch| batch.events.len()).sum();
        let event_count = self.settings.resume.map_or(0, |past| past.event_count) + events as u64;
        let view = View { memory: self.memory.unwrap_or_default(), names: self.names.clone() };
        let answered = view
            .memory
            .answered
            .map(|answered| u64::try_from((answered - self.epoch).as_millis()).unwrap_or(u64::MAX));
        let snapshot =
            Snapshot { generation, cycle, cursor, at, elapsed, source_count, event_count, answered, view };
        let by_default = 2_000.max(3 * self.settings.interval + elapsed);
        self.status.snapshot = Some(Rc::new(snapshot));
        self.status.generation = generation;
        self.status.last_error = None;
        self.status.last_success = Some(self.began);
        self.status.stale_after = self.settings.stale_after.unwrap_or(by_default);
        self.fresh_batches.resize(self.batches.len(), elapsed < self.status.stale_after);
        self.consecutive = 0;
        self.delays = 0;
        self.shared_at_success.clone_from(&self.shared);
        self.rest(None);
    }

    fn fail(&mut self, stage: Stage, cause: Cause) {
        let lost = match cause {
            Cause::Error => false,
            Cause::TimedOut => !self.settings.interruptible,
            Cause::Panicked => true,
        };
        if lost && stage == Stage::Poll {
            self.memory = None;
        }
        self.consecutive += 1;
        let failure = Failure {
            generation: self.generation(),
            cycle: self.cycle,
            at: self.now,
            elapsed: self.now - self.began,
            source_count: self.names.len(),
            stage,
            cause,
            consecutive: self.consecutive,
        };
        self.failures.push(failure.clone());
        self.status.last_error = Some(failure);
        // What was asked for while a delay runs does not touch it.
        let runs = self.delays > 0 && (self.paused || self.now < self.retry_at);
        if !(self.begun_by == Begun::BySomebody && runs) {
            self.delays += 1;
            self.retry_at = self.now + self.delay();
        }
        self.rest(Some(stage));
    }

    /// A cycle is over.
    fn rest(&mut self, failed: Option<Stage>) {
        self.doing = Doing::Waiting { failed };
        if self.poll_now {
            self.cycle += 1;
            return self.begin_work();
        }
        self.miss_what_is_owed();
        if !self.paused {
            self.arm();
        }
    }

    fn begin_cycle(&mut self) {
        self.cycle += 1;
        self.begin_work();
    }

    fn begin_work(&mut self) {
        self.poll_now = false;
        self.wake = false;
        self.tick = None;
        self.begun_by = Begun::BySomebody;
        self.doing = Doing::Work { stage: Stage::SourceRefresh, run: None };
    }

    fn arm(&mut self) {
        self.tick = Some(match (&self.doing, self.settings.backoff) {
            (Doing::Waiting { failed: Some(_) }, Some(_)) => self.retry_at,
            _ => self.settings.offset + self.points_until(self.now) * self.settings.interval,
        });
    }

    fn delay(&self) -> u64 {
        let (first, most) = self.settings.backoff.unwrap_or((0, 0));
        (first << self.delays.saturating_sub(1).min(20)).min(most)
    }

    /// How many points of the grid there are until `now`, the one at `now` included.
    fn points_until(&self, now: u64) -> u64 {
        now.checked_sub(self.settings.offset).map_or(0, |since| since / self.settings.interval + 1)
    }

    /// Points of the grid that come while nobody means to use them are not missed: while it is
    /// paused, and while a failed cycle waits for its backoff.
    fn count_points(&mut self) {
        let come = self.points_until(self.now) - self.points;
        self.points += come;
        if !self.paused && !self.retries() {
            self.owed += come;
        }
    }

    fn miss_what_is_owed(&mut self) {
        self.missed += std::mem::take(&mut self.owed);
    }

    fn state(&self) -> State {
        let rebuild = self.memory.is_none();
        match self.doing {
            Doing::Work { stage: Stage::Poll, .. } => State::Polling,
            Doing::Work { .. } if rebuild => State::Starting,
            Doing::Work { .. } => State::Refreshing,
            Doing::Waiting { failed: None } => State::Idle,
            Doing::Waiting { failed: Some(stage) } => {
                State::Failed { stage, consecutive: self.consecutive, rebuild }
            }
            Doing::Over(reason) => State::Stopped { reason },
        }
    }

    /// Something happens, and is published if there is anything new to know.
    fn event(&mut self, change: impl FnOnce(&mut Self)) {
        let known = |model: &Self| {
            let cycles = model.publications_of_cycles();
            let success = model.status.snapshot.as_ref().map(|snapshot| snapshot.cycle);
            (model.state(), model.paused, model.names.clone(), model.set_cycle, cycles, success)
        };
        let before = known(self);
        let batches = self.batches.len();
        self.count_points();
        change(self);
        if known(self) == before {
            return;
        }
        let state = self.state();
        if state != self.status.state {
            (self.status.state, self.status.since) = (state, self.now);
        }
        self.status.paused = self.paused;
        self.status.cycle = self.cycle;
        self.status.missed_ticks = self.missed;
        let left = self.status.names.iter().filter(|name| !self.names.contains(name));
        self.leavings.extend(left.map(|name| (self.cycle, name.clone())));
        self.status.names.clone_from(&self.names);
        self.publications += 1;
        for name in &self.names {
            if !self.names_ever.contains(name) {
                self.names_ever.push(name.clone());
            }
        }
        let batch = self.batches.get(batches).cloned();
        let publication = Publication { batch, ..self.publication() };
        self.waits.iter_mut().for_each(|wait| wait.push(&publication));
    }

    /// What the present status shows to a wait.
    pub(crate) fn publication(&self) -> Publication {
        let status = &self.status;
        Publication {
            at: self.now,
            state: status.state,
            cycle: status.cycle,
            paused: status.paused,
            names: status.names.clone(),
            set_cycle: self.set_cycle,
            shared: self.shared_at_success.clone(),
            snapshot: status.snapshot.clone(),
            batch: None,
            fresh: self.is_fresh(),
            stale_at: status.last_success.map(|began| began + status.stale_after),
        }
    }
}
