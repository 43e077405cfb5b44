//! Whether a node announces its heads.

use std::fmt;
use std::time::Duration;

use tokio::sync::watch;

/// Whether a node announces its heads, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeadsState {
    /// No subscription has been granted yet, or refused.
    Connecting,
    /// The subscription is granted; after a failure, for 10 s.
    Connected,
    /// The connection failed; it is made again.
    Lost(HeadsLost),
}

/// A connection that failed. Its `Display` is one line without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadsLost {
    /// Why: escaped, at most some 300 characters, without the secrets of the address.
    pub reason: String,
    /// How many consecutive connections failed before they stood for 10 s; at least 1.
    pub failures: u64,
    /// The time until the next attempt.
    pub again_in: Duration,
}

impl fmt::Display for HeadsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connecting => f.write_str("is not connected yet"),
            Self::Connected => f.write_str("announces its heads"),
            Self::Lost(lost) => lost.fmt(f),
        }
    }
}

impl fmt::Display for HeadsLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, failures, again_in } = self;
        write!(f, "announces no heads: {reason}; ")?;
        if *failures > 1 {
            write!(f, "{failures} consecutive failures, ")?;
        }
        write!(f, "next attempt in {again_in:?}")
    }
}

/// Reads the state of a [`NewHeads`](super::NewHeads), change by change. Clones read on their own.
#[derive(Clone, Debug)]
pub struct HeadsStates(pub(super) watch::Receiver<HeadsState>);

impl HeadsStates {
    /// The state as it is now.
    #[must_use]
    pub fn current(&self) -> HeadsState {
        self.0.borrow().clone()
    }

    /// Waits for the next change, and returns the newest state; `None` once the `NewHeads` is dropped.
    ///
    /// A failure is published when it is the first, and then each time their number has doubled: a server that fails
    /// for a day changes the state some fourteen times.
    ///
    /// # Cancel safety
    ///
    /// A dropped call misses nothing.
    pub async fn changed(&mut self) -> Option<HeadsState> {
        self.0.changed().await.ok()?;
        Some(self.0.borrow_and_update().clone())
    }
}
