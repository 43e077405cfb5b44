//! What a node is to the observer: a pure machine. `table.rs` is its specification.

#[cfg(test)]
mod table;

use StandingCommand::{ForgetGaps, ForgetHead, ReportBreach, ReportChain};
use StandingEvent::{
    Answered, FellSilent, ForkedBelowRoot, HeadAccepted, HeaderInvalid, HeaderInvalidBelow, Identified,
    LeftBranch, LeftFinal, OnFinal, OtherChain, RootDropped,
};

/// What a node is to the observer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Standing {
    /// It has not proved its chain since it is known, was forgotten, or came back from another chain. Ends with a head
    /// that can be true.
    Unidentified,
    /// It is on another chain, and has no head here. Ends when it is on this chain.
    Foreign,
    /// Its last head cannot be true. Ends with one that can.
    Invalid,
    /// A header below its head cannot be true, so that descendants of the head are invalid too. Ends when it leaves that
    /// branch, or proves its chain again.
    InvalidBelow,
    /// Its branch forks from the graph below the root, and is not asked for. Ends when it leaves that branch, proves its
    /// chain again, or is seen on the final branch.
    Diverged,
    /// It is on a branch without a final block. Ends when it is seen on the final branch.
    Quarantined,
    /// Its head counts.
    Trusted,
    /// It was trusted, and has been silent for too long: its head does not count. Ends with an answer.
    Forgotten,
}

/// What happened to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum StandingEvent {
    /// It returned a head.
    Answered,
    /// It is on the chain.
    Identified,
    /// It is on another chain than before, and than it should be.
    OtherChain,
    /// Its head can be true.
    HeadAccepted,
    /// Its head, or a header that it reported, cannot be true.
    HeaderInvalid,
    /// A header below its head cannot be true.
    HeaderInvalidBelow,
    /// Its head is no longer the one before nor a child of it.
    LeftBranch,
    /// Its branch forks from the graph below the root.
    ForkedBelowRoot,
    /// Its head is on a branch without the final block.
    LeftFinal,
    /// It is on the branch of the final block, or below it.
    OnFinal,
    /// It has been silent for too long.
    FellSilent,
    /// The root was false: what is final is unknown again.
    RootDropped,
}

/// What follows from a node's new standing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::observer) enum StandingCommand {
    /// Its head, and what it reported as final, are of another chain.
    ForgetHead,
    /// Its headers without parents are on a branch that it has left, or that is never linked, or on another chain.
    ForgetGaps,
    /// Emit that it is on another chain.
    ReportChain,
    /// Emit that it is on a branch without a final block.
    ReportBreach,
}

/// The result of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandingChange {
    Moved(&'static [StandingCommand]),
    Stayed(&'static [StandingCommand]),
    /// The event has no meaning here, and changed nothing.
    Rejected,
}

impl StandingChange {
    pub(super) fn commands(self) -> &'static [StandingCommand] {
        match self {
            Self::Moved(commands) | Self::Stayed(commands) => commands,
            Self::Rejected => &[],
        }
    }
}

impl Standing {
    /// Whether its head counts.
    pub(super) fn is_believed(self) -> bool {
        self == Self::Trusted
    }

    /// Whether it is on the chain, and its headers are valid.
    pub(super) fn is_honest(self) -> bool {
        matches!(self, Self::Diverged | Self::Quarantined | Self::Trusted | Self::Forgotten)
    }

    /// Whether its head, or a header below it, cannot be true.
    pub(super) fn is_invalid(self) -> bool {
        matches!(self, Self::Invalid | Self::InvalidBelow)
    }

    /// Whether it is on a branch without a final block.
    pub(super) fn is_in_breach(self) -> bool {
        matches!(self, Self::Diverged | Self::Quarantined)
    }

    /// The only place where a node's standing changes.
    pub(super) fn on(&mut self, event: StandingEvent) -> StandingChange {
        use Standing::{
            Diverged, Foreign, Forgotten, Invalid, InvalidBelow, Quarantined, Trusted, Unidentified,
        };
        #[expect(clippy::match_same_arms, reason = "one arm for each event")]
        let (to, commands): (Self, &'static [StandingCommand]) = match (*self, event) {
            (Forgotten, Answered) | (Foreign, Identified) => (Unidentified, &[]),
            (InvalidBelow, Identified) => (Invalid, &[]),
            (Diverged, Identified | LeftBranch) => (Quarantined, &[ForgetGaps]),
            (_, OtherChain) => (Foreign, &[ForgetHead, ForgetGaps, ReportChain]),
            (Unidentified | Invalid | Forgotten, HeadAccepted) => (Trusted, &[]),
            (Unidentified | Diverged | Quarantined | Trusted | Forgotten, HeaderInvalid) => (Invalid, &[]),
            (Invalid | Diverged | Quarantined | Trusted | Forgotten, HeaderInvalidBelow) => {
                (InvalidBelow, &[])
            }
            (InvalidBelow, LeftBranch) => (Invalid, &[ForgetGaps]),
            (Trusted | Forgotten, ForkedBelowRoot) => (Diverged, &[ForgetGaps, ReportBreach]),
            (Quarantined, ForkedBelowRoot) => (Diverged, &[ForgetGaps]),
            (Trusted | Forgotten, LeftFinal) => (Quarantined, &[ReportBreach]),
            (Diverged | Quarantined, OnFinal | RootDropped) => (Trusted, &[]),
            (Trusted, FellSilent) => (Forgotten, &[]),
            (Invalid | InvalidBelow | Diverged, ForkedBelowRoot) => {
                return StandingChange::Stayed(&[ForgetGaps]);
            }
            (Diverged | Quarantined | Trusted, HeadAccepted)
            | (Invalid | InvalidBelow, HeaderInvalid)
            | (InvalidBelow, HeaderInvalidBelow)
            | (Diverged | Quarantined, LeftFinal)
            | (Trusted | Forgotten, OnFinal)
            | (_, Answered | Identified | LeftBranch | FellSilent | RootDropped) => {
                return StandingChange::Stayed(&[]);
            }
            _ => return StandingChange::Rejected,
        };
        *self = to;
        StandingChange::Moved(commands)
    }
}
