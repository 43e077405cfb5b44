//! The state that readers see.

use std::fmt;

use crate::{Stage, StopReason};

/// The state of a lifecycle.
///
/// Paused is not a state: see [`Lifecycle::is_paused`](crate::Lifecycle::is_paused).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// There is no observer state yet, or it was lost: sources are fetched and `init` runs. Also the
    /// state before [`Event::Start`](crate::Event::Start). Ends in `Idle` or `Failed`.
    Starting,
    /// The source set is being fetched for a poll. Ends in `Polling` or `Failed`.
    Refreshing,
    /// The observer's `poll` is running. Ends in `Idle` or `Failed`.
    Polling,
    /// The last cycle succeeded. Ends in `Refreshing`, by a tick or by
    /// [`Event::PollNow`](crate::Event::PollNow).
    Idle,
    /// The last cycle failed. Ends as `Idle` does, in `Starting` when `rebuild` is set.
    Failed {
        /// What failed.
        stage: Stage,
        /// How many consecutive cycles have failed, this one included.
        consecutive: u64,
        /// There is no observer state: the next cycle builds one, in `Starting`.
        rebuild: bool,
    },
    /// The end.
    Stopped {
        /// Why it ended.
        reason: StopReason,
    },
}

impl State {
    /// Returns which state this is, without its data.
    #[must_use]
    pub const fn kind(self) -> StateKind {
        match self {
            Self::Starting => StateKind::Starting,
            Self::Refreshing => StateKind::Refreshing,
            Self::Polling => StateKind::Polling,
            Self::Idle => StateKind::Idle,
            Self::Failed { .. } => StateKind::Failed,
            Self::Stopped { .. } => StateKind::Stopped,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind();
        match self {
            Self::Failed { stage, consecutive, rebuild } => {
                let then = if *rebuild { ", to be rebuilt" } else { "" };
                write!(f, "{kind} ({stage}, {consecutive} consecutive{then})")
            }
            Self::Stopped { reason } => write!(f, "{kind} ({reason})"),
            _ => kind.fmt(f),
        }
    }
}

/// A [`State`] without its data: for comparing and counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateKind {
    /// [`State::Starting`].
    Starting,
    /// [`State::Refreshing`].
    Refreshing,
    /// [`State::Polling`].
    Polling,
    /// [`State::Idle`].
    Idle,
    /// [`State::Failed`].
    Failed,
    /// [`State::Stopped`].
    Stopped,
}

impl StateKind {
    /// Every kind, in the order of a lifecycle.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Refreshing, Self::Polling, Self::Idle, Self::Failed, Self::Stopped];
}

impl From<State> for StateKind {
    fn from(state: State) -> Self {
        state.kind()
    }
}

impl fmt::Display for StateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that a table of states can be aligned.
        f.pad(match self {
            Self::Starting => "starting",
            Self::Refreshing => "refreshing",
            Self::Polling => "polling",
            Self::Idle => "idle",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        })
    }
}
