//! One line of a timeline, and what it is of.

use clap::ValueEnum;
use serde_json::Value;

/// What a line of a timeline is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ItemKind {
    /// A process has begun to record
    Starts,
    /// A cycle has succeeded
    Successes,
    /// One event
    Events,
    /// A cycle has failed
    Failures,
    /// The source set has changed
    Sources,
    /// The machine has changed its state
    Transitions,
    /// The run has ended
    Stops,
    /// Something is missing
    Gaps,
}

/// One line, without the time and the cycle.
pub(super) struct Item<'a> {
    pub(super) kind: ItemKind,
    pub(super) text: String,
    /// What a search also reads.
    pub(super) value: Option<&'a Value>,
}

impl Item<'_> {
    pub(super) fn new(kind: ItemKind, text: String) -> Self {
        Self { kind, text, value: None }
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        self.text.contains(text) || self.value.is_some_and(|value| value.to_string().contains(text))
    }
}
