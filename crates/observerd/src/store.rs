//! Where operations go: validated, then persisted, then applied.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;
use watchkeeper::report::debug_as_text;
use watchkeeper_journal::{
    AppendError, Appended, Cursor, Durability, Entry, Journal, JournalConfig, JournalError, ReadError,
    ReadFrom, ReadFromError, ReadItem,
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
}

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
        let mut keys = Keys::new(idempotency_window);
        let newest = idempotency_window.max(RING as u64);
        // Not every record is an operation: more are read until the ring is full, or the journal has no more.
        let mut count = newest;
        let ring = loop {
            let mut reader = journal.reader(ReadFrom::Last(count))?;
            let is_all = reader.cursor() == journal.oldest();
            let mut operations = Ring::default();
            while let Some(item) = reader.next_existing().await? {
                let ReadItem::Record(record) = item else { continue };
                if let Some(key) = record.key() {
                    keys.restore(&key, &record);
                }
                if let Some(operation) = Operation::of_record(&record) {
                    operations.push(Some(record.number()), operation);
                }
            }
            if operations.len() == RING || is_all || count > newest * 64 {
                break operations;
            }
            count *= 4;
        };
        let shared = Shared {
            journal,
            ring: Mutex::new(ring),
            keys: Mutex::new(keys),
            tasks: TaskTracker::new(),
            tailing: Arc::default(),
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
                if let Some(recorded) = shared.keys().begin(&key, self.identity())? {
                    return Ok(recorded);
                }
                // From here on the key is released whatever happens.
                let pending = PendingKey { shared: Arc::clone(shared), key: Some(key) };
                if let (Some((_, entry)), Some(key)) = (operations.first_mut(), &pending.key) {
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
        task.await.unwrap_or(Err(RecordError::Append(AppendError::Closed)))
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
                cursor: Some(cursor),
                durability,
                is_repeated: false,
            },
            Err(error) if self.takes_without_journal(&error) => {
                tracing::error!(%error, count, "operations are in memory alone");
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
        if let (Some(pending), Some(number)) = (pending, recorded.sequence) {
            pending.done(number, count, recorded.durability);
        }
        Ok(recorded)
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

    fn identity(&self) -> Cursor {
        self.shared.journal.oldest()
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
    fn ring(&self) -> std::sync::MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> std::sync::MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key whose request is being recorded. Dropped, it is free again.
struct PendingKey {
    shared: Arc<Shared>,
    key: Option<Key>,
}

impl PendingKey {
    fn done(mut self, number: u64, count: u64, durability: Durability) {
        if let Some(key) = self.key.take() {
            self.shared.keys().done(&key, number, count, durability);
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
}

debug_as_text!(StoreError, RecordError);
