//! How work fails, and how a machine ends.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::name::VariantName;
use crate::error::DynError;
use crate::panics::{AppValue, catch};
use crate::text::error_chain::chain;
use crate::text::{MESSAGE, names, one_line};

/// Bytes of the names of dropped commands.
const NAMES: usize = 400;

/// What has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The worker has returned an error.
    Error,
    /// The command was not done within the builder's `work_timeout`.
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The worker has panicked.
    WorkPanicked,
    /// A method of the machine, or `Worker::attach`, has panicked.
    MachinePanicked,
    /// The factory of a new life has panicked.
    FactoryPanicked,
    /// An event was unhandled, or there was no room to defer it, and the builder has set
    /// [`UnhandledEvents::Fatal`](super::UnhandledEvents::Fatal).
    Unhandled,
    /// More commands wait than the builder's `capacity` and 1,024: time-outs and outcomes command more than is done.
    TooManyCommands,
    /// The event for a failure was unhandled, or there was no room to defer it, which is always fatal.
    FailureUnhandled,
    /// More than 1,000 time-outs of zero came in succession, with no other event and no command between them.
    Spins,
}

/// A failure: of a command, which the machine judges, or of the machine, which ends its life.
///
/// `Display` prints one line, escaped and bounded: what failed, the chain of causes, and the commands that were dropped
/// with it.
pub struct Failure {
    kind: FailureKind,
    command: Option<VariantName>,
    message: String,
    error: Option<AppValue<DynError>>,
    dropped: Vec<VariantName>,
    during: Option<Arc<Failure>>,
}

impl Failure {
    fn new(kind: FailureKind, command: Option<VariantName>, message: impl AsRef<str>) -> Self {
        let message = one_line(message.as_ref(), MESSAGE);
        Self { kind, command, message, error: None, dropped: Vec::new(), during: None }
    }

    pub(super) fn of_error(command: VariantName, error: DynError) -> Self {
        // The error's text is app code.
        let message = catch(|| chain(&*error));
        let message = message.unwrap_or_else(|panic| format!("an error whose text panicked: {panic}"));
        let failure = Self::new(FailureKind::Error, Some(command), message);
        Self { error: Some(AppValue::new(error)), ..failure }
    }

    pub(super) fn of_time(command: VariantName, limit: Duration) -> Self {
        let message = format!("timed out after {limit:?}");
        Self::new(FailureKind::TimedOut { limit }, Some(command), message)
    }

    pub(super) fn of_panic(command: VariantName, panic: &str) -> Self {
        Self::new(FailureKind::WorkPanicked, Some(command), format!("panicked: {panic}"))
    }

    pub(super) fn of_method(method: &str, panic: &str) -> Self {
        Self::new(FailureKind::MachinePanicked, None, format!("{method} panicked: {panic}"))
    }

    pub(super) fn of_factory(panic: &str) -> Self {
        Self::new(FailureKind::FactoryPanicked, None, panic)
    }

    pub(super) fn no_room_to_defer(
        kind: FailureKind,
        event: VariantName,
        state: &str,
        capacity: usize,
    ) -> Self {
        let message = format!(
            "{event} was deferred in {state} beside {capacity} others, for which there is room: raise the capacity, or \
             handle some of them"
        );
        Self::new(kind, None, message)
    }

    pub(super) fn too_many_commands(state: &str, waiting: usize) -> Self {
        let message = format!(
            "{waiting} commands wait in {state}, more than the capacity and 1,024: command less, or set a work_timeout"
        );
        Self::new(FailureKind::TooManyCommands, None, message)
    }

    pub(super) fn unhandled(event: VariantName, state: &str) -> Self {
        let message = format!(
            "{event} is unhandled in {state}: handle it there, defer it, or let the builder reject such events"
        );
        Self::new(FailureKind::Unhandled, None, message)
    }

    pub(super) fn failure_unhandled(event: VariantName, state: &str) -> Self {
        let message = format!(
            "{event}, the event for a failure, is unhandled in {state}: handle it there, or return none in on_failure"
        );
        Self::new(FailureKind::FailureUnhandled, None, message)
    }

    pub(super) fn spins(state: &str, times: u32) -> Self {
        let message = format!(
            "{times} time-outs of zero in succession, the last in {state}: give the time-out a duration, or finish"
        );
        Self::new(FailureKind::Spins, None, message)
    }

    /// Commands of the same event were dropped with it.
    pub(super) fn dropping(self, dropped: Vec<VariantName>) -> Self {
        Self { dropped, ..self }
    }

    /// It happened while `first` was handled.
    pub(super) fn while_handling(self, first: Option<Arc<Failure>>) -> Self {
        Self { during: first, ..self }
    }

    /// What has failed.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The name of the command that failed; `None` if none did.
    #[must_use]
    pub fn command(&self) -> Option<VariantName> {
        self.command
    }

    /// The text, without the dropped commands: one line, escaped and bounded.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The worker's own error, to be downcast; `None` for all kinds but [`FailureKind::Error`].
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.error.as_ref().map(|error| &***error)
    }

    /// The commands after the failed one, of the same event: they were dropped.
    #[must_use]
    pub fn dropped(&self) -> &[VariantName] {
        &self.dropped
    }

    /// The failure that was handled when this one happened.
    #[must_use]
    pub fn during(&self) -> Option<&Failure> {
        self.during.as_deref()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(command) = self.command {
            write!(f, "{command}: ")?;
        }
        f.write_str(&self.message)?;
        if !self.dropped.is_empty() {
            let dropped = names(self.dropped.iter().map(VariantName::as_str), NAMES);
            write!(f, "; not run after it: {dropped}")?;
        }
        match &self.during {
            Some(first) => write!(f, "; while this failure was handled: {first}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The causes are part of the text already.
impl Error for Failure {}

/// How a machine has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The machine has called [`Out::finish`](super::Out::finish), or all handles were dropped.
    Finished,
    /// A failure that the machine does not handle. Also the end of a machine that is stopped while it is poisoned or
    /// waits for its next life: its last failure.
    Failed(Arc<Failure>),
    /// It was stopped: without a drain, at the drain's deadline, or by an abort.
    Cancelled,
    /// A method of the machine, `Worker::attach` or the factory has panicked. Also between two lives, as for `Failed`.
    Panicked(Arc<Failure>),
    /// It did not end in time after a stop or an abort: app code blocks its thread, or nobody drives its executor. It
    /// counts as ended; nothing more is published.
    ///
    /// Run blocking work in [`tokio::task::spawn_blocking`].
    Detached,
    /// Its task was dropped before a stop was requested, as a tokio runtime does when it shuts down.
    Dropped,
}

impl Outcome {
    /// The failure that ended it.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Failed(failure) | Self::Panicked(failure) => Some(failure),
            _ => None,
        }
    }

    /// Whether it finished by itself.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished)
    }

    /// Whether it was stopped.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Panicked(failure) => write!(f, "panicked: {failure}"),
            Self::Detached => f.write_str(
                "detached: app code blocks its thread (run blocking work in tokio::task::spawn_blocking)",
            ),
            Self::Dropped => f.write_str("dropped: the tokio runtime was shut down"),
        }
    }
}
