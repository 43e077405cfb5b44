//! What happens on a chain.

use std::sync::Arc;

use crate::adapter::ChainIdentity;
use crate::{Block, Header, Height};

/// One change of what is known of a chain; those of a cycle come in one batch.
///
/// `Committed`, `Reorged` and `Reverted` fold to the canonical branch: each block is told once each time it
/// joins the branch, by whoever delivered it first.
///
/// # When it counts
///
/// In a wait with a start, an event counts by the cycle that emitted it, which began after the start. It is not dated
/// by the probes that it came of: a block joins the branch once, by heads, headers and contents that were asked of
/// several nodes in several cycles, and would be dated before most waits for it. So what a wait takes for a sign that a
/// node was *asked* since is a condition on [`ChainView`](crate::ChainView), whose heads do count by when they were
/// asked.
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
        /// The blocks that left, highest first; never empty.
        old: Vec<Header>,
        /// The blocks that joined, lowest first; never empty.
        new: Vec<Arc<Block<T>>>,
        /// The last block of both.
        ancestor: Header,
    },
    /// The branch lost its tip, and nothing took its place: every node that is believed has gone back.
    Reverted {
        /// The blocks that left, highest first; never empty.
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
    /// A node's head went back on its own branch: no other branch took over. Below the oldest block that is kept
    /// branches are not told apart: there, any lower head is a rewind.
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
    /// Another chain is behind a node's address. It is not believed until the old one is back.
    IdentityChanged {
        /// The node's name.
        node: Arc<str>,
        /// The chain that is observed.
        expected: ChainIdentity,
        /// What the node says.
        found: ChainIdentity,
    },
}
