//! What a supervised machine publishes: its state, condition, trace and end.

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::{AcqRel, Acquire};
use std::task::{Poll, Waker};

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::failure::{Failure, Outcome};
use super::transition::{Trace, TraceRow, Transition};
use crate::clock::Clock;
use crate::panics::AppValue;
use crate::sync::{Mutex, lock};
use crate::task::lifetime::{Reason, Terminate};
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// A published state. Readers clone it without the lock; its destructor's panic is logged.
pub(super) type Published<S> = Arc<AppValue<S>>;

/// Transitions that a wait may lag behind.
const BOUND: usize = 1024;

/// Why the supervisor's task ends. What the app learns is the [`Outcome`].
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// The outcome has been recorded.
    Over,
    /// A stop was requested: it drains.
    Stop,
    /// A stop that does not drain.
    Abort,
    GivenUp,
    Shutdown,
}

impl Reason for End {
    const REQUESTED: Self = Self::Stop;
    const SHUTDOWN: Self = Self::Shutdown;
    const DIED: Self = Self::Shutdown;
    const GIVEN_UP: Option<Self> = Some(Self::GivenUp);
}

/// How a supervised machine fares, whatever its own state is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Condition {
    /// The machine lives, or its life has finished and the next one begins after a delay.
    Running,
    /// A stop was requested: the machine drains, and new events are refused.
    Stopping,
    /// A life has failed and the next one begins after a delay. Events stay in the channel.
    Restarting(Arc<Failure>),
    /// Too many lives have failed. New events are refused, those in the channel stay.
    Poisoned(Arc<Failure>),
    /// The machine has ended.
    Ended(Outcome),
}

/// Requests beside the events, as bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Signals(u8);

impl Signals {
    pub(super) const ABANDONED: Self = Self(1);
    pub(super) const ABORT: Self = Self(2);
    pub(super) const RESTART: Self = Self(4);
    pub(super) const UNPOISON: Self = Self(8);

    pub(super) fn has(self, signal: Self) -> bool {
        self.0 & signal.0 != 0
    }
}

/// The supervisor writes, handles read. [`Terminate`] may record the end from any thread; nothing is published after
/// that.
pub(super) struct StateBoard<S> {
    pub(super) clock: Clock,
    /// Room in the channel. Closed once no further event is accepted.
    pub(super) room: Semaphore,
    signals: AtomicU8,
    inner: Mutex<BoardInner<S>>,
}

struct BoardInner<S> {
    state: Published<S>,
    /// Counts publications, without the end.
    version: u64,
    condition: Condition,
    ended_at: Option<Instant>,
    trace: Trace<Published<S>>,
    /// Watches and waits.
    watching: Waiting,
    /// Callers that wait for the end or a poison: a transition does not wake them.
    for_condition: Waiting,
    /// Collected while publishing, woken without the lock.
    wakers: Vec<Waker>,
    waits: Vec<WaitQueue<S>>,
    next_wait: u64,
}

struct WaitQueue<S> {
    id: u64,
    states: VecDeque<(Instant, Published<S>)>,
    missed: u64,
}

impl<S> BoardInner<S> {
    fn published(&mut self) {
        self.watching.take(&mut self.wakers);
    }

    /// Replaces the condition, and returns the old one.
    fn change(&mut self, condition: Condition) -> Condition {
        self.published();
        self.for_condition.take(&mut self.wakers);
        std::mem::replace(&mut self.condition, condition)
    }

    fn is_over(&self) -> bool {
        matches!(self.condition, Condition::Ended(_))
    }

    fn end<T>(&self) -> Option<Found<T>> {
        match &self.condition {
            Condition::Ended(outcome) => Some(Found::Ended(outcome.clone(), self.ended_at)),
            _ => None,
        }
    }
}

/// What a watch or a wait found.
pub(super) enum Found<T> {
    News(T),
    Ended(Outcome, Option<Instant>),
}

impl<S> StateBoard<S> {
    pub(super) fn new(clock: Clock, state: Published<S>, capacity: usize, trace: usize) -> Self {
        Self {
            clock,
            room: Semaphore::new(capacity),
            signals: AtomicU8::new(0),
            inner: Mutex::new(BoardInner {
                state,
                version: 0,
                condition: Condition::Running,
                ended_at: None,
                trace: Trace::new(trace),
                watching: Waiting::default(),
                for_condition: Waiting::default(),
                wakers: Vec::new(),
                waits: Vec::new(),
                next_wait: 0,
            }),
        }
    }

    /// Leaves a request for the supervisor, which is to be woken then.
    pub(super) fn signal(&self, signal: Signals) {
        self.signals.fetch_or(signal.0, AcqRel);
    }

    /// Takes the requests.
    pub(super) fn signals(&self) -> Option<Signals> {
        if self.signals.load(Acquire) == 0 {
            return None;
        }
        Some(Signals(self.signals.swap(0, AcqRel)))
    }

    /// Publishes a condition. Readers are woken by [`wake`](Self::wake).
    pub(super) fn set_condition(&self, condition: Condition) {
        let old = {
            let mut inner = lock(&self.inner);
            if inner.is_over() {
                return;
            }
            if !matches!(condition, Condition::Ended(_)) {
                inner.version += 1;
            }
            inner.change(condition)
        };
        drop(old);
    }

    /// Records the end, unless there is one, and wakes all.
    pub(super) fn end(&self, outcome: Outcome) {
        let now = self.clock.now();
        lock(&self.inner).ended_at.get_or_insert(now);
        self.set_condition(Condition::Ended(outcome));
        self.room.close();
        self.wake();
    }

    /// Leaves the poison at once, so that events are accepted again before the supervisor runs.
    pub(super) fn leave_poison(&self) {
        let old = {
            let mut inner = lock(&self.inner);
            let Condition::Poisoned(failure) = &inner.condition else { return };
            let restarting = Condition::Restarting(Arc::clone(failure));
            inner.version += 1;
            inner.change(restarting)
        };
        drop(old);
        self.wake();
    }

    /// Wakes all that wait for what was published.
    pub(super) fn wake(&self) {
        let mut wakers = std::mem::take(&mut lock(&self.inner).wakers);
        wake_all(&mut wakers);
        if wakers.capacity() > 0 {
            let mut inner = lock(&self.inner);
            if inner.wakers.capacity() == 0 {
                inner.wakers = wakers;
            }
        }
    }

    /// Reads the condition. `read` runs under the lock: it only copies.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Condition) -> T) -> T {
        read(&lock(&self.inner).condition)
    }

    pub(super) fn outcome(&self) -> Option<Outcome> {
        self.read(|condition| match condition {
            Condition::Ended(outcome) => Some(outcome.clone()),
            _ => None,
        })
    }

    pub(super) fn poison(&self) -> Option<Arc<Failure>> {
        self.read(|condition| match condition {
            Condition::Poisoned(failure) => Some(Arc::clone(failure)),
            _ => None,
        })
    }

    /// Ready with what `read` finds; until then the task is woken by each condition.
    pub(super) fn poll<T>(
        &self,
        read: impl FnOnce(&Condition) -> Option<T>,
        place: &mut WakerSlot,
        waker: &Waker,
    ) -> Poll<T> {
        self.poll_inner(|inner| read(&inner.condition), |inner| &mut inner.for_condition, place, waker)
    }

    fn poll_inner<T>(
        &self,
        read: impl FnOnce(&mut BoardInner<S>) -> Option<T>,
        waiters: fn(&mut BoardInner<S>) -> &mut Waiting,
        place: &mut WakerSlot,
        waker: &Waker,
    ) -> Poll<T> {
        let mut inner = lock(&self.inner);
        if let Some(found) = read(&mut inner) {
            return Poll::Ready(found);
        }
        let old = waiters(&mut inner).wait(place, waker);
        drop(inner);
        drop_waker(old);
        Poll::Pending
    }

    /// Ready at a publication after version `seen`, with the new version, and at the end.
    pub(super) fn poll_change(&self, seen: u64, place: &mut WakerSlot, waker: &Waker) -> Poll<Found<u64>> {
        let read = |inner: &mut BoardInner<S>| {
            if inner.version != seen {
                return Some(Found::News(inner.version));
            }
            inner.end()
        };
        self.poll_inner(read, |inner| &mut inner.watching, place, waker)
    }

    /// Ready when there are states for the wait, or at the end with none left. Returns how many it has missed.
    pub(super) fn poll_wait(
        &self,
        id: u64,
        taken: &mut VecDeque<(Instant, Published<S>)>,
        place: &mut WakerSlot,
        waker: &Waker,
    ) -> Poll<Found<u64>> {
        let read = |inner: &mut BoardInner<S>| {
            let queue = inner.waits.iter_mut().find(|queue| queue.id == id)?;
            if !queue.states.is_empty() || queue.missed > 0 {
                taken.append(&mut queue.states);
                return Some(Found::News(std::mem::take(&mut queue.missed)));
            }
            inner.end()
        };
        self.poll_inner(read, |inner| &mut inner.watching, place, waker)
    }

    pub(super) fn leave(&self, place: &mut WakerSlot) {
        if place.is_taken() {
            let waker = lock(&self.inner).watching.leave(place);
            drop_waker(waker);
        }
    }

    pub(super) fn unregister(&self, id: u64) {
        let queue = {
            let mut inner = lock(&self.inner);
            let at = inner.waits.iter().position(|queue| queue.id == id);
            at.map(|at| inner.waits.swap_remove(at))
        };
        drop(queue);
    }
}

impl<S> StateBoard<S> {
    /// Publishes a state. Readers are woken by [`wake`](Self::wake).
    pub(super) fn publish(
        &self,
        state: &Published<S>,
        row: impl FnOnce(Published<S>) -> TraceRow<Published<S>>,
    ) {
        let dropped = {
            let mut inner = lock(&self.inner);
            if inner.is_over() {
                return;
            }
            let row = row(std::mem::replace(&mut inner.state, Arc::clone(state)));
            for queue in &mut inner.waits {
                if queue.states.len() < BOUND && queue.missed == 0 {
                    queue.states.push_back((row.at, Arc::clone(state)));
                } else {
                    queue.missed += 1;
                }
            }
            inner.version += 1;
            inner.published();
            inner.trace.push(row)
        };
        drop(dropped);
    }

    pub(super) fn state(&self) -> Published<S> {
        Arc::clone(&lock(&self.inner).state)
    }

    pub(super) fn state_and_version(&self) -> (Published<S>, u64) {
        let inner = lock(&self.inner);
        (Arc::clone(&inner.state), inner.version)
    }

    /// Oldest first.
    pub(super) fn transitions(&self) -> Vec<Transition<Published<S>>> {
        let inner = lock(&self.inner);
        inner.trace.transitions(&inner.state)
    }

    /// Registers a wait: it gets the present state and every later one.
    pub(super) fn register(&self, now: Instant) -> u64 {
        let mut inner = lock(&self.inner);
        let id = inner.next_wait;
        inner.next_wait += 1;
        let states = VecDeque::from([(now, Arc::clone(&inner.state))]);
        inner.waits.push(WaitQueue { id, states, missed: 0 });
        id
    }
}

/// Waits until `read` finds something in the condition.
pub(super) async fn until<S, T>(board: &StateBoard<S>, read: impl Fn(&Condition) -> Option<T>) -> T {
    struct Leaves<'a, S>(&'a StateBoard<S>, WakerSlot);
    impl<S> Drop for Leaves<'_, S> {
        fn drop(&mut self) {
            if self.1.is_taken() {
                let waker = lock(&self.0.inner).for_condition.leave(&mut self.1);
                drop_waker(waker);
            }
        }
    }
    let mut waiter = Leaves(board, WakerSlot::default());
    poll_fn(|context| board.poll(&read, &mut waiter.1, context.waker())).await
}

pub(super) async fn ended<S>(board: &StateBoard<S>) -> Outcome {
    let outcome = |condition: &Condition| match condition {
        Condition::Ended(outcome) => Some(outcome.clone()),
        _ => None,
    };
    until(board, outcome).await
}

impl<S: Send + Sync> Terminate<End> for StateBoard<S> {
    fn terminate(&self, end: End) {
        self.end(match end {
            End::Over | End::Shutdown => Outcome::Dropped,
            End::Stop | End::Abort => Outcome::Cancelled,
            End::GivenUp => Outcome::Detached,
        });
    }
}
