//! Why a header was refused.

use crate::error_text::debug_as_text;
use crate::{Hash, Height};

/// What became of a header that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was not there before.
    New,
    /// The very same one was there.
    Known,
}

/// Why a header is not taken; the graph is as before.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// Its parent is not there, and may come: keep it, and ask for the parent.
    #[error("block {0:.8} at {height}: its parent {1:.8} is not known: insert that first", hash, parent)]
    MissingParent {
        /// The refused one.
        hash: Hash,
        /// Its height.
        height: Height,
        /// The one to ask for.
        parent: Hash,
    },
    /// It is no child of the parent that it names.
    #[error(
        "block {0:.8} claims height {found}; above its parent there is only {expected}: ask another node for it",
        hash
    )]
    WrongHeight {
        /// The refused one.
        hash: Hash,
        /// What it claims.
        found: Height,
        /// What its parent allows.
        expected: Height,
    },
    /// It is as low as the root or lower, and is not the root: nothing is known there.
    #[error("block {0:.8} at {height} is not above the root at {root}: insert only what is", hash)]
    BelowRoot {
        /// The refused one.
        hash: Hash,
        /// Its height.
        height: Height,
        /// The root's height.
        root: Height,
    },
    /// A different header has this hash: one of the two is a lie.
    #[error(
        "block {0:.8} is at {height} and is now told with another parent, height, work or time: one of the two is a lie, ask another node",
        hash
    )]
    Contradicts {
        /// The hash of both.
        hash: Hash,
        /// The height of the one that is there.
        height: Height,
    },
    /// No branch weighs as much as this one claims to.
    #[error("block {0:.8} would make its branch heavier than can be counted: ask another node for it", hash)]
    TooHeavy {
        /// The refused one.
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
