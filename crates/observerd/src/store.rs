//! Where operations go: validated, then persisted, then applied.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{
    AppendError, Appended, Durability, Entry, Journal, JournalConfig, JournalError, ReadError, ReadFrom,
    ReadFromError, ReadItem,
};

use crate::keys::{Key, KeyError, Keys};
use crate::operation::Operation;
use crate::recorded::Recorded;
use crate::ring::{RING, Ring, Stats};

/// The operations: a journal, the ring of the newest, and the idempotency keys.
///
/// What is recorded is applied by a task of its own, so that a caller that goes away changes nothing.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Journal,
    ring: Mutex<Ring>,
    keys: Mutex<Keys>,
    tasks: TaskTracker,
    /// Held while a batch of a tailed file is being recorded, also if nobody waits for it any more.
    tailing: Arc<tokio::sync::Mutex<()>>,
    memory_alone: Mutex<MemoryAlone>,
}

/// What was logged of operations that the journal could not take.
#[derive(Default)]
struct MemoryAlone {
    at: Option<Instant>,
    operations: u64,
}

/// How often that is logged.
const LOG_EVERY: Duration = Duration::from_mins(1);

/// The right to record a batch of a tailed file: none is in flight.
#[derive(Debug)]
pub(crate) struct TailTurn {
    _turn: OwnedMutexGuard<()>,
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory; `None` for a store in memory.
    pub directory: Option<PathBuf>,
    /// The settings of the journal.
    pub journal: JournalConfig,
    /// For how many of the newest records an idempotency key is known.
    pub idempotency_window: u64,
}

impl Store {
    /// Opens the store, and fills ring and keys from the end of the journal.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let journal = match config.directory {
            Some(directory) => Journal::open(directory, config.journal).await?,
            None => Journal::in_memory(config.journal)?,
        };
        Self::of(journal, config.idempotency_window).await
    }

    /// The same over a journal that is open.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn of(journal: Journal, idempotency_window: u64) -> Result<Self, StoreError> {
        let (ring, keys) = restore(&journal, idempotency_window).await?;
        let shared = Shared {
            journal,
            ring: Mutex::new(ring),
            keys: Mutex::new(keys),
            tasks: TaskTracker::new(),
            tailing: Arc::default(),
            memory_alone: Mutex::default(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Records one operation: it is in the journal as the level promises, and then in the ring.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call records the operation, or does not: give it a key to find out.
    pub async fn record(
        &self,
        operation: Operation,
        entry: Entry,
        key: Option<Key>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Recorded, RecordError> {
        self.record_all(vec![(operation, entry)], false, key, permit).await
    }

    /// Records operations, all of them or none.
    ///
    /// # Errors
    ///
    /// [`RecordError`].
    ///
    /// # Cancel safety
    ///
    /// As [`record`](Self::record).
    pub async fn record_batch(
        &self,
        operations: Vec<(Operation, Entry)>,
        key: Option<Key>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Recorded, RecordError> {
        self.record_all(operations, true, key, permit).await
    }

    async fn record_all(
        &self,
        mut operations: Vec<(Operation, Entry)>,
        is_batch: bool,
        key: Option<Key>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<Recorded, RecordError> {
        let shared = &self.shared;
        let pending = match key {
            None => None,
            Some(key) => {
                if let Some(recorded) = shared.keys().begin(&key, shared.next())? {
                    return Ok(self.as_of_now(recorded));
                }
                // From here on the key is released whatever happens.
                let pending = PendingKey { shared: Arc::clone(shared), key: Some(key) };
                // The last record of a batch is its commit mark, and the last to be forgotten.
                if let (Some((_, entry)), Some(key)) = (operations.last_mut(), &pending.key) {
                    *entry = entry.clone().with_key(&key.tail()).map_err(|_| KeyError::Invalid)?;
                }
                Some(pending)
            }
        };
        let store = self.clone();
        let task = shared.tasks.spawn(async move {
            let _permit = permit;
            store.append(operations, is_batch, pending).await
        });
        task.await.unwrap_or(Err(RecordError::Unknown))
    }

    /// A repeated answer: what waited in memory may be in the journal by now.
    fn as_of_now(&self, recorded: Recorded) -> Recorded {
        let journal = self.journal();
        match recorded.sequence {
            Some(first) if recorded.durability == Durability::Memory && first < journal.cursor().seq() => {
                Recorded {
                    durability: journal.durability(),
                    cursor: Some(journal.cursor().at(first + recorded.count)),
                    ..recorded
                }
            }
            _ => recorded,
        }
    }

    async fn append(
        &self,
        operations: Vec<(Operation, Entry)>,
        is_batch: bool,
        pending: Option<PendingKey>,
    ) -> Result<Recorded, RecordError> {
        let shared = &self.shared;
        let count = operations.len() as u64;
        let (operations, mut entries): (Vec<_>, Vec<_>) = operations.into_iter().unzip();
        let answer = if is_batch {
            shared.journal.append_batch(entries).await
        } else {
            let Some(entry) = entries.pop() else { return Err(AppendError::EmptyBatch.into()) };
            shared.journal.append(entry).await
        };
        let recorded = match answer {
            Ok(Appended { number, cursor, durability, .. }) => Recorded {
                sequence: Some(number),
                count,
                // What waits in memory for the disk has no position yet that a reader may begin at.
                cursor: shared.is_written(durability).then_some(cursor),
                durability,
                is_repeated: false,
            },
            Err(error) if self.takes_without_journal(&error) => {
                self.log_memory_alone(&error, count);
                Recorded {
                    sequence: None,
                    count,
                    cursor: None,
                    durability: Durability::Memory,
                    is_repeated: false,
                }
            }
            Err(error) => return Err(error.into()),
        };
        {
            let mut ring = shared.ring();
            for (offset, operation) in (0..).zip(operations) {
                ring.push(recorded.sequence.map(|first| first + offset), operation);
            }
        }
        if let Some(pending) = pending {
            let last = recorded.sequence.map_or_else(|| shared.next(), |first| first + count - 1);
            pending.done(recorded, last);
        }
        Ok(recorded)
    }

    /// One line a minute, with the number of operations since the last one.
    fn log_memory_alone(&self, error: &AppendError, count: u64) {
        let mut logged = self.shared.memory_alone.lock().unwrap_or_else(PoisonError::into_inner);
        logged.operations += count;
        if logged.at.is_none_or(|at| at.elapsed() >= LOG_EVERY) {
            let operations = std::mem::take(&mut logged.operations);
            logged.at = Some(Instant::now());
            tracing::error!(%error, operations, "operations are in memory alone");
        }
    }

    /// Waits until no batch of a tailed file is in flight, so that the journal has the newest position.
    pub(crate) async fn tail_turn(&self) -> TailTurn {
        TailTurn { _turn: Arc::clone(&self.shared.tailing).lock_owned().await }
    }

    /// Records operations of a tailed file, whose entries have their positions: all of them or none. Unlike
    /// [`record_batch`](Self::record_batch), none is in the ring alone. The task ends by itself if its handle is dropped.
    pub(crate) fn record_tailed(
        &self,
        turn: TailTurn,
        operations: Vec<(Operation, Entry)>,
    ) -> JoinHandle<Result<Appended, AppendError>> {
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn(async move {
            let _turn = turn;
            let (operations, entries): (Vec<_>, Vec<_>) = operations.into_iter().unzip();
            let appended = shared.journal.append_batch(entries).await?;
            let mut ring = shared.ring();
            for (number, operation) in (appended.number..).zip(operations) {
                ring.push(Some(number), operation);
            }
            Ok(appended)
        })
    }

    /// With `buffered` a failed write is no refusal, as in the system that this service replaces: the ring takes the operation, and the
    /// health is red.
    fn takes_without_journal(&self, error: &AppendError) -> bool {
        self.shared.journal.durability() == Durability::Buffered
            && matches!(
                error,
                AppendError::Full { .. } | AppendError::Write { .. } | AppendError::Sync { .. }
            )
    }

    /// The statistics over the newest operations.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.ring().stats()
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.shared.journal
    }

    /// Waits for what is being recorded, and closes the journal.
    ///
    /// # Errors
    ///
    /// [`watchkeeper_journal::CloseError`].
    pub async fn close(&self) -> Result<(), watchkeeper_journal::CloseError> {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
        self.shared.journal.close().await
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("journal", &self.shared.journal).finish_non_exhaustive()
    }
}

impl Shared {
    /// Whether an answer of this level has a record that readers get.
    fn is_written(&self, durability: Durability) -> bool {
        durability != Durability::Memory || self.journal.durability() == Durability::Memory
    }

    /// The number of the next record.
    fn next(&self) -> u64 {
        self.journal.cursor().seq()
    }

    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The most records that are read for the ring of a journal in which most records are no operations.
const MOST_READ: u64 = 1_000_000;

/// Ring and keys from the end of the journal, block by block: a block is read once, and of another one the ring alone.
async fn restore(journal: &Journal, window: u64) -> Result<(Ring, Keys), StoreError> {
    let (mut ring, mut keys) = (Ring::default(), Keys::new(window));
    let (next, oldest) = (journal.cursor().seq(), journal.oldest().seq());
    let (mut end, mut block) = (next, window.max(RING as u64));
    let mut is_newest = true;
    while end > oldest && ring.len() < RING && next - end < MOST_READ {
        let begin = end.saturating_sub(block).max(oldest);
        let mut reader = journal.reader(ReadFrom::Number(begin))?;
        while reader.cursor().seq() < end {
            let Some(item) = reader.next_existing().await? else { break };
            let ReadItem::Record(record) = item else { continue };
            if record.number() >= end {
                break;
            }
            if let Some(key) = record.key().filter(|_| is_newest) {
                keys.restore(&key, &record);
            }
            if let Some(operation) = Operation::of_record(&record) {
                ring.push(Some(record.number()), operation);
            }
        }
        (end, is_newest, block) = (begin, false, block * 2);
    }
    Ok((ring, keys))
}

/// A key whose request is being recorded. Dropped, it is free again.
struct PendingKey {
    shared: Arc<Shared>,
    key: Option<Key>,
}

impl PendingKey {
    fn done(mut self, recorded: Recorded, last: u64) {
        if let Some(key) = self.key.take() {
            self.shared.keys().done(&key, recorded, last);
        }
    }
}

impl Drop for PendingKey {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.shared.keys().abandon(&key);
        }
    }
}

/// Why a store is not opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The journal is not opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The end of the journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal has changed while it was read.
    #[error(transparent)]
    From(#[from] ReadFromError),
}

/// Why operations are not recorded.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The journal did not take them.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The idempotency key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The task that records has panicked.
    #[error(
        "recording has failed: what was sent may be recorded or not; look for it before it is sent again"
    )]
    Unknown,
}

debug_as_text!(StoreError, RecordError);
