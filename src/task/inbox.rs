//! Runs a machine: controls arrive in a mailbox, and work is raced against them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use crate::clock::Clock;
use crate::panics::{PanicMessage, catch, discard_logged, log_panic, poll_caught};
use crate::shield::shielded;
use crate::task::lifetime::{EndGuard, Lifetime, Reason, Terminate, locked};
use crate::task::wake::Wake;
use crate::time::later;

/// How often a driver checks for more before it yields: controls and wakes may arrive without end.
const ROUNDS: usize = 16;

/// How many controls the mailbox holds.
const CONTROLS: usize = 16;

/// The driven machine. Each method is one ordinary event; none of them blocks or awaits.
pub(crate) trait Machine {
    type Control: Copy;
    type Reply;
    type Reason: Reason;

    /// Takes a control and returns the reply.
    fn control(&mut self, control: Self::Control) -> Self::Reply;
    /// The stop was requested. Work in flight is dropped after this call.
    fn stop(&mut self, reason: Self::Reason);
    /// When the last event was taken. The work that followed from it began then.
    fn latest(&self) -> Instant;
    /// Whether it waits: it has no work and has not ended.
    fn is_waiting(&self) -> bool;
    /// When [`due`](Self::due) is to be called while it waits.
    fn deadline(&self) -> Option<Instant>;
    /// The deadline has come.
    fn due(&mut self, now: Instant);
    /// A wake has arrived.
    fn woken(&mut self);
    /// The driver is about to wait: readers of what was published are to be woken.
    fn flush(&mut self);
}

/// How a unit of work ended.
pub(crate) enum Ended<T> {
    Done(T),
    TimedOut,
    Panicked(PanicMessage),
    /// The machine was stopped, and has handled the stop.
    Stopped,
}

/// Work that has not ended. If it is dropped when the executor shuts down, a panic of its destructor is logged.
struct WorkInFlight<'a, F>(Pin<&'a mut Option<F>>);

impl<F> WorkInFlight<'_, F> {
    /// Drops the work.
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

/// Controls that wait to be taken. An empty mailbox allocates nothing, since many machines are idle.
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

    /// Stores the number of waiting controls in `count`.
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

    /// Refuses further controls and drops waiting ones, so that their callers stop waiting.
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
pub(crate) struct Inbox<C, R, X> {
    mailbox: Arc<Mailbox<C, R>>,
    life: Arc<Lifetime<X>>,
    wake: Option<Wake>,
    timer: Pin<Box<Sleep>>,
}

impl<C, R, X> Drop for Inbox<C, R, X> {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// The controls' end, the driver's end, and the guard that ends the life when dropped.
type BothEnds<C, R, X> = (ControlSender<C, R, X>, Inbox<C, R, X>, EndGuard<X>);

/// Both ends of a machine's life.
pub(crate) fn life<C, R, X: Reason>(
    clock: &Clock,
    stop_timeout: Duration,
    wake: Option<&Arc<Notify>>,
    end: Arc<dyn Terminate<X>>,
) -> BothEnds<C, R, X> {
    let mailbox = Arc::new(Mailbox::new());
    let timer = Box::pin(clock.sleep_until(clock.now()));
    let life = Lifetime::new(end, stop_timeout, clock.pulse());
    let inbox =
        Inbox { mailbox: Arc::clone(&mailbox), life: Arc::clone(&life), wake: wake.map(Wake::new), timer };
    let guard = EndGuard::of(&life);
    (ControlSender { mailbox, life }, inbox, guard)
}

impl<C: Copy, R, X: Reason> Inbox<C, R, X> {
    /// Runs one unit of work to its end, and takes controls meanwhile.
    ///
    /// Each poll of the driver's task polls the work once. Events that arrive while the work yields are taken in the
    /// same turn, without another poll of the work.
    ///
    /// The work has always been dropped when this returns. If its destructor panics, the work counts as panicked. An
    /// output that is not returned is dropped here, where its destructor may panic once: an output with several app
    /// values holds each in an `AppValue`.
    pub(crate) async fn race<F: Future>(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R, Reason = X>,
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
            // Unconstrained: work that is never idle may use up the task's budget, and its deadline must fire even
            // then.
            if pin!(unconstrained(self.timer.as_mut())).poll(context).is_ready() {
                return Poll::Ready(Ended::TimedOut);
            }
            // Events that came meanwhile are taken. The work is not polled again for them: work that yields means to.
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
        // The stop precedes the outcome, also if it was requested while app code held the thread.
        if !matches!(ended, Ended::Stopped) && self.stop_was_asked(machine) {
            let ended = std::mem::replace(&mut ended, Ended::Stopped);
            discard_logged(ended, "the outcome of a stopped machine's work");
        }
        let Err(panic) = work.end() else { return ended };
        match ended {
            Ended::Done(output) => {
                // The output is an app value too.
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
    pub(crate) async fn wait(&mut self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) {
        let mut armed = None;
        // Before the task is suspended, the time of the last event is good enough.
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

    /// Whether the stop was requested.
    pub(crate) fn is_stopping(&self) -> bool {
        self.life.requested().is_some()
    }

    /// Passes a requested stop to the machine. Registers no waker: cheap enough for work that is always ready.
    fn stop_was_asked(&self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) -> bool {
        let asked = self.life.requested();
        if let Some(reason) = asked {
            machine.stop(reason);
        }
        asked.is_some()
    }

    /// Wakes readers and registers the driver's waker. Ready if something has arrived meanwhile, so that the caller
    /// checks again.
    fn suspend(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R, Reason = X>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        machine.flush();
        // Registered before the checks below, so that later events wake the task.
        self.life.wakes_driver(context.waker());
        if self.life.requested().is_some() {
            return Poll::Ready(());
        }
        let controls = self.take_controls(machine);
        let woken = self.poll_wake(machine, context);
        if controls || woken { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes waiting controls and returns whether there were any. A control that is put in after this check wakes the
    /// driver, if its waker is registered: the lock of the course orders the two, and with them the count.
    fn take_controls(&mut self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) -> bool {
        let mut taken = false;
        if self.life.controls.load(Relaxed) == 0 {
            return taken;
        }
        // At most one full mailbox: callers may refill it without end.
        for _ in 0..CONTROLS {
            let Some(Request { control, reply }) = self.mailbox.take(&self.life.controls) else { break };
            taken = true;
            // The caller may have stopped waiting.
            let _ = reply.send(machine.control(control));
        }
        taken
    }

    /// Passes a wake to the machine, and returns whether there was one.
    fn poll_wake(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R, Reason = X>,
        context: &mut Context<'_>,
    ) -> bool {
        let woken = self.wake.as_mut().is_some_and(|wake| wake.poll(context).is_ready());
        if woken {
            machine.woken();
        }
        woken
    }
}

/// Why a control was not taken.
pub(crate) enum NotTaken<X> {
    Full {
        capacity: usize,
    },
    /// It was sent, and may still be taken later.
    NotDriven {
        no_turn_for: Duration,
    },
    Ended(X),
}

/// The side that controls hold.
pub(crate) struct ControlSender<C, R, X> {
    mailbox: Arc<Mailbox<C, R>>,
    pub(crate) life: Arc<Lifetime<X>>,
}

impl<C, R, X> Clone for ControlSender<C, R, X> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), life: Arc::clone(&self.life) }
    }
}

impl<C, R, X: Reason> ControlSender<C, R, X> {
    /// Sends a control and waits for the reply.
    pub(crate) async fn ask(&self, control: C) -> Result<R, NotTaken<X>> {
        if let Some(reason) = self.life.ended() {
            return Err(NotTaken::Ended(reason));
        }
        let (reply, taken) = oneshot::channel();
        match self.mailbox.put(Request { control, reply }, &self.life.controls) {
            Ok(()) => self.life.wake_driver(),
            Err(Refused::Full) => return Err(NotTaken::Full { capacity: CONTROLS }),
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
                no_turn_for = self.life.pulse.no_turn(None, true) => Err(NotTaken::NotDriven { no_turn_for }),
            }
        })
        .await
    }

    /// The mailbox may close a moment before the end is published.
    async fn end_of_life(&self) -> NotTaken<X> {
        NotTaken::Ended(self.life.end_reason().await)
    }
}

/// Lets other tasks run, then continues.
fn yields<T>(context: &Context<'_>) -> Poll<T> {
    context.waker().wake_by_ref();
    Poll::Pending
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::task::lifetime::StopOutcome;

    #[derive(Clone, Copy)]
    struct Ending;

    impl Reason for Ending {
        const REQUESTED: Self = Self;
        const SHUTDOWN: Self = Self;
        const DIED: Self = Self;
    }

    struct NoRunner;

    impl Terminate<Ending> for NoRunner {
        fn terminate(&self, _: Ending) {}
    }

    /// Each stop used to keep some 200 bytes until its `stop_timeout`.
    #[tokio::test]
    async fn a_stop_that_is_over_leaves_no_deadline() {
        let clock = Clock::of(tokio::runtime::Handle::current());
        let hours = Duration::from_secs(24 * 3600);
        for over_before in [false, true] {
            let (remote, inbox, guard) = life::<(), (), Ending>(&clock, hours, None, Arc::new(NoRunner));
            let kept = |remote: &ControlSender<(), (), Ending>| Arc::weak_count(&remote.life);
            if over_before {
                drop(guard);
                remote.life.request_stop(Ending);
            } else {
                remote.life.request_stop(Ending);
                assert_eq!(kept(&remote), 1, "the deadline's");
                drop(guard);
            }
            assert_eq!(kept(&remote), 0, "over before it was asked for: {over_before}");
            drop(inbox);
        }
    }

    /// The waiter used to be woken by the end too, found the driver still there, and waited once more: on another
    /// thread that takes as long as the stop itself.
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
        let (remote, _inbox, guard) = life::<(), (), Ending>(&clock, hours, None, Arc::new(NoRunner));
        let [for_stop, for_end] = [(); 2].map(|()| Arc::new(CountsWakes(AtomicUsize::new(0))));
        let wakes = || [&for_stop, &for_end].map(|wakes| wakes.0.load(Relaxed));
        let (mut stop, mut end) = (pin!(remote.life.stop()), pin!(remote.life.end_reason()));
        let (stop_waker, end_waker) = (Waker::from(Arc::clone(&for_stop)), Waker::from(Arc::clone(&for_end)));
        assert!(stop.as_mut().poll(&mut Context::from_waker(&stop_waker)).is_pending());
        assert!(end.as_mut().poll(&mut Context::from_waker(&end_waker)).is_pending());
        remote.life.end(Ending);
        assert_eq!(wakes(), [0, 1]);
        drop(guard);
        assert_eq!(wakes(), [1, 1]);
        assert_eq!(stop.await, StopOutcome::Stopped);
    }

    /// Each taken control sends another one.
    struct RefillingMailbox {
        remote: ControlSender<(), (), Ending>,
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
        type Reason = Ending;

        fn control(&mut self, (): ()) {
            self.taken += 1;
            assert!(self.taken < 10_000, "nobody else has a turn");
            self.ask();
        }

        fn stop(&mut self, _: Ending) {}

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
        let (remote, mut inbox, _guard) = life::<(), (), Ending>(&clock, hour, None, Arc::new(NoRunner));
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
