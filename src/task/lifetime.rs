//! The life of a machine as the outside holds it: the stop that was asked for, and the end.

use std::future::poll_fn;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use crate::panics::{catch, log_panic};
use crate::pulse::Pulse;
use crate::task::deadline::{Deadline, Expire, expire_after};
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// Why a machine ended, as far as what runs it needs to know.
pub(crate) trait Reason: Copy + Send + Sync + 'static {
    /// Somebody asked for it.
    const REQUESTED: Self;
    /// Its task was dropped, as an executor does when it shuts down.
    const SHUTDOWN: Self;
    /// Its end was published without a reason.
    const DIED: Self;
}

/// How a stop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a detached runtime still has app code running"]
pub enum StopOutcome {
    /// The driver has ended: it runs no app code any more. A task that the app has spawned, such as a
    /// probe of `PerSource`, ends at its next await.
    Stopped,
    /// The driver had no turn to end in until `stop_timeout`: app code blocked its thread, which cannot be
    /// cancelled, or nobody drives its executor. The runtime counts as stopped, and nothing that is done
    /// later is published.
    ///
    /// Blocking work belongs into [`tokio::task::spawn_blocking`].
    Detached,
}

/// Publishes the end, from whatever thread finds it out. Called more than once; the first counts.
pub(crate) trait Terminate<X>: Send + Sync {
    fn terminate(&self, reason: X);
}

/// What the outside knows of a machine: that it was asked to stop, and that it has ended.
pub(crate) struct Lifetime<X> {
    request: OnceLock<X>,
    end: OnceLock<X>,
    /// How many controls the mailbox has; here, because an idle machine's driver looks at nothing else of it.
    pub(super) controls: AtomicUsize,
    course: Mutex<Course>,
    terminate: Arc<dyn Terminate<X>>,
    stop_timeout: Duration,
    pub(super) pulse: Arc<Pulse>,
}

/// How far it has come, and who is to know.
#[derive(Default)]
struct Course {
    /// After `end`: nothing more is published.
    over: bool,
    /// The driver's task has let go of everything.
    done: bool,
    /// A stop was asked for, and its deadline came before that.
    given_up: bool,
    /// The driver's, for stops and controls.
    driver: Option<Waker>,
    /// For `over`.
    for_end: Waiting,
    /// For `done` or `given_up`: on another thread, one that was woken by the end would only wait once more.
    for_stop: Waiting,
    /// Of the stop, until the driver's task has let go of everything.
    deadline: Option<Deadline>,
}

/// Those who wait for one step of the course.
type Waiters = fn(&mut Course) -> &mut Waiting;

/// Who waits for a step of the course.
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
            controls: AtomicUsize::new(0),
            course: Mutex::default(),
            terminate,
            stop_timeout,
            pulse: Arc::clone(pulse),
        })
    }

    /// The reason of the stop that was asked for.
    pub(super) fn requested(&self) -> Option<X> {
        self.request.get().copied()
    }

    /// Asks for the stop; the first reason counts. Needs no executor.
    ///
    /// When the driver has not ended by the deadline, the end is published all the same.
    pub(crate) fn request_stop(self: &Arc<Self>, reason: X) {
        if self.request.set(reason).is_ok() {
            // First: on another thread it ends while the deadline is set.
            self.wake_driver();
            if locked(&self.course).done {
                return;
            }
            let life: Weak<Self> = Arc::downgrade(self);
            let mut deadline = Some(expire_after(self.stop_timeout, life));
            {
                let mut course = locked(&self.course);
                // It may have ended in between.
                if !course.done {
                    course.deadline = deadline.take();
                }
            }
            drop(deadline);
        }
    }

    /// The driver's task is to be woken by stops and controls.
    pub(super) fn wakes_driver(&self, waker: &Waker) {
        let mut course = locked(&self.course);
        if course.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        let old = course.driver.replace(waker.clone());
        drop(course);
        drop_waker(old);
    }

    pub(super) fn wake_driver(&self) {
        let driver = locked(&self.course).driver.take();
        wake_all(&mut Vec::from_iter(driver));
    }

    /// Takes a step, and wakes those who wait for one.
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

    /// The reason of the end, if it has come.
    pub(crate) fn ended(&self) -> Option<X> {
        self.end.get().copied()
    }

    /// Waits for the end.
    pub(crate) async fn end_reason(&self) -> X {
        self.until(|course| &mut course.for_end, |course| course.over.then_some(())).await;
        self.ended().unwrap_or(X::DIED)
    }

    /// Asks for the stop and waits for the end, at most until `stop_timeout` after the first one
    /// asked.
    pub(crate) async fn stop(self: &Arc<Self>) -> StopOutcome {
        self.request_stop(X::REQUESTED);
        let outcome = |course: &Course| match course {
            Course { done: true, .. } => Some(StopOutcome::Stopped),
            Course { given_up: true, .. } => Some(StopOutcome::Detached),
            _ => None,
        };
        self.until(|course| &mut course.for_stop, outcome).await
    }

    /// Publishes the end; the first reason counts. Those who wait for it are woken whatever happens.
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
            self.end(reason);
            self.step(|course| &mut course.for_stop, |course| course.given_up = true);
        }
    }
}

/// Publishes the end when it is dropped, which the driver's task arranges to be last: also when the
/// executor drops the task.
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

/// No app code runs under these locks, so that a poisoned one still guards a consistent value.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
