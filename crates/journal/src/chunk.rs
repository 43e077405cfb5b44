//! Reading the lines of a segment in large pieces.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::line::{self, Batch, MAX_LINE};
use crate::medium::{MediumFile, read_full};

/// How much is read at once: with what is found in it, it stays in the processor's cache.
const CHUNK: usize = 256 * 1024;

/// Some consecutive bytes of a segment, and what they are.
#[derive(Default)]
pub(crate) struct Chunk {
    /// The body of each record ends with a brace here; in the file there is a comma.
    pub(crate) text: Arc<Text>,
    pub(crate) pieces: VecDeque<Piece>,
}

/// Bytes whose records are text.
pub(crate) enum Text {
    /// All of them are: checked once, and not for each record.
    All(String),
    /// There are other bytes too.
    Mixed(Vec<u8>),
}

impl Default for Text {
    fn default() -> Self {
        Self::All(String::new())
    }
}

impl Text {
    /// The text of a part of a record.
    #[inline]
    pub(crate) fn get(&self, place: Range<usize>) -> &str {
        match self {
            Self::All(text) => text.get(place).unwrap_or_default(),
            Self::Mixed(bytes) => std::str::from_utf8(&bytes[place]).unwrap_or_default(),
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::All(text) => text.into_bytes(),
            Self::Mixed(bytes) => bytes,
        }
    }
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
    /// What was read before, and is needed no more: its memory is used again.
    spare: (Vec<u8>, VecDeque<Piece>),
}

impl ChunkReader {
    pub(crate) fn new(file: Arc<dyn MediumFile>, offset: u64) -> Self {
        Self { file, offset, rest: Vec::new(), skipped: 0, spare: Default::default() }
    }

    /// Takes back a chunk, unless a record of it is kept.
    pub(crate) fn reuse(&mut self, Chunk { text, mut pieces }: Chunk) {
        pieces.clear();
        self.spare = (Arc::try_unwrap(text).unwrap_or_default().into_bytes(), pieces);
    }

    /// How many bytes of that line there are.
    pub(crate) fn rest(&self) -> u64 {
        self.rest.len() as u64 + self.skipped
    }

    /// Where the line begins whose end was not read yet.
    pub(crate) fn open_line(&self) -> u64 {
        self.offset - self.rest.len() as u64 - self.skipped
    }

    /// The next lines before `limit`; `None` at it. They are empty within a line that is longer than what is read at once, so
    /// that the caller can stop there too.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Option<Chunk>> {
        let room = usize::try_from(limit.saturating_sub(self.offset)).unwrap_or(usize::MAX).min(CHUNK);
        let (mut bytes, pieces) = std::mem::take(&mut self.spare);
        let kept = self.rest.len();
        // Without zeros where there were bytes before.
        bytes.resize(kept + room, 0);
        bytes[..kept].copy_from_slice(&self.rest);
        let read = read_full(&*self.file, self.offset, &mut bytes[kept..])?;
        bytes.truncate(kept + read);
        let base = self.offset - kept as u64;
        self.offset += read as u64;
        if read == 0 {
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
        self.rest.clear();
        self.rest.extend_from_slice(&bytes[end..]);
        bytes.truncate(end);
        let skipped = std::mem::take(&mut self.skipped);
        Ok(Some(split(bytes, pieces, base, skipped)))
    }
}

/// Splits `bytes`, which end with a line feed and are at `base` of the segment. Their first line is the end of one whose
/// first `skipped` bytes were dropped. What they are comes after `pieces`, which are empty.
fn split(mut bytes: Vec<u8>, mut pieces: VecDeque<Piece>, base: u64, skipped: u64) -> Chunk {
    let mut start = 0;
    while start < bytes.len() {
        let end = start + memchr::memchr(b'\n', &bytes[start..]).unwrap_or(bytes.len() - start - 1);
        let is_cut = start == 0 && skipped > 0;
        if let Some(parsed) = line::parse(&bytes[start..end]).filter(|_| !is_cut) {
            bytes[start + parsed.body_end - 1] = b'}';
            let at = |place: usize| u32::try_from(start + place).unwrap_or(u32::MAX);
            let range = |range: Range<usize>| at(range.start)..at(range.end);
            pieces.push_back(Piece::Record(RecordPiece {
                number: parsed.number,
                offset: base + start as u64,
                length: u32::try_from(end + 1 - start).unwrap_or(u32::MAX),
                body: at(0)..at(parsed.body_end),
                batch: parsed.batch,
                key: parsed.key.map(range),
                position: parsed.position.map(range),
            }));
        } else {
            let before = if is_cut { skipped } else { 0 };
            push_bad(&mut pieces, base + start as u64 - before, (end + 1 - start) as u64 + before);
        }
        start = end + 1;
    }
    match String::from_utf8(bytes) {
        Ok(text) => Chunk { text: Arc::new(Text::All(text)), pieces },
        Err(error) => mixed(error.into_bytes(), pieces, base),
    }
}

fn push_bad(pieces: &mut VecDeque<Piece>, offset: u64, length: u64) {
    match pieces.back_mut() {
        Some(Piece::Bad { bytes, .. }) => *bytes += length,
        _ => pieces.push_back(Piece::Bad { offset, bytes: length }),
    }
}

/// A chunk with bytes that are no text: records with such bytes are none.
fn mixed(bytes: Vec<u8>, found: VecDeque<Piece>, base: u64) -> Chunk {
    let mut pieces = VecDeque::with_capacity(found.len());
    for piece in found {
        match piece {
            Piece::Bad { offset, bytes } => push_bad(&mut pieces, offset, bytes),
            Piece::Record(record) => {
                let start = usize::try_from(record.offset - base).unwrap_or(usize::MAX);
                let line = &bytes[start..start + record.length as usize];
                if std::str::from_utf8(line).is_ok() {
                    pieces.push_back(Piece::Record(record));
                } else {
                    push_bad(&mut pieces, record.offset, u64::from(record.length));
                }
            }
        }
    }
    Chunk { text: Arc::new(Text::Mixed(bytes)), pieces }
}
