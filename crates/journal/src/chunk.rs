//! Reading the lines of a segment in large pieces.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::line::{self, Batch, MAX_LINE};
use crate::medium::{MediumFile, read_full};

/// How much is read at once.
const CHUNK: usize = 1024 * 1024;

/// Some consecutive bytes of a segment, and what they are.
#[derive(Default)]
pub(crate) struct Chunk {
    /// The body of each record ends with a brace here; in the file there is a comma.
    pub(crate) bytes: Arc<Vec<u8>>,
    pub(crate) pieces: Vec<Piece>,
}

pub(crate) enum Piece {
    Record(RecordPiece),
    /// Consecutive lines that are no records, with their line feeds.
    Bad {
        offset: u64,
        bytes: u64,
    },
}

/// Where a record's parts are in its chunk.
#[derive(Clone)]
pub(crate) struct RecordPiece {
    pub(crate) number: u64,
    /// Where its line is in the segment.
    pub(crate) offset: u64,
    /// The line with its line feed.
    pub(crate) length: u32,
    pub(crate) body: Range<u32>,
    pub(crate) batch: Option<Batch>,
    pub(crate) key: Option<Range<u32>>,
    pub(crate) position: Option<Range<u32>>,
}

/// Reads a segment from an offset that is the begin of a line.
pub(crate) struct ChunkReader {
    file: Arc<dyn MediumFile>,
    /// The first byte that was not read yet.
    offset: u64,
    /// The begin of a line whose end was not read yet.
    rest: Vec<u8>,
    /// How many bytes of a line that is too long were dropped.
    skipped: u64,
}

impl ChunkReader {
    pub(crate) fn new(file: Arc<dyn MediumFile>, offset: u64) -> Self {
        Self { file, offset, rest: Vec::new(), skipped: 0 }
    }

    /// Where the line begins whose end was not read yet.
    pub(crate) fn open_line(&self) -> u64 {
        self.offset - self.rest.len() as u64 - self.skipped
    }

    /// The next lines before `limit`; `None` at it. They are empty within a line that is longer than what is read at once, so
    /// that the caller can stop there too.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Option<Chunk>> {
        let room = usize::try_from(limit.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(CHUNK);
        let mut bytes = std::mem::take(&mut self.rest);
        let kept = bytes.len();
        bytes.resize(kept + room, 0);
        let read = match read_full(&*self.file, self.offset, &mut bytes[kept..]) {
            Ok(read) => read,
            Err(error) => {
                bytes.truncate(kept);
                self.rest = bytes;
                return Err(error);
            }
        };
        bytes.truncate(kept + read);
        let base = self.offset - kept as u64;
        self.offset += read as u64;
        if read == 0 {
            self.rest = bytes;
            return Ok(None);
        }
        let Some(end) = memchr::memrchr(b'\n', &bytes[kept..]).map(|end| kept + end + 1) else {
            if bytes.len() >= MAX_LINE {
                self.skipped += bytes.len() as u64;
                bytes.clear();
            }
            self.rest = bytes;
            return Ok(Some(Chunk::default()));
        };
        self.rest = bytes.split_off(end);
        let skipped = std::mem::take(&mut self.skipped);
        Ok(Some(split(bytes, base, skipped)))
    }
}

/// Splits `bytes`, which end with a line feed and are at `base` of the segment. Their first line is the end of one whose
/// first `skipped` bytes were dropped.
fn split(mut bytes: Vec<u8>, base: u64, skipped: u64) -> Chunk {
    let mut pieces = Vec::with_capacity(bytes.len() / 128);
    let mut start = 0;
    while start < bytes.len() {
        let end = start + memchr::memchr(b'\n', &bytes[start..]).unwrap_or(bytes.len() - start - 1);
        let is_cut = start == 0 && skipped > 0;
        match line::parse(&bytes[start..end]).filter(|_| !is_cut) {
            Some(parsed) => {
                bytes[start + parsed.body_end - 1] = b'}';
                let at = |place: usize| u32::try_from(start + place).unwrap_or(u32::MAX);
                let range = |range: Range<usize>| at(range.start)..at(range.end);
                pieces.push(Piece::Record(RecordPiece {
                    number: parsed.number,
                    offset: base + start as u64,
                    length: u32::try_from(end + 1 - start).unwrap_or(u32::MAX),
                    body: at(0)..at(parsed.body_end),
                    batch: parsed.batch,
                    key: parsed.key.map(range),
                    position: parsed.position.map(range),
                }));
            }
            None => {
                let before = if is_cut { skipped } else { 0 };
                let (offset, length) = (base + start as u64 - before, (end + 1 - start) as u64 + before);
                match pieces.last_mut() {
                    Some(Piece::Bad { bytes, .. }) => *bytes += length,
                    _ => pieces.push(Piece::Bad { offset, bytes: length }),
                }
            }
        }
        start = end + 1;
    }
    Chunk { bytes: Arc::new(bytes), pieces }
}
