//! The files of a journal.

use std::io;
use std::sync::Arc;

use watchkeeper::subscription::Cursor;

use crate::chunk::{ChunkReader, Piece};
use crate::line::{self, MAX_LINE};
use crate::medium::{MediumFile, read_full};

/// The size up to which a segment is read from its begin to find a record.
const NEAR: u64 = 256 * 1024;

/// One segment, as readers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The number of its first record: its name.
    pub(crate) first: u64,
    /// Where its readable part ends.
    pub(crate) end: u64,
}

impl Segment {
    pub(crate) fn name(self) -> String {
        segment_name(self.first)
    }
}

/// What may be read.
#[derive(Clone, Debug)]
pub(crate) struct Frontier {
    /// From the oldest to the newest.
    pub(crate) segments: Arc<[Segment]>,
    /// The number of the next record.
    pub(crate) next: u64,
    /// No record has this number or a larger one.
    pub(crate) limit: u64,
}

impl Frontier {
    /// The number of the oldest record.
    pub(crate) fn oldest(&self) -> u64 {
        self.segments.first().map_or(self.next, |segment| segment.first)
    }
}

/// The first position of the journal with this instance.
pub(crate) fn position(instance: u128) -> Cursor {
    let text = format!("{instance:032x}.1.0");
    text.parse().unwrap_or_else(|_| unreachable!("the text of a cursor"))
}

pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:020}.jsonl")
}

/// The number in a segment's name.
pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jsonl")?;
    if digits.len() != 20 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The begin of a line from which record `number` is found without reading much.
pub(crate) fn seek(file: &Arc<dyn MediumFile>, end: u64, number: u64) -> io::Result<u64> {
    let (mut from, mut to) = (0, end);
    while to - from > NEAR {
        let middle = from + (to - from) / 2;
        match first_after(file, middle, to)? {
            Some((offset, found)) if found <= number => from = offset,
            _ => to = middle,
        }
    }
    Ok(from)
}

/// The first valid line that begins after `offset`, and its number.
fn first_after(file: &Arc<dyn MediumFile>, offset: u64, end: u64) -> io::Result<Option<(u64, u64)>> {
    // The first line is cut, most likely: it is no record.
    let mut reader = ChunkReader::new(Arc::clone(file), offset);
    while let Some(chunk) = reader.next(end)? {
        let record = chunk.pieces.iter().find_map(|piece| match piece {
            Piece::Record(record) => Some((record.offset, record.number)),
            Piece::Bad { .. } => None,
        });
        if record.is_some() {
            return Ok(record);
        }
    }
    Ok(None)
}

/// The number of the last record, if the segment ends with one.
pub(crate) fn last_number(file: &dyn MediumFile, end: u64) -> io::Result<Option<u64>> {
    let window = MAX_LINE as u64 + 1;
    let start = end.saturating_sub(window);
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(MAX_LINE)];
    let read = read_full(file, start, &mut bytes)?;
    bytes.truncate(read);
    let Some((b'\n', lines)) = bytes.split_last() else { return Ok(None) };
    let last = memchr::memrchr(b'\n', lines).map_or(0, |before| before + 1);
    let line = &lines[last..];
    Ok(line::parse(line).filter(|_| std::str::from_utf8(line).is_ok()).map(|parsed| parsed.number))
}
