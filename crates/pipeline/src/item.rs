//! What a handler gets.

use serde::{Deserialize, Serialize};

/// One item of an [`Upstream`](crate::Upstream). Gaps and rebuilds are items too: they reach the handler in their order,
/// are retried and committed like events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Item<T> {
    /// An event of an observation, an output of a stage, or an item of a stream.
    Event(T),
    /// The observation's history no longer held the next batches: they are lost to this stage.
    Lagged {
        /// The exact number of missed batches.
        missed: u64,
    },
    /// The observer's state was built again, and later events start over.
    Rebuilt {
        /// The new generation.
        generation: u64,
    },
}

impl<T> Item<T> {
    /// The event; `None` for a gap and a rebuild.
    #[must_use]
    pub fn event(self) -> Option<T> {
        match self {
            Self::Event(event) => Some(event),
            Self::Lagged { .. } | Self::Rebuilt { .. } => None,
        }
    }

    /// The same item with its event by reference.
    #[must_use]
    pub fn as_ref(&self) -> Item<&T> {
        match self {
            Self::Event(event) => Item::Event(event),
            Self::Lagged { missed } => Item::Lagged { missed: *missed },
            Self::Rebuilt { generation } => Item::Rebuilt { generation: *generation },
        }
    }
}

impl<T: Clone> Item<&T> {
    /// The same item with a clone of its event.
    #[must_use]
    pub fn cloned(self) -> Item<T> {
        match self {
            Self::Event(event) => Item::Event(event.clone()),
            Self::Lagged { missed } => Item::Lagged { missed },
            Self::Rebuilt { generation } => Item::Rebuilt { generation },
        }
    }
}
