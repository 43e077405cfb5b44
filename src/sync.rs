//! The locks of publishing and reading, which the model checker can replace.
//!
//! With `--cfg watchkeeper_loom` they are loom's, and the code runs only inside a loom model. The locks of `task` and
//! of pulses are std's, which no model sees.

#[cfg(watchkeeper_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(watchkeeper_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

use std::sync::PoisonError;

/// Locks, and ignores poisoning: no app code but the clone of a waker runs under our locks, so a poisoned one still
/// guards a consistent value.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
