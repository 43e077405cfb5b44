//! Why the modules of a crate could not be read.

use std::fmt;

/// A source that says nothing about its imports.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("{file}:{line}:{column}: the file does not parse: {message}")]
    Syntax { file: String, line: usize, column: usize, message: String },
    #[error("{file}:{line}: `mod {name}` has no file at {}", looked_for.join(" or "))]
    NoFile { file: String, line: usize, name: String, looked_for: Vec<String> },
    #[error("{file}: there is no such root file")]
    NoRoot { file: String },
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
