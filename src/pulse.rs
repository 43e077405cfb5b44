//! Detects from outside whether an executor gives turns.
//!
//! Each call that waits for a runtime keeps a [`Vigil`]. While there is one, the deadline thread looks at the
//! executor periodically: it spawns an empty task there, one at a time. Until that task has run, the executor has
//! given no turn: nobody drives it, or something blocks its thread. Without a vigil nothing is spawned, and the
//! deadline thread sleeps.
//!
//! A stall counts only if tokio's clock has run along with the system's. Under a paused clock real time means
//! nothing: a freeze is only logged.

mod stall;
#[cfg(all(test, not(watchkeeper_loom)))]
mod tests;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant as RealInstant};

use tokio::runtime::Handle;
use tokio::time::Instant;
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Span};

pub(crate) use stall::BothClocks;
use stall::{Culprit, Meter, Stall, Turns};

use crate::panics::{AppValue, catch, log_panic};
use crate::task::deadline::{Deadline, Expire, expire_after};
use crate::text::one_line;
use crate::time::{Wall, later};

/// The time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Shorter stalls may come from a busy machine and are not counted.
const STALL: Duration = Duration::from_secs(1);
/// A stall of this length is logged while it lasts.
const LOGGED: Duration = Duration::from_secs(3);
/// After this time, the executor owes a turn to a call without its own window. With a [`STALL`] and two looks on top,
/// such a call ends after some 5 s.
const PATIENCE: Duration = Duration::from_secs(4);
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Byte limit of a wait's label in the log.
const NAME: usize = 120;

/// The pulse of one runtime. An idle one takes a few words.
pub(crate) struct Pulse {
    executor: Handle,
    /// Turns of app code in the driver's task.
    pub(crate) driver: Turns,
    /// Here for locality: each cycle touches the fields beside it.
    pub(crate) wall: Wall,
    /// Set while there is a vigil or an unanswered question.
    inner: Mutex<Option<Box<PulseState>>>,
    /// The subscriber and span for logs: the deadline thread has no subscriber.
    logs: OnceLock<Box<(Dispatch, Span)>>,
}

struct PulseState {
    me: Weak<Pulse>,
    vigils: BTreeMap<u64, Arc<VigilRecord>>,
    next_number: u64,
    /// The next look of the deadline thread.
    armed: Option<(RealInstant, Deadline)>,
    /// The unanswered question to the executor.
    asked: Option<OpenQuestion>,
    driver: Meter,
}

struct OpenQuestion {
    at: BothClocks,
    /// Since when tokio's clock has run along.
    since: BothClocks,
    logged: bool,
    by: Culprit,
}

/// The record of a vigil.
struct VigilRecord {
    /// The wait's label, for the log.
    name: String,
    /// Whether stalls are measured also before it is due.
    measures: bool,
    /// Whether a driver that is stuck in app code counts like an executor without turns.
    needs_driver: bool,
    judging: Turns,
    state: Mutex<VigilState>,
}

struct VigilState {
    /// When the executor owes a turn.
    due: Instant,
    /// The same on the system's clock, if tokio's runs along.
    due_really: RealInstant,
    waker: Option<AppValue<Waker>>,
    overdue: bool,
    longest: Option<Stall>,
    meter: Meter,
}

impl VigilRecord {
    fn lock(&self) -> MutexGuard<'_, VigilState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl VigilState {
    fn saw(&mut self, stall: Option<Stall>) {
        if let Some(stall) = stall
            && stall.long >= STALL
            && self.longest.is_none_or(|longest| longest.long < stall.long)
        {
            self.longest = Some(stall);
        }
    }
}

impl PulseState {
    /// Makes the deadline thread look at `at`, or before.
    fn arm(&mut self, at: RealInstant) {
        // A loom model has no deadline thread.
        if cfg!(watchkeeper_loom) || self.armed.as_ref().is_some_and(|(armed, _)| *armed <= at) {
            return;
        }
        let pulse: Weak<Pulse> = Weak::clone(&self.me);
        let after = at.saturating_duration_since(RealInstant::now());
        self.armed = Some((at, expire_after(after, pulse)));
    }

    /// For how long the executor has given no turn.
    fn silence(&self, now: BothClocks) -> Option<Stall> {
        let asked = self.asked.as_ref().filter(|asked| asked.since.ran_along(now))?;
        Some(Stall { long: now.real - asked.since.real, executor: true, by: asked.by })
    }

    /// For how long the driver has been in the same call of app code.
    fn driver_stall(&self, turns: &Turns, now: BothClocks) -> Option<Stall> {
        let long = self.driver.lasted(turns, now)?;
        Some(Stall { long, executor: false, by: Culprit::Driver })
    }

    fn overdue(&self, kept: &VigilRecord, due: Instant, driver: &Turns, now: BothClocks) -> Option<Duration> {
        let stuck = self.silence(now).filter(|stall| stall.long >= STALL);
        let stuck = stuck.or_else(|| {
            self.driver_stall(driver, now).filter(|stall| kept.needs_driver && stall.long >= STALL)
        });
        stuck.filter(|_| due <= now.tokio).map(|stall| stall.long)
    }
}

/// The guard of a state that is present.
struct Locked<'a>(MutexGuard<'a, Option<Box<PulseState>>>);

const KNOWN: &str = "what is locked is there";

impl Deref for Locked<'_> {
    type Target = PulseState;

    fn deref(&self) -> &PulseState {
        self.0.as_deref().expect(KNOWN)
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut PulseState {
        self.0.as_deref_mut().expect(KNOWN)
    }
}

impl Locked<'_> {
    /// An idle runtime keeps no state and is not checked: after many starts at once, the deadline thread would have
    /// as many looks to make.
    fn tidy(mut self) {
        if self.vigils.is_empty() {
            self.armed = None;
            if self.asked.is_none() {
                *self.0 = None;
            }
        }
    }
}

impl Pulse {
    pub(crate) fn of(executor: Handle) -> Arc<Self> {
        let driver = Turns::default();
        Arc::new(Self { executor, driver, wall: Wall::now(), inner: Mutex::new(None), logs: OnceLock::new() })
    }

    pub(crate) fn executor(&self) -> &Handle {
        &self.executor
    }

    /// Sets the span for logs.
    pub(crate) fn logs_as(&self, span: &Span) {
        let subscriber = tracing::dispatcher::get_default(Dispatch::clone);
        if !subscriber.is::<NoSubscriber>() {
            let _ = self.logs.set(Box::new((subscriber, span.clone())));
        }
    }

    /// `None` while there is no state.
    fn lock(&self) -> Option<Locked<'_>> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.is_some().then_some(Locked(inner))
    }

    /// Keeps a vigil for the wait `name`, which measures stalls.
    pub(crate) fn measure(self: &Arc<Self>, name: &str) -> Vigil {
        let now = BothClocks::at(&self.executor);
        let never = later(now.tokio, NEVER);
        self.keep(
            VigilRecord { name: one_line(name, NAME), measures: true, ..VigilRecord::new(never, now) },
            now,
        )
    }

    /// Ready when the executor gives no turn although one is `due`, which is after 4 s at the latest. Returns how
    /// long there was none. With `needs_driver`, also when app code blocks the driver that long.
    pub(crate) async fn no_turn(self: &Arc<Self>, due: Option<Instant>, needs_driver: bool) -> Duration {
        let now = BothClocks::at(&self.executor);
        let patient = later(now.tokio, PATIENCE);
        let due = due.map_or(patient, |due| due.min(patient));
        self.no_turn_at(due, needs_driver).await
    }

    /// Ready when the executor owes a turn since `due` and gives none.
    pub(crate) async fn no_turn_at(self: &Arc<Self>, due: Instant, needs_driver: bool) -> Duration {
        let now = BothClocks::at(&self.executor);
        let mut vigil = self.keep(VigilRecord { needs_driver, ..VigilRecord::new(due, now) }, now);
        poll_fn(|context| vigil.poll(context)).await
    }

    fn keep(self: &Arc<Self>, kept: VigilRecord, now: BothClocks) -> Vigil {
        let kept = Arc::new(kept);
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = inner.get_or_insert_with(|| {
            Box::new(PulseState {
                me: Arc::downgrade(self),
                vigils: BTreeMap::new(),
                next_number: 0,
                armed: None,
                asked: None,
                driver: Meter::default(),
            })
        });
        let number = inner.next_number;
        inner.next_number += 1;
        inner.vigils.insert(number, Arc::clone(&kept));
        inner.arm(kept.next_look(now));
        Vigil { pulse: Arc::clone(self), kept, number, doubted: None }
    }

    /// The current stall, for a sentence about its cause.
    pub(crate) fn stall(&self) -> Option<Stall> {
        let inner = self.lock()?;
        let now = BothClocks::at(&self.executor);
        let stall = inner.silence(now).filter(|stall| stall.long >= STALL);
        stall.or_else(|| inner.driver_stall(&self.driver, now).filter(|stall| stall.long >= STALL))
    }

    fn answered(&self) {
        let now = BothClocks::at(&self.executor);
        let Some(mut inner) = self.lock() else { return };
        let stall = inner.silence(now);
        inner.asked = None;
        for kept in inner.vigils.values() {
            kept.lock().saw(stall);
        }
        inner.tidy();
    }

    fn log(&self, write: impl FnOnce(&Span)) {
        match self.logs.get() {
            Some(logs) => tracing::dispatcher::with_default(&logs.0, || write(&logs.1)),
            None => write(&Span::none()),
        }
    }
}

/// Answers when the task runs, or when it is dropped because its executor has ended.
struct AnswerOnDrop(Weak<Pulse>);

impl Drop for AnswerOnDrop {
    fn drop(&mut self) {
        if let Some(pulse) = self.0.upgrade() {
            pulse.answered();
        }
    }
}

impl Expire for Pulse {
    /// One look of the deadline thread.
    fn expire(&self) {
        let now = BothClocks::at(&self.executor);
        let mut seen = LookEffects::default();
        let ask = {
            let Some(mut inner) = self.lock() else { return };
            inner.armed = None;
            if inner.vigils.is_empty() {
                return inner.tidy();
            }
            let ask = self.look(&mut inner, now, &mut seen);
            if let Some(next) = inner.vigils.values().map(|kept| kept.next_look(now)).min() {
                inner.arm(next);
            }
            ask.then(|| AnswerOnDrop(Weak::clone(&inner.me)))
        };
        if let Some(answer) = ask {
            // Spawned without our lock: a task that cannot run is dropped right here, which answers.
            drop(self.executor.spawn(async move { drop(answer) }));
        }
        for (stall, wait) in seen.logs {
            self.log(|span| tracing::warn!(parent: span, wait, "{stall}"));
        }
        for waker in seen.wakers {
            // A waker is foreign code: one that panics must not keep the others asleep.
            if let Err(panic) = catch(|| waker.wake_by_ref()) {
                log_panic("waking a wait", &panic);
            }
        }
    }
}

/// The effects of a look, applied without the lock.
#[derive(Default)]
struct LookEffects {
    wakers: Vec<AppValue<Waker>>,
    logs: Vec<(Stall, Option<String>)>,
}

impl Pulse {
    /// Returns whether to ask the executor.
    fn look(&self, inner: &mut PulseState, now: BothClocks, seen: &mut LookEffects) -> bool {
        inner.driver.look(&self.driver, now);
        let mut by = Culprit::Unknown;
        if inner.driver_stall(&self.driver, now).is_some_and(|stall| stall.long >= LOOK) {
            by = Culprit::Driver;
        }
        let mut predicate = None;
        for kept in inner.vigils.values() {
            let mut state = kept.lock();
            state.meter.look(&kept.judging, now);
            if let Some(long) = state.meter.lasted(&kept.judging, now).filter(|long| *long >= LOOK) {
                by = Culprit::Predicate;
                state.saw(Some(Stall { long, executor: false, by }));
                if long >= LOGGED && !std::mem::replace(&mut state.meter.logged, true) {
                    predicate = Some((Stall { long, executor: false, by }, Some(kept.name.clone())));
                }
            }
        }
        let ask = match &mut inner.asked {
            None => {
                inner.asked = Some(OpenQuestion { at: now, since: now, logged: false, by });
                true
            }
            Some(asked) => {
                if !asked.since.ran_along(now) {
                    asked.since = now;
                }
                if by != Culprit::Unknown {
                    asked.by = by;
                }
                false
            }
        };
        let silence = inner.silence(now);
        let stuck = inner.driver_stall(&self.driver, now);
        for kept in inner.vigils.values() {
            let mut state = kept.lock();
            state.saw(silence);
            state.saw(stuck);
            if inner.overdue(kept, state.due, &self.driver, now).is_some() {
                state.overdue = true;
                seen.wakers.extend(state.waker.take());
            }
        }
        self.note_logs(inner, now, predicate, seen);
        ask
    }

    /// Logs one line for each stall, about the largest part that stands still.
    fn note_logs(
        &self,
        inner: &mut PulseState,
        now: BothClocks,
        predicate: Option<(Stall, Option<String>)>,
        seen: &mut LookEffects,
    ) {
        if let Some(asked) = &mut inner.asked
            && now.real - asked.at.real >= LOGGED
        {
            if !std::mem::replace(&mut asked.logged, true) {
                inner.driver.logged = true;
                let long = now.real - asked.at.real;
                let name = predicate.and_then(|(_, name)| name);
                seen.logs.push((Stall { long, executor: true, by: asked.by }, name));
            }
            return;
        }
        seen.logs.extend(predicate);
        if let Some(stall) = inner.driver_stall(&self.driver, now)
            && stall.long >= LOGGED
            && !std::mem::replace(&mut inner.driver.logged, true)
        {
            seen.logs.push((stall, None));
        }
    }
}

impl VigilRecord {
    fn new(due: Instant, now: BothClocks) -> Self {
        let state = VigilState {
            due,
            due_really: now.real + due.saturating_duration_since(now.tokio),
            waker: None,
            overdue: false,
            longest: None,
            meter: Meter::default(),
        };
        Self {
            name: String::new(),
            measures: false,
            needs_driver: false,
            judging: Turns::default(),
            state: Mutex::new(state),
        }
    }

    fn next_look(&self, now: BothClocks) -> RealInstant {
        let soon = now.real + LOOK;
        if self.measures { soon } else { self.lock().due_really.max(soon) }
    }
}

/// Kept by a waiting call. Dropping it removes its record.
pub(crate) struct Vigil {
    pulse: Arc<Pulse>,
    kept: Arc<VigilRecord>,
    number: u64,
    /// When its owner first saw that it is overdue.
    doubted: Option<RealInstant>,
}

impl Vigil {
    /// Sets when the executor owes a turn to a vigil that measures.
    pub(crate) fn is_due(&self, due: Instant) {
        self.kept.lock().due = due;
    }

    /// Ready when it is overdue, with how long there was no turn.
    ///
    /// The owner may be a task of that executor, and this poll its first action after a freeze. So one look is not
    /// enough: the executor's answer comes before the next look.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Duration> {
        let (overdue, due, old) = {
            let mut state = self.kept.lock();
            let known = state.waker.as_ref().is_some_and(|known| known.will_wake(context.waker()));
            let old = if known { None } else { state.waker.replace(AppValue::new(context.waker().clone())) };
            (std::mem::take(&mut state.overdue), state.due, old)
        };
        // Dropping a waker may drop its task: not under our lock.
        drop(old);
        if !overdue {
            return Poll::Pending;
        }
        let now = BothClocks::at(&self.pulse.executor);
        let inner = self.pulse.lock();
        let Some(long) = inner.and_then(|inner| inner.overdue(&self.kept, due, &self.pulse.driver, now))
        else {
            self.doubted = None;
            return Poll::Pending;
        };
        match self.doubted {
            Some(since) if now.real - since >= LOOK / 2 => Poll::Ready(long),
            Some(_) => Poll::Pending,
            None => {
                self.doubted = Some(now.real);
                Poll::Pending
            }
        }
    }

    /// Runs the owner's predicates.
    pub(crate) fn judging<T>(&self, predicates: impl FnOnce() -> T) -> T {
        self.kept.judging.inside(predicates)
    }

    /// The longest stall while it was kept, if it was long enough to count.
    pub(crate) fn longest_stall(&self) -> Option<Stall> {
        let now = BothClocks::at(&self.pulse.executor);
        let (silence, stuck) = {
            let inner = self.pulse.lock()?;
            (inner.silence(now), inner.driver_stall(&self.pulse.driver, now))
        };
        let mut state = self.kept.lock();
        state.saw(silence);
        state.saw(stuck);
        state.longest
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        let kept = self.pulse.lock().and_then(|mut inner| {
            let kept = inner.vigils.remove(&self.number);
            inner.tidy();
            kept
        });
        // Dropping a waker may drop its task: not under a lock.
        let waker = self.kept.lock().waker.take();
        drop((kept, waker));
    }
}
