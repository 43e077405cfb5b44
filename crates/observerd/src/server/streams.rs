//! Slots for readers of streams.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::Problem;
use crate::config::LimitsConfig;

/// After how many seconds a reader without a slot may try again.
const RETRY: u64 = 5;

/// The slots for readers of streams.
#[derive(Clone, Debug)]
pub struct Streams {
    slots: Arc<Semaphore>,
    most: usize,
}

impl Streams {
    /// As many slots as the limits say.
    #[must_use]
    pub fn new(limits: &LimitsConfig) -> Self {
        let most = limits.streams.min(Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(most)), most }
    }

    /// A slot, which is free again when it is dropped: keep it in the stream.
    ///
    /// # Errors
    ///
    /// A 503 if each is taken.
    pub fn take(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "too-many-streams",
                "There are too many readers of streams",
                format!("each of the {} slots is taken: read pages, or try again later", self.most),
            )
            .retry_after(RETRY)
        })
    }

    /// How many readers there are.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.most - self.slots.available_permits().min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let streams = Streams::new(&LimitsConfig { streams: 2, ..LimitsConfig::default() });
        let first = streams.take().unwrap();
        let _second = streams.take().unwrap();
        let problem = streams.take().unwrap_err();
        assert_eq!((problem.status, problem.retry_after, streams.readers()), (503, Some(RETRY), 2));
        drop(first);
        assert!(streams.take().is_ok());
    }
}
