//! What the nodes are asked.

use std::sync::Arc;

use tokio::time::Instant;

use super::Start;
use crate::{Detail, Hash, Header, Height};

/// What a node is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Identity,
    /// The last final block of a node that has this head.
    Final(Hash),
    /// The first header of the graph.
    Root {
        start: Start,
        genesis: Hash,
        head: Height,
    },
    /// This header and its ancestors, until one is linked to the graph; from a node that has this head.
    Down {
        from: Hash,
        height: Height,
        head: Hash,
    },
    /// The headers of the node's branch between these heights; from a node that has this head.
    /// If there are none, the ancestors of the header above the gap, until one is linked.
    Up {
        from: Height,
        to: Height,
        gap: Header,
        head: Hash,
    },
    /// The headers that a node whose head rises fast probably has above the last known one of its branch.
    Ahead {
        from: Height,
        to: Height,
    },
    /// Whether a header is still on the branch of a node that has this head.
    OnBranch {
        block: Header,
        head: Hash,
    },
    /// So much of this block.
    Block(Header, Detail),
}

/// What a question is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Purpose {
    Identity,
    Final,
    Root,
    Headers,
    Ahead,
    Block,
}

/// A question in flight.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) node: Arc<str>,
    pub(super) question: Question,
    /// The cycle in which it began.
    pub(super) cycle: u64,
    pub(super) since: Instant,
}

impl Question {
    /// What it is for: a node is asked at most once in a cycle for each purpose except blocks.
    pub(super) fn purpose(&self) -> Purpose {
        match self {
            Self::Identity => Purpose::Identity,
            Self::Final(_) => Purpose::Final,
            Self::Root { .. } => Purpose::Root,
            Self::Down { .. } | Self::Up { .. } | Self::OnBranch { .. } => Purpose::Headers,
            Self::Ahead { .. } => Purpose::Ahead,
            Self::Block(..) => Purpose::Block,
        }
    }

    pub(super) fn method(&self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Final(_) => "finalised",
            Self::Root { .. } | Self::Down { .. } => "header",
            Self::Up { .. } | Self::Ahead { .. } | Self::OnBranch { .. } => "header_at",
            Self::Block(..) => "block",
        }
    }
}
