//! Reading records.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::ReusableBoxFuture;
use watchkeeper::subscription::Cursor;

use crate::chunk::{Chunk, ChunkReader, Piece, RecordPiece, Text};
use crate::error::{ReadError, ReadFromError};
use crate::line::Batch;
use crate::medium::Medium;
use crate::segment::{Frontier, seek};

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// The oldest record.
    Oldest,
    /// The next record to be appended.
    End,
    /// A position of this journal: [`Record::cursor`], [`Record::after`] or [`Journal::cursor`](crate::Journal::cursor).
    Cursor(Cursor),
    /// The record of this number; a gap if it is not there any more.
    Number(u64),
    /// The newest records, at most this many.
    Last(u64),
}

impl ReadFrom {
    pub(crate) fn number(self, identity: Cursor, frontier: &Frontier) -> Result<u64, ReadFromError> {
        let published = frontier.next;
        match self {
            Self::Oldest => Ok(frontier.oldest()),
            Self::End => Ok(published),
            Self::Cursor(cursor) if cursor.at(0) != identity => Err(ReadFromError::Foreign),
            Self::Cursor(cursor) if cursor.seq() > published => {
                Err(ReadFromError::Future { number: cursor.seq(), next: published })
            }
            Self::Cursor(cursor) => Ok(cursor.seq()),
            Self::Number(number) if number > published => {
                Err(ReadFromError::Future { number, next: published })
            }
            Self::Number(number) => Ok(number),
            Self::Last(count) => Ok(published.saturating_sub(count).max(frontier.oldest())),
        }
    }
}

/// One record.
///
/// It keeps the piece of the segment alive that it was read with: about 1 MiB. To keep a record for long, keep its
/// [`body`](Self::body).
#[derive(Clone)]
pub struct Record {
    text: Arc<Text>,
    piece: RecordPiece,
    identity: Cursor,
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
    identity: Cursor,
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
                GapCause::Damaged { segment: crate::segment::segment_name(segment), offset, bytes }
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
        let offset =
            if self.expected > segment.first { seek(&file, segment.end, self.expected) } else { Ok(0) };
        let offset = offset.map_err(|source| failed(&*self.medium, segment.first, source))?;
        self.current = Some((segment.first, ChunkReader::new(file, offset)));
        Ok(Begun::Segment)
    }

    /// The same as often as there is something, so that little is asked of the thread that blocks.
    fn fill(&mut self, items: &mut VecDeque<ReadItem>) -> Result<(), ReadError> {
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
    ReadError::Io { place: medium.place(), name: crate::segment::segment_name(first), source }
}

/// Reads a journal of this process in order, and follows it: every record once, or the gap that has it.
///
/// It returns records only after their append was answered. It is a [`Stream`], which ends when the journal is closed and
/// everything was read. Each reader reads the files by itself; blocking work runs on tokio's blocking threads, which
/// needs a tokio runtime.
///
/// # Examples
///
/// ```
/// use watchkeeper_journal::{Entry, Journal, JournalConfig, ReadFrom, ReadItem};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let journal = Journal::in_memory(JournalConfig::default())?;
/// let mut reader = journal.reader(ReadFrom::Oldest)?;
/// journal.append(Entry::from_text(r#"{"op":"put"}"#)?).await?;
/// let Some(ReadItem::Record(record)) = reader.recv().await? else { panic!("no record") };
/// assert_eq!((record.number(), record.body()), (0, r#"{"op":"put"}"#));
/// journal.close().await?;
/// assert!(reader.recv().await?.is_none());
/// # Ok(())
/// # }
/// ```
pub struct JournalReader {
    identity: Cursor,
    /// `None` while a thread has it.
    scan: Option<Scan>,
    filling: Option<JoinHandle<Filled>>,
    changes: watch::Receiver<Frontier>,
    changed: Option<ReusableBoxFuture<'static, (watch::Receiver<Frontier>, bool)>>,
    items: VecDeque<ReadItem>,
    next: u64,
    is_memory: bool,
    /// The journal is closed, and this was its last frontier.
    is_last: bool,
}

type Filled = (Scan, VecDeque<ReadItem>, Result<(), ReadError>);

impl JournalReader {
    pub(crate) fn new(scan: Scan, changes: watch::Receiver<Frontier>, is_memory: bool) -> Self {
        Self {
            identity: scan.identity,
            next: scan.expected(),
            scan: Some(scan),
            filling: None,
            changes,
            changed: None,
            items: VecDeque::new(),
            is_memory,
            is_last: false,
        }
    }

    /// The position after everything that was returned so far.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.identity.at(self.next)
    }

    /// Waits for the next item; `None` after the last one of a closed journal.
    ///
    /// # Errors
    ///
    /// [`ReadError`]; the next call tries it again, unless it is [`Aborted`](ReadError::Aborted).
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a dropped call takes nothing.
    pub async fn recv(&mut self) -> Result<Option<ReadItem>, ReadError> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The next item of what is appended already; `None` if there is no further one now.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv).
    pub async fn next_existing(&mut self) -> Result<Option<ReadItem>, ReadError> {
        if self.next >= self.changes.borrow().next {
            return Ok(None);
        }
        self.recv().await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<ReadItem>, ReadError>> {
        loop {
            if let Some(item) = self.items.pop_front() {
                self.next = match &item {
                    ReadItem::Record(record) => record.number() + 1,
                    ReadItem::Gap(gap) => gap.last + 1,
                };
                return Poll::Ready(Ok(Some(item)));
            }
            if let Some(filling) = &mut self.filling {
                let filled = ready!(Pin::new(filling).poll(context));
                self.filling = None;
                let Ok(filled) = filled else { return Poll::Ready(Err(ReadError::Aborted)) };
                self.filled(filled)?;
            } else if let Some(waiting) = &mut self.changed {
                let (changes, is_open) = ready!(waiting.poll(context));
                self.changed = None;
                self.changes = changes;
                self.is_last = !is_open;
                self.begin()?;
            } else if self.is_last && self.scan.is_some() {
                return Poll::Ready(Ok(None));
            } else {
                self.begin()?;
            }
        }
    }

    /// Reads up to the present frontier.
    fn begin(&mut self) -> Result<(), ReadError> {
        let Some(mut scan) = self.scan.take() else { return Err(ReadError::Aborted) };
        scan.frontier = self.changes.borrow_and_update().clone();
        let fill = move || {
            let (mut scan, mut items) = (scan, VecDeque::new());
            let result = scan.fill(&mut items);
            (scan, items, result)
        };
        if self.is_memory {
            return self.filled(fill());
        }
        self.filling = Some(spawn_blocking(fill));
        Ok(())
    }

    fn filled(&mut self, (scan, items, result): Filled) -> Result<(), ReadError> {
        self.scan = Some(scan);
        self.items = items;
        result?;
        if self.items.is_empty() && !self.is_last {
            let mut changes = self.changes.clone();
            self.changed = Some(ReusableBoxFuture::new(async move {
                let is_open = changes.changed().await.is_ok();
                (changes, is_open)
            }));
        }
        Ok(())
    }
}

impl Stream for JournalReader {
    type Item = Result<ReadItem, ReadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = std::task::ready!(self.poll(context)).transpose();
        if matches!(item, Some(Err(ReadError::Aborted))) {
            if self.is_last {
                return Poll::Ready(None);
            }
            self.is_last = true;
        }
        Poll::Ready(item)
    }
}

impl fmt::Debug for JournalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JournalReader").field("cursor", &self.cursor()).finish_non_exhaustive()
    }
}
