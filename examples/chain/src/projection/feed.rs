//! Blocks and transactions one by one, as they join the branch and leave it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use watchkeeper::subscription::{Cursor, RecvError, Subscription};
use watchkeeper::wait::Unmet;
use watchkeeper::{ObservationBatch, ObservationHandle, Observer};

use crate::error_text::debug_as_text;
use crate::{Block, ChainEvent, Hash, Header, Transaction};

/// How many joined blocks a [`TransactionFeed`] remembers, to say what leaves with them.
const REMEMBERED: usize = 256;

/// One block that joined the branch or left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockStep<T> {
    /// It is the new tip.
    Connected(Arc<Block<T>>),
    /// It was the tip; its parent is now.
    Disconnected(Header),
}

/// Every block that joins or leaves the branch, one by one, in an order in which each is the tip when its turn
/// is.
///
/// It reads a subscription, at its own pace: nothing is lost that the runtime's history holds. One that is made right
/// after the start of the runtime misses nothing, since cycle 0 tells no block. It is not ordered with waits: of what
/// a cycle told, a wait may be met before the feed was read.
pub struct BlockFeed<O: Observer, T> {
    handle: ObservationHandle<O>,
    batches: Subscription<O::Event>,
    ready: VecDeque<BlockStep<T>>,
}

/// Why there was no next cycle.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// Batches are missing, or the end; as told by [`RecvError`].
    #[error(transparent)]
    Missed(#[from] RecvError),
    /// No cycle succeeded in time.
    #[error(transparent)]
    NoCycle(Box<Unmet>),
}

debug_as_text!(FeedError);

impl<O: Observer<Event = ChainEvent<T>>, T: Clone + Send + Sync + 'static> BlockFeed<O, T> {
    /// Reads what happens from now on.
    #[must_use]
    pub fn new(handle: &ObservationHandle<O>) -> Self {
        Self { handle: handle.clone(), batches: handle.subscribe(), ready: VecDeque::new() }
    }

    /// The next step.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: as [`Subscription::recv`]. After `Lagged` or `Rebuilt` steps are missing or begin anew:
    /// read the snapshot.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn next(&mut self) -> Result<BlockStep<T>, RecvError> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            let batch = self.batches.recv().await?;
            self.take(&batch);
        }
    }

    /// Waits for a cycle that begins after this call to succeed, and returns every step up to and with it that
    /// was not read yet: none, if nothing happened on the chain.
    ///
    /// # Errors
    ///
    /// [`FeedError`]: no cycle succeeded within the window, or steps are missing. After `Lagged` and `Rebuilt` read
    /// the snapshot: the steps that led to where they are missing are dropped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn wait_for_next_cycle(&mut self, within: Duration) -> Result<Vec<BlockStep<T>>, FeedError> {
        let next = self.handle.eventually("a cycle that begins from now on succeeds", |_| true);
        let snapshot = next.show(|_| String::new()).within(within).await;
        let end = snapshot.map_err(|unmet| FeedError::NoCycle(Box::new(unmet)))?.cursor;
        // The batches up to the snapshot are there already: this never waits.
        while self.batches.cursor().seq() < end.seq() || self.batches.cursor().generation() < end.generation()
        {
            match self.batches.try_recv() {
                Some(Ok(batch)) => self.take(&batch),
                Some(Err(missed)) => {
                    // What was told before is not what the caller goes on from.
                    self.ready.clear();
                    return Err(missed.into());
                }
                None => break,
            }
        }
        Ok(self.ready.drain(..).collect())
    }

    /// Where the feed stands: right behind the batch of the last step.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.batches.cursor()
    }

    fn take(&mut self, batch: &ObservationBatch<ChainEvent<T>>) {
        for event in &batch.events {
            self.ready.extend(steps(event));
        }
    }
}

fn steps<T>(event: &ChainEvent<T>) -> impl Iterator<Item = BlockStep<T>> {
    let (old, new): (&[Header], &[Arc<Block<T>>]) = match event {
        ChainEvent::Committed { new } => (&[], new),
        ChainEvent::Reorged { old, new, .. } => (old, new),
        ChainEvent::Reverted { old, .. } => (old, &[]),
        _ => (&[], &[]),
    };
    let left = old.iter().map(|header| BlockStep::Disconnected(*header));
    left.chain(new.iter().map(|block| BlockStep::Connected(Arc::clone(block))))
}

impl<O: Observer, T> fmt::Debug for BlockFeed<O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batches, ready, .. } = self;
        f.debug_struct("BlockFeed")
            .field("batches", batches)
            .field("ready", &ready.len())
            .finish_non_exhaustive()
    }
}

/// One transaction that joined the branch or left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionStep<T> {
    /// A block that joined includes it.
    Connected {
        /// The block.
        block: Header,
        /// The transaction.
        transaction: T,
    },
    /// A block that left included it. It may be in a block that joins next.
    Disconnected {
        /// The block.
        block: Header,
        /// The transaction.
        transaction: T,
    },
    /// A block left of which it is not known what it included: it joined before the feed began, or more than
    /// 256 blocks ago.
    Unknown {
        /// The block.
        block: Header,
    },
}

/// Every transaction that joins or leaves the branch, one by one: in the order of their blocks, backwards in a
/// block that leaves.
pub struct TransactionFeed<O: Observer, T> {
    blocks: BlockFeed<O, T>,
    ready: VecDeque<TransactionStep<T>>,
    joined: HashMap<Hash, Arc<Block<T>>>,
    order: VecDeque<Hash>,
}

impl<O: Observer<Event = ChainEvent<T>>, T: Transaction> TransactionFeed<O, T> {
    /// Reads what happens from now on.
    #[must_use]
    pub fn new(handle: &ObservationHandle<O>) -> Self {
        Self {
            blocks: BlockFeed::new(handle),
            ready: VecDeque::new(),
            joined: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// The next step.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: as [`BlockFeed::next`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has taken nothing.
    pub async fn next(&mut self) -> Result<TransactionStep<T>, RecvError> {
        loop {
            if let Some(step) = self.ready.pop_front() {
                return Ok(step);
            }
            match self.blocks.next().await? {
                BlockStep::Connected(block) => self.join(block),
                BlockStep::Disconnected(header) => self.leave(header),
            }
        }
    }

    fn join(&mut self, block: Arc<Block<T>>) {
        let header = block.header;
        self.ready.extend(block.transactions.iter().map(|transaction| TransactionStep::Connected {
            block: header,
            transaction: transaction.clone(),
        }));
        if self.joined.insert(header.hash, block).is_none() {
            self.order.push_back(header.hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.joined.remove(&oldest);
        }
    }

    fn leave(&mut self, header: Header) {
        // It stays remembered: it may join again.
        match self.joined.get(&header.hash) {
            Some(block) => self.ready.extend(block.transactions.iter().rev().map(|transaction| {
                TransactionStep::Disconnected { block: header, transaction: transaction.clone() }
            })),
            None => self.ready.push_back(TransactionStep::Unknown { block: header }),
        }
    }
}

impl<O: Observer, T> fmt::Debug for TransactionFeed<O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionFeed").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}
