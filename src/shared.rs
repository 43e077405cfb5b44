//! What the driver writes and the handles read.

#[cfg(all(test, watchkeeper_loom))]
mod loom_tests;

use std::sync::Arc;

use tokio::time::Instant;
use watchkeeper_fsm::{State, StateKind, StopReason};

use crate::clock::Clock;
use crate::core::logged_name;
use crate::failure::ObservationFailure;
use crate::history::{History, ObservationBatch};
use crate::log::{Entry, Log, What};
use crate::panics::{catch, discard_each, log_panic};
use crate::runner::Terminate;
use crate::status::Published;
use crate::sync::{Mutex, lock, watch};
use crate::waits::queue::{Queues, WaitQueue};

/// How many failures `failures()` keeps.
const FAILURES: usize = 64;

/// One runtime's readable side. There is one writer, the driver, and one exception: whoever
/// declares the runtime ended ([`Terminate`]). After that nothing is published any more.
pub(crate) struct Shared<S, E> {
    /// What the config calls the observation.
    pub(crate) name: Option<Arc<str>>,
    /// The type of the observer.
    observer: &'static str,
    pub(crate) clock: Clock,
    pub(crate) history: Arc<History<E>>,
    status: watch::Sender<Published<S>>,
    audience: Mutex<Audience<S, E>>,
}

/// Who is told of every publication, and what is kept for their reports. Its lock orders all
/// publications: a wait that registers sees each one either in the status it starts from or in its
/// queue, never in both, never in neither.
struct Audience<S, E> {
    queues: Queues<S, E>,
    log: Log,
}

impl<S, E> Shared<S, E> {
    pub(crate) fn new(
        (name, observer): (Option<&str>, &'static str),
        clock: Clock,
        history: History<E>,
        first: Published<S>,
    ) -> Self {
        Self {
            name: name.map(Arc::from),
            observer,
            clock,
            history: Arc::new(history),
            status: watch::Sender::new(first),
            audience: Mutex::new(Audience { queues: Queues::default(), log: Log::default() }),
        }
    }

    /// Publishes one change to everyone, without waking them yet; `false` once the runtime ended.
    ///
    /// `update` must not drop a value of the app: this runs under locks.
    pub(crate) fn publish(
        &self,
        at: Instant,
        logged: impl IntoIterator<Item = Option<What>>,
        batch: Option<&Arc<ObservationBatch<E>>>,
        update: impl FnOnce(&mut Published<S>),
    ) -> bool {
        let mut audience = lock(&self.audience);
        let Audience { queues, log } = &mut *audience;
        let mut told = None;
        // Silent: the wake comes with `wake`, outside of the lock.
        self.status.send_if_modified(|status| {
            if status.state.kind() != StateKind::Stopped {
                update(status);
                status.number += 1;
                told = Some(status.number);
                queues.push_all(at, status, batch);
            }
            false
        });
        if let Some(number) = told {
            for what in logged.into_iter().flatten() {
                log.push(number, at, what);
            }
        }
        told.is_some()
    }

    /// Lets readers read the batches whose status was published. A batch whose status was refused,
    /// because the end came in between, stays unread.
    pub(crate) fn announce(&self) {
        if let Some(cursor) = self.read(|status| status.snapshot.as_ref().map(|snapshot| snapshot.cursor)) {
            let put_out = self.history.announce(cursor);
            discard_each(put_out);
        }
    }

    /// Notes that cycle 0 begins: nothing that anyone sees has changed.
    pub(crate) fn begin(&self) {
        let _ordered = lock(&self.audience);
        self.status.send_if_modified(|status| {
            status.next_cycle = status.cycle + 1;
            false
        });
    }

    /// Wakes everyone who waits for the status or for a publication.
    pub(crate) fn wake(&self) {
        // Waking nobody is not free. Who subscribes later begins with what was published.
        if self.status.receiver_count() > 0 {
            self.status.send_modify(|_| {});
        }
        let wakers = lock(&self.audience).queues.take_wakers();
        for waker in wakers {
            // A waker is foreign code: one that panics must not keep the others asleep.
            if let Err(panic) = catch(|| waker.wake()) {
                log_panic("waking a wait", &panic);
            }
        }
    }

    pub(crate) fn failures(&self) -> Vec<Arc<ObservationFailure>> {
        lock(&self.audience).log.newest_failures(FAILURES)
    }

    /// Looks at the status. `look` runs under the watch's read lock: it only copies.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Published<S>) -> T) -> T {
        look(&self.status.borrow())
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Published<S>> {
        self.status.subscribe()
    }

    /// Registers a wait: every publication behind the status returned goes into its queue.
    pub(crate) fn register(&self, queue: &Arc<WaitQueue<S, E>>) -> Arc<Published<S>> {
        let mut audience = lock(&self.audience);
        audience.queues.register(queue);
        Arc::new(self.status.borrow().clone())
    }

    /// What the log holds behind the publication `first`, with the failures until `ended`, if they are known so many.
    pub(crate) fn logged(&self, first: &Published<S>, ended: Instant, known: Option<u64>) -> Logged {
        let audience = lock(&self.audience);
        let (entries, cut) = audience.log.since(first.number);
        let (failures, failures_cut) = audience.log.failures(first.failures, ended, known);
        Logged { entries, cut, failures, failures_cut }
    }

    /// Whether a source called `name` has left.
    pub(crate) fn has_left(&self, name: &str) -> bool {
        lock(&self.audience).log.has_left(name)
    }
}

impl<S, E> Shared<S, E> {
    /// With all that tells runtimes apart: a deadline's thread is outside of the span.
    fn log_end(&self, reason: StopReason) {
        let (instance, cycle) = (self.history.instance(), self.read(|status| status.cycle));
        let name = self.name.as_deref().map(logged_name);
        tracing::info!(name, observer = self.observer, %reason, cycle, %instance, "observation ended");
    }
}

impl<S: Send + Sync, E: Send + Sync> Terminate for Shared<S, E> {
    fn terminate(&self, reason: StopReason) {
        let at = self.clock.now();
        let state = State::Stopped { reason };
        let first = self.publish(at, [Some(What::Entered(state))], None, |status| {
            (status.state, status.since) = (state, at);
            status.paused = false;
        });
        // The driver may have published a success that it has not announced.
        self.announce();
        self.history.close(reason);
        self.wake();
        if first {
            // A subscriber is foreign code.
            let _ = catch(|| self.log_end(reason));
        }
    }
}

/// What happened inside a window.
pub(crate) struct Logged {
    pub(crate) entries: Vec<Entry>,
    /// Older entries were dropped.
    pub(crate) cut: bool,
    pub(crate) failures: Vec<Arc<ObservationFailure>>,
    /// How many older failures were dropped.
    pub(crate) failures_cut: u64,
}
