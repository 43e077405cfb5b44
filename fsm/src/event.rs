//! What comes in: events, and the words they are made of.

use std::fmt;

use crate::StopReason;

/// The identity of one unit of work: a source refresh, an `init` or a `poll`.
///
/// Ids are opaque and strictly increasing within one [`Lifecycle`](crate::Lifecycle); none is used
/// twice. The driver takes the id from the command that starts the work and hands it back with the
/// outcome, so that an outcome that comes too late is known as such.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(u64);

impl WorkId {
    /// Older than every id that is handed out.
    pub(crate) const BEFORE_ANY: Self = Self(0);

    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// The kind of a unit of work, and so the part of a cycle that a failure belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The source set is fetched from its provider. Ends with `init` or `poll` of the same cycle, or
    /// with a failure.
    SourceRefresh,
    /// The observer builds its state from the sources. Ends with a publication or a failure.
    Init,
    /// The observer brings its state up to date. Ends with a publication or a failure.
    Poll,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SourceRefresh => "source refresh",
            Self::Init => "init",
            Self::Poll => "poll",
        })
    }
}

/// How a unit of work failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It returned an error, at a point that it chose: the observer's state is kept.
    Error,
    /// It was dropped at its deadline, wherever it was: a poll may have left the state half changed.
    TimedOut,
    /// It panicked: a poll may have left the state half changed.
    Panicked,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::TimedOut => "timed out",
            Self::Panicked => "panicked",
        })
    }
}

/// Everything that can happen to a lifecycle: the tick, the controls, and the outcomes of work.
///
/// Every event may be handed in at any time. One that means nothing at that moment changes nothing
/// and is answered with [`Command::Rejected`](crate::Command::Rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Begin. Taken once, before anything but [`Stop`](Self::Stop).
    Start,
    /// The armed tick is due. Begins a cycle; taken only while a tick is armed.
    Tick,
    /// Begin a cycle without waiting for the tick, even when paused. While work is in flight it is
    /// remembered, once, and the next cycle follows at once.
    PollNow,
    /// Arm no tick until [`Resume`](Self::Resume). Work in flight goes on to its end.
    Pause,
    /// Take ticks again. Without a [`Pause`](Self::Pause) before it, it does nothing.
    Resume,
    /// End for good. Work in flight is cancelled.
    Stop(StopReason),
    /// The source set was fetched.
    Refreshed {
        /// The work that did it.
        work: WorkId,
    },
    /// The observer built a new state, and the snapshot of it was taken.
    Initialized {
        /// The work that did it.
        work: WorkId,
    },
    /// The observer brought its state up to date, and the snapshot of it was taken.
    Polled {
        /// The work that did it.
        work: WorkId,
    },
    /// A unit of work failed.
    WorkFailed {
        /// The work that failed.
        work: WorkId,
        /// What that work was doing.
        stage: Stage,
        /// How it failed.
        cause: Cause,
    },
}
