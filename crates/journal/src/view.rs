//! Reading a journal's directory without opening the journal: it changes nothing, and needs no lock.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use watchkeeper::subscription::Cursor;

use crate::error::{JournalError, ReadError, ReadFromError};
use crate::medium::{Directory, Medium};
use crate::reader::ReadFrom;
use crate::record::ReadItem;
use crate::recovery::read_identity;
use crate::scan::{Scan, ScanSource};
use crate::segment::{Frontier, Segment, first_of, position, segment_name, valid_end};

/// A journal's directory as it is now, for programs that read a journal which another process may be writing.
///
/// It blocks. A record that is being written right now may be read before its append is answered.
#[derive(Clone, Debug)]
pub struct JournalView {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) identity: Cursor,
    pub(crate) frontier: Frontier,
}

impl std::fmt::Debug for dyn Medium {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.place())
    }
}

impl JournalView {
    /// The journal in a directory.
    ///
    /// # Errors
    ///
    /// [`JournalError`]: it is no journal, is of a newer format, or cannot be read.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, JournalError> {
        Self::of(Arc::new(Directory::new(directory)))
    }

    /// The journal on any [`Medium`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn of(medium: Arc<dyn Medium>) -> Result<Self, JournalError> {
        let instance = instance_of(&*medium)?;
        let frontier = Frontier { segments: Arc::new([]), next: 0, limit: 0 };
        let mut view = Self { medium, identity: position(instance), frontier };
        view.refresh()?;
        Ok(view)
    }

    /// Reads what has come since. Returns whether there is something new.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn refresh(&mut self) -> Result<bool, JournalError> {
        let place = self.medium.place();
        let failed = |error| JournalError::io(&place, "read its segments", error);
        let mut firsts: Vec<u64> =
            self.medium.list().map_err(failed)?.iter().filter_map(|name| first_of(name)).collect();
        firsts.sort_unstable();
        let mut segments: Vec<Segment> = Vec::with_capacity(firsts.len());
        for first in firsts {
            let file = match self.medium.open(&segment_name(first), false) {
                // Retired just now.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(failed)?,
            };
            let end = file.size().map_err(failed)?;
            segments.push(Segment { first, end });
        }
        // A newest one without records may be removed and made again. Otherwise a torn end hides how many there are.
        let empty = segments.pop_if(|newest| newest.end == 0);
        let limit = empty.map_or(u64::MAX, |empty| empty.first);
        let mut next = if limit < u64::MAX { limit } else { 0 };
        if let Some(segment) = segments.last_mut().filter(|_| limit == u64::MAX) {
            // The next opening cuts what is after the last record, and something else is written there.
            let find =
                |segment: Segment| valid_end(&*self.medium.open(&segment.name(), false)?, segment, true);
            let found = find(*segment).map_err(failed)?;
            (next, segment.end) = found.unwrap_or((segment.first, segment.end));
        }
        let is_new = *segments != *self.frontier.segments;
        self.frontier = Frontier { segments: segments.into(), next, limit };
        Ok(is_new)
    }

    /// The position after the last record. If the newest segment has a torn end of several MiB, it is the position before
    /// that segment.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.identity.at(self.frontier.next)
    }

    /// The position of the oldest record.
    #[must_use]
    pub fn oldest(&self) -> Cursor {
        self.identity.at(self.frontier.oldest())
    }

    /// Reads from a position to the end that the directory had at the last [`refresh`](Self::refresh).
    ///
    /// # Errors
    ///
    /// [`ReadFromError::Foreign`]: the cursor is of another journal. A cursor of the future reads nothing until the journal is
    /// there: a view may be older than the cursor.
    pub fn reader(&self, from: ReadFrom) -> Result<ViewReader, ReadFromError> {
        let number = match from {
            // A torn end hides how many there are.
            ReadFrom::Cursor(cursor) if cursor.at(0) == self.identity => cursor.seq(),
            ReadFrom::Number(number) => number,
            other => other.number(self.identity, &self.frontier)?,
        };
        Ok(ViewReader { scan: self.scan_source().scan(number) })
    }

    pub(crate) fn scan_source(&self) -> ScanSource {
        let (medium, identity, frontier) = (Arc::clone(&self.medium), self.identity, self.frontier.clone());
        ScanSource { medium, identity, frontier }
    }
}

/// The instance of the journal on `medium`.
pub(crate) fn instance_of(medium: &dyn Medium) -> Result<u128, JournalError> {
    let place = medium.place();
    let names = match medium.list() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(JournalError::NoJournal { place });
        }
        listed => listed.map_err(|error| JournalError::io(&place, "list it", error))?,
    };
    match read_identity(medium)? {
        Some(instance) => Ok(instance),
        None if names.iter().any(|name| first_of(name).is_some()) => Err(JournalError::Identity { place }),
        None => Err(JournalError::NoJournal { place }),
    }
}

/// Reads a [`JournalView`] in order: an iterator over records and gaps, which blocks.
pub struct ViewReader {
    scan: Scan,
}

impl ViewReader {
    /// Continues up to the end that `view` has now.
    pub fn extend(&mut self, view: &JournalView) {
        self.scan.frontier = view.frontier.clone();
    }

    /// The number of the next record.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.scan.expected()
    }
}

impl Iterator for ViewReader {
    type Item = Result<ReadItem, ReadError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if let Some(item) = self.scan.ready() {
            return Some(Ok(item));
        }
        self.scan.next().transpose()
    }
}

impl std::fmt::Debug for ViewReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ViewReader").field("next_number", &self.next_number()).finish_non_exhaustive()
    }
}
