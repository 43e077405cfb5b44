//! Plays a life on the runtime and on the model, and compares them after each step.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, advance, sleep_until};
use watchkeeper::runtime::{Backoff, ControlError, Retry, StopOutcome, StopReason};
use watchkeeper::source::Duplicates;
use watchkeeper::subscription::{Cursor, CursorError, Resume};
use watchkeeper::wait::{InvalidWait, Mark};
use watchkeeper::{
    ObservationConfig, ObservationControl, ObservationFailureStage as Stage, ObservationHandle,
    ObservationRuntime, ObservationRuntimeError,
};

use crate::app::{App, Script};
use crate::life::{Ask, Ending, From, How, Life, Step};
use crate::listen::{Follower, Listener, Probe, Waiter};
use crate::read::{self, Answer};
use crate::reference::{Control, Model, Past, Position, Settings};
use crate::waiting::{Reading, Since, Waiting, Want};

pub(crate) type Checked<T = ()> = Result<T, TestCaseError>;

/// Controls that may wait to be taken.
const CONTROLS: usize = 16;

pub(crate) fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Plays one life from its start to its end.
pub(crate) async fn play(life: Life) -> Checked {
    let Some(mut play) = Play::start(&life).await? else { return Ok(()) };
    for (number, step) in life.steps.into_iter().enumerate() {
        let shown = format!("{step:?}");
        play.step(step).await.and_then(|()| play.check()).map_err(|error| in_step(number, &shown, error))?;
    }
    play.end().await
}

fn in_step(number: usize, step: &str, error: TestCaseError) -> TestCaseError {
    match error {
        TestCaseError::Fail(reason) => TestCaseError::fail(format!("in step {number}, {step}: {reason}")),
        reject @ TestCaseError::Reject(_) => reject,
    }
}

/// A control that was sent, and its answer if that came at once.
type Reply = (Control, Probe<Answer>, Option<Answer>);

struct Play {
    model: Model,
    app: App,
    began: Instant,
    runtime: Option<ObservationRuntime<App>>,
    handle: ObservationHandle<App>,
    control: ObservationControl,
    wake: Arc<Notify>,
    cursors: Vec<(Cursor, Position)>,
    /// The runtime's task ran at least once: cycle 0 has begun.
    ran: bool,
    /// Each with the first cycle that had not begun, and the first batch that was not published.
    marks: Vec<(Mark, Since)>,
    listeners: Vec<Listener>,
    waiters: Vec<Waiter>,
    follower: Follower,
}

impl Play {
    async fn start(life: &Life) -> Checked<Option<Self>> {
        let mut script = Script::new(life.usual_events);
        life.first.iter().for_each(|(call, act)| script.then(*call, *act));
        let app = App::new(script.clone(), life.settings.interruptible);
        let began = Instant::now();
        let mut model = Model::new(life.settings, script, began);
        let wake = Arc::new(Notify::new());
        let config = config(&life.settings, &wake);
        let started = if life.fail_fast {
            model.first_cycle();
            ObservationRuntime::start(app.clone(), app.clone(), config).await
        } else {
            ObservationRuntime::start_in_background(app.clone(), app.clone(), config)
        };
        if life.fail_fast && model.status.snapshot.is_none() {
            let as_expected = match (started, model.failures[0].stage) {
                (Err(ObservationRuntimeError::SourceRefresh { .. }), stage) => stage == Stage::SourceRefresh,
                (Err(ObservationRuntimeError::ObserverInit { .. }), stage) => stage == Stage::Init,
                _ => false,
            };
            prop_assert!(as_expected, "started, or failed otherwise than by {:?}", model.failures[0]);
            prop_assert_eq!((app.states(), app.clones()), (0, 1), "nothing is left of a failed start");
            return Ok(None);
        }
        let runtime = started.map_err(|error| TestCaseError::fail(format!("did not start: {error}")))?;
        let (handle, control) = (runtime.handle(), runtime.control());
        let follower = Follower::new(handle.watch(), &model);
        let mut play = Self {
            model,
            ran: life.fail_fast,
            app,
            began,
            runtime: Some(runtime),
            handle,
            control,
            wake,
            cursors: past_cursors(&life.settings),
            marks: Vec::new(),
            listeners: Vec::new(),
            waiters: Vec::new(),
            follower,
        };
        play.check()?;
        Ok(Some(play))
    }

    async fn step(&mut self, step: Step) -> Checked {
        match step {
            Step::Script(call, act) => {
                self.model.script.then(call, act);
                self.app.script().then(call, act);
            }
            Step::Sources(set) => {
                self.model.script.set = set;
                self.app.script().set = set;
            }
            Step::Pass(time) => self.pass(time).await,
            Step::AtOnce { asks, stall, end } => self.at_once(&asks, stall, end).await?,
            Step::Subscribe(how) => {
                let at = Position { generation: self.model.generation(), seq: self.model.published() };
                let listener = Listener::new(self.handle.subscribe(), Reading::new(at), how);
                self.listeners.push(listener);
            }
            Step::SubscribeFrom(which, how) => self.subscribe_from(which, how)?,
            Step::Read(which, items) => {
                if let Some(listener) = pick(&mut self.listeners, which) {
                    listener.read(items, &self.model, self.began)?;
                }
            }
            Step::KeepCursor(of) => self.keep_cursor(of),
            Step::Unsubscribe(which) => remove(&mut self.listeners, which),
            Step::Mark => {
                let since = Since {
                    cycle: self.next_cycle(),
                    batch: Some(self.model.published()),
                    answer: Some(self.model.now),
                };
                self.marks.push((self.handle.mark(), since));
            }
            Step::Wait { want, from, window, eager } => {
                self.wait(want, from, window, eager);
                if eager {
                    self.settle().await;
                }
            }
            Step::Look(which) => {
                if let Some(waiter) = pick(&mut self.waiters, which) {
                    waiter.look(&mut self.model)?;
                }
            }
            // The model's wait goes on, unread.
            Step::Forsake(which) => remove(&mut self.waiters, which),
        }
        Ok(())
    }

    /// The first cycle that has not begun.
    fn next_cycle(&self) -> u64 {
        if self.ran { self.model.status.cycle + 1 } else { self.model.settings.first_cycle() }
    }

    /// Lets the runtime run until it waits, without time passing.
    async fn settle(&mut self) {
        others_run().await;
        self.ran = true;
        self.model.run();
    }

    async fn pass(&mut self, time: u64) {
        self.settle().await;
        self.model.pass(time);
        sleep_until(self.began + millis(self.model.now)).await;
        self.settle().await;
    }

    async fn at_once(&mut self, asks: &[Ask], stall: u64, end: Option<Ending>) -> Checked {
        let replies: Vec<Reply> = asks.iter().filter_map(|ask| self.ask(*ask)).collect();
        let control = self.control.clone();
        let mut stopped = Probe::new(async move { control.stop().await });
        let mut outcome = None;
        match end {
            Some(Ending::Stop) => outcome = stopped.poll(),
            Some(Ending::Drop) => drop(self.runtime.take()),
            None => {}
        }
        if stall > 0 {
            advance(millis(stall)).await;
            self.model.stall(stall);
        }
        others_run().await;
        self.ran = true;
        let (worked, before) = (self.model.works(), self.model.stopped());
        if let Some(end) = end {
            let dropped = matches!(end, Ending::Drop);
            self.model.stop(if dropped { StopReason::Dropped } else { StopReason::Requested });
            let outcome = outcome.or_else(|| stopped.poll_if_woken());
            prop_assert_eq!(outcome, Some(StopOutcome::Stopped));
        }
        self.check_replies(replies, before)?;
        if asks.iter().any(|ask| !matches!(ask, Ask::Control(_))) {
            self.model.wake(worked);
        }
        self.model.run();
        Ok(())
    }

    fn ask(&self, ask: Ask) -> Option<Reply> {
        match ask {
            Ask::Wake => self.wake.notify_one(),
            Ask::WakeAll => self.wake.notify_waiters(),
            Ask::Control(control) => {
                let mut reply = Probe::new(read::ask(self.control.clone(), control));
                let at_once = reply.poll();
                return Some((control, reply, at_once));
            }
        }
        None
    }

    /// Has the model take the controls as well. `before`: why it had ended when they were sent.
    fn check_replies(&mut self, replies: Vec<Reply>, before: Option<StopReason>) -> Checked {
        for (number, (control, mut reply, at_once)) in replies.into_iter().enumerate() {
            let expected = match (before, self.model.stopped()) {
                (None, _) if number >= CONTROLS => Err(ControlError::Full { capacity: CONTROLS }),
                (Some(reason), _) | (None, Some(reason)) => Err(ControlError::Stopped { reason }),
                (None, None) => {
                    let cycle = self.model.control(control);
                    Ok(matches!(control, Control::PollNow).then_some(cycle))
                }
            };
            let got = at_once.or_else(|| reply.poll_if_woken());
            prop_assert_eq!(got, Some(expected), "the answer to {:?}", control);
        }
        Ok(())
    }

    fn keep_cursor(&mut self, of: Option<usize>) {
        let kept = match of {
            None => {
                let snapshot = self.handle.latest_snapshot();
                snapshot
                    .zip(self.model.status.snapshot.as_ref())
                    .map(|(real, model)| (real.cursor, model.cursor))
            }
            Some(which) => pick(&mut self.listeners, which).map(|listener| listener.cursor()),
        };
        self.cursors.extend(kept);
    }

    fn subscribe_from(&mut self, which: usize, how: How) -> Checked {
        let Some((cursor, position)) = pick(&mut self.cursors, which).copied() else {
            let refused = self.handle.subscribe_from(foreign().0).err();
            prop_assert_eq!(refused, Some(CursorError::Foreign));
            return Ok(());
        };
        if let Some(Past { at, .. }) = self.model.settings.resume {
            let beyond = past_cursor(Position { seq: at.seq + 1, ..at });
            let refused = self.handle.subscribe_from(beyond).err();
            prop_assert_eq!(refused, Some(CursorError::Future { seq: at.seq + 1, published: at.seq }));
        }
        let cursor: Cursor = cursor.to_string().parse().unwrap();
        let subscription = self.handle.subscribe_from(cursor);
        let subscription = subscription.map_err(|error| TestCaseError::fail(format!("refused: {error}")))?;
        self.listeners.push(Listener::new(subscription, Reading::new(position), how));
        Ok(())
    }

    fn wait(&mut self, want: Want, from: From, window: u64, eager: bool) {
        let since = Since { cycle: self.next_cycle(), batch: None, answer: Some(self.model.now) };
        let all = Since { cycle: 0, answer: None, ..since };
        let (mark, since) = match from {
            From::Begun => (None, since),
            From::Now => (pick(&mut self.marks, 0).map(|(mark, _)| *mark), all),
            From::ForeignMark => (Some(foreign().1), all),
            From::Mark(which) => match pick(&mut self.marks, which) {
                Some((mark, marked)) => (Some(*mark), *marked),
                None => (None, since),
            },
        };
        // No window ends in the instant of a publication: which came first is a matter of chance then.
        let window = if eager && window > 0 { window + 5 } else { window };
        let mut waiting = Waiting::new(&self.model, want, since, (window, eager));
        let is_there = waiting.begins_with_a_value();
        waiting.invalid = match (window, want, from) {
            (0, ..) => Some(InvalidWait::Window),
            (_, Want::Stable(_, hold), _) if hold == 0 || hold > window => Some(InvalidWait::Hold),
            // What is seen first comes after the begin of the window.
            (_, Want::Stable(_, hold), _) if hold == window && !is_there => Some(InvalidWait::Hold),
            (.., From::ForeignMark) => Some(InvalidWait::ForeignMark),
            _ => None,
        };
        let now = matches!(from, From::Now);
        let verdict = read::verdict(&self.handle, want, (now, mark), millis(window));
        self.waiters.push(Waiter::new(&mut self.model, verdict, eager, waiting));
    }

    /// Compares everything that can be seen.
    fn check(&mut self) -> Checked {
        let Self { model, handle, began, .. } = self;
        prop_assert_eq!(Instant::now(), *began + millis(model.now), "the clock");
        let status = handle.status();
        prop_assert_eq!(&read::status(&status, *began), &model.status);
        prop_assert_eq!(status.freshness.is_fresh(), model.is_fresh(), "fresh");
        let age = model.status.last_success.map(|success| millis(model.now - success));
        prop_assert_eq!(status.freshness.age(), age, "age");
        prop_assert_eq!(handle.state(), model.status.state);
        let kept = model.batches.len().saturating_sub(model.settings.history_limit);
        let history: Vec<_> = handle.history().iter().map(|batch| read::batch(batch, *began)).collect();
        prop_assert_eq!(&history[..], &model.batches[kept..], "history");
        let kept = model.failures.len().saturating_sub(64);
        let failures: Vec<_> =
            handle.failures().iter().map(|failure| read::failure(failure, *began)).collect();
        prop_assert_eq!(&failures[..], &model.failures[kept..], "failures");
        prop_assert_eq!(self.app.script().calls, model.script.calls, "calls of the app");
        prop_assert_eq!(self.app.states(), model.states(), "states of the observer");
        let clones = if model.stopped().is_some() { 1 } else { 3 };
        prop_assert_eq!(self.app.clones(), clones, "provider and observer live as long as it runs");
        self.follower.check(model, *began)?;
        for listener in &mut self.listeners {
            listener.check(model, *began)?;
        }
        for waiter in &mut self.waiters {
            waiter.check(model, *began)?;
        }
        Ok(())
    }

    /// Stops it, and checks that every reader gets the end and nothing after it.
    async fn end(mut self) -> Checked {
        self.settle().await;
        self.at_once(&[], 0, Some(Ending::Stop)).await?;
        self.wake.notify_one();
        self.pass(1_000).await;
        self.check()?;
        for listener in &mut self.listeners {
            listener.read(usize::MAX, &self.model, self.began)?;
        }
        for waiter in &mut self.waiters {
            waiter.look(&mut self.model)?;
        }
        Ok(())
    }
}

/// Until all of them wait. Timers that are due fire in the first round, and what they wake runs.
async fn others_run() {
    for _ in 0..4 {
        yield_now().await;
    }
}

/// Of another runtime.
fn foreign() -> (Cursor, Mark) {
    let app = App::new(Script::new(0), false);
    let other =
        ObservationRuntime::start_in_background(app.clone(), app, ObservationConfig::default()).unwrap();
    (other.handle().subscribe().cursor(), other.handle().mark())
}

fn config(settings: &Settings, wake: &Arc<Notify>) -> ObservationConfig {
    let retry = settings.backoff.map_or(Retry::NextTick, |(first, max)| {
        Retry::Backoff(Backoff { first: millis(first), max: millis(max), jitter: 0.0, seed: 0 })
    });
    ObservationConfig {
        name: None,
        duplicates: if settings.refuses_duplicates() { Duplicates::Refuse } else { Duplicates::KeepFirst },
        interval: millis(settings.interval),
        history_limit: settings.history_limit,
        refresh_timeout: millis(settings.refresh_timeout),
        init_timeout: millis(settings.init_timeout),
        poll_timeout: millis(settings.poll_timeout),
        stop_timeout: Duration::from_secs(5),
        stale_after: settings.stale_after.map(millis),
        retry,
        offset: millis(settings.offset),
        wake: Some(Arc::clone(wake)),
        min_gap: millis(settings.min_gap),
        parent: None,
        resume: settings.resume.map(|past| resume(&past)),
    }
}

/// Of the runtimes that go on for an earlier one.
fn past_cursor(at: Position) -> Cursor {
    format!("000102030405060708090a0b0c0d0e0f.{}.{}", at.generation, at.seq).parse().unwrap()
}

fn resume(past: &Past) -> Resume {
    Resume { cursor: past_cursor(past.at), cycle: past.cycle, event_count: past.event_count }
}

/// What consumers of the earlier process have kept.
fn past_cursors(settings: &Settings) -> Vec<(Cursor, Position)> {
    let Some(Past { at: Position { generation, seq }, .. }) = settings.resume else { return Vec::new() };
    let kept = [(generation, seq), (generation, seq - 1), (generation - 1, seq - 30), (0, 0)];
    let kept = kept.map(|(generation, seq)| Position { generation, seq });
    kept.into_iter().map(|at| (past_cursor(at), at)).collect()
}

fn pick<T>(all: &mut [T], which: usize) -> Option<&mut T> {
    let count = all.len().max(1);
    all.get_mut(which % count)
}

fn remove<T>(all: &mut Vec<T>, which: usize) {
    if !all.is_empty() {
        let _ = all.swap_remove(which % all.len());
    }
}
