//! Hints from the app that there may be news.
//!
//! `Notify::notify_one` wakes one waiter. Several runtimes may share one `Notify`, and each must see every
//! notification. So each `Notify` of the process has one waiter, the hub, and the runtimes wait on the hub.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::waiting::{Waiting, WakerSlot, drop_waker, wake_all};

/// The hubs in use, by the address of their `Notify`, which they keep alive.
static HUBS: LazyLock<Mutex<HashMap<usize, Weak<Hub>>>> = LazyLock::new(Mutex::default);

/// One runtime's view of the notifications of a `Notify`. It misses none, not even one that is sent only to present
/// waiters.
pub(crate) struct Wake {
    hub: Arc<Hub>,
    place: WakerSlot,
    /// How many notifications it has seen.
    heard: u64,
}

struct Hub {
    notify: Arc<Notify>,
    /// The waker for the `Notify`. It wakes all runtimes that wait here.
    waker: Waker,
    /// There may be uncounted notifications. Set before the waiters are taken.
    notified: AtomicBool,
    /// Notifications so far; changed under the lock.
    count: AtomicU64,
    inner: Mutex<WakeState>,
}

struct WakeState {
    next: Pin<Box<OwnedNotified>>,
    waiting: Waiting,
}

struct HubWaker(Weak<Hub>);

impl Wake {
    pub(crate) fn new(notify: &Arc<Notify>) -> Self {
        let hub = Hub::of(notify);
        let heard = hub.count.load(Acquire);
        Self { hub, place: WakerSlot::default(), heard }
    }

    /// Whether there were notifications since the last look.
    pub(crate) fn was_woken(&mut self) -> bool {
        let may_be = self.hub.notified.load(Acquire) || self.heard != self.hub.count.load(Acquire);
        may_be && self.look(None)
    }

    /// Ready when there were notifications since the last look; else its task is woken by the next one.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.look(Some(context.waker())) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn look(&mut self, waker: Option<&Waker>) -> bool {
        let (mut left, mut others) = (None, Vec::new());
        let mut inner = lock(&self.hub.inner);
        if self.hub.listen(&mut inner, waker.is_some()) {
            // This runtime learns of the notifications here.
            left = inner.waiting.leave(&mut self.place);
            inner.waiting.take(&mut others);
        }
        let count = self.hub.count.load(Acquire);
        let news = std::mem::replace(&mut self.heard, count) != count;
        let waits = waker.filter(|_| !news);
        let old = waits.and_then(|waker| inner.waiting.wait(&mut self.place, waker));
        drop(inner);
        drop_waker(left);
        drop_waker(old);
        wake_all(&mut others);
        news
    }
}

impl Drop for Wake {
    fn drop(&mut self) {
        let waker = lock(&self.hub.inner).waiting.leave(&mut self.place);
        drop_waker(waker);
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wake").field("heard", &self.heard).finish_non_exhaustive()
    }
}

impl Hub {
    fn of(notify: &Arc<Notify>) -> Arc<Self> {
        let mut hubs = lock(&HUBS);
        let address = Arc::as_ptr(notify).addr();
        if let Some(hub) = hubs.get(&address).and_then(Weak::upgrade) {
            return hub;
        }
        let inner = WakeState { next: enabled(notify), waiting: Waiting::default() };
        let hub = Arc::new_cyclic(|hub| Self {
            notify: Arc::clone(notify),
            waker: Waker::from(Arc::new(HubWaker(Weak::clone(hub)))),
            // It has not been polled, so no waker is registered.
            notified: AtomicBool::new(true),
            count: AtomicU64::new(0),
            inner: Mutex::new(inner),
        });
        hubs.insert(address, Arc::downgrade(&hub));
        hub
    }

    /// Counts new notifications and waits for the next one. Returns whether there were any. All are taken, of either
    /// kind: one that is left would start another cycle.
    ///
    /// A caller that is about to wait (`waits`) polls regardless of the flag.
    fn listen(&self, inner: &mut WakeState, waits: bool) -> bool {
        // Later notifications set it again.
        if !self.notified.swap(false, AcqRel) && !waits {
            return false;
        }
        let mut counted = 0;
        while inner.next.as_mut().poll(&mut Context::from_waker(&self.waker)).is_ready() {
            counted += 1;
            // The next poll registers it.
            inner.next.set(Arc::clone(&self.notify).notified_owned());
        }
        self.count.fetch_add(counted, AcqRel);
        counted > 0
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let mut hubs = lock(&HUBS);
        let address = Arc::as_ptr(&self.notify).addr();
        // Another hub may already have taken the place of this one.
        if hubs.get(&address).is_some_and(|hub| hub.strong_count() == 0) {
            hubs.remove(&address);
        }
    }
}

impl std::task::Wake for HubWaker {
    fn wake(self: Arc<Self>) {
        // A woken runtime checks whether there was a notification.
        if let Some(hub) = self.0.upgrade() {
            let mut waiting = Vec::new();
            hub.notified.store(true, Release);
            lock(&hub.inner).waiting.take(&mut waiting);
            wake_all(&mut waiting);
        }
    }
}

/// A future that gets notifications from now on.
fn enabled(notify: &Arc<Notify>) -> Pin<Box<OwnedNotified>> {
    let mut next = Box::pin(Arc::clone(notify).notified_owned());
    next.as_mut().enable();
    next
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
