//! What is read: records, and what is missing.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use watchkeeper::subscription::Cursor;

use crate::chunk::{RecordPiece, Text};
use crate::line::Batch;

/// One record.
///
/// It keeps the piece of the segment alive that it was read with: about 256 KiB. To keep a record for long, keep its
/// [`body`](Self::body).
#[derive(Clone)]
pub struct Record {
    pub(crate) text: Arc<Text>,
    pub(crate) piece: RecordPiece,
    pub(crate) identity: Cursor,
}

impl Record {
    /// Its number in the journal: from 0, without gaps but for those that a reader returns.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.piece.number
    }

    /// The position before it.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.identity.at(self.piece.number)
    }

    /// The position after it.
    #[must_use]
    pub fn after(&self) -> Cursor {
        self.identity.at(self.piece.number + 1)
    }

    /// The text of its object, without what rides in the tail of its line.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &str {
        self.text(&self.piece.body)
    }

    /// Its batch, if it was appended in one.
    #[must_use]
    pub fn batch(&self) -> Option<Batch> {
        self.piece.batch
    }

    /// Its idempotency key.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.string(self.piece.key.as_ref())
    }

    /// The position of the tailed file that it was read from.
    #[must_use]
    pub fn position(&self) -> Option<String> {
        self.string(self.piece.position.as_ref())
    }

    /// Its object as a value.
    ///
    /// # Errors
    ///
    /// serde's: the object is no `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.body())
    }

    fn string(&self, place: Option<&Range<u32>>) -> Option<String> {
        serde_json::from_str(self.text(place?)).ok()
    }

    #[inline]
    fn text(&self, place: &Range<u32>) -> &str {
        self.text.get(place.start as usize..place.end as usize)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("number", &self.number())
            .field("bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// What a reader returns: a record, or numbers that have none.
#[derive(Clone, Debug)]
pub enum ReadItem {
    /// A record.
    Record(Record),
    /// Records that cannot be read any more.
    Gap(Gap),
}

impl ReadItem {
    /// The record, unless it is a gap.
    #[must_use]
    #[inline]
    pub fn record(self) -> Option<Record> {
        match self {
            Self::Record(record) => Some(record),
            Self::Gap(_) => None,
        }
    }
}

/// Consecutive numbers without records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gap {
    /// The first missing number.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// Why they are missing.
    pub cause: GapCause,
}

/// Why records are missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GapCause {
    /// Their segment was removed by retention.
    Retired,
    /// Their bytes are damaged.
    Damaged {
        /// The segment's file.
        segment: String,
        /// The first damaged byte.
        offset: u64,
        /// How many bytes are damaged.
        bytes: u64,
    },
    /// Their segment is missing, their append was answered with an error, or they were cut as a torn end.
    Missing,
}

impl Gap {
    /// How many records are missing.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.first, self.last);
        if first == last {
            write!(f, "record {first} is missing: ")?;
        } else {
            write!(f, "records {first} to {last} are missing: ")?;
        }
        match &self.cause {
            GapCause::Retired => f.write_str("the segment was removed, because there were newer ones"),
            GapCause::Missing => {
                f.write_str("the segment is gone, the append has failed, or a torn end was cut")
            }
            GapCause::Damaged { segment, offset, bytes } => {
                write!(f, "{bytes} damaged bytes at byte {offset} of {segment}")
            }
        }
    }
}
