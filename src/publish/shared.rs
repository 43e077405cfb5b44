//! The board: the driver writes it, and the handles read it.

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Poll, Waker};

use tokio::time::Instant;
use watchkeeper_fsm::{State, StopReason};

use crate::clock::Clock;
use crate::config::logged_name;
use crate::error::ObservationFailure;
use crate::panics::catch;
use crate::publish::history::{Announced, History, ObservationBatch};
use crate::publish::log::{Entry, Log, LogEvent};
use crate::publish::queue::{Next, Publication, Queues, ReaderId};
use crate::status::Published;
use crate::sync::{Mutex, lock};
use crate::task::lifetime::Terminate;
use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// How many failures `failures()` keeps.
const FAILURES: usize = 64;

/// The readable side of one runtime. The driver is the only writer, with one exception: [`Terminate`] may declare the
/// end from any thread. Nothing is published after that.
pub(crate) struct Shared<S, E> {
    /// The observation's name in the config.
    pub(crate) name: Option<Arc<str>>,
    /// The type of the observer.
    observer: &'static str,
    pub(crate) clock: Clock,
    pub(crate) history: Arc<History<E>>,
    board: Mutex<Board<S, E>>,
    /// How many taps there are.
    taps: AtomicUsize,
}

/// The status, the queues of waits and taps, the wakers, and the log for reports. Its lock orders all publications: a
/// wait that registers sees each one either in its first status or in its queue, never in both, never in neither.
struct Board<S, E> {
    status: Published<S>,
    queues: Queues<S, E>,
    /// Watches, waits and taps.
    watching: Waiting,
    /// Collected while publishing, woken without the lock.
    wakers: Vec<Waker>,
    log: Log,
}

impl<S, E> Board<S, E> {
    /// Adds the written publication to the queues. Returns whether work is left for `wake`.
    fn published(&mut self, at: Instant, batch: Option<&Arc<ObservationBatch<E>>>) -> HasWork {
        self.queues.publish(at, &self.status, batch);
        self.watching.take(&mut self.wakers);
        HasWork(!self.wakers.is_empty() || self.queues.has_dropped())
    }
}

/// A publication while it is written, under the lock. Replaced app values must not be dropped here.
pub(crate) struct Writing<'a, S> {
    pub(crate) status: &'a mut Published<S>,
    log: &'a mut Log,
    at: Instant,
}

impl<S> Writing<'_, S> {
    /// Adds an entry to the log.
    pub(crate) fn log(&mut self, what: LogEvent) {
        self.log.push(self.status.number, self.at, what);
    }
}

/// A registered wait or tap. Publications are kept for it until it is unregistered.
#[derive(Debug)]
pub(crate) struct Registered {
    id: Option<ReaderId>,
    place: WakerSlot,
}

/// Whether there is a reader to wake or a value to drop, without the lock.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HasWork(pub(crate) bool);

impl<S, E> Shared<S, E> {
    pub(crate) fn new(
        (name, observer): (Option<&str>, &'static str),
        clock: Clock,
        history: History<E>,
        first: Published<S>,
    ) -> Self {
        let board = Board {
            status: first,
            queues: Queues::default(),
            watching: Waiting::default(),
            wakers: Vec::new(),
            log: Log::default(),
        };
        Self {
            name: name.map(Arc::from),
            observer,
            clock,
            history: Arc::new(history),
            board: Mutex::new(board),
            taps: AtomicUsize::new(0),
        }
    }

    /// Publishes one change without waking readers yet; `None` after the end.
    pub(crate) fn publish(
        &self,
        at: Instant,
        batch: Option<&Arc<ObservationBatch<E>>>,
        write: impl FnOnce(&mut Writing<'_, S>),
    ) -> Option<HasWork> {
        let mut board = lock(&self.board);
        let Board { status, log, .. } = &mut *board;
        if status.is_over() {
            return None;
        }
        status.number += 1;
        write(&mut Writing { status, log, at });
        Some(board.published(at, batch))
    }

    /// Skips this many publications that no reader here sees. Readers are not woken yet.
    pub(crate) fn lost(&self, publications: u64) {
        let mut board = lock(&self.board);
        let first = board.status.number + 1;
        board.status.number += publications;
        board.queues.lost(first, publications);
        let Board { watching, wakers, .. } = &mut *board;
        watching.take(wakers);
    }

    /// Records that cycle 0 begins. No visible value changes.
    pub(crate) fn begin(&self) {
        let mut board = lock(&self.board);
        board.status.next_cycle = board.status.cycle + 1;
    }

    /// Wakes all readers that wait for the status or a publication. `scratch` is empty before and after.
    pub(crate) fn wake(&self, scratch: &mut Vec<Waker>) {
        let dropped = {
            let mut board = lock(&self.board);
            std::mem::swap(&mut board.wakers, scratch);
            board.queues.dropped()
        };
        wake_all(scratch);
        drop(dropped);
    }

    pub(crate) fn failures(&self) -> Vec<Arc<ObservationFailure>> {
        lock(&self.board).log.newest_failures(FAILURES)
    }

    /// Reads the status. `look` runs under the lock: it only copies.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Published<S>) -> T) -> T {
        look(&lock(&self.board).status)
    }

    /// Ready with the result of `look`. If that is `None`, the task is woken by the next status.
    pub(crate) fn poll_status<T>(
        &self,
        look: impl FnOnce(&Published<S>) -> Option<T>,
        place: &mut WakerSlot,
        waker: &Waker,
    ) -> Poll<T> {
        let mut board = lock(&self.board);
        if let Some(found) = look(&board.status) {
            return Poll::Ready(found);
        }
        let old = board.watching.wait(place, waker);
        drop(board);
        drop_waker(old);
        Poll::Pending
    }

    /// Removes a watch of the status.
    pub(crate) fn leave(&self, place: &mut WakerSlot) {
        if place.is_taken() {
            let waker = lock(&self.board).watching.leave(place);
            drop_waker(waker);
        }
    }

    /// Registers a wait, with or without events. It gets every publication after the returned status.
    pub(crate) fn register(&self, events: bool) -> (Registered, Arc<Published<S>>) {
        let mut board = lock(&self.board);
        let id = Some(board.queues.register(events));
        (Registered { id, place: WakerSlot::default() }, Arc::new(board.status.clone()))
    }

    /// Takes all publications for a wait, and registers `waker` for the next. Returns how many were missed so far.
    pub(crate) fn take(
        &self,
        registered: &mut Registered,
        into: &mut VecDeque<Publication<S, E>>,
        waker: &Waker,
    ) -> u64 {
        let Registered { id: Some(id), place } = registered else { return 0 };
        let mut board = lock(&self.board);
        let missed = board.queues.take(*id, into);
        let dropped = board.queues.dropped();
        let old = board.watching.wait(place, waker);
        drop(board);
        drop_waker(old);
        drop(dropped);
        missed
    }

    /// Registers a tap with these limits.
    pub(crate) fn register_tap(&self, records: usize, bytes: usize) -> (Registered, Arc<Published<S>>) {
        let mut board = lock(&self.board);
        let status = Arc::new(board.status.clone());
        let id = Some(board.queues.register_tap(records, bytes, Arc::clone(&status)));
        self.taps.fetch_add(1, Relaxed);
        (Registered { id, place: WakerSlot::default() }, status)
    }

    /// The next item of a tap that expects publication `next`. If there is none, `waker` is registered.
    pub(crate) fn next(&self, registered: &mut Registered, next: u64, waker: Option<&Waker>) -> Next<S, E> {
        let Registered { id: Some(id), place } = registered else { return Next::Nothing };
        let mut board = lock(&self.board);
        let found = board.queues.next_of_tap(*id, next);
        let waits = waker.filter(|_| matches!(found, Next::Nothing));
        let old = waits.and_then(|waker| board.watching.wait(place, waker));
        let dropped = board.queues.dropped();
        drop(board);
        drop_waker(old);
        drop(dropped);
        found
    }

    /// Whether a tap needs the weight of a success.
    pub(crate) fn is_tapped(&self) -> bool {
        self.taps.load(Relaxed) > 0
    }

    pub(crate) fn unregister_tap(&self, registered: &mut Registered) {
        self.taps.fetch_sub(1, Relaxed);
        self.unregister(registered);
    }

    /// How many publications up to `number` a wait has missed. Call it before anything is taken.
    pub(crate) fn missed_until(&self, registered: &Registered, number: u64) -> u64 {
        registered.id.map_or(0, |id| lock(&self.board).queues.missed_until(id, number))
    }

    /// Unregisters a wait: nothing more is kept for it.
    pub(crate) fn unregister(&self, registered: &mut Registered) {
        let Some(id) = registered.id.take() else { return };
        let (waker, dropped) = {
            let mut board = lock(&self.board);
            board.queues.close(id);
            (board.watching.leave(&mut registered.place), board.queues.dropped())
        };
        drop_waker(waker);
        drop(dropped);
    }

    /// The log after the publication `first`, and the failures up to `ended`. `known` is the number of failures by
    /// then.
    pub(crate) fn logged(&self, first: &Published<S>, ended: Instant, known: Option<u64>) -> Logged {
        let board = lock(&self.board);
        let (entries, cut) = board.log.since(first.number);
        let (failures, failures_cut) = board.log.failures(first.failures, ended, known);
        Logged { entries, cut, failures, failures_cut }
    }

    /// The cycle in which source `name` last left, if it is still remembered.
    pub(crate) fn left_in(&self, name: &str) -> Option<u64> {
        lock(&self.board).log.left_in(name)
    }
}

impl<S, E> Shared<S, E> {
    /// Logs all fields that identify the runtime: a deadline's thread is outside the span.
    fn log_end(&self, reason: StopReason) {
        let (instance, cycle) = (self.history.instance(), self.read(|status| status.cycle));
        let name = self.name.as_deref().map(logged_name);
        tracing::info!(name, observer = self.observer, %reason, cycle, %instance, "observation ended");
    }
}

impl<S: Send + Sync, E: Send + Sync> Terminate<StopReason> for Shared<S, E> {
    fn terminate(&self, reason: StopReason) {
        let at = self.clock.now();
        let state = State::Stopped { reason };
        let first = self.publish(at, None, |writing| {
            (writing.status.state, writing.status.since) = (state, at);
            writing.status.paused = false;
            writing.log(LogEvent::Entered(state));
        });
        // The driver may have published a success that it has not announced.
        if let Some(cursor) = self.read(|status| status.snapshot.as_ref().map(|snapshot| snapshot.cursor)) {
            self.history.announce(cursor, &mut Announced::default());
        }
        self.history.close(reason);
        self.wake(&mut Vec::new());
        if first.is_some() {
            // A `tracing` subscriber is foreign code.
            let _ = catch(|| self.log_end(reason));
        }
    }
}

/// The log of a window.
pub(crate) struct Logged {
    pub(crate) entries: Vec<Entry>,
    /// Older entries were dropped.
    pub(crate) cut: bool,
    pub(crate) failures: Vec<Arc<ObservationFailure>>,
    /// How many older failures were dropped.
    pub(crate) failures_cut: u64,
}
