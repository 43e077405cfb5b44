//! Where a node is relative to the canonical tip.

use crate::{Graph, Header, Height, OnBranch};

/// What was so when the nodes were last judged.
#[derive(Debug, Default)]
pub(super) struct AtTip {
    /// The tip was on the node's branch.
    held: bool,
    /// The node was too far behind it.
    lagged: bool,
}

/// How a node's distance from the tip changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LagChange {
    Began(Height),
    Ended,
}

/// Whether a node has the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    Has,
    HasNot,
    /// It had it when the nodes were last judged.
    Left,
}

impl AtTip {
    /// Records whether the tip is on the branch of `linked`.
    pub(super) fn hold(&mut self, graph: &Graph, tip: &Header, linked: Option<Header>) -> Hold {
        let on_branch = |head: Header| graph.is_on_branch(&tip.hash, &head.hash) == OnBranch::Yes;
        let holds = linked.is_some_and(on_branch);
        match (holds, std::mem::replace(&mut self.held, holds)) {
            (true, _) => Hold::Has,
            (false, true) => Hold::Left,
            (false, false) => Hold::HasNot,
        }
    }

    /// The tip moved: the node has not left the new one.
    pub(super) fn moved(&mut self) {
        self.held = false;
    }

    /// Records how far behind the node is, if that is too far.
    pub(super) fn lag(&mut self, behind: Option<Height>) -> Option<LagChange> {
        let before = std::mem::replace(&mut self.lagged, behind.is_some());
        match behind {
            Some(behind) if !before => Some(LagChange::Began(behind)),
            None if before => Some(LagChange::Ended),
            _ => None,
        }
    }
}
