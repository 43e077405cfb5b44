//! How a chain is observed.

use std::time::Duration;

use crate::adapter::ChainIdentity;
use crate::{Detail, Hash, Header, Height};
use watchkeeper::report::debug_as_text;

/// Where the observation of a chain begins. Blocks below it are not requested and count as final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first block.
    Genesis,
    /// At this height of the branch of the first node that answers, of those that
    /// [decide](super::ChainObserver#who-decides).
    Height(Height),
    /// This many blocks below the highest head when the first nodes answer, of those that
    /// [decide](super::ChainObserver#who-decides).
    Recent(Height),
    /// At headers that are known from before, lowest first, each the parent of the next. The first is the root, the
    /// last is the tip, up to which events were emitted: a checkpoint is one header. With more of them a reorg that
    /// happened meanwhile is emitted as a reorg.
    Known(Vec<Header>),
}

/// What a [`ChainObserver`](super::ChainObserver) observes, and its bounds.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use watchkeeper_chain::{ChainConfig, Start};
///
/// let config = ChainConfig { start: Start::Genesis, ..ChainConfig::every(Duration::from_millis(250)) };
/// assert_eq!(config.collect_for, Duration::from_millis(100));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainConfig {
    /// The interval of the runtime.
    pub interval: Duration,
    /// Where to begin. Default: 64 blocks below the head.
    pub start: Start,
    /// Which chain it is. Default: `None`, the one of the first node that answers, of those that
    /// [decide](super::ChainObserver#who-decides).
    pub chain: Option<ChainIdentity>,
    /// How long a node may take to return its head. Default: 5 s.
    pub probe_timeout: Duration,
    /// How long it may take for any other call. Default: 5 s.
    ///
    /// The headers of one request share this time: those that came in time are used, and other nodes are asked first
    /// until the node returns all of them in time.
    pub request_timeout: Duration,
    /// How long a cycle waits for the heads, and then for blocks and missing headers. What takes longer continues, and
    /// a later cycle uses it. Default: two fifths of the interval, at most 2 s.
    ///
    /// Keep twice this time below the runtime's `poll_timeout`: a poll that times out emits nothing, and what it
    /// learned is emitted by the next one.
    pub collect_for: Duration,
    /// The age from which on a node's head counts as stale. Default: the larger of 2 s and 3 intervals, at most 24 h,
    /// which is the maximum.
    pub stale_after: Duration,
    /// How long after its last answer a node still counts: for the choice of the branch, and for what may be pruned.
    /// Default: the larger of 60 s and 5 intervals.
    pub forget_after: Duration,
    /// How often a node is asked which chain it is on and what is final while its head stays. Default: 30 s.
    ///
    /// A node is asked for its chain at once when it is new, was unreachable, or has a head whose parent is unknown. It
    /// is asked for its last final block when its head changes. If that request fails, it is sent again after an
    /// interval, which doubles each time up to this limit.
    pub identify_every: Duration,
    /// How much of each block is read, and is in the events. Default: [`Detail::Results`], which wallets need.
    ///
    /// Less costs less: below it no receipts are requested. With [`Detail::Header`] no block is requested, and the events
    /// have [unread](crate::Block::unread) ones.
    ///
    /// If every node that has a block fails to return this much of it, in three cycles and for
    /// [`unread_after`](Self::unread_after), the next lower detail is enough, and at last the block counts as unread:
    /// heads, branches and finality do not wait for it. An answer with less than was asked for is such a failure, and is
    /// used then. Errors that are [retryable](crate::adapter::ChainError::is_retryable) do not count, nor does a node
    /// that lacks the block. A node whose last answer is older than [`stale_after`](Self::stale_after) is not waited for,
    /// and one that may get the block yet only for `unread_after`.
    ///
    /// A node that failed so for two consecutive blocks is not asked for this much of later ones: each
    /// [`identify_every`](Self::identify_every) it is tried again, and one failure is then enough.
    pub detail: Detail,
    /// For how long all nodes must fail to return as much of a block as is asked for, until less of it is read: since its
    /// first failure for each node, and in at least three cycles. It must be longer than nodes take to index the receipts
    /// of a new block, and longer than a hiccup of theirs. Default: 10 s; zero if three cycles are enough.
    pub unread_after: Duration,
    /// After how many consecutive answers a node's head is left for one that is not heavier: an ancestor of it, or a head
    /// of another branch with the same or less work. Default: 6; at least 1, which leaves it at once.
    ///
    /// An address that is served by several backends answers with older heads now and then, or with those of other
    /// branches. Such answers count together, until one on the branch of the node's head ends the count. A heavier
    /// branch is followed at once; a head whose ancestors are unknown is measured by its height until they are known.
    ///
    /// An address that returned three times within a minute is reported as
    /// [`Flapping`](crate::ChainEvent::Flapping). Until it has been steady for a minute, it needs twice as many answers
    /// and at least four times as many as it ever returned from, for as long as [`lighter_for`](Self::lighter_for), also
    /// for a heavier branch. With 1 no address flaps.
    pub lighter_after: u32,
    /// For how long, since the first of these answers: what comes first counts. Default: the larger of 10 s and 3
    /// intervals. With zero the first answer is enough.
    pub lighter_for: Duration,
    /// How many blocks a node may be behind before it lags. Default: 3.
    pub lagging_after: Height,
    /// How many fresh public nodes a [`ChainView::target`](super::ChainView::target) needs. Default: 3.
    pub public_quorum: usize,
    /// How many headers one node is asked for in a cycle to fill gaps. Default: 512; up to twice as many if its branch
    /// forked from the expected one.
    pub backfill: usize,
    /// How many blocks above the tip are requested in a cycle. Default: 128. A reorg may request more, until the new
    /// branch outweighs the old one.
    pub block_window: usize,
    /// How many blocks with transactions the observer keeps, in case they are needed again. Default: 256; more while a
    /// longer branch is connected.
    ///
    /// This alone does not bound memory: events hold their blocks as long as the runtime's history and its readers hold
    /// the events. That is up to `history_limit` times [`block_window`](Self::block_window) blocks, in a long catch-up
    /// 64 x 128 = 8,192 with both defaults. Late readers hold more: 32 batches for a subscription, 1,024 for a wait
    /// whose task is held up. With one block in a cycle they are 64, all of them among those kept here. A batch with a
    /// reorg holds as many blocks as it takes to outweigh the old branch. Lower the two limits if blocks are large.
    pub blocks_kept: usize,
    /// How many requests for blocks one node has at once, and for headers as many again; further ones go to other nodes.
    /// A catch-up is the faster the more there are, up to what the node allows. Default: 16.
    pub requests_per_node: usize,
    /// How many headers without parents are kept. Default: 1,024.
    pub pending_limit: usize,
    /// How many headers without blocks are kept for one node: beside the canonical branch, and ahead of it. Further
    /// ones are refused, and the node is shown as pending with
    /// [`TooManyHeaders`](crate::adapter::ChainError::TooManyHeaders), until finality has passed them, or all nodes have
    /// left a branch without the last final block: then they are dropped. A longer reorg cannot be followed, and a longer
    /// branch without the last final block is not known to be a breach. Default: 65,536, some 13 MB a node.
    pub headers_off_branch: usize,
    /// How many heights are kept below the last final block. Default: 1,024.
    pub keep_below_final: Height,
    /// How many are kept at most for nodes that are further behind. Default: 65,536.
    pub keep_for_laggards: Height,
    /// How many blocks below the tip a block is final, even if no node reports it so. Default: 10,000.
    pub final_depth: Height,
}

impl ChainConfig {
    /// The defaults for a runtime of this interval.
    #[must_use]
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            start: Start::Recent(64),
            chain: None,
            probe_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            collect_for: (interval.saturating_mul(2) / 5).min(Duration::from_secs(2)),
            stale_after: Duration::from_secs(2)
                .max(interval.saturating_mul(3))
                .min(Duration::from_secs(24 * 60 * 60)),
            forget_after: Duration::from_secs(60).max(interval.saturating_mul(5)),
            identify_every: Duration::from_secs(30),
            detail: Detail::Results,
            unread_after: Duration::from_secs(10),
            lighter_after: 6,
            lighter_for: Duration::from_secs(10).max(interval.saturating_mul(3)),
            lagging_after: 3,
            public_quorum: 3,
            backfill: 512,
            block_window: 128,
            blocks_kept: 256,
            requests_per_node: 16,
            pending_limit: 1024,
            headers_off_branch: 65_536,
            keep_below_final: 1024,
            keep_for_laggards: 65_536,
            final_depth: 10_000,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ChainConfigError> {
        let counts = [
            ("public_quorum", self.public_quorum),
            ("backfill", self.backfill),
            ("block_window", self.block_window),
            ("requests_per_node", self.requests_per_node),
            ("pending_limit", self.pending_limit),
            ("headers_off_branch", self.headers_off_branch),
        ];
        if let Some((field, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(ChainConfigError::Zero { field });
        }
        if self.lighter_after == 0 {
            return Err(ChainConfigError::Zero { field: "lighter_after" });
        }
        let durations = [
            ("request_timeout", self.request_timeout),
            ("collect_for", self.collect_for),
            ("forget_after", self.forget_after),
            ("identify_every", self.identify_every),
        ];
        if let Some((field, _)) = durations.into_iter().find(|(_, value)| value.is_zero()) {
            return Err(ChainConfigError::Zero { field });
        }
        let Start::Known(headers) = &self.start else { return Ok(()) };
        if headers.is_empty() {
            return Err(ChainConfigError::NoHeaders);
        }
        let apart = |pair: &&[Header]| {
            pair[1].parent != pair[0].hash || Some(pair[1].height) != pair[0].height.checked_add(1)
        };
        match headers.windows(2).find(apart) {
            Some(pair) => Err(ChainConfigError::Gap { hash: pair[1].hash, height: pair[1].height }),
            None => Ok(()),
        }
    }
}

/// An invalid setting; the observer's `init` fails with it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainConfigError {
    /// A setting must not be zero.
    #[error("ChainConfig::{field} is zero: give it at least one")]
    Zero {
        /// The name of the setting.
        field: &'static str,
    },
    /// The list of headers is empty.
    #[error("Start::Known has no headers: give it the checkpoint's")]
    NoHeaders,
    /// Two consecutive headers are not parent and child.
    #[error(
        "Start::Known is no chain: {0:.8} at {height} is not the child of the header before it: give them in order, without a gap",
        hash
    )]
    Gap {
        /// The upper one.
        hash: Hash,
        /// Its height.
        height: Height,
    },
}

debug_as_text!(ChainConfigError);
