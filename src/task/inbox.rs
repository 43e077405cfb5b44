//! Running a machine: controls come in by a mailbox, and work is raced against them.

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

/// How often a driver looks for more before others have their turn: controls and wakes may come without end.
const ROUNDS: usize = 16;

/// Controls that may wait to be taken.
const CONTROLS: usize = 16;

/// What is driven. Each method is one ordinary event; none of them blocks or awaits.
pub(crate) trait Machine {
    type Control: Copy;
    type Reply;
    type Reason: Reason;

    /// Somebody asks for something. The reply says that it was taken.
    fn control(&mut self, control: Self::Control) -> Self::Reply;
    /// The end is asked for. Work in flight is dropped after this call.
    fn stop(&mut self, reason: Self::Reason);
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
    /// The driver is about to wait: those who wait for what was published are to be woken.
    fn flush(&mut self);
}

/// How a unit of work ended.
pub(crate) enum Ended<T> {
    Done(T),
    TimedOut,
    Panicked(PanicMessage),
    /// The machine was stopped; it knows.
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

/// What controls hold, what the driver owns, and what ends the life when it is dropped.
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
    pub(crate) async fn wait(&mut self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) {
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
        self.life.requested().is_some()
    }

    /// Without arranging to be woken: cheap enough for work that is always ready.
    fn stop_was_asked(&self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) -> bool {
        let asked = self.life.requested();
        if let Some(reason) = asked {
            machine.stop(reason);
        }
        asked.is_some()
    }

    /// Wakes everyone who waits for what has happened, and arranges to be woken by what comes next; ready when
    /// something has come in the meantime, so that the caller looks again.
    fn suspend(
        &mut self,
        machine: &mut impl Machine<Control = C, Reply = R, Reason = X>,
        context: &mut Context<'_>,
    ) -> Poll<()> {
        machine.flush();
        // Registered first: what comes after the looks below wakes.
        self.life.wakes_driver(context.waker());
        if self.life.requested().is_some() {
            return Poll::Ready(());
        }
        let controls = self.take_controls(machine);
        let woken = self.poll_wake(machine, context);
        if controls || woken { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Whether there were any. One that is put in after this look wakes the driver, if its waker is registered: the
    /// lock of the course orders the two, and with them the count.
    fn take_controls(&mut self, machine: &mut impl Machine<Control = C, Reply = R, Reason = X>) -> bool {
        let mut taken = false;
        if self.life.controls.load(Relaxed) == 0 {
            return taken;
        }
        // As many as there is room for: those who ask may refill it without end.
        for _ in 0..CONTROLS {
            let Some(Request { control, reply }) = self.mailbox.take(&self.life.controls) else { break };
            taken = true;
            // The one that asked may be gone; it was taken all the same.
            let _ = reply.send(machine.control(control));
        }
        taken
    }

    /// Whether there was one.
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
    /// It was sent: it may still be taken, once there is a turn.
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
    /// Has the machine take a control.
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

/// Others have their turn, then this task goes on.
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

    /// Each used to leave some 200 bytes until its `stop_timeout`.
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

    /// Each control that is taken puts in another one.
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
