//! The status of transactions, for readers.

use std::fmt;
use std::sync::Arc;

use rpds::HashTrieMapSync;

use crate::projection::BranchPosition;
use crate::projection::window::Branches;
use crate::{Block, Hash, Header, Height};

/// The status of a followed transaction at the tip.
///
/// It may change back and forth with the branch; only `Finalised`, and `Replaced` below the final block, never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// No block of the branch from height `since` on includes it. Whether an older one does is unknown. Ends with any
    /// of the others.
    Pending {
        /// The lowest height that was scanned.
        since: Height,
    },
    /// A block of the branch includes it. Ends when the branch changes, or the block becomes final.
    Included {
        /// The block.
        block: Header,
        /// How deep: 1 in the tip.
        depth: u64,
    },
    /// A disconnected block included it, and no block of the branch does. Ends when it is included again, or replaced.
    ReorgedOut {
        /// The highest block that included it.
        from: Header,
    },
    /// The branch includes another transaction that excludes it. Ends when the branch changes.
    Replaced {
        /// The other transaction.
        by: Hash,
        /// The block that includes that one.
        block: Header,
    },
    /// A final block includes it. Never ends.
    Finalised {
        /// The block.
        block: Header,
    },
}

/// The facts about one followed transaction, on all branches.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The lowest height that was scanned.
    pub(super) since: Height,
    /// What it shares with any transaction that excludes it, once known.
    pub(super) conflicts: Option<Arc<[Vec<u8>]>>,
    /// Kept blocks on any branch that include it, or a transaction that excludes it.
    pub(super) seen: Vec<(Hash, Header)>,
    /// The same for the branch below the kept blocks, which is not scanned any more.
    pub(super) settled: Option<(Hash, Header)>,
    /// The highest of the blocks that ever included it.
    pub(super) last: Option<Header>,
}

/// Followed transactions, at one tip. A clone shares everything.
pub struct InclusionView<T> {
    pub(super) followed: HashTrieMapSync<Hash, Arc<Facts>>,
    pub(super) kept: Option<Branches<Option<Arc<Block<T>>>>>,
    pub(super) finalised: Option<Header>,
}

impl<T> Clone for InclusionView<T> {
    fn clone(&self) -> Self {
        let Self { followed, kept, finalised } = self;
        Self { followed: followed.clone(), kept: kept.clone(), finalised: *finalised }
    }
}

impl<T> InclusionView<T> {
    /// The status of a transaction; `None` if it is not followed.
    #[must_use]
    pub fn status(&self, transaction: Hash) -> Option<Status> {
        let facts = self.followed.get(&transaction)?;
        let on_branch = |block: &Header| {
            self.kept.as_ref().is_some_and(|kept| kept.is_on_branch(BranchPosition::behind(block)))
        };
        let kept = facts.seen.iter().find(|(_, block)| on_branch(block)).copied();
        let status = match facts.settled.or(kept) {
            Some((by, block)) if by != transaction => Status::Replaced { by, block },
            Some((_, block)) if self.is_final(&block) => Status::Finalised { block },
            Some((_, block)) => Status::Included { block, depth: self.depth(&block) },
            None => match facts.last {
                Some(from) => Status::ReorgedOut { from },
                None => Status::Pending { since: facts.since },
            },
        };
        Some(status)
    }

    /// The depth at which the branch includes a followed transaction; 0 while it does not.
    #[must_use]
    pub fn depth_of(&self, transaction: Hash) -> u64 {
        match self.status(transaction) {
            Some(Status::Included { block, .. } | Status::Finalised { block }) => self.depth(&block),
            _ => 0,
        }
    }

    /// The followed transactions, in no order.
    pub fn followed(&self) -> impl Iterator<Item = Hash> {
        self.followed.keys().copied()
    }

    /// The place after the newest block.
    #[must_use]
    pub fn tip(&self) -> Option<BranchPosition> {
        self.kept.as_ref().map(Branches::tip)
    }

    fn depth(&self, block: &Header) -> u64 {
        self.tip().map_or(0, |tip| tip.next.saturating_sub(block.height))
    }

    fn is_final(&self, block: &Header) -> bool {
        self.finalised.is_some_and(|last| block.height <= last.height)
    }

    pub(super) fn describe(&self, transaction: Hash) -> String {
        match self.status(transaction) {
            None => format!("transaction {transaction:.8} is not followed: call TransactionFollower::follow"),
            Some(status) => format!("transaction {transaction:.8} is {status}"),
        }
    }
}

/// For reports: the tip, and the status of each transaction; of many only the first by hash.
impl<T> fmt::Debug for InclusionView<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let mut followed: Vec<Hash> = self.followed().collect();
        followed.sort_unstable();
        let statuses: Vec<_> = followed.iter().take(SHOWN).map(|hash| (hash, self.status(*hash))).collect();
        let mut view = f.debug_struct("InclusionView");
        view.field("tip", &self.tip()).field("finalised", &self.finalised).field("followed", &statuses);
        if followed.len() > SHOWN {
            view.field("not_shown", &(followed.len() - SHOWN));
        }
        view.finish_non_exhaustive()
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending { since } => write!(f, "in no block from height {since} on"),
            Self::Included { block, depth } => write!(f, "in {}, {depth} deep", HeaderAt(block)),
            Self::ReorgedOut { from } => write!(f, "reorged out: {} was disconnected", HeaderAt(from)),
            Self::Replaced { by, block } => write!(f, "replaced by {by:.8} in {}", HeaderAt(block)),
            Self::Finalised { block } => write!(f, "final in {}", HeaderAt(block)),
        }
    }
}

struct HeaderAt<'a>(&'a Header);

impl fmt::Display for HeaderAt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "block {:.8} at height {}", self.0.hash, self.0.height)
    }
}
