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
        /// The lowest height from which on every block of the branch was scanned. After a block that was not read
        /// ([`Detail::Header`](crate::Detail::Header)) it is the height above that block, which may include anything.
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
    /// If a block of the branch that was not read may include it again, the status is `Pending`.
    ReorgedOut {
        /// The highest block that included it.
        from: Header,
    },
    /// The branch includes another transaction that excludes it, and is not known to include this one. Ends when the
    /// branch changes.
    Replaced {
        /// The other transaction: of several, the first one on the branch.
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
///
/// What a block includes of the transaction itself and of others is kept apart: its own inclusion outranks whatever
/// else the branch includes.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// The lowest height that was scanned.
    pub(super) since: Height,
    /// What it shares with any transaction that excludes it, once known; never empty.
    pub(super) conflicts: Option<Arc<[Vec<u8>]>>,
    /// Kept blocks on any branch that include it.
    pub(super) own: Vec<Header>,
    /// Kept blocks on any branch that include a transaction that excludes it.
    pub(super) others: Vec<Exclusion>,
    /// The same for the branch below the kept blocks, which is not scanned any more: the lowest of each.
    pub(super) settled_own: Option<Header>,
    pub(super) settled_other: Option<Exclusion>,
    /// The highest of the blocks that ever included it.
    pub(super) last: Option<Header>,
    /// Once that block is not kept: its branch and that of the tip are the same below this height.
    pub(super) shared: Height,
}

/// A block that includes a transaction that excludes a followed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exclusion {
    pub(super) block: Header,
    /// The transaction's place in the block.
    pub(super) nth: usize,
    pub(super) by: Hash,
}

impl Facts {
    /// The lowest block below the kept ones, or of those that are kept, `on_branch`, that includes the transaction.
    pub(super) fn own(&self, on_branch: impl Fn(&Header) -> bool) -> Option<Header> {
        let kept = || self.own.iter().filter(|block| on_branch(block)).min_by_key(|block| block.height);
        self.settled_own.or_else(|| kept().copied())
    }

    /// The same of the first transaction that excludes it.
    pub(super) fn other(&self, on_branch: impl Fn(&Header) -> bool) -> Option<Exclusion> {
        let kept = self.others.iter().filter(|other| on_branch(&other.block));
        self.settled_other.or_else(|| kept.min_by_key(|other| (other.block.height, other.nth)).copied())
    }

    /// Drops what is known of one block above `root`. If the block is `settled`, it is part of the branch below the kept
    /// blocks.
    pub(super) fn drop_block(&mut self, block: &Hash, settled: bool, root: BranchPosition) {
        let (own, other) = (self.own(|on| on.hash == *block), self.other(|on| on.hash == *block));
        if settled {
            (self.settled_own, self.settled_other) = (own, other);
        }
        if self.last.is_some_and(|last| last.hash == *block) {
            self.shared = root.next;
        }
        self.own.retain(|own| own.hash != *block);
        self.others.retain(|other| other.block.hash != *block);
    }
}

/// A kept block, and what is known of its branch up to it.
#[derive(Clone, Debug)]
pub(super) struct Scanned<T> {
    /// A root of which only the hash is known has none.
    pub(super) block: Option<Arc<Block<T>>>,
    /// The height above the highest block that was not read; 0 without one.
    pub(super) unread: Height,
}

/// Followed transactions, at one tip. A clone shares everything.
pub struct InclusionView<T> {
    pub(super) followed: HashTrieMapSync<Hash, Arc<Facts>>,
    pub(super) kept: Option<Branches<Scanned<T>>>,
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
        let status = match (facts.own(on_branch), facts.other(on_branch)) {
            (Some(block), _) if self.is_final(&block) => Status::Finalised { block },
            (Some(block), _) => Status::Included { block, depth: self.depth(&block) },
            (None, Some(Exclusion { by, block, .. })) => Status::Replaced { by, block },
            (None, None) => match facts.last.filter(|last| !self.may_be_unread(last, facts.shared)) {
                Some(from) => Status::ReorgedOut { from },
                None => Status::Pending { since: facts.since.max(self.unread()) },
            },
        };
        Some(status)
    }

    /// The height above the highest block of the branch that was not read; 0 without one.
    fn unread(&self) -> Height {
        let tip = self.kept.as_ref().and_then(|kept| kept.get(&kept.tip().hash));
        tip.map_or(0, |tip| tip.value.unread)
    }

    /// Whether a block of the branch that was not read may include a transaction again that was in block `last`, on
    /// another branch. The blocks of both branches do not; they are those below `shared` if their fork is not kept.
    fn may_be_unread(&self, last: &Header, shared: Height) -> bool {
        let (Some(kept), unread) = (&self.kept, self.unread()) else { return false };
        let mut walk = kept.get(&last.hash);
        while let Some(node) = walk
            && !kept.is_on_branch(node.place)
        {
            walk = node.header.and_then(|header| kept.get(&header.parent));
        }
        unread > walk.map_or(shared, |fork| fork.place.next)
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
