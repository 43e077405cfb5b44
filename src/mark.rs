//! Moments from which waits count.

use tokio::time::Instant;

use crate::cursor::Instance;

/// A moment in one runtime's life: see [`ObservationHandle::mark`](crate::ObservationHandle::mark).
///
/// A wait after a mark ignores what was asked before it: cycles that began earlier, and answers to earlier probes
/// that a later cycle still shows ([`Observer::asked_since`](crate::Observer::asked_since)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) instance: Instance,
    /// The first cycle that had not begun.
    pub(crate) next_cycle: u64,
    /// The first batch that was not published.
    pub(crate) next_seq: u64,
    pub(crate) at: Instant,
    /// The last publication before the mark.
    pub(crate) number: u64,
}

impl Mark {
    /// The time of the mark, on tokio's clock.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }
}
