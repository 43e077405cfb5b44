//! The operations of the journal, for a loop that analyses the newest ones.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;
use utoipa::ToSchema;
use watchkeeper::report::debug_as_text;
use watchkeeper::{
    ObservationConfig, ObservationRuntime, ObservationRuntimeError, ObservedSource, Observer,
    StaticSourceProvider,
};
use watchkeeper_journal::{Journal, JournalReader, ReadError, ReadFrom, ReadFromError, ReadItem};

use crate::operation::Operation;
use crate::store::Store;

/// The most operations of a window. The ranges of the settings end with it: a loop that is given more takes this many.
pub const MAX_WINDOW: usize = 100_000;

/// The most records that one poll reads.
const MOST_RECORDS: u64 = 50_000;

/// For how long one poll begins to read further records.
const LONGEST_READ: Duration = Duration::from_secs(2);

/// For how long `init` begins to read further records: well under its time-out.
const LONGEST_FILL: Duration = Duration::from_secs(10);

/// After how many records other tasks have their turn.
const TURN: u64 = 256;

/// How many times the window is read at most to fill it: not every record is an operation.
const MOST_WINDOWS: u64 = 64;

/// How a loop over the journal is observed. Its wake begins the next cycle where one has not read all.
pub(super) fn observation(name: &str, every: Duration) -> ObservationConfig {
    ObservationConfig {
        name: Some(name.to_owned()),
        interval: every,
        wake: Some(Arc::new(Notify::new())),
        ..ObservationConfig::default()
    }
}

/// Starts such a loop in the background. Its one source is the journal.
pub(super) fn start<O: Observer<Source = Journal>>(
    store: &Store,
    observer: O,
    observation: ObservationConfig,
) -> Result<ObservationRuntime<O>, ObservationRuntimeError> {
    let sources = vec![ObservedSource::new("journal", store.journal().clone())];
    ObservationRuntime::start_in_background(StaticSourceProvider::new(sources), observer, observation)
}

/// How far a loop has read the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Progress {
    /// The sequence of the next operation to be analysed: all before it are.
    pub next: u64,
    /// How many gaps the journal had.
    pub gaps: u64,
    /// How many records they are.
    pub missing: u64,
    /// How many records were no operations.
    pub skipped: u64,
    /// Whether there are operations that are not analysed yet: the next cycle begins at once.
    pub is_behind: bool,
}

/// Reads the operations of a journal in order, a bounded number at a time.
pub(super) struct Recent {
    journal: Journal,
    reader: JournalReader,
    progress: Progress,
}

impl Recent {
    /// Reads the newest `window` operations; `take` gets each with its sequence. If they are read from further back, `restart` is
    /// called before.
    pub(super) async fn fill<T: Send>(
        journal: &Journal,
        window: usize,
        target: &mut T,
        restart: impl Fn(&mut T) + Send,
        take: impl Fn(&mut T, u64, Operation) -> bool + Send + Sync,
    ) -> Result<Self, RecentError> {
        let window = window as u64;
        let deadline = Instant::now() + LONGEST_FILL;
        let mut count = window;
        loop {
            let reader = journal.reader(ReadFrom::Last(count))?;
            let is_all = reader.cursor() == journal.oldest();
            let progress = Progress { next: reader.cursor().seq(), ..Progress::default() };
            let mut recent = Self { journal: journal.clone(), reader, progress };
            let mut is_full = false;
            recent
                .read_until(deadline, u64::MAX, |at, operation| is_full |= take(target, at, operation))
                .await?;
            if is_full || is_all || recent.progress.is_behind || count >= window * MOST_WINDOWS {
                return Ok(recent);
            }
            count *= 4;
            restart(target);
        }
    }

    /// Reads what is new, at most so much that it does not take long.
    ///
    /// # Errors
    ///
    /// The journal cannot be read. What was read before is not lost: the error is returned only if it is the first thing.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: what was read is with `take`, and the next call continues after it.
    pub(super) async fn read(&mut self, take: impl FnMut(u64, Operation) + Send) -> Result<(), RecentError> {
        self.read_until(Instant::now() + LONGEST_READ, MOST_RECORDS, take).await
    }

    async fn read_until(
        &mut self,
        deadline: Instant,
        most: u64,
        mut take: impl FnMut(u64, Operation) + Send,
    ) -> Result<(), RecentError> {
        let mut count = 0;
        while count < most {
            let item = match self.reader.next_existing().await {
                Ok(item) => item,
                Err(error) => {
                    if matches!(error, ReadError::Aborted) {
                        self.reader = self.journal.reader(ReadFrom::Cursor(self.reader.cursor()))?;
                    }
                    self.progress.is_behind = true;
                    return if count > 0 { Ok(()) } else { Err(error.into()) };
                }
            };
            count += 1;
            match item {
                None => {
                    self.progress.is_behind = false;
                    return Ok(());
                }
                Some(ReadItem::Gap(gap)) => {
                    self.progress.gaps += 1;
                    self.progress.missing += gap.count();
                }
                Some(ReadItem::Record(record)) => match Operation::of_record(&record) {
                    Some(operation) => take(record.number(), operation),
                    None => self.progress.skipped += 1,
                },
            }
            self.progress.next = self.reader.cursor().seq();
            if count % TURN == 0 {
                tokio::task::yield_now().await;
                if Instant::now() >= deadline {
                    break;
                }
            }
        }
        self.progress.is_behind = self.reader.cursor() != self.journal.cursor();
        Ok(())
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress
    }
}

/// Why operations cannot be read.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RecentError {
    /// The journal cannot be read. The next poll tries it again.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The journal does not have the position any more.
    #[error(transparent)]
    From(#[from] ReadFromError),
    /// The loop was started without the journal.
    #[error("the loop has no journal: start it with `errors::start` or `playbooks::start`")]
    NoJournal,
}

debug_as_text!(RecentError);
