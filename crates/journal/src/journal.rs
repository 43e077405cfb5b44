//! A journal of this process: one thread writes, any number of tasks append and read.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use watchkeeper::subscription::Cursor;

use crate::config::{Durability, JournalConfig};
use crate::entry::Entry;
use crate::error::{AppendError, CloseError, JournalError, ReadFromError};
use crate::health::JournalHealth;
use crate::line::{MAX_BATCH, MAX_BATCH_BYTES};
use crate::medium::{Directory, Medium, Memory};
use crate::reader::{JournalReader, ReadFrom};
use crate::recovery::{self, Opened};
use crate::report::Recovery;
use crate::scan::{Scan, ScanSource};
use crate::segment::{Frontier, position};
use crate::thread::{Queue, Submitted, Thread, problem_of};
use crate::view::JournalView;
use crate::writer::{Request, Writer};

/// The most bytes of appends that wait for the thread. Further ones wait for room.
const QUEUE: usize = 4 * MAX_BATCH_BYTES;

/// A log of JSON objects, one a line, in the segments of a directory.
///
/// Clones share the journal. When the last one is dropped, what was appended is written, in the background;
/// [`close`](Self::close) waits for it.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    medium: Arc<dyn Medium>,
    identity: Cursor,
    recovery: Recovery,
    durability: Durability,
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
    frontier: watch::Receiver<Frontier>,
    health: watch::Receiver<JournalHealth>,
    closed: watch::Receiver<Option<Result<(), CloseError>>>,
}

/// The answer to an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The number of the record; of a batch, of its first one.
    pub number: u64,
    /// How many records were appended.
    pub count: u64,
    /// The position after them. If they are in [`Memory`](Durability::Memory) alone for now, a reader may begin there once
    /// they are written.
    pub cursor: Cursor,
    /// What is promised. It is [`Memory`](Durability::Memory) if a journal with
    /// [`Buffered`](Durability::Buffered) could not write the record yet.
    pub durability: Durability,
}

/// Cancels an opening whose caller has dropped it.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Journal {
    /// Opens the journal in a directory, or makes it there; missing directories are made.
    ///
    /// The newest segment is read as a whole, and of the others the end, a few MiB at most: the time and the memory do not depend on the
    /// number of records. [`recovery`](Self::recovery) has what was found.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: no record was changed, but for what was recovered already. The directory may have been made.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it ends within a few MiB, and the directory is free again.
    pub async fn open(directory: impl Into<PathBuf>, config: JournalConfig) -> Result<Self, JournalError> {
        Self::open_on(Arc::new(Directory::new(directory)), config).await
    }

    /// The same on any [`Medium`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open).
    pub async fn open_on(medium: Arc<dyn Medium>, config: JournalConfig) -> Result<Self, JournalError> {
        config.validate()?;
        if config.durability == Durability::Memory && !medium.is_memory() {
            return Err(JournalError::InvalidConfig {
                field: "durability",
                value: config.durability.to_string(),
                range: "Buffered, Group or Always, because the journal has a directory: Journal::in_memory has none",
            });
        }
        let cancelled = Arc::new(AtomicBool::new(false));
        let _guard = CancelOnDrop(Arc::clone(&cancelled));
        let opening = spawn_blocking(move || Self::open_now(medium, config, &cancelled));
        match opening.await {
            Ok(opened) => opened,
            Err(error) => match error.try_into_panic() {
                // A medium of an app's own has panicked.
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(JournalError::Cancelled),
            },
        }
    }

    /// A journal without a directory: the records are in memory, with the same limits, and are gone with it.
    ///
    /// # Errors
    ///
    /// [`JournalError::InvalidConfig`].
    #[expect(clippy::needless_pass_by_value, reason = "as for `open`")]
    pub fn in_memory(config: JournalConfig) -> Result<Self, JournalError> {
        let config = JournalConfig { durability: Durability::Memory, ..config };
        config.validate()?;
        Self::open_now(Arc::new(Memory::default()), config, &AtomicBool::new(false))
    }

    fn open_now(
        medium: Arc<dyn Medium>,
        config: JournalConfig,
        cancelled: &AtomicBool,
    ) -> Result<Self, JournalError> {
        let place = medium.place();
        let opened = recovery::open(&medium, cancelled)?;
        let (report, identity) = (opened.report.clone(), identity(&opened));
        report.log(&place);
        let durability = config.durability;
        let mut writer = Writer::new(Arc::clone(&medium), config, opened, Instant::now());
        let queue = Arc::new(Queue { waiting: Mutex::default(), changed: Condvar::new() });
        let (frontier, frontiers) = watch::channel(writer.frontier());
        let mut first = JournalHealth::default();
        for event in std::mem::take(&mut writer.events) {
            if let Some(problem) = problem_of(event, &*medium) {
                first.found(problem);
            }
        }
        let (health, healths) = watch::channel(first);
        let (closing, closed) = watch::channel(None);
        let thread = Thread {
            queue: Arc::clone(&queue),
            medium: Arc::clone(&medium),
            writer,
            frontier,
            health: Arc::new(health),
            closing,
            verifier: None,
            takes_one: durability == Durability::Always,
            is_memory: medium.is_memory(),
        };
        thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || thread.run())
            .map_err(|error| JournalError::io(&place, "start the thread that writes", error))?;
        let shared = Shared {
            medium,
            identity,
            recovery: report,
            durability,
            queue,
            room: Arc::new(Semaphore::new(QUEUE)),
            frontier: frontiers,
            health: healths,
            closed,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Appends a record, and waits for what its [`Durability`] promises.
    ///
    /// Records are in the order of the calls of one task. Many tasks share one sync.
    ///
    /// # Errors
    ///
    /// [`AppendError`]: the record is not in the journal; after [`Sync`](AppendError::Sync) it may be.
    ///
    /// # Cancel safety
    ///
    /// A dropped call appends the record, or does not: give it a key to find out.
    pub async fn append(&self, entry: Entry) -> Result<Appended, AppendError> {
        self.submit(vec![entry], false).await?.await
    }

    /// Appends records that are read all or not at all after a crash; after a power cut too, with
    /// [`Group`](Durability::Group) and [`Always`](Durability::Always).
    ///
    /// # Errors
    ///
    /// [`AppendError`]: the batch is empty, has more than 100,000 entries or 4 MiB, or was not written.
    ///
    /// # Cancel safety
    ///
    /// As [`append`](Self::append), for all of its records.
    pub async fn append_batch(&self, entries: Vec<Entry>) -> Result<Appended, AppendError> {
        if entries.is_empty() {
            return Err(AppendError::EmptyBatch);
        }
        let bytes = entries.iter().map(|entry| entry.weight() + 64).sum();
        if bytes > MAX_BATCH_BYTES || entries.len() > MAX_BATCH {
            return Err(AppendError::BatchTooLarge {
                entries: entries.len(),
                bytes,
                most_entries: MAX_BATCH,
                most_bytes: MAX_BATCH_BYTES,
            });
        }
        self.submit(entries, true).await?.await
    }

    /// Hands the entry over, in the order of the calls, and returns what waits for the answer.
    ///
    /// It waits for room if 16 MiB of appends wait already. Drop what it returns to append without waiting for the answer.
    ///
    /// # Errors
    ///
    /// [`AppendError::Closed`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call has handed nothing over.
    pub async fn submit_entry(
        &self,
        entry: Entry,
    ) -> Result<impl Future<Output = Result<Appended, AppendError>> + Send + 'static, AppendError> {
        self.submit(vec![entry], false).await
    }

    async fn submit(
        &self,
        entries: Vec<Entry>,
        is_batch: bool,
    ) -> Result<impl Future<Output = Result<Appended, AppendError>> + Send + 'static, AppendError> {
        let shared = &self.shared;
        let bytes: usize = entries.iter().map(Entry::weight).sum();
        let permits = u32::try_from(bytes.min(QUEUE)).unwrap_or(u32::MAX);
        let room = Arc::clone(&shared.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let count = entries.len() as u64;
        let request = Request { entries, is_batch, at: Instant::now() };
        {
            let mut waiting = shared.queue.lock();
            if waiting.is_closed {
                return Err(AppendError::Closed);
            }
            waiting.requests.push_back(Submitted { request, answer, room });
            if waiting.requests.len() == 1 {
                shared.queue.changed.notify_one();
            }
        }
        let identity = shared.identity;
        Ok(async move {
            let (number, durability) = answered.await.map_err(|_| AppendError::Closed)??;
            Ok(Appended { number, count, cursor: identity.at(number + count), durability })
        })
    }

    /// Reads from a position, and follows what is appended.
    ///
    /// A position whose records retention has removed is none of the errors: the reader begins with the exact
    /// [`Gap`](crate::Gap).
    ///
    /// # Errors
    ///
    /// [`ReadFromError`]: the cursor is of another journal, or of the future.
    pub fn reader(&self, from: ReadFrom) -> Result<JournalReader, ReadFromError> {
        let shared = &self.shared;
        let mut frontiers = shared.frontier.clone();
        let frontier = frontiers.borrow_and_update().clone();
        let number = from.number(shared.identity, &frontier)?;
        let scan = Scan::new(Arc::clone(&shared.medium), shared.identity, frontier, number);
        Ok(JournalReader::new(scan, frontiers, shared.medium.is_memory()))
    }

    /// What is readable now, for blocking readers and a [`Replay`](crate::run::Replay).
    #[must_use]
    pub fn view(&self) -> JournalView {
        let ScanSource { medium, identity, frontier } = self.scan_source();
        JournalView { medium, identity, frontier }
    }

    pub(crate) fn scan_source(&self) -> ScanSource {
        let Shared { medium, identity, frontier, .. } = &*self.shared;
        ScanSource { medium: Arc::clone(medium), identity: *identity, frontier: frontier.borrow().clone() }
    }

    /// The position of the next record.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.shared.identity.at(self.shared.frontier.borrow().next)
    }

    /// The position of the oldest record that is kept.
    #[must_use]
    pub fn oldest(&self) -> Cursor {
        self.shared.identity.at(self.shared.frontier.borrow().oldest())
    }

    /// What the opening has found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// What an append waits for.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.shared.durability
    }

    /// The directory as a person reads it; `memory` without one.
    #[must_use]
    pub fn place(&self) -> String {
        self.shared.medium.place()
    }

    /// The health as of now.
    #[must_use]
    pub fn health(&self) -> JournalHealth {
        self.shared.health.borrow().clone()
    }

    /// The health and its changes. The sender is dropped when the journal has ended, and its last segment was verified.
    #[must_use]
    pub fn watch_health(&self) -> watch::Receiver<JournalHealth> {
        self.shared.health.clone()
    }

    /// Writes what was appended, syncs it, and frees the directory. Further appends are refused, also those of clones.
    ///
    /// # Errors
    ///
    /// [`CloseError`], to each caller.
    ///
    /// # Cancel safety
    ///
    /// The journal closes also if the call is dropped; a second call waits for it.
    pub async fn close(&self) -> Result<(), CloseError> {
        self.shared.queue.close();
        self.shared.room.close();
        let mut closed = self.shared.closed.clone();
        match closed.wait_for(Option::is_some).await {
            Ok(result) => result.clone().unwrap_or(Ok(())),
            Err(_) => Err(CloseError::Panicked),
        }
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal")
            .field("place", &self.place())
            .field("cursor", &self.cursor())
            .finish_non_exhaustive()
    }
}

/// The first position.
fn identity(opened: &Opened) -> Cursor {
    position(opened.instance)
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
    }
}
