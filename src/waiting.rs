//! The wakers of all waiters for one thing.
//!
//! They are kept beside that thing, under its lock. So a waiter that checks, finds nothing and leaves a waker has
//! missed nothing. Wakers are foreign code: they are cloned and taken out under the lock, and woken and dropped
//! without it.

use std::task::Waker;

use crate::panics::{catch, discard_logged, log_panic};

/// For how many places memory is kept without waiters.
pub(crate) const KEPT: usize = 64;

/// Wakers, one place for each waiter.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// How many of the places have a waker.
    count: usize,
    /// Places that got a waker since the last `take`. Some may have lost it, or be listed twice.
    left: Vec<usize>,
}

/// A waiter's place; none before its first wait.
#[derive(Debug, Default)]
pub(crate) struct WakerSlot(Option<usize>);

impl Waiting {
    /// Leaves `waker` for the next wake-up. Returns the waker to be dropped without the lock.
    #[must_use]
    pub(crate) fn wait(&mut self, place: &mut WakerSlot, waker: &Waker) -> Option<Waker> {
        let at = *place.0.get_or_insert_with(|| {
            self.free.pop().unwrap_or_else(|| {
                self.places.push(None);
                self.places.len() - 1
            })
        });
        let known = &mut self.places[at];
        if known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            return None;
        }
        let old = known.replace(waker.clone());
        if old.is_none() {
            self.count += 1;
            self.left.push(at);
            if self.left.len() > 2 * self.places.len() {
                self.left.clear();
                self.left.extend((0..self.places.len()).filter(|at| self.places[*at].is_some()));
            }
        }
        old
    }

    /// Releases the place. Returns the waker to be dropped without the lock.
    #[must_use]
    pub(crate) fn leave(&mut self, place: &mut WakerSlot) -> Option<Waker> {
        let at = place.0.take()?;
        self.free.push(at);
        let waker = self.places[at].take();
        self.count -= usize::from(waker.is_some());
        if self.free.len() == self.places.len() && self.free.len() > KEPT {
            (self.places, self.free, self.left) = (Vec::new(), Vec::new(), Vec::new());
        }
        waker
    }

    /// Moves all wakers to `wakers`, to be woken without the lock.
    pub(crate) fn take(&mut self, wakers: &mut Vec<Waker>) {
        if self.count > 0 {
            let Self { places, left, .. } = self;
            wakers.extend(left.drain(..).filter_map(|at| places[at].take()));
            self.count = 0;
        }
    }
}

impl WakerSlot {
    /// Whether the waiter has a place.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_some()
    }
}

/// Wakes all of them. A panic of one does not affect the others.
pub(crate) fn wake_all(wakers: &mut Vec<Waker>) {
    for waker in wakers.drain(..) {
        if let Err(panic) = catch(|| waker.wake()) {
            log_panic("waking a consumer", &panic);
        }
    }
}

/// Drops a waker, which may drop its task: to be called without a lock.
pub(crate) fn drop_waker(waker: Option<Waker>) {
    if let Some(waker) = waker {
        discard_logged(waker, "a consumer's waker");
    }
}

#[cfg(all(test, not(watchkeeper_loom)))]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct IdleWaker;
    impl Wake for IdleWaker {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn who_looked_last_is_woken_and_who_left_is_not() {
        let all: [Arc<IdleWaker>; 4] = std::array::from_fn(|_| Arc::new(IdleWaker));
        let waker = |n: usize| Waker::from(Arc::clone(&all[n]));
        let (mut waiting, mut one, mut other) =
            (Waiting::default(), WakerSlot::default(), WakerSlot::default());
        for (n, replaced) in [(0, false), (1, true), (1, false)] {
            assert_eq!(waiting.wait(&mut one, &waker(n)).is_some(), replaced, "{n}");
        }
        assert!(waiting.wait(&mut other, &waker(2)).is_none());
        assert!(waiting.leave(&mut other).is_some() && !other.is_taken());
        assert!(waiting.leave(&mut other).is_none(), "it has left");
        let mut woken = Vec::new();
        waiting.take(&mut woken);
        assert!(woken.len() == 1 && woken[0].will_wake(&waker(1)));
        assert!(waiting.wait(&mut other, &waker(3)).is_none());
        assert_eq!(waiting.places.len(), 2, "a place that was given back is used again");
        waiting.take(&mut woken);
        assert!(woken.len() == 2 && woken[1].will_wake(&waker(3)), "one that was woken is not woken twice");
        wake_all(&mut woken);
        assert!(woken.is_empty() && all.iter().all(|nobody| Arc::strong_count(nobody) == 1));
    }
}
