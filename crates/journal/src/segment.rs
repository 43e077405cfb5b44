//! The files of a journal.

use std::io;
use std::sync::Arc;

use watchkeeper::subscription::Cursor;

use crate::chunk::{ChunkReader, Piece};
use crate::line::{self, MAX_BATCH_BYTES, MAX_LINE};
use crate::medium::{MediumFile, read_full};

/// The size up to which a segment is read from its begin to find a record.
const NEAR: u64 = 256 * 1024;

/// The file that is removed when the disk is full.
pub(crate) const RESERVE: &str = "reserve";

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

/// The number after the last record of a segment, and where the line of that record ends. In the newest segment the records of
/// a batch that has no end yet do not count. `None` if there is none far and wide.
pub(crate) fn valid_end(
    file: &dyn MediumFile,
    Segment { first, end: size }: Segment,
    is_newest: bool,
) -> io::Result<Option<(u64, u64)>> {
    // The largest one has a batch with no end yet, and the line before it.
    for window in [64 * 1024, MAX_LINE as u64 + 1, (MAX_BATCH_BYTES + 2 * MAX_LINE) as u64] {
        let start = size.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(MAX_LINE)];
        let read = read_full(file, start, &mut bytes)?;
        let mut rest = &bytes[..read];
        while let Some(end) = memchr::memrchr(b'\n', rest) {
            let begin = memchr::memrchr(b'\n', &rest[..end]).map_or(0, |before| before + 1);
            let is_open = |parsed: &line::Parsed| {
                is_newest && parsed.batch.is_some_and(|batch| parsed.number.saturating_add(1) < batch.end())
            };
            if let Some(last) = line::parse(&rest[begin..end]).filter(|parsed| !is_open(parsed)) {
                return Ok(Some((last.number.saturating_add(1), start + end as u64 + 1)));
            }
            rest = &rest[..begin];
        }
        if start == 0 {
            return Ok(Some((first, 0)));
        }
    }
    Ok(None)
}
