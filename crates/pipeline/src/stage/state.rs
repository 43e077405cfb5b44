//! What is seen of a stage.

use std::fmt;
use std::sync::Arc;

use watchkeeper::report::debug_as_text;

use super::caught::{AppFailure, Cause};
use crate::position::UpstreamPosition;

/// The state of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StageState {
    /// It has not started, or reads its store again after a restart. Ends in `Running` or `Failed`.
    Created,
    /// It reads, handles and commits. Ends in any other state but `Created`.
    Running,
    /// An item or a commit has failed and is tried again after a delay. Ends in `Running` or `Draining`.
    BackingOff,
    /// It reads no observation and no stream any more, and handles what the stages before it have emitted. Ends in
    /// `Drained`, `Failed` or `Poisoned`.
    Draining,
    /// Everything that was read is handled and committed: it was drained, or its upstreams have ended. This is an end.
    Drained,
    /// It has given up an item, a commit or its start. Ends in `Created` by a restart.
    Failed,
    /// Too many attempts have failed within a time. Ends in `Created` by a restart.
    Poisoned,
}

impl StageState {
    /// Whether it handles items, now or after a delay.
    #[must_use]
    pub fn is_working(self) -> bool {
        matches!(self, Self::Running | Self::BackingOff | Self::Draining)
    }

    /// Whether it has given up.
    #[must_use]
    pub fn has_given_up(self) -> bool {
        matches!(self, Self::Failed | Self::Poisoned)
    }
}

impl fmt::Display for StageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::BackingOff => "backing off",
            Self::Draining => "draining",
            Self::Drained => "drained",
            Self::Failed => "failed",
            Self::Poisoned => "poisoned",
        })
    }
}

/// The state of a stage with its newest failure.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StageStatus {
    /// The state.
    pub state: StageState,
    /// Whether its store and its upstreams are open.
    pub is_open: bool,
    /// The newest failure since the last start.
    pub failure: Option<Arc<StageFailure>>,
}

/// What was done when a stage failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageFailureKind {
    /// The store was loaded, the upstreams opened, or the handler made.
    Open,
    /// An upstream was read: its stream or its `map` has panicked.
    Read,
    /// The handler has returned an error, has panicked, or took too long.
    Item {
        /// The upstream's name.
        upstream: Arc<str>,
        /// The item's position there.
        position: UpstreamPosition,
    },
    /// The store has refused a commit.
    Commit,
    /// The item would be a dead letter, and there are as many as
    /// [`max_dead_letters`](crate::StageBuilder::max_dead_letters) allows.
    TooManyDeadLetters {
        /// The upstream's name.
        upstream: Arc<str>,
        /// The item's position there.
        position: UpstreamPosition,
    },
}

/// A failed attempt. Its text is one line, escaped and bounded.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", show(.kind, *.attempt, .message))]
#[non_exhaustive]
pub struct StageFailure {
    /// What was done.
    pub kind: StageFailureKind,
    /// How many consecutive attempts of the same have failed.
    pub attempt: u64,
    /// The error with its causes: at most 1 KiB.
    pub message: Box<str>,
    cause: Cause,
}

impl StageFailure {
    pub(crate) fn new(kind: StageFailureKind, attempt: u64, failure: impl Into<AppFailure>) -> Self {
        let AppFailure { text: message, cause } = failure.into();
        Self { kind, attempt, message: message.into(), cause }
    }

    /// The error itself, to be downcast: of the handler or the store, or an [`UpstreamError`](crate::UpstreamError). `None`
    /// for a panic and a time-out of the stage.
    ///
    /// ```
    /// use watchkeeper_pipeline::store::FileStoreError;
    /// use watchkeeper_pipeline::{PipelineError, StageFailure};
    ///
    /// fn is_torn(error: &PipelineError) -> bool {
    ///     let PipelineError::NotStarted { failure: Some(failure), .. } = error else { return false };
    ///     matches!(failure.cause().and_then(|cause| cause.downcast_ref()), Some(FileStoreError::Torn { .. }))
    /// }
    /// # let _ = is_torn;
    /// ```
    #[must_use]
    pub fn cause(&self) -> Option<&(dyn std::error::Error + Send + Sync + 'static)> {
        self.cause.get()
    }
}

debug_as_text!(StageFailure);

fn show(kind: &StageFailureKind, attempt: u64, message: &str) -> String {
    match kind {
        StageFailureKind::Open => format!("it cannot start: {message}"),
        StageFailureKind::Read => format!("reading: {message}"),
        StageFailureKind::Item { upstream, position } => {
            let upstream = watchkeeper::report::one_line(upstream, 100);
            format!("the item of {upstream} at {position}, attempt {attempt}: {message}")
        }
        StageFailureKind::TooManyDeadLetters { upstream, position } => {
            let upstream = watchkeeper::report::one_line(upstream, 100);
            format!(
                "the item of {upstream} at {position} would be one dead letter more than max_dead_letters allows: replay or \
                 discard some, or raise it; its error: {message}"
            )
        }
        StageFailureKind::Commit => format!("the commit, attempt {attempt}: {message}"),
    }
}

/// What a stage does with an item whose retries have failed. After those of a commit it always fails.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OnError {
    /// It fails, at that item. A restart tries the item again: to get past it, let the handler return `Ok`, or start the
    /// pipeline with another policy. The default.
    Stop,
    /// The item becomes a dead letter, which is committed with the position after it, and the stage goes on.
    DeadLetter,
    /// It is retried for as long as it takes, until the window counts too many failures: the stage is then poisoned, at
    /// that item. The number of retries does not count.
    Poison(watchkeeper::supervise::FailureWindow),
}
