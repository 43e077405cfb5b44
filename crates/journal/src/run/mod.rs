//! Recording the run of an observation, and replaying it.
//!
//! A [`RunJournal`] is the journal in `DIR/run/NAME`. It [records](RunJournal::record) each publication of a runtime, gives
//! the point from which the next process [resumes](RunJournal::resume), and serves
//! [batches](RunJournal::subscribe_from) of this process and of earlier ones. A [`Replay`] publishes a recorded run in a
//! feed: handle, subscriptions and waits are those of a runtime, and windows end by the time of the records.
//!
//! # The records
//!
//! Each is a JSON object with these fields; the others are there if something of theirs was published.
//!
//! | field | |
//! |---|---|
//! | `kind` | `start`, `success`, `failure`, `sources`, `transition` or `stop` |
//! | `at` | nanoseconds since the `start` of this process, on tokio's clock |
//! | `time` | the wall time, RFC 3339 in UTC |
//! | `number` | the number of the publication, without gaps in one process |
//! | `cursor`, `cycle`, `event_count` | the run's position after it |
//! | `state`, `paused` | the machine's state after it |
//! | `sources` | all names of the source set |
//! | `success` | `cycle`, `generation`, `took_ns`, `is_polled`, `value`, `events` |
//! | `failure` | `cycle`, `took_ns`, `stage`, `cause`, `message`, `rebuild` |
//! | `run` | the observation's settings, in a `start` and in each thousandth record |
//! | `lost` | `publications`, `batches`, `events` that the tap has lost or that could not be written as JSON, and `why` |
//!
//! A record whose append has failed is missing: `number`, `cursor` and `event_count` of the next one say what it had.

mod format;
mod per_source;
mod record;
mod recorder;
mod replay;
mod subscription;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::subscription::{Cursor, Resume};
use watchkeeper::{DynError, Observer};

use crate::config::JournalConfig;
use crate::error::CloseError;
use crate::error::{JournalError, ReadError};
use crate::journal::Journal;

pub use format::{RunClock, RunFormat, SerdeFormat};
pub use per_source::PerSourceFormat;
pub use recorder::{Recording, RunHealth};
pub use replay::{Replay, ReplayError};
pub use subscription::{RunBatch, RunRecvError, RunSubscription, RunSubscriptionError};

use record::RunRecord;

/// The longest name of a run, in bytes.
const LONGEST_NAME: usize = 100;

/// The journal of an observation's runs, in `DIR/run/NAME`.
///
/// `F` writes and reads snapshots and events: [`SerdeFormat`] for types with serde's traits.
///
/// # Examples
///
/// The next process continues where this one was:
///
/// ```
/// # use watchkeeper::{DynError, ObservationConfig, ObservationRuntime, ObservedSource, Observer, StaticSourceProvider, async_trait};
/// use watchkeeper_journal::JournalConfig;
/// use watchkeeper_journal::run::{RunJournal, SerdeFormat};
/// # struct Counter;
/// # #[async_trait]
/// # impl Observer for Counter {
/// #     type Source = u64;
/// #     type State = u64;
/// #     type Snapshot = u64;
/// #     type Event = u64;
/// #     async fn init(&self, _: &[ObservedSource<u64>]) -> Result<u64, DynError> { Ok(0) }
/// #     async fn poll(&self, _: &[ObservedSource<u64>], sum: &mut u64) -> Result<Vec<u64>, DynError> { *sum += 5; Ok(vec![*sum]) }
/// #     fn snapshot(&self, sum: &u64) -> u64 { *sum }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), DynError> {
/// # let directory = tempfile::tempdir()?;
/// # let data = directory.path();
/// # let steps = || StaticSourceProvider::new(vec![ObservedSource::new("step", 5)]);
/// let journal = RunJournal::open(data, "counter", JournalConfig::default(), SerdeFormat).await?;
/// let config = ObservationConfig { resume: journal.resume().await?, ..Default::default() };
/// let runtime = ObservationRuntime::start_in_background(steps(), Counter, config.clone())?;
/// let recording = journal.record(&runtime.handle(), &config)?;
/// # let reached = runtime.handle().eventually("two polls", |sum| *sum >= 10).within(std::time::Duration::from_secs(20));
/// # reached.await?;
/// runtime.stop().await;
/// assert!(recording.finished().await.is_ok());
/// let resume = journal.resume().await?.unwrap();
/// assert!(resume.cursor.seq() >= 2);
/// journal.close().await?;
/// # Ok(())
/// # }
/// ```
pub struct RunJournal<O: Observer, F = SerdeFormat> {
    journal: Journal,
    name: Arc<str>,
    format: Arc<F>,
    /// How many recordings are in progress.
    recordings: watch::Sender<u64>,
    observer: std::marker::PhantomData<fn() -> O>,
}

impl<O: Observer, F: RunFormat<O>> RunJournal<O, F> {
    /// Opens the journal of the run `name`, or makes it.
    ///
    /// # Errors
    ///
    /// [`RunError`]: the name is no name of a directory, or the journal cannot be opened.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn open(
        directory: impl Into<PathBuf>,
        name: &str,
        config: JournalConfig,
        format: F,
    ) -> Result<Self, RunError> {
        let path = path(&directory.into(), name)?;
        Ok(Self::of(Journal::open(path, config).await?, name, format))
    }

    /// The run in a journal that is open already, such as one in memory. Nothing else may be appended to it.
    #[must_use]
    pub fn of(journal: Journal, name: &str, format: F) -> Self {
        let (recordings, _) = watch::channel(0);
        let format = Arc::new(format);
        Self { journal, name: name.into(), format, recordings, observer: std::marker::PhantomData }
    }

    /// The journal of the records.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The run's name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The point after the last record, for [`ObservationConfig::resume`](watchkeeper::ObservationConfig); `None` if nothing
    /// was recorded.
    ///
    /// A resumed runtime keeps the instance, and its cursors, generations, cycles and batches count on. Resume once from
    /// each point. Batches that were published and not recorded before a crash have numbers that are assigned again:
    /// consumers that outlive the process read [`subscribe_from`](Self::subscribe_from), which returns only what is
    /// recorded.
    ///
    /// # Errors
    ///
    /// [`RunError`]: a recording has not [finished](Recording::finished), or the last records cannot be read or are of
    /// something else.
    pub async fn resume(&self) -> Result<Option<Resume>, RunError> {
        if *self.recordings.borrow() > 0 {
            return Err(RunError::InProgress);
        }
        Ok(self.last_record().await?.map(|(_, record)| record.resume()))
    }

    /// The position before the oldest batch of the newest run that is kept, for a consumer that has no cursor yet:
    /// [`subscribe_from`](Self::subscribe_from). `None` if nothing is recorded.
    ///
    /// # Errors
    ///
    /// [`RunError`]: the records cannot be read, or are of something else.
    pub async fn oldest(&self) -> Result<Option<Cursor>, RunError> {
        let source = self.journal.scan_source();
        let find = move || {
            let Some(last) = source.last_record()? else { return Ok(None) };
            let instance = RunRecord::read(&last)?.cursor.0.instance();
            let first =
                subscription::first_where(&source, |record| subscription::of_instance(record, instance))?;
            let first = source.first_record(first)?.map(|record| RunRecord::read(&record)).transpose()?;
            Ok(first.map(|record| record.before()))
        };
        spawn_blocking(find).await.map_err(|_| ReadError::Aborted)?
    }

    /// With its number in the journal.
    async fn last_record(&self) -> Result<Option<(u64, RunRecord)>, RunError> {
        let source = self.journal.scan_source();
        // Not as if nothing were recorded: another run would begin.
        let last = spawn_blocking(move || source.last_record()).await.map_err(|_| ReadError::Aborted)??;
        last.map(|record| Ok((record.number(), RunRecord::read(&record)?))).transpose()
    }

    /// Writes what was recorded, syncs it, and frees the directory.
    ///
    /// # Errors
    ///
    /// [`CloseError`].
    pub async fn close(&self) -> Result<(), CloseError> {
        self.journal.close().await
    }
}

/// Clones share the journal.
impl<O: Observer, F> Clone for RunJournal<O, F> {
    fn clone(&self) -> Self {
        Self {
            journal: self.journal.clone(),
            name: Arc::clone(&self.name),
            format: Arc::clone(&self.format),
            recordings: self.recordings.clone(),
            observer: std::marker::PhantomData,
        }
    }
}

impl<O: Observer, F> fmt::Debug for RunJournal<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunJournal")
            .field("name", &self.name)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// The directory of the run `name`.
fn path(directory: &Path, name: &str) -> Result<PathBuf, RunError> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || name.starts_with('.') || !name.bytes().all(is_plain) {
        return Err(RunError::Name { name: name.to_owned() });
    }
    Ok(directory.join("run").join(name))
}

/// Why a run is not recorded, resumed or replayed.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The name cannot be the name of a directory.
    #[error(
        "{:?} cannot be the name of a run: use 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`, and no `.` in front",
        one_line(.name, 150)
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The journal cannot be opened.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A recording of this journal has not finished: it would write after the point, or between the other's records.
    #[error("a recording is in progress: stop its runtime, and await Recording::finished")]
    InProgress,
    /// A record is not of a run, or not of this observer.
    #[error(
        "record {number} is no record of this run: {problem}; give the journal of the same observer and format"
    )]
    Record {
        /// The record's number in the journal.
        number: u64,
        /// What is wrong.
        problem: String,
    },
    /// The format failed for a snapshot or an event.
    #[error(
        "the {what} of record {number} cannot be read: give the format and the types that it was recorded with"
    )]
    Format {
        /// The record's number in the journal.
        number: u64,
        /// `snapshot` or `event`.
        what: &'static str,
        /// The format's error.
        #[source]
        source: DynError,
    },
}

debug_as_text!(RunError);
