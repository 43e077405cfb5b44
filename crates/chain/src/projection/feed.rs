//! Blocks and transactions one by one, as they are connected and disconnected.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use watchkeeper::subscription::{Cursor, RecvError, Subscription};
use watchkeeper::{ObservationBatch, ObservationHandle, Observer};

use crate::{Block, ChainEvent, Detail, Hash, Header, Transaction};

/// How many connected blocks a [`TransactionFeed`] keeps, to emit their transactions when they are disconnected.
const REMEMBERED: usize = 256;

/// One block that was connected or disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockStep<T> {
    /// It is the new tip.
    Connected(Arc<Block<T>>),
    /// It was the tip; its parent is the tip now.
    Disconnected(Header),
}

/// Every block that is connected or disconnected, one by one. Each block is the tip when it is connected, and when it
/// is disconnected.
///
/// The feed reads a subscription, at its own pace: it loses nothing that the runtime's history holds. A feed that is
/// made right after the start of the runtime misses nothing, since cycle 0 emits no block. A feed is not ordered with
/// waits: a wait may be met by events that the feed has not read yet. All steps up to the snapshot of a wait are there
/// when it is met: reading them does not wait.
pub struct BlockFeed<O: Observer, T> {
    batches: Subscription<O::Event>,
    ready: VecDeque<BlockStep<T>>,
}

impl<O: Observer<Event = ChainEvent<T>>, T: Clone + Send + Sync + 'static> BlockFeed<O, T> {
    /// Reads what happens from now on.
    #[must_use]
    pub fn new(handle: &ObservationHandle<O>) -> Self {
        Self { batches: handle.subscribe(), ready: VecDeque::new() }
    }

    /// The next step.
    ///
    /// # Errors
    ///
    /// [`RecvError`]: as [`Subscription::recv`]. After `Lagged` steps are missing, after `Rebuilt` they begin again:
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

    /// The position of the feed: right after the batch of the last step.
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
    let disconnected = old.iter().map(|header| BlockStep::Disconnected(*header));
    disconnected.chain(new.iter().map(|block| BlockStep::Connected(Arc::clone(block))))
}

impl<O: Observer, T> fmt::Debug for BlockFeed<O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { batches, ready } = self;
        f.debug_struct("BlockFeed").field("batches", batches).field("ready", &ready.len()).finish()
    }
}

/// One transaction whose block was connected or disconnected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransactionStep<T> {
    /// A connected block includes it.
    Connected {
        /// The block.
        block: Header,
        /// The transaction.
        transaction: T,
    },
    /// A disconnected block included it. The next connected blocks may include it again.
    Disconnected {
        /// The block.
        block: Header,
        /// The transaction.
        transaction: T,
    },
    /// A block was connected or disconnected whose transactions are unknown: they were not read
    /// ([`Detail::Header`]), or it was connected before the feed began, or more than 256 blocks
    /// ago. The step of a block that was not read comes both when the block is connected and when it is disconnected;
    /// [`BlockFeed`] distinguishes the two.
    Unknown {
        /// The block.
        block: Header,
    },
}

/// Every transaction that is connected or disconnected with its block, one by one: in the order of the blocks, and in
/// reverse order for a disconnected block.
pub struct TransactionFeed<O: Observer, T> {
    blocks: BlockFeed<O, T>,
    ready: VecDeque<TransactionStep<T>>,
    connected: HashMap<Hash, Arc<Block<T>>>,
    order: VecDeque<Hash>,
}

impl<O: Observer<Event = ChainEvent<T>>, T: Transaction> TransactionFeed<O, T> {
    /// Reads what happens from now on.
    #[must_use]
    pub fn new(handle: &ObservationHandle<O>) -> Self {
        Self {
            blocks: BlockFeed::new(handle),
            ready: VecDeque::new(),
            connected: HashMap::new(),
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
                BlockStep::Connected(block) => self.connect(block),
                BlockStep::Disconnected(header) => self.disconnect(header),
            }
        }
    }

    fn connect(&mut self, block: Arc<Block<T>>) {
        let header = block.header;
        if block.detail == Detail::Header {
            self.ready.push_back(TransactionStep::Unknown { block: header });
        }
        self.ready.extend(block.transactions.iter().map(|transaction| TransactionStep::Connected {
            block: header,
            transaction: transaction.clone(),
        }));
        if self.connected.insert(header.hash, block).is_none() {
            self.order.push_back(header.hash);
        }
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.connected.remove(&oldest);
        }
    }

    fn disconnect(&mut self, header: Header) {
        // The block stays in `connected`: it may be connected again.
        match self.connected.get(&header.hash) {
            Some(block) if block.detail > Detail::Header => {
                self.ready.extend(block.transactions.iter().rev().map(|transaction| {
                    TransactionStep::Disconnected { block: header, transaction: transaction.clone() }
                }));
            }
            _ => self.ready.push_back(TransactionStep::Unknown { block: header }),
        }
    }
}

impl<O: Observer, T> fmt::Debug for TransactionFeed<O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionFeed").field("blocks", &self.blocks).finish_non_exhaustive()
    }
}
