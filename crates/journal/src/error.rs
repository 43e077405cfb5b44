//! Why a journal is not opened, written or read.

use std::io;
use std::sync::Arc;

use watchkeeper::report::{debug_as_text, one_line};
use watchkeeper::subscription::CursorError;

/// Why a journal was not opened.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A field of the config is out of its range.
    #[error("JournalConfig::{field} is {value}: it must be {range}")]
    InvalidConfig {
        /// The field.
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        range: &'static str,
    },
    /// The operating system has refused something.
    #[error(
        "{place}: cannot {doing}: make sure that it is a directory that can be read and written, on a disk with room"
    )]
    Io {
        /// The directory.
        place: String,
        /// What was tried.
        doing: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// Another process, or another journal of this process, has the directory.
    #[error(
        "{place} is in use by another journal: stop the other process, or give each one a directory of its own"
    )]
    Locked {
        /// The directory.
        place: String,
    },
    /// The directory has other files, and is no journal.
    #[error(
        "{place} is no journal, and has other files, such as {}: give an empty or a new directory", one_line(.name, 100)
    )]
    Foreign {
        /// The directory.
        place: String,
        /// One of the files.
        name: String,
    },
    /// There is no journal.
    #[error(
        "there is no journal in {place}: give the directory that has journal.json; the journal of a run is in run/NAME"
    )]
    NoJournal {
        /// The directory.
        place: String,
    },
    /// There are segments, and `journal.json` is missing or is not what a journal has written.
    #[error(
        "{place}: journal.json is missing or damaged: put back a copy, or import the segments, from the oldest to the \
         newest, into a new journal"
    )]
    Identity {
        /// The directory.
        place: String,
    },
    /// The journal has a format that this version does not know.
    #[error(
        "{place} has format {found}, and this version knows 1: use the version that has written it, or a newer one"
    )]
    Newer {
        /// The directory.
        place: String,
        /// The format.
        found: u64,
    },
    /// The numbers are used up.
    #[error("{place}: record {last} leaves no numbers for further ones: begin a new journal")]
    NumbersUsedUp {
        /// The directory.
        place: String,
        /// The last record.
        last: u64,
    },
    /// The call was dropped while it read the last segment.
    #[error("the opening was cancelled: open the journal again")]
    Cancelled,
}

impl JournalError {
    pub(crate) fn io(place: &str, doing: &'static str, source: io::Error) -> Self {
        Self::Io { place: place.to_owned(), doing, source }
    }
}

/// Why something was not appended. Nothing of it is in the journal, unless [`Sync`](Self::Sync) says otherwise.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The disk is full. Records are accepted again when the reserve can be made again.
    #[error(
        "the disk is full, nothing was appended: free more than {reserve} bytes, then append again; reading goes on"
    )]
    Full {
        /// What must be free: [`JournalConfig::reserve`](crate::JournalConfig::reserve).
        reserve: u64,
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The write failed. What was written of it is removed before anything else is written; if the process ends before, it
    /// may be there.
    #[error(
        "the write failed, nothing was appended: make the directory writable and the disk sound, then append again"
    )]
    Write {
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The sync failed. The segment is closed; its last records may or may not survive, and their numbers are not used
    /// again.
    #[error(
        "the disk did not confirm the write: check the disk; the record may or may not be there after a restart, so \
         append it again with its key"
    )]
    Sync {
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// A batch without entries.
    #[error("the batch is empty: append at least one entry")]
    EmptyBatch,
    /// A batch that is too large to be written at once.
    #[error(
        "the batch has {entries} entries of {bytes} bytes: at most {most_entries} entries of {most_bytes} bytes; split it"
    )]
    BatchTooLarge {
        /// The number of entries.
        entries: usize,
        /// Their bytes.
        bytes: usize,
        /// The most entries.
        most_entries: usize,
        /// The most bytes.
        most_bytes: usize,
    },
    /// The journal was closed.
    #[error("the journal is closed: open it again")]
    Closed,
}

/// Why a journal cannot be read further.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The executor has shut down, or a medium of an app's own has panicked. The reader reads nothing any more.
    #[error(
        "the reader's executor has shut down, or its medium has panicked: make another reader from its cursor"
    )]
    Aborted,
    /// The operating system has refused something. The next call tries it again.
    #[error("{place}: cannot read {name}: make sure that it can be read, and that the disk is sound")]
    Io {
        /// The directory.
        place: String,
        /// The file.
        name: String,
        /// The error.
        #[source]
        source: io::Error,
    },
}

/// Why a journal did not close cleanly.
#[derive(Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The last records were not written, or not synced.
    #[error("{lost} records were not written, and what the system still had may be lost: check the disk")]
    Write {
        /// How many records were in memory alone.
        lost: u64,
        /// The error.
        #[source]
        source: Arc<io::Error>,
    },
    /// The thread that writes has panicked.
    #[error("the thread that writes has panicked: open the journal again, and report the panic")]
    Panicked,
}

/// Why reading cannot begin at a cursor or a number.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadFromError {
    /// The cursor is of another journal.
    #[error("the cursor is of another journal: take cursors from this one's records, readers and answers")]
    Foreign,
    /// The record is not there yet, or is lost: a power cut may have taken it with `buffered`.
    #[error(
        "record {number} is not there yet, and the next one is {next}: take cursors from this journal's records, readers \
         and answers; if records were lost, begin at an earlier one"
    )]
    Future {
        /// The number that was asked for.
        number: u64,
        /// The number of the next record.
        next: u64,
    },
}

impl From<ReadFromError> for CursorError {
    fn from(error: ReadFromError) -> Self {
        match error {
            ReadFromError::Foreign => Self::Foreign,
            ReadFromError::Future { number: seq, next: published } => Self::Future { seq, published },
        }
    }
}

debug_as_text!(CloseError, ReadFromError, JournalError, AppendError, ReadError);
