//! Reading segments in order, up to a frontier.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use watchkeeper::subscription::Cursor;

use crate::chunk::{Chunk, ChunkReader, Piece, Text};
use crate::error::ReadError;
use crate::medium::Medium;
use crate::record::{Gap, GapCause, ReadItem, Record};
use crate::segment::{Frontier, seek, segment_name};

/// How many of the last records are searched for one that is not damaged.
const LAST: u64 = 1_000;

/// A journal as far as it may be read.
#[derive(Clone)]
pub(crate) struct ScanSource {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) identity: Cursor,
    pub(crate) frontier: Frontier,
}

impl ScanSource {
    pub(crate) fn scan(&self, from: u64) -> Scan {
        Scan::new(Arc::clone(&self.medium), self.identity, self.frontier.clone(), from)
    }

    /// The first record from this number on.
    pub(crate) fn first_record(&self, from: u64) -> Result<Option<Record>, ReadError> {
        let mut scan = self.scan(from);
        while let Some(item) = scan.next()? {
            if let ReadItem::Record(record) = item {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The last record.
    pub(crate) fn last_record(&self) -> Result<Option<Record>, ReadError> {
        let mut scan = self.scan(self.frontier.next.saturating_sub(LAST).max(self.frontier.oldest()));
        let mut last = None;
        while let Some(item) = scan.next()? {
            last = item.record().or(last);
        }
        Ok(last)
    }
}

/// Reads up to a frontier, and blocks.
pub(crate) struct Scan {
    medium: Arc<dyn Medium>,
    pub(crate) identity: Cursor,
    pub(crate) frontier: Frontier,
    /// The number of the next record.
    expected: u64,
    /// The segment that is being read, and the last one that was.
    current: Option<(u64, ChunkReader)>,
    last: Option<u64>,
    text: Arc<Text>,
    pieces: VecDeque<Piece>,
    /// The first number of the segment after the one of the chunk.
    limit: u64,
    /// Damaged bytes since the last record.
    bad: Option<(u64, u64, u64)>,
}

impl Scan {
    pub(crate) fn new(medium: Arc<dyn Medium>, identity: Cursor, frontier: Frontier, from: u64) -> Self {
        Self {
            medium,
            identity,
            frontier,
            expected: from,
            current: None,
            last: None,
            text: Arc::default(),
            pieces: VecDeque::new(),
            limit: u64::MAX,
            bad: None,
        }
    }

    pub(crate) fn expected(&self) -> u64 {
        self.expected
    }

    /// What was read already.
    #[inline]
    pub(crate) fn ready(&mut self) -> Option<ReadItem> {
        loop {
            match self.pieces.pop_front()? {
                Piece::Bad { offset, bytes } => self.damaged(offset, bytes),
                // What was damaged before it is not what is missing after it.
                Piece::Record(piece) if piece.number < self.expected => self.bad = None,
                // With it, no record of the next segment would be read.
                Piece::Record(piece) if piece.number >= self.limit => {
                    self.damaged(piece.offset, u64::from(piece.length));
                }
                Piece::Record(piece) if piece.number == self.expected => {
                    self.expected += 1;
                    self.bad = None;
                    let (text, identity) = (Arc::clone(&self.text), self.identity);
                    return Some(ReadItem::Record(Record { text, piece, identity }));
                }
                Piece::Record(piece) => {
                    let gap = self.gap(piece.number, GapCause::Missing);
                    self.pieces.push_front(Piece::Record(piece));
                    return Some(ReadItem::Gap(gap));
                }
            }
        }
    }

    fn damaged(&mut self, offset: u64, bytes: u64) {
        let segment = self.current.as_ref().map_or(0, |(first, _)| *first);
        match &mut self.bad {
            Some((first, _, length)) if *first == segment => *length += bytes,
            other => *other = Some((segment, offset, bytes)),
        }
    }

    fn gap(&mut self, to: u64, cause: GapCause) -> Gap {
        let first = std::mem::replace(&mut self.expected, to);
        let cause = match self.bad.take() {
            Some((segment, offset, bytes)) => {
                GapCause::Damaged { segment: segment_name(segment), offset, bytes }
            }
            None => cause,
        };
        Gap { first, last: to - 1, cause }
    }

    /// The next item; `None` at the frontier.
    pub(crate) fn next(&mut self) -> Result<Option<ReadItem>, ReadError> {
        loop {
            if let Some(item) = self.ready() {
                return Ok(Some(item));
            }
            let Some((first, reader)) = &mut self.current else {
                match self.open()? {
                    Begun::Nothing => return Ok(self.lost()),
                    Begun::Segment => continue,
                    Begun::Gap(gap) => return Ok(Some(ReadItem::Gap(gap))),
                }
            };
            let first = *first;
            let place = self.frontier.segments.iter().position(|segment| segment.first == first);
            // A segment that is retired meanwhile is read to its end.
            let end = place.map_or(u64::MAX, |place| self.frontier.segments[place].end);
            // All of its pieces were returned.
            let (text, pieces) = (std::mem::take(&mut self.text), std::mem::take(&mut self.pieces));
            reader.reuse(Chunk { text, pieces });
            let chunk = reader.next(end).map_err(|source| failed(&*self.medium, first, source))?;
            if let Some(Chunk { text, pieces }) = chunk {
                let after = place.and_then(|place| self.frontier.segments.get(place + 1));
                self.limit = after.map_or(self.frontier.limit, |segment| segment.first);
                (self.text, self.pieces) = (text, pieces);
            } else if place.is_some_and(|place| place + 1 == self.frontier.segments.len()) {
                return Ok(self.lost());
            } else {
                let (torn, rest) = (reader.open_line(), reader.rest());
                if rest > 0 {
                    self.damaged(torn, rest);
                }
                (self.current, self.last) = (None, Some(first));
            }
        }
    }

    /// At the frontier: the gap of what was answered before it, and is not there.
    fn lost(&mut self) -> Option<ReadItem> {
        let next = self.frontier.next;
        (self.expected < next).then(|| ReadItem::Gap(self.gap(next, GapCause::Missing)))
    }

    /// Opens the next segment.
    fn open(&mut self) -> Result<Begun, ReadError> {
        let segments = &self.frontier.segments;
        let after = segments.partition_point(|segment| self.last.is_some_and(|last| segment.first <= last));
        let at = segments.partition_point(|segment| segment.first <= self.expected);
        let place = after.max(at.saturating_sub(1));
        let Some(&segment) = segments.get(place) else { return Ok(Begun::Nothing) };
        if segment.first > self.expected {
            // The ones before were retired, also while this was read.
            let cause = if place == 0 { GapCause::Retired } else { GapCause::Missing };
            return Ok(Begun::Gap(self.gap(segment.first, cause)));
        }
        let name = segment.name();
        let file = match self.medium.open(&name, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Removed by somebody, or retired just now.
                self.last = Some(segment.first);
                return Ok(Begun::Segment);
            }
            Err(source) => return Err(failed(&*self.medium, segment.first, source)),
        };
        // One that could not be read at the opening has no known end.
        let end = match file.size() {
            Ok(size) => segment.end.min(size),
            Err(source) => return Err(failed(&*self.medium, segment.first, source)),
        };
        let offset = if self.expected > segment.first { seek(&file, end, self.expected) } else { Ok(0) };
        let offset = offset.map_err(|source| failed(&*self.medium, segment.first, source))?;
        self.current = Some((segment.first, ChunkReader::new(file, offset)));
        Ok(Begun::Segment)
    }

    /// The same as often as there is something, so that little is asked of the thread that blocks.
    pub(crate) fn fill(&mut self, items: &mut VecDeque<ReadItem>) -> Result<(), ReadError> {
        while items.is_empty() || !self.pieces.is_empty() {
            match self.next()? {
                Some(item) => items.push_back(item),
                None => break,
            }
        }
        Ok(())
    }
}

enum Begun {
    Segment,
    Gap(Gap),
    Nothing,
}

fn failed(medium: &dyn Medium, first: u64, source: io::Error) -> ReadError {
    ReadError::Io { place: medium.place(), name: segment_name(first), source }
}
