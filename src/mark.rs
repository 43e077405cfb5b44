//! Moments from which on waits count.

use tokio::time::Instant;

use crate::cursor::Instance;

/// A moment in one runtime's life: see [`ObservationHandle::mark`](crate::ObservationHandle::mark).
///
/// For a wait that starts after it, what was asked before the mark does not count: cycles that began before, and
/// answers that a later cycle shows of a probe that was asked before
/// ([`Observer::asked_since`](crate::Observer::asked_since)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(crate) instance: Instance,
    /// The first cycle that had not begun.
    pub(crate) next_cycle: u64,
    /// The first batch that was not published.
    pub(crate) next_seq: u64,
    pub(crate) at: Instant,
    /// The last publication before it.
    pub(crate) number: u64,
}

impl Mark {
    /// When it was taken, on tokio's clock.
    #[must_use]
    pub fn at(&self) -> Instant {
        self.at
    }
}
