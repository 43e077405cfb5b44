//! Running a machine: controls come in by a mailbox, work is raced against them, the end is published
//! in any case.
//!
//! This module knows nothing of observation, so that other lifecycles can ride it. A [`Machine`]
//! decides; the [`Inbox`] feeds it what happens, in a fixed order of precedence: the stop, then
//! controls, then the outcome of the work in flight, then wakes, then the clock. A [`Lifetime`] is
//! what the outside holds: it asks for the stop and knows the end.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};
use watchkeeper_fsm::StopReason;

use crate::clock::{Clock, later};
use crate::deadline::{Deadline, Expire, expire_after};
use crate::error::{ControlError, StopOutcome};
use crate::panics::{PanicMessage, catch, discard_logged, log_panic, poll_caught};
use crate::pulse::Pulse;
use crate::shield::shielded;
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};
use crate::wake::Wake;

/// How often a driver looks for more before others have their turn: controls and wakes may come without end.
const ROUNDS: usize = 16;

/// Controls that may wait to be taken.
const CONTROLS: usize = 16;

/// What is driven. Each method is one ordinary event; none of them blocks or awaits.
pub(crate) trait Machine {
    type Control: Copy;
    type Reply;

    /// Somebody asks for something. The reply says that it was taken.
    fn control(&mut self, control: Self::Control) -> Self::Reply;
    /// The end is asked for. Work in flight is dropped behind this call.
    fn stop(&mut self, reason: StopReason);
    /// When the last event was taken: the work that followed from it began then.
    fn latest(&self) -> Instant;
    /// Whether it waits, rather than having work to do or having ended.
    fn is_waiting(&self) -> bool;
    /// When [`due`](Self::due) is to be called while it waits.
    fn deadline(&self) -> Option<Instant>;
    /// The deadline has come.
    fn due(&mut self, now: Instant);
    /// Something else knows that there is news.
    fn woken(&mut self);
    /// The driver is about to wait: whoever waits for what was published is to be woken.
    fn flush(&mut self);
}

/// How a unit of work ended.
pub(crate) enum Ended<T> {
    Done(T),
    TimedOut,
    Panicked(PanicMessage),
    /// The machine was stopped; it has been told.
    Stopped,
}

/// Work that has not ended. Dropped with everything else, when the executor shuts down, it takes nothing along.
struct WorkInFlight<'a, F>(Pin<&'a mut Option<F>>);

impl<F> WorkInFlight<'_, F> {
    /// Drops it.
    fn end(&mut self) -> Result<(), PanicMessage> {
        catch(|| self.0.set(None))
    }
}

impl<F> Drop for WorkInFlight<'_, F> {
    fn drop(&mut self) {
        if let Err(panic) = self.end() {
            log_panic("dropping work in flight", &panic);
        }
    }
}

struct Request<C, R> {
    control: C,
    reply: oneshot::Sender<R>,
}

/// Controls on their way. Empty, it has no memory of its own: there is one for each of many idle machines.
struct Mailbox<C, R>(Mutex<Requests<C, R>>);

struct Requests<C, R> {
    waiting: VecDeque<Request<C, R>>,
    closed: bool,
}

/// Why a control was not put into the mailbox.
enum Refused {
    Full,
    Closed,
}

impl<C, R> Mailbox<C, R> {
    fn new() -> Self {
        Self(Mutex::new(Requests { waiting: VecDeque::new(), closed: false }))
    }

    /// `count` is what there is to take.
    fn put(&self, request: Request<C, R>, count: &AtomicUsize) -> Result<(), Refused> {
        let mut requests = locked(&self.0);
        if requests.closed {
            return Err(Refused::Closed);
        }
        if requests.waiting.len() == CONTROLS {
            return Err(Refused::Full);
        }
        requests.waiting.push_back(request);
        count.store(requests.waiting.len(), Relaxed);
        Ok(())
    }

    fn take(&self, count: &AtomicUsize) -> Option<Request<C, R>> {
        let mut requests = locked(&self.0);
        let request = requests.waiting.pop_front();
        count.store(requests.waiting.len(), Relaxed);
        if requests.waiting.is_empty() {
            requests.waiting = VecDeque::new();
        }
        request
    }

    /// Nobody takes controls any more: those who wait for a reply learn it.
    fn close(&self) {
        let waiting = {
            let mut requests = locked(&self.0);
            requests.closed = true;
            std::mem::take(&mut requests.waiting)
        };
        drop(waiting);
    }
}

/// The side that the driver owns.
pub(crate) struct Inbox<C, R> {
    mailbox: Arc<Mailbox<C, R>>,
    life: Arc<Lifetime>,
    wake: Option<Wake>,
    timer: Pin<Box<Sleep>>,
}

impl<C, R> Drop for Inbox<C, R> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// Both ends of a machine's life.
pub(crate) fn life<C, R>(
    clock: &Clock,
    stop_timeout: Duration,
    wake: Option<&Arc<Notify>>,
    end: Arc<dyn Terminate>,
) -> (ControlSender<C, R>, Inbox<C, R>, EndGuard) {
    let mailbox = Arc::new(Mailbox::new());
    let timer = Box::pin(clock.sleep_until(clock.now()));
    let life = Arc::new(Lifetime {
        request: OnceLock::new(),
        end: OnceLock::new(),
        controls: AtomicUsize::new(0),
        course: Mutex::default(),
        terminate: end,
        stop_timeout,
        pulse: Arc::clone(clock.pulse()),
    });
    let inbox =
        Inbox { mailbox: Arc::clone(&mailbox), life: Arc::clone(&life), wake: wake.map(Wake::new), timer };
    let guard = EndGuard { life: Arc::clone(&life) };
    (ControlSender { mailbox, life }, inbox, guard)
}

impl<C: Copy, R> Inbox<C, R> {
    /// Runs one unit of work to its end. Controls are taken meanwhile.
    ///
    /// In each poll of the driver's task the work is polled once. What comes while it yields is taken in the same turn,
    /// without another poll of the work.
    ///
    /// Whatever happens, the work has been dropped when this returns; a destructor that panics
    /// makes the work one that panicked. An output that is not returned is dropped here, where its destructor may
    /// panic once: one that has several values of the app holds each of them in an `AppValue`.
    pub(crate) async fn race<F: Future>(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R>,
        timeout: Duration,
        work: F,
    ) -> Ended<F::Output> {
        let began = machine.latest();
        let mut work = WorkInFlight(pin!(Some(work)));
        let mut armed = false;
        let mut ended = poll_fn(|context| {
            if self.stop_was_asked(machine) {
                return Poll::Ready(Ended::Stopped);
            }
            self.take_controls(machine);
            let Some(future) = work.0.as_mut().as_pin_mut() else { return Poll::Ready(Ended::Stopped) };
            match self.life.pulse.driver.inside(|| poll_caught(future, context)) {
                Poll::Ready(Ok(output)) => return Poll::Ready(Ended::Done(output)),
                Poll::Ready(Err(panic)) => return Poll::Ready(Ended::Panicked(panic)),
                Poll::Pending => {}
            }
            if !armed {
                // Work that is ready at once never touches the timer.
                self.timer.as_mut().reset(later(began, timeout));
                armed = true;
            }
            // Work that is never idle leaves nothing of the task's budget for its own deadline.
            if pin!(unconstrained(self.timer.as_mut())).poll(context).is_ready() {
                return Poll::Ready(Ended::TimedOut);
            }
            // What has come meanwhile is taken. The work is not polled again for it: work that yields means to.
            for _ in 0..ROUNDS {
                if self.suspend(machine, context).is_pending() {
                    return Poll::Pending;
                }
                if self.stop_was_asked(machine) {
                    return Poll::Ready(Ended::Stopped);
                }
            }
            yields(context)
        })
        .await;
        // The stop goes before the outcome, also when it was asked for while app code held the thread.
        if !matches!(ended, Ended::Stopped) && self.stop_was_asked(machine) {
            let ended = std::mem::replace(&mut ended, Ended::Stopped);
            discard_logged(ended, "the outcome of a stopped machine's work");
        }
        let Err(panic) = work.end() else { return ended };
        match ended {
            Ended::Done(output) => {
                // The output is the app's as well.
                discard_logged(output, "what work returned whose destructor panicked");
                Ended::Panicked(format!("after it was done, in a destructor: {panic}"))
            }
            Ended::TimedOut => {
                Ended::Panicked(format!("timed out after {timeout:?}, then its destructor panicked: {panic}"))
            }
            Ended::Panicked(first) => {
                Ended::Panicked(format!("{first}; then its destructor panicked: {panic}"))
            }
            Ended::Stopped => {
                log_panic("dropping the work of a stopped machine", &panic);
                Ended::Stopped
            }
        }
    }

    /// Waits until the machine has work to do or has ended.
    pub(crate) async fn wait(&mut self, machine: &mut impl Machine<Control = C, Reply = R>) {
        let mut armed = None;
        // Until the task is suspended, no time passes that matters.
        let mut latest = Some(machine.latest());
        poll_fn(|context| {
            let mut known = latest.take();
            for _ in 0..ROUNDS {
                if self.stop_was_asked(machine) {
                    return Poll::Ready(());
                }
                self.take_controls(machine);
                if self.wake.as_mut().is_some_and(Wake::was_woken) {
                    machine.woken();
                }
                if !machine.is_waiting() {
                    return Poll::Ready(());
                }
                if let Some(deadline) = machine.deadline() {
                    let now = *known.get_or_insert_with(Instant::now);
                    if deadline <= now {
                        machine.due(now);
                        continue;
                    }
                    if armed != Some(deadline) {
                        self.timer.as_mut().reset(deadline);
                        armed = Some(deadline);
                    }
                    if self.timer.as_mut().poll(context).is_ready() {
                        armed = None;
                        machine.due(deadline.max(Instant::now()));
                        continue;
                    }
                }
                ready!(self.suspend(machine, context));
            }
            yields(context)
        })
        .await;
    }

    /// Whether the stop was asked for.
    pub(crate) fn is_stopping(&self) -> bool {
        self.life.request.get().is_some()
    }

    /// Without arranging to be woken: cheap enough for work that is always ready.
    fn stop_was_asked(&self, machine: &mut impl Machine<Control = C, Reply = R>) -> bool {
        let asked = self.life.request.get();
        if let Some(&reason) = asked {
            machine.stop(reason);
        }
        asked.is_some()
    }

    /// Wakes everyone who waits for what has happened, and arranges to be woken by what comes next; ready when
    /// something has come in the meantime, so that the caller looks again.
    fn suspend(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        machine.flush();
        // Registered first: what comes after the looks below wakes.
        self.life.wakes_driver(context.waker());
        if self.life.request.get().is_some() {
            return Poll::Ready(());
        }
        let controls = self.take_controls(machine);
        let woken = self.poll_wake(machine, context);
        if controls || woken { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there were any. One that is put in after this look wakes the driver, if its waker is registered: the
    /// lock of the course orders the two, and with them the count.
    fn take_controls(&mut self, machine: &mut impl Machine<Control = C, Reply = R>) -> bool {
        let mut taken = false;
        if self.life.controls.load(Relaxed) == 0 {
            return taken;
        }
        // As many as there is room for: those who ask may refill it without end.
        for _ in 0..CONTROLS {
            let Some(Request { control, reply }) = self.mailbox.take(&self.life.controls) else { break };
            taken = true;
            // Whoever asked may have gone; it was taken all the same.
            let _ = reply.send(machine.control(control));
        }
        taken
    }

    /// Whether there was one.
    fn poll_wake(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R>,
        context: &mut Context<'_>,
    ) -> bool {
        let woken = self.wake.as_mut().is_some_and(|wake| wake.poll(context).is_ready());
        if woken {
            machine.woken();
        }
        woken
    }
}

/// Publishes the end, from whatever thread finds it out. Called more than once; the first counts.
pub(crate) trait Terminate: Send + Sync {
    fn terminate(&self, reason: StopReason);
}

/// What the outside knows of a machine: that it was asked to stop, and that it has ended.
pub(crate) struct Lifetime {
    request: OnceLock<StopReason>,
    end: OnceLock<StopReason>,
    /// How many controls the mailbox has; here, because an idle machine's driver looks at nothing else of it.
    controls: AtomicUsize,
    course: Mutex<Course>,
    terminate: Arc<dyn Terminate>,
    stop_timeout: Duration,
    pulse: Arc<Pulse>,
}

/// How far it has come, and who is to know.
#[derive(Default)]
struct Course {
    /// Behind `end`: nothing more is published.
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
    life: &'a Lifetime,
    waiters: Waiters,
    place: WakerSlot,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if self.place.is_taken() {
            let waker = (self.waiters)(&mut locked(&self.life.course)).leave(&mut self.place);
            drop_waker(waker);
        }
    }
}

impl Lifetime {
    /// Asks for the stop; the first reason counts. Needs no executor.
    ///
    /// When the driver has not ended by the deadline, the end is told all the same.
    pub(crate) fn request_stop(self: &Arc<Self>, reason: StopReason) {
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
    fn wakes_driver(&self, waker: &Waker) {
        let mut course = locked(&self.course);
        if course.driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        let old = course.driver.replace(waker.clone());
        drop(course);
        drop_waker(old);
    }

    fn wake_driver(&self) {
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
        let mut waiter = Waiter { life: self, waiters, place: WakerSlot::default() };
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
    pub(crate) fn ended(&self) -> Option<StopReason> {
        self.end.get().copied()
    }

    /// Waits for the end.
    pub(crate) async fn end_reason(&self) -> StopReason {
        self.until(|course| &mut course.for_end, |course| course.over.then_some(())).await;
        self.ended().unwrap_or(StopReason::Died)
    }

    /// Asks for the stop and waits for the end, at most until `stop_timeout` after the first one
    /// asked.
    pub(crate) async fn stop(self: &Arc<Self>) -> StopOutcome {
        self.request_stop(StopReason::Requested);
        let outcome = |course: &Course| match course {
            Course { done: true, .. } => Some(StopOutcome::Stopped),
            Course { given_up: true, .. } => Some(StopOutcome::Detached),
            _ => None,
        };
        self.until(|course| &mut course.for_stop, outcome).await
    }

    /// Publishes the end; the first reason counts. Those who wait for it are woken whatever happens.
    pub(crate) fn end(&self, reason: StopReason) {
        let reason = *self.end.get_or_init(|| reason);
        if let Err(panic) = catch(|| self.terminate.terminate(reason)) {
            log_panic("publishing the end", &panic);
        }
        self.step(|course| &mut course.for_end, |course| course.over = true);
    }
}

/// The stop's deadline has come.
impl Expire for Lifetime {
    fn expire(&self) {
        let done = locked(&self.course).done;
        if let (false, Some(&reason)) = (done, self.request.get()) {
            self.end(reason);
            self.step(|course| &mut course.for_stop, |course| course.given_up = true);
        }
    }
}

/// Tells the end when it is dropped, which the driver's task arranges to be last: also when the
/// executor drops the task.
pub(crate) struct EndGuard {
    life: Arc<Lifetime>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let reason = match self.life.request.get() {
            Some(&reason) => reason,
            None => StopReason::Shutdown,
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

/// The side that controls hold.
pub(crate) struct ControlSender<C, R> {
    mailbox: Arc<Mailbox<C, R>>,
    pub(crate) life: Arc<Lifetime>,
}

impl<C, R> Clone for ControlSender<C, R> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), life: Arc::clone(&self.life) }
    }
}

impl<C, R> ControlSender<C, R> {
    /// Has the machine take a control.
    pub(crate) async fn ask(&self, control: C) -> Result<R, ControlError> {
        if let Some(reason) = self.life.ended() {
            return Err(ControlError::ended(reason));
        }
        let (reply, taken) = oneshot::channel();
        match self.mailbox.put(Request { control, reply }, &self.life.controls) {
            Ok(()) => self.life.wake_driver(),
            Err(Refused::Full) => return Err(ControlError::Full { capacity: CONTROLS }),
            Err(Refused::Closed) => return Err(self.end_of_life().await),
        }
        shielded(async {
            tokio::select! {
                biased;
                reply = taken => match reply {
                    Ok(reply) => Ok(reply),
                    Err(_) => Err(self.end_of_life().await),
                },
                error = self.end_of_life() => Err(error),
                no_turn_for = self.life.pulse.no_turn(None, true) => Err(ControlError::NotDriven { no_turn_for }),
            }
        })
        .await
    }

    /// The mailbox may close a moment before the end is published.
    async fn end_of_life(&self) -> ControlError {
        ControlError::ended(self.life.end_reason().await)
    }
}

/// No app code runs under these locks, so that a poisoned one still guards a consistent value.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Others have their turn, then this task goes on.
fn yields<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use super::*;

    struct NoRunner;

    impl Terminate for NoRunner {
        fn terminate(&self, _: StopReason) {}
    }

    /// Each used to leave some 200 bytes until its `stop_timeout`.
    #[tokio::test]
    async fn a_stop_that_is_over_leaves_no_deadline() {
        let clock = Clock::of(tokio::runtime::Handle::current());
        let hours = Duration::from_secs(24 * 3600);
        for over_before in [false, true] {
            let (remote, inbox, guard) = life::<(), ()>(&clock, hours, None, Arc::new(NoRunner));
            let kept = |remote: &ControlSender<(), ()>| Arc::weak_count(&remote.life);
            if over_before {
                drop(guard);
                remote.life.request_stop(StopReason::Requested);
            } else {
                remote.life.request_stop(StopReason::Requested);
                assert_eq!(kept(&remote), 1, "the deadline's");
                drop(guard);
            }
            assert_eq!(kept(&remote), 0, "over before it was asked for: {over_before}");
            drop(inbox);
        }
    }

    /// It was woken by the end as well, found that the driver was still there, and waited once more: on another thread
    /// that takes as long as the stop itself.
    #[tokio::test]
    async fn one_who_waits_for_the_stop_is_woken_by_nothing_else() {
        struct CountsWakes(AtomicUsize);
        impl std::task::Wake for CountsWakes {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let clock = Clock::of(tokio::runtime::Handle::current());
        let hours = Duration::from_secs(24 * 3600);
        let (remote, _inbox, guard) = life::<(), ()>(&clock, hours, None, Arc::new(NoRunner));
        let [for_stop, for_end] = [(); 2].map(|()| Arc::new(CountsWakes(AtomicUsize::new(0))));
        let wakes = || [&for_stop, &for_end].map(|wakes| wakes.0.load(Relaxed));
        let (mut stop, mut end) = (pin!(remote.life.stop()), pin!(remote.life.end_reason()));
        let (stop_waker, end_waker) = (Waker::from(Arc::clone(&for_stop)), Waker::from(Arc::clone(&for_end)));
        assert!(stop.as_mut().poll(&mut Context::from_waker(&stop_waker)).is_pending());
        assert!(end.as_mut().poll(&mut Context::from_waker(&end_waker)).is_pending());
        remote.life.end(StopReason::Requested);
        assert_eq!(wakes(), [0, 1]);
        drop(guard);
        assert_eq!(wakes(), [1, 1]);
        assert_eq!(stop.await, StopOutcome::Stopped);
    }

    /// Each control that is taken puts in another one.
    struct RefillingMailbox {
        remote: ControlSender<(), ()>,
        taken: usize,
    }

    impl RefillingMailbox {
        fn ask(&self) {
            let (reply, _) = oneshot::channel();
            assert!(
                self.remote.mailbox.put(Request { control: (), reply }, &self.remote.life.controls).is_ok()
            );
        }
    }

    impl Machine for RefillingMailbox {
        type Control = ();
        type Reply = ();

        fn control(&mut self, (): ()) {
            self.taken += 1;
            assert!(self.taken < 10_000, "nobody else has a turn");
            self.ask();
        }

        fn stop(&mut self, _: StopReason) {}

        fn latest(&self) -> Instant {
            Instant::now()
        }

        fn is_waiting(&self) -> bool {
            self.taken < 2_000
        }

        fn deadline(&self) -> Option<Instant> {
            None
        }

        fn due(&mut self, _: Instant) {}

        fn woken(&mut self) {}

        fn flush(&mut self) {}
    }

    #[tokio::test]
    async fn controls_without_end_keep_nobody_from_a_turn() {
        let clock = Clock::of(tokio::runtime::Handle::current());
        let hour = Duration::from_secs(3600);
        let (remote, mut inbox, _guard) = life::<(), ()>(&clock, hour, None, Arc::new(NoRunner));
        let mut machine = RefillingMailbox { remote, taken: 0 };
        machine.ask();
        // Work in flight goes on, and so do others while nothing is in flight.
        let work = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        assert!(matches!(inbox.race(&mut machine, hour, work).await, Ended::Done(())));
        let turns = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&turns);
        let other = tokio::spawn(async move {
            loop {
                counted.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        });
        machine.taken = 0;
        inbox.wait(&mut machine).await;
        other.abort();
        assert!(turns.load(Relaxed) > 1, "{} turns", turns.load(Relaxed));
    }
}
