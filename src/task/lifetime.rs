//! The life of a machine as seen from outside: the requested stop, and the end.

use std::future::poll_fn;
use std::sync::atomic::Ordering::AcqRel;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use crate::panics::{catch, log_panic};
use crate::pulse::Pulse;
use crate::task::deadline::{Deadline, Expire, expire_after};
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// Why a machine ended, as far as the driver needs to know.
pub(crate) trait Reason: Copy + Send + Sync + 'static {
    /// The stop was requested.
    const REQUESTED: Self;
    /// Its task was dropped, as an executor does when it shuts down.
    const SHUTDOWN: Self;
    /// Its end was published without a reason.
    const DIED: Self;
    /// The stop's deadline came before the end. `None`: the reason of the stop counts.
    const GIVEN_UP: Option<Self> = None;
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a detached runtime still has app code running"]
pub enum StopOutcome {
    /// The driver has ended and runs no more app code. A task that the app has spawned, such as a probe of
    /// `PerSource`, ends at its next await.
    Stopped,
    /// The driver did not end within `stop_timeout`: app code blocks its thread, which cannot be cancelled, or nobody
    /// drives its executor. The runtime counts as stopped and publishes nothing more.
    ///
    /// Run blocking work in [`tokio::task::spawn_blocking`].
    Detached,
}

/// Publishes the end, from any thread. Called more than once; the first call counts.
pub(crate) trait Terminate<X>: Send + Sync {
    fn terminate(&self, reason: X);
}

/// The outside view of a machine: the requested stop, and the end.
pub(crate) struct Lifetime<X> {
    request: OnceLock<X>,
    end: OnceLock<X>,
    /// How many items the mailbox has. It is here because the driver of an idle machine reads nothing else of the
    /// mailbox.
    pub(super) items: AtomicUsize,
    /// The driver has left its waker. Both sides change this by read-modify-write: who comes second sees what the first
    /// one did before.
    driver_waits: AtomicBool,
    course: Mutex<Course>,
    terminate: Arc<dyn Terminate<X>>,
    stop_timeout: Duration,
    pub(crate) pulse: Arc<Pulse>,
}

/// The machine's progress to its end, and the waiters for it.
#[derive(Default)]
struct Course {
    /// After `end`: nothing more is published.
    over: bool,
    /// The driver's task has dropped everything.
    done: bool,
    /// A stop was requested, and its deadline came before `done`.
    given_up: bool,
    /// The driver's waker, for stops and items.
    driver: Option<Waker>,
    /// Waiters for `over`.
    for_end: Waiting,
    /// Waiters for `done` or `given_up`. They are separate: if the end woke them on another thread, they would only
    /// wait once more.
    for_stop: Waiting,
    /// The stop's deadline, until the driver's task has dropped everything.
    deadline: Option<(Instant, Deadline)>,
}

/// Selects the waiters for one step.
type Waiters = fn(&mut Course) -> &mut Waiting;

/// A waiter for one step.
struct Waiter<'a> {
    course: &'a Mutex<Course>,
    waiters: Waiters,
    place: WakerSlot,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let waker = (self.waiters)(&mut locked(self.course)).leave(&mut self.place);
            drop_waker(waker);
        }
    }
}

impl<X: Reason> Lifetime<X> {
    pub(super) fn new(
        terminate: Arc<dyn Terminate<X>>,
        stop_timeout: Duration,
        pulse: &Arc<Pulse>,
    ) -> Arc<Self> {
        Arc::new(Self {
            request: OnceLock::new(),
            end: OnceLock::new(),
            items: AtomicUsize::new(0),
            driver_waits: AtomicBool::new(false),
            course: Mutex::default(),
            terminate,
            stop_timeout,
            pulse: Arc::clone(pulse),
        })
    }

    /// The reason of the requested stop.
    pub(super) fn requested(&self) -> Option<X> {
        self.request.get().copied()
    }

    /// Requests the stop; the first reason counts. Needs no executor.
    ///
    /// If the driver has not ended by the deadline, the end is published anyway.
    pub(crate) fn request_stop(self: &Arc<Self>, reason: X) {
        if self.request.set(reason).is_ok() {
            // Woken first, so that it can end on another thread while the deadline is set.
            self.wake_driver();
            self.give_up_after(self.stop_timeout);
        }
    }

    /// Sets the stop's deadline, unless there is an earlier one.
    pub(crate) fn give_up_after(self: &Arc<Self>, timeout: Duration) {
        let at = Instant::now() + timeout;
        let is_of_use = |course: &Course| {
            !course.done && course.deadline.as_ref().is_none_or(|(earlier, _)| at < *earlier)
        };
        if !is_of_use(&locked(&self.course)) {
            return;
        }
        let life: Weak<Self> = Arc::downgrade(self);
        let mut deadline = Some((at, expire_after(timeout, life)));
        {
            let mut course = locked(&self.course);
            // It may have ended in between.
            if is_of_use(&course) {
                std::mem::swap(&mut course.deadline, &mut deadline);
            }
        }
        drop(deadline);
    }

    /// Registers the driver's waker for stops and items.
    pub(super) fn wakes_driver(&self, waker: &Waker) {
        let mut course = locked(&self.course);
        let is_known = course.driver.as_ref().is_some_and(|known| known.will_wake(waker));
        let old = if is_known { None } else { course.driver.replace(waker.clone()) };
        drop(course);
        self.driver_waits.swap(true, AcqRel);
        drop_waker(old);
    }

    /// Wakes the driver after something was left for it. A driver that does not wait checks before it waits.
    pub(crate) fn wake_driver(&self) {
        if !self.driver_waits.swap(false, AcqRel) {
            return;
        }
        let driver = locked(&self.course).driver.take();
        wake_all(&mut Vec::from_iter(driver));
    }

    /// Takes a step, and wakes its waiters.
    fn step(&self, waiters: Waiters, step: impl FnOnce(&mut Course)) {
        let mut wakers = Vec::new();
        {
            let mut course = locked(&self.course);
            step(&mut course);
            waiters(&mut course).take(&mut wakers);
        }
        wake_all(&mut wakers);
    }

    /// Waits until `look` finds something.
    async fn until<T>(&self, waiters: Waiters, look: impl Fn(&Course) -> Option<T>) -> T {
        let mut waiter = Waiter { course: &self.course, waiters, place: WakerSlot::default() };
        poll_fn(|context| {
            let mut course = locked(&self.course);
            if let Some(found) = look(&course) {
                return Poll::Ready(found);
            }
            let old = waiters(&mut course).wait(&mut waiter.place, context.waker());
            drop(course);
            drop_waker(old);
            Poll::Pending
        })
        .await
    }

    /// The reason of the end, if the machine has ended.
    pub(crate) fn ended(&self) -> Option<X> {
        self.end.get().copied()
    }

    /// Waits for the end.
    pub(crate) async fn end_reason(&self) -> X {
        self.until(|course| &mut course.for_end, |course| course.over.then_some(())).await;
        self.ended().unwrap_or(X::DIED)
    }

    /// Requests the stop and waits for the end, at most until `stop_timeout` after the first request.
    pub(crate) async fn stop(self: &Arc<Self>) -> StopOutcome {
        self.request_stop(X::REQUESTED);
        let outcome = |course: &Course| match course {
            Course { done: true, .. } => Some(StopOutcome::Stopped),
            Course { given_up: true, .. } => Some(StopOutcome::Detached),
            _ => None,
        };
        self.until(|course| &mut course.for_stop, outcome).await
    }

    /// Publishes the end; the first reason counts. Waiters are woken even if publishing panics.
    pub(crate) fn end(&self, reason: X) {
        let reason = *self.end.get_or_init(|| reason);
        if let Err(panic) = catch(|| self.terminate.terminate(reason)) {
            log_panic("publishing the end", &panic);
        }
        self.step(|course| &mut course.for_end, |course| course.over = true);
    }
}

/// The stop's deadline has come.
impl<X: Reason> Expire for Lifetime<X> {
    fn expire(&self) {
        let done = locked(&self.course).done;
        if let (false, Some(&reason)) = (done, self.request.get()) {
            self.end(X::GIVEN_UP.unwrap_or(reason));
            self.step(|course| &mut course.for_stop, |course| course.given_up = true);
        }
    }
}

/// Publishes the end when dropped. The driver's task drops it last, also when the executor drops the task.
pub(crate) struct EndGuard<X: Reason> {
    life: Arc<Lifetime<X>>,
}

impl<X: Reason> EndGuard<X> {
    pub(super) fn of(life: &Arc<Lifetime<X>>) -> Self {
        Self { life: Arc::clone(life) }
    }
}

impl<X: Reason> Drop for EndGuard<X> {
    fn drop(&mut self) {
        let reason = match self.life.request.get() {
            Some(&reason) => reason,
            None => X::SHUTDOWN,
        };
        self.life.end(reason);
        let mut left = (None, None);
        self.life.step(
            |course| &mut course.for_stop,
            |course| {
                course.done = true;
                left = (course.deadline.take(), course.driver.take());
            },
        );
        let (deadline, driver) = left;
        drop(deadline);
        drop_waker(driver);
    }
}

/// No app code runs under these locks, so a poisoned one still guards a consistent value.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
