//! Why there is no review.

use watchkeeper::report::debug_as_text;

use crate::operation::OperationError;

/// The most entries of a history.
pub const MAX_HISTORY: usize = 1_000;

/// Why something is not reviewed. It shows nothing of the values.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReviewError {
    /// The text is no JSON.
    #[error(
        "no JSON at line {line}, column {column}: send one JSON object with `op`, and `history` if there is one"
    )]
    NotJson {
        /// The line, counted from 1.
        line: usize,
        /// The byte of the line, counted from 1.
        column: usize,
    },
    /// The text is JSON of another shape.
    #[error(
        "the body must be an object with `op`, an operation, and `history`, an array of operations or null; each once"
    )]
    NotARequest,
    /// The operation is none.
    #[error("`op`: {0}")]
    Operation(#[from] OperationError),
    /// An entry of the history is no operation.
    #[error(
        "`history[{index}]` is no operation: each entry is an object with `endpoint`, which must not be empty"
    )]
    History {
        /// The entry, counted from 0.
        index: usize,
    },
    /// There are too many entries.
    #[error("`history` has {count} entries: send the newest {MAX_HISTORY} at most")]
    TooLong {
        /// How many there are.
        count: usize,
    },
}

impl ReviewError {
    /// What is wrong, as a JSON pointer into the body.
    #[must_use]
    pub fn pointer(&self) -> Option<String> {
        match self {
            Self::NotJson { .. } | Self::NotARequest => None,
            Self::Operation(error) => Some(error.name().map_or("/op".into(), |name| format!("/op/{name}"))),
            Self::History { index } => Some(format!("/history/{index}")),
            Self::TooLong { .. } => Some("/history".into()),
        }
    }
}

debug_as_text!(ReviewError);
