//! A value whose destructor may panic.

use std::fmt;
use std::sync::Arc;

use crate::panics::discard_logged;

/// An answer in a map: a panic of its destructor is logged and caught.
///
/// Otherwise dropping a map would abort the process if two destructors panic.
pub(super) struct SafeToDrop<V>(Option<Arc<V>>);

impl<V> SafeToDrop<V> {
    pub(super) fn new(value: Arc<V>) -> Self {
        Self(Some(value))
    }

    pub(super) fn into_inner(mut self) -> Arc<V> {
        self.0.take().expect(TAKEN)
    }

    pub(super) fn get(&self) -> &Arc<V> {
        self.0.as_ref().expect(TAKEN)
    }
}

/// Only a method that consumes the wrapper takes the value out.
const TAKEN: &str = "the value is there until this is consumed";

impl<V> Drop for SafeToDrop<V> {
    fn drop(&mut self) {
        discard_logged(self.0.take(), "an answer");
    }
}

impl<V: fmt::Debug> fmt::Debug for SafeToDrop<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}
