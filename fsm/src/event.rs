//! The events, and the types in them.

use std::fmt;

/// The identity of one unit of work: a source refresh, an `init` or a `poll`.
///
/// Ids are opaque and strictly increasing within one [`Lifecycle`](crate::Lifecycle); none is used twice. The
/// driver returns the id of the starting command with the outcome, so that a late outcome is recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkId(u64);

impl WorkId {
    /// Lower than the id of any work.
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

/// The kind of a unit of work: the part of a cycle in which a failure happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The source set is fetched. Ends with `init` or `poll` of the same cycle, or with a failure.
    SourceRefresh,
    /// The observer builds its state from the sources. Ends with a publication or a failure.
    Init,
    /// The observer updates its state. Ends with a publication or a failure.
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
    /// It returned an error: the observer's state is kept.
    Error,
    /// It was dropped at its deadline: a poll may have left the state half changed.
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

/// Why a lifecycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StopReason {
    /// `stop()` was called.
    Requested,
    /// The owner was dropped.
    Dropped,
    /// A start that fails fast had a failure.
    StartFailed,
    /// The executor shut down.
    Shutdown,
    /// The driver itself panicked, which is a bug.
    Died,
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requested => "stop was requested",
            Self::Dropped => "its owner was dropped: keep the runtime for as long as it is to observe",
            Self::StartFailed => "the start failed",
            Self::Shutdown => "the executor shut down",
            Self::Died => "the driver panicked",
        })
    }
}

/// Everything that can happen to a lifecycle: the tick, the controls, and the outcomes of work.
///
/// Every event is allowed at any time. One without meaning at that moment changes nothing and is answered by
/// [`Command::Rejected`](crate::Command::Rejected).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Begin. Accepted once; only [`Stop`](Self::Stop) is accepted before it.
    Start,
    /// The armed tick is due. Begins a cycle; accepted only while a tick is armed.
    Tick,
    /// Begin a cycle now, even when paused. While work is in flight, remembered once, until that cycle ends.
    PollNow,
    /// Arm no tick until [`Resume`](Self::Resume). Work in flight is finished.
    Pause,
    /// Arm ticks again. Does nothing when not paused.
    Resume,
    /// End. Work in flight is cancelled.
    Stop(StopReason),
    /// The source set was fetched.
    Refreshed {
        /// The work that did it.
        work: WorkId,
    },
    /// The observer built a new state, and its snapshot was taken.
    Initialized {
        /// The work that did it.
        work: WorkId,
    },
    /// The observer updated its state, and its snapshot was taken.
    Polled {
        /// The work that did it.
        work: WorkId,
    },
    /// A unit of work failed.
    WorkFailed {
        /// The work that failed.
        work: WorkId,
        /// The kind of that work.
        stage: Stage,
        /// How it failed.
        cause: Cause,
    },
}
