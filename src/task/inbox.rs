//! Runs a machine: items arrive in a mailbox, and work is raced against them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep};

use crate::clock::Clock;
use crate::panics::{PanicMessage, catch, discard_logged, log_panic, poll_caught};
use crate::task::lifetime::{EndGuard, Lifetime, Reason, Terminate, locked};
use crate::task::wake::Wake;
use crate::time::later;

/// How often a driver checks for more before it yields: items and wakes may arrive without end.
const ROUNDS: usize = 16;

/// How many items are taken between two polls of the work in flight, at most.
const ITEMS: usize = 32;

/// For how many items an empty mailbox keeps memory.
const KEPT: usize = 8;

/// The driven machine. Each method is one ordinary event; none of them blocks or awaits.
pub(crate) trait Machine {
    /// What arrives in the mailbox.
    type Item;
    type Reason: Reason;

    /// Whether it takes an item now. Otherwise items stay in the mailbox.
    fn accepts(&self) -> bool {
        true
    }
    /// Takes an item.
    fn take(&mut self, item: Self::Item);
    /// Called at each check, before items are taken. Returns whether there was something besides items.
    fn check(&mut self) -> bool {
        false
    }
    /// The mailbox is empty. What was put into it before the last [`check`](Self::check) has been taken. Returns whether
    /// something followed from that.
    fn drained(&mut self) -> bool {
        false
    }
    /// The stop was requested. Called once.
    fn stop(&mut self, reason: Self::Reason);
    /// Whether the work in flight is to be dropped.
    fn drops_work(&self) -> bool;
    /// When the last event was taken. The work that followed from it began then.
    fn latest(&self) -> Instant;
    /// Whether it waits: it has no work and has not ended.
    fn is_waiting(&self) -> bool;
    /// When [`due`](Self::due) is to be called while it waits.
    fn deadline(&self) -> Option<Instant>;
    /// When [`due`](Self::due) is to be called while work is in flight.
    fn busy_deadline(&self) -> Option<Instant> {
        None
    }
    /// The deadline has come.
    fn due(&mut self, now: Instant);
    /// A wake has arrived.
    fn woken(&mut self) {}
    /// The driver is about to wait: readers of what was published are to be woken.
    fn flush(&mut self);
}

/// How a unit of work ended.
pub(crate) enum Ended<T> {
    Done(T),
    TimedOut,
    Panicked(PanicMessage),
    /// The machine has dropped the work, and has handled the reason.
    Dropped,
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

/// Items that wait to be taken. An empty mailbox keeps little memory, since many machines are idle.
struct Mailbox<T>(Mutex<WaitingItems<T>>);

struct WaitingItems<T> {
    items: VecDeque<T>,
    closed: bool,
}

/// Why an item was not put into the mailbox. It is given back.
pub(crate) enum NotPut<T> {
    Full(T),
    Closed(T),
}

impl<T> Mailbox<T> {
    fn new() -> Self {
        Self(Mutex::new(WaitingItems { items: VecDeque::new(), closed: false }))
    }

    /// Puts an item in unless `capacity` items wait. Stores the number of waiting items in `count`.
    fn put(&self, item: T, capacity: usize, count: &AtomicUsize) -> Result<(), NotPut<T>> {
        let mut waiting = locked(&self.0);
        if waiting.closed {
            return Err(NotPut::Closed(item));
        }
        if waiting.items.len() == capacity {
            return Err(NotPut::Full(item));
        }
        waiting.items.push_back(item);
        count.store(waiting.items.len(), Relaxed);
        Ok(())
    }

    /// Moves all waiting items to `taken`, which is empty.
    fn take(&self, taken: &mut VecDeque<T>, count: &AtomicUsize) {
        let mut waiting = locked(&self.0);
        std::mem::swap(&mut waiting.items, taken);
        count.store(0, Relaxed);
    }

    /// Refuses further items and drops waiting ones, one by one: those may be app values.
    fn close(&self) {
        let waiting = {
            let mut waiting = locked(&self.0);
            waiting.closed = true;
            std::mem::take(&mut waiting.items)
        };
        for item in waiting {
            discard_logged(item, "what waited in a mailbox");
        }
    }
}

/// The side that the driver owns.
pub(crate) struct Inbox<T, X> {
    mailbox: Arc<Mailbox<T>>,
    /// Items that have left the mailbox.
    taken: VecDeque<T>,
    life: Arc<Lifetime<X>>,
    wake: Option<Wake>,
    timer: Pin<Box<Sleep>>,
    /// The machine knows of the requested stop.
    stop_passed: bool,
}

impl<T, X> Drop for Inbox<T, X> {
    fn drop(&mut self) {
        self.mailbox.close();
        for item in self.taken.drain(..) {
            discard_logged(item, "what waited in a mailbox");
        }
    }
}

/// The senders' end, the driver's end, and the guard that ends the life when dropped.
type BothEnds<T, X> = (ItemSender<T, X>, Inbox<T, X>, EndGuard<X>);

/// Both ends of a machine's life.
pub(crate) fn life<T, X: Reason>(
    clock: &Clock,
    stop_timeout: Duration,
    wake: Option<&Arc<Notify>>,
    end: Arc<dyn Terminate<X>>,
) -> BothEnds<T, X> {
    let mailbox = Arc::new(Mailbox::new());
    let timer = Box::pin(clock.sleep_until(clock.now()));
    let life = Lifetime::new(end, stop_timeout, clock.pulse());
    let inbox = Inbox {
        mailbox: Arc::clone(&mailbox),
        taken: VecDeque::new(),
        life: Arc::clone(&life),
        wake: wake.map(Wake::new),
        timer,
        stop_passed: false,
    };
    let guard = EndGuard::of(&life);
    (ItemSender { mailbox, life }, inbox, guard)
}

impl<T, X: Reason> Inbox<T, X> {
    /// Runs one unit of work to its end, and takes items meanwhile.
    ///
    /// Each poll of the driver's task polls the work once. Events that arrive while the work yields are taken in the
    /// same turn, without another poll of the work: at most [`ITEMS`] items between two polls.
    ///
    /// The work has always been dropped when this returns. If its destructor panics, the work counts as panicked. An
    /// output that is not returned is dropped here, where its destructor may panic once: an output with several app
    /// values holds each in an `AppValue`.
    pub(crate) async fn race<F: Future>(
        &mut self,
        machine: &mut impl Machine<Item = T, Reason = X>,
        timeout: Option<Duration>,
        work: F,
    ) -> Ended<F::Output> {
        let limit = timeout.map(|timeout| later(machine.latest(), timeout));
        let mut work = WorkInFlight(pin!(Some(work)));
        let mut armed = None;
        let mut room = ITEMS;
        let mut ended = poll_fn(|context| {
            self.check(machine);
            self.take_items(machine, &mut room);
            if machine.drops_work() {
                return Poll::Ready(Ended::Dropped);
            }
            let Some(future) = work.0.as_mut().as_pin_mut() else { return Poll::Ready(Ended::Dropped) };
            match self.life.pulse.driver.inside(|| poll_caught(future, context)) {
                Poll::Ready(Ok(output)) => return Poll::Ready(Ended::Done(output)),
                Poll::Ready(Err(panic)) => return Poll::Ready(Ended::Panicked(panic)),
                Poll::Pending => room = ITEMS,
            }
            // Events that came meanwhile are taken. The work is not polled again for them: work that yields means to.
            for _ in 0..ROUNDS {
                // Work that is ready at once never touches the timer.
                if let Some(deadline) = earlier(limit, machine.busy_deadline()) {
                    if armed != Some(deadline) {
                        self.timer.as_mut().reset(deadline);
                        armed = Some(deadline);
                    }
                    // Unconstrained: work that is never idle may use up the task's budget, and its deadline must
                    // fire even then.
                    if pin!(unconstrained(self.timer.as_mut())).poll(context).is_ready() {
                        if limit == Some(deadline) {
                            return Poll::Ready(Ended::TimedOut);
                        }
                        armed = None;
                        machine.due(deadline.max(Instant::now()));
                        // Items that wait come before a further deadline.
                        self.take_items(machine, &mut room);
                        if machine.drops_work() {
                            return Poll::Ready(Ended::Dropped);
                        }
                        continue;
                    }
                }
                if self.suspend(machine, context, &mut room).is_pending() {
                    return Poll::Pending;
                }
                if machine.drops_work() {
                    return Poll::Ready(Ended::Dropped);
                }
                if room == 0 {
                    break;
                }
            }
            machine.flush();
            yields(context)
        })
        .await;
        // The stop precedes the outcome, also if it was requested while app code held the thread.
        if !matches!(ended, Ended::Dropped) {
            self.check(machine);
            if machine.drops_work() {
                let ended = std::mem::replace(&mut ended, Ended::Dropped);
                discard_logged(ended, "the outcome of work that was dropped");
            }
        }
        let Err(panic) = work.end() else { return ended };
        match ended {
            Ended::Done(output) => {
                // The output is an app value too.
                discard_logged(output, "what work returned whose destructor panicked");
                Ended::Panicked(format!("after it was done, in a destructor: {panic}"))
            }
            Ended::TimedOut => {
                let timeout = timeout.unwrap_or_default();
                Ended::Panicked(format!("timed out after {timeout:?}, then its destructor panicked: {panic}"))
            }
            Ended::Panicked(first) => {
                Ended::Panicked(format!("{first}; then its destructor panicked: {panic}"))
            }
            Ended::Dropped => {
                log_panic("dropping the work of a machine", &panic);
                Ended::Dropped
            }
        }
    }

    /// Waits until the machine has work to do or has ended.
    pub(crate) async fn wait(&mut self, machine: &mut impl Machine<Item = T, Reason = X>) {
        let mut armed = None;
        // Before the task is suspended, the time of the last event is good enough.
        let mut latest = Some(machine.latest());
        poll_fn(|context| {
            let mut known = latest.take();
            for _ in 0..ROUNDS {
                let mut room = ITEMS;
                self.check(machine);
                self.take_items(machine, &mut room);
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
                ready!(self.suspend(machine, context, &mut room));
            }
            machine.flush();
            yields(context)
        })
        .await;
    }

    /// Takes what has arrived, and a deadline that has come, before the next unit of work begins. Returns whether there
    /// was a deadline: work that is always ready lets no timer fire.
    pub(crate) fn look(&mut self, machine: &mut impl Machine<Item = T, Reason = X>) -> bool {
        self.check(machine);
        self.take_items(machine, &mut { ITEMS });
        let now = machine.latest();
        let is_due = !machine.drops_work() && machine.deadline().is_some_and(|deadline| deadline <= now);
        if is_due {
            machine.due(now);
        }
        is_due
    }

    /// Whether the stop was requested.
    pub(crate) fn is_stopping(&self) -> bool {
        self.life.requested().is_some()
    }

    /// Passes a requested stop to the machine, and what else it was asked. Registers no waker: cheap enough for work
    /// that is always ready. Returns whether there was anything.
    fn check(&mut self, machine: &mut impl Machine<Item = T, Reason = X>) -> bool {
        let stop = if self.stop_passed { None } else { self.life.requested() };
        if let Some(reason) = stop {
            self.stop_passed = true;
            machine.stop(reason);
        }
        machine.check() || stop.is_some()
    }

    /// Wakes readers and registers the driver's waker. Ready if something has arrived meanwhile, so that the caller
    /// checks again.
    fn suspend(
        &mut self,
        machine: &mut impl Machine<Item = T, Reason = X>,
        context: &mut Context<'_>,
        room: &mut usize,
    ) -> Poll<()> {
        machine.flush();
        // Registered before the checks below, so that later events wake the task.
        self.life.wakes_driver(context.waker());
        if self.check(machine) {
            return Poll::Ready(());
        }
        let items = self.take_items(machine, room);
        let woken = self.poll_wake(machine, context);
        // Without room, more items may wait.
        if items || woken || *room == 0 { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Takes waiting items, at most `room`, and returns whether there were any. An item that is put in after this
    /// check wakes the driver, if its waker is registered: the two change one flag of the lifetime, which orders the
    /// count too.
    fn take_items(&mut self, machine: &mut impl Machine<Item = T, Reason = X>, room: &mut usize) -> bool {
        let mut taken = false;
        while *room > 0 {
            if self.taken.is_empty() && self.life.items.load(Relaxed) > 0 {
                self.mailbox.take(&mut self.taken, &self.life.items);
            }
            if self.taken.is_empty() {
                if self.taken.capacity() > KEPT {
                    self.taken = VecDeque::new();
                }
                taken |= machine.drained();
                break;
            }
            if !machine.accepts() {
                break;
            }
            let Some(item) = self.taken.pop_front() else { break };
            taken = true;
            *room -= 1;
            machine.take(item);
        }
        taken
    }

    /// Passes a wake to the machine, and returns whether there was one.
    fn poll_wake(
        &mut self,
        machine: &mut impl Machine<Item = T, Reason = X>,
        context: &mut Context<'_>,
    ) -> bool {
        let woken = self.wake.as_mut().is_some_and(|wake| wake.poll(context).is_ready());
        if woken {
            machine.woken();
        }
        woken
    }
}

/// The side that puts items in.
pub(crate) struct ItemSender<T, X> {
    mailbox: Arc<Mailbox<T>>,
    pub(crate) life: Arc<Lifetime<X>>,
}

impl<T, X> Clone for ItemSender<T, X> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), life: Arc::clone(&self.life) }
    }
}

impl<T, X: Reason> ItemSender<T, X> {
    /// Puts an item in unless `capacity` items wait, and wakes the driver.
    pub(crate) fn put(&self, item: T, capacity: usize) -> Result<(), NotPut<T>> {
        self.mailbox.put(item, capacity, &self.life.items)?;
        self.life.wake_driver();
        Ok(())
    }
}

fn earlier(first: Option<Instant>, second: Option<Instant>) -> Option<Instant> {
    match (first, second) {
        (Some(first), Some(second)) => Some(first.min(second)),
        (first, second) => first.or(second),
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
            let (remote, inbox, guard) = life::<(), Ending>(&clock, hours, None, Arc::new(NoRunner));
            let kept = |remote: &ItemSender<(), Ending>| Arc::weak_count(&remote.life);
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
        let (remote, _inbox, guard) = life::<(), Ending>(&clock, hours, None, Arc::new(NoRunner));
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

    /// Each taken item puts another one in.
    struct RefillingMailbox {
        remote: ItemSender<(), Ending>,
        taken: usize,
    }

    impl RefillingMailbox {
        fn put(&self) {
            assert!(self.remote.put((), 1).is_ok());
        }
    }

    impl Machine for RefillingMailbox {
        type Item = ();
        type Reason = Ending;

        fn take(&mut self, (): ()) {
            self.taken += 1;
            assert!(self.taken < 10_000, "nobody else has a turn");
            self.put();
        }

        fn stop(&mut self, _: Ending) {}

        fn drops_work(&self) -> bool {
            false
        }

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

        fn flush(&mut self) {}
    }

    #[tokio::test]
    async fn items_without_end_keep_nobody_from_a_turn() {
        let clock = Clock::of(tokio::runtime::Handle::current());
        let hour = Duration::from_secs(3600);
        let (remote, mut inbox, _guard) = life::<(), Ending>(&clock, hour, None, Arc::new(NoRunner));
        let mut machine = RefillingMailbox { remote, taken: 0 };
        machine.put();
        // Work in flight goes on, and so do others while nothing is in flight.
        let work = async {
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        };
        assert!(matches!(inbox.race(&mut machine, Some(hour), work).await, Ended::Done(())));
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
