//! How many questions a node takes at once.

use std::sync::{Arc, Mutex, PoisonError};

/// How many questions a batch has at most. Nodes and providers that limit them allow as many, or far fewer.
const LARGEST: usize = 50;
/// After so many requests that succeed, a batch of twice the size is tried.
const TRIED_AFTER: u32 = 500;

/// The size of batches that a node takes, as far as is known; clones share it.
#[derive(Clone, Debug)]
pub(super) struct BatchSize(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    largest: usize,
    /// The size of a batch that was refused, perhaps for a moment only.
    refused: Option<usize>,
    /// Requests that succeeded since the last refusal.
    succeeded: u32,
}

impl BatchSize {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Known { largest: LARGEST, refused: None, succeeded: 0 })))
    }

    pub(super) fn largest(&self) -> usize {
        self.known(|known| known.largest)
    }

    /// A batch of `size` was refused, and `accepted` questions at once were not. That is remembered if it is certain,
    /// or happens for the second time without a batch of that size between.
    pub(super) fn refuse(&self, size: usize, accepted: usize, is_certain: bool) {
        self.known(|known| {
            known.succeeded = 0;
            if is_certain || known.refused == Some(size) {
                known.largest = known.largest.min(accepted.max(1));
                known.refused = None;
            } else {
                known.refused = Some(size);
            }
        });
    }

    /// A request with so many questions was answered.
    pub(super) fn accept(&self, size: usize) {
        self.known(|known| {
            known.refused = known.refused.filter(|refused| *refused > size);
            known.succeeded += 1;
            if known.succeeded >= TRIED_AFTER {
                known.succeeded = 0;
                known.largest = LARGEST.min(known.largest * 2);
            }
        });
    }

    fn known<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_smaller_after_one_certain_or_two_consecutive_refusals() {
        let size = BatchSize::new();
        size.refuse(40, 20, false);
        assert_eq!(size.largest(), LARGEST);
        size.accept(40);
        size.refuse(40, 20, false);
        assert_eq!(size.largest(), LARGEST, "one of that size was accepted between");
        size.accept(20);
        size.refuse(40, 20, false);
        assert_eq!(size.clone().largest(), 20);
        size.refuse(20, 0, true);
        assert_eq!(size.largest(), 1);
    }

    #[test]
    fn twice_the_size_is_tried_after_many_requests_that_succeed() {
        let size = BatchSize::new();
        size.refuse(2, 1, true);
        for expected in [2, 4, 8, 16, 32, LARGEST, LARGEST] {
            for _ in 0..TRIED_AFTER {
                size.accept(1);
            }
            assert_eq!(size.largest(), expected);
        }
        for _ in 1..TRIED_AFTER {
            size.accept(1);
        }
        size.refuse(2, 1, true);
        size.accept(1);
        assert_eq!(size.largest(), 1, "a refusal begins the count again");
    }
}
