//! The events of a chain.

use std::sync::Arc;

use crate::adapter::ChainIdentity;
use crate::{Block, Header, Height};

/// One change of what is known of a chain; all events of a cycle come in one batch.
///
/// `Committed`, `Reorged` and `Reverted` fold to the canonical branch: each block is emitted once each time it is
/// connected.
///
/// # When it counts
///
/// In a wait with a start, an event counts by the cycle that emitted it, which began after the start. It does not count
/// by its probes: a block is connected once, from heads, headers and contents of several nodes in several cycles, most
/// of them before the wait. To check that a node was *asked* since the start, use a condition on
/// [`ChainView`](crate::ChainView): its heads count by when they were asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChainEvent<T> {
    /// The branch grew at its tip.
    Committed {
        /// The new blocks, lowest first; never empty.
        new: Vec<Arc<Block<T>>>,
    },
    /// Another branch is the heaviest.
    Reorged {
        /// The disconnected blocks, highest first; never empty.
        old: Vec<Header>,
        /// The connected blocks, lowest first; never empty.
        new: Vec<Arc<Block<T>>>,
        /// The last block of both.
        ancestor: Header,
    },
    /// The branch lost its tip without a replacement: every believed node has gone back.
    Reverted {
        /// The disconnected blocks, highest first; never empty.
        old: Vec<Header>,
        /// The new tip.
        ancestor: Header,
    },
    /// Everything up to this block is final.
    Finalised {
        /// The last final block.
        block: Header,
    },
    /// Two branches weigh the same; the one seen first stays the canonical one.
    Rivals {
        /// The tip that was seen first.
        tip: Header,
        /// The other one.
        rival: Header,
    },
    /// A node's head is too far behind the canonical tip: on its branch, or below the oldest block that is kept.
    Lagging {
        /// The node's name.
        node: Arc<str>,
        /// How many blocks.
        behind: Height,
    },
    /// A node that lagged no longer does.
    CaughtUp {
        /// The node's name.
        node: Arc<str>,
    },
    /// A node's address returned three times within a minute to a head that it had left, as one does that is served by
    /// several backends. Emitted once, until it has been steady for a minute.
    Flapping {
        /// The node's name.
        node: Arc<str>,
        /// The head to which it returned.
        head: Header,
        /// The last one from which it did.
        other: Header,
    },
    /// A node's head went back on its branch, without a switch to another branch. A head that is not heavier than the one
    /// before counts when it is confirmed: see [`ChainConfig::lighter_after`](crate::ChainConfig::lighter_after). Branches below the oldest block that
    /// is kept are not distinguished: there, any lower head is a rewind.
    Rewound {
        /// The node's name.
        node: Arc<str>,
        /// Its head before.
        from: Header,
        /// Its head now.
        to: Header,
    },
    /// A node is on a branch without a block that was final. It is not believed any more.
    FinalityBreached {
        /// The node's name.
        node: Arc<str>,
        /// The final block.
        finalised: Header,
        /// The node's head.
        head: Header,
    },
    /// A node's address leads to another chain. The node is not believed until the old chain is back.
    IdentityChanged {
        /// The node's name.
        node: Arc<str>,
        /// The chain that is observed.
        expected: ChainIdentity,
        /// The chain that the node reports.
        found: ChainIdentity,
    },
}
