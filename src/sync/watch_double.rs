//! A double of `tokio::sync::watch` on loom's primitives: what we use of it, by the same contract.
//!
//! A change of the value and its notification are two steps, as they are in tokio, and a silent
//! change has only the first one.

use std::convert::Infallible;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::Arc;
use std::task::{Poll, Waker};

use loom::sync::{Mutex, MutexGuard};

use super::lock;

struct Shared<T> {
    slot: Mutex<Slot<T>>,
    waiting: Mutex<Vec<Waker>>,
}

struct Slot<T> {
    value: T,
    /// Counts the changes that were not silent.
    version: u64,
    receivers: usize,
}

pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
}

pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

/// The value, locked. Unlike tokio's it keeps other readers out as well.
pub(crate) struct Ref<'a, T>(MutexGuard<'a, Slot<T>>);

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Sender<T> {
    pub(crate) fn new(value: T) -> Self {
        let slot = Mutex::new(Slot { value, version: 0, receivers: 0 });
        Self { shared: Arc::new(Shared { slot, waiting: Mutex::new(Vec::new()) }) }
    }

    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        Ref(lock(&self.shared.slot))
    }

    pub(crate) fn subscribe(&self) -> Receiver<T> {
        let mut slot = lock(&self.shared.slot);
        slot.receivers += 1;
        Receiver { shared: Arc::clone(&self.shared), seen: slot.version }
    }

    pub(crate) fn receiver_count(&self) -> usize {
        lock(&self.shared.slot).receivers
    }

    /// Without notification when `change` returns `false`, whatever it did.
    pub(crate) fn send_if_modified(&self, change: impl FnOnce(&mut T) -> bool) -> bool {
        let modified = {
            let mut slot = lock(&self.shared.slot);
            let modified = change(&mut slot.value);
            slot.version += u64::from(modified);
            modified
        };
        if modified {
            let waiting = std::mem::take(&mut *lock(&self.shared.waiting));
            waiting.into_iter().for_each(Waker::wake);
        }
        modified
    }

    pub(crate) fn send_modify(&self, change: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            change(value);
            true
        });
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        lock(&self.shared.slot).receivers += 1;
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        lock(&self.shared.slot).receivers -= 1;
    }
}

impl<T> Receiver<T> {
    pub(crate) fn borrow(&self) -> Ref<'_, T> {
        Ref(lock(&self.shared.slot))
    }

    pub(crate) fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let slot = lock(&self.shared.slot);
        self.seen = slot.version;
        Ref(slot)
    }

    /// Never fails: we hold what holds the sender.
    pub(crate) async fn changed(&mut self) -> Result<(), Infallible> {
        poll_fn(|context| {
            // Registers first, so that no change comes between the look and the wait.
            lock(&self.shared.waiting).push(context.waker().clone());
            let version = lock(&self.shared.slot).version;
            if version == self.seen {
                return Poll::Pending;
            }
            self.seen = version;
            Poll::Ready(Ok(()))
        })
        .await
    }
}
