//! Why a header was refused.

use crate::{Hash, Height};
use watchkeeper::report::debug_as_text;

/// The result of inserting a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was not in the graph before.
    New,
    /// The same header was in the graph.
    Known,
}

/// Why a header is refused; the graph is unchanged.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// Its parent is not in the graph yet: keep the header, and ask for the parent.
    #[error("block {0:.8} at {height}: its parent {1:.8} is not known: insert that first", hash, parent)]
    MissingParent {
        /// The refused block.
        hash: Hash,
        /// Its height.
        height: Height,
        /// The parent to ask for.
        parent: Hash,
    },
    /// Its height is not the one above its parent.
    #[error(
        "block {0:.8} claims height {found}; above its parent there is only {expected}: ask another node for it",
        hash
    )]
    WrongHeight {
        /// The refused block.
        hash: Hash,
        /// The height that it claims.
        found: Height,
        /// The height above its parent.
        expected: Height,
    },
    /// It is not above the root, and is not the root.
    #[error("block {0:.8} at {height} is not above the root at {root}: insert only blocks that are", hash)]
    BelowRoot {
        /// The refused block.
        hash: Hash,
        /// Its height.
        height: Height,
        /// The root's height.
        root: Height,
    },
    /// A different header has this hash: one of the two is false.
    #[error(
        "block {0:.8} is at {height} and is now reported with another parent, height, work or time: one of the two is false, ask another node",
        hash
    )]
    Contradicts {
        /// The hash of both.
        hash: Hash,
        /// The height of the one in the graph.
        height: Height,
    },
    /// The weight of its branch would overflow.
    #[error("block {0:.8} would make its branch heavier than can be counted: ask another node for it", hash)]
    TooHeavy {
        /// The refused block.
        hash: Hash,
    },
    /// Four thousand million headers were inserted.
    #[error("the graph is full: begin a new one at a later root")]
    Full,
}

debug_as_text!(InsertError);

/// Why nothing was pruned.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {boundary:.8} is not in the graph: prune at one that is")]
pub struct PruneError {
    /// The block that was to be the new root.
    pub boundary: Hash,
}

debug_as_text!(PruneError);
