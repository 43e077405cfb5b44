//! The answer to operations that were recorded.

use watchkeeper_journal::{Cursor, Durability};

/// The answer to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The number of the operation; of a batch, of its first one. `None` if `buffered` could not write it at all: it is in the ring
    /// alone.
    pub sequence: Option<u64>,
    /// How many operations it were.
    pub count: u64,
    /// The position after them.
    pub cursor: Option<Cursor>,
    /// What is promised.
    pub durability: Durability,
    /// Whether the idempotency key was known, and nothing was recorded.
    pub is_repeated: bool,
}
