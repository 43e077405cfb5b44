//! Reading lines from a mark on.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use jiff::Timestamp;
use watchkeeper::report::one_line;
use watchkeeper_journal::{Entry, MAX_RECORD};

use super::mark::Mark;
use super::report::SkippedLine;
use crate::operation::Operation;

/// How much is read at once.
const PIECE: usize = 256 * 1024;

/// The most lines of one poll.
const MAX_LINES: u64 = 10_000;

/// The most bytes of one poll.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A batch takes no further entry from here on: with the largest one it still is less than a batch of the journal may have.
const FULL: usize = 5 * 512 * 1024;

/// What an entry has besides its text, at most.
const ENTRY: usize = 400;

/// Which part of a file is read.
#[derive(Clone, Debug)]
pub(super) struct Range {
    pub(super) from: Mark,
    /// How far the line at `from` was read, if it is too long.
    pub(super) scanned: u64,
    /// Nothing is read from here on.
    pub(super) to: u64,
    /// The part of a line before `to` is a line if it is complete: nobody writes to the file any more.
    pub(super) is_last: bool,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Taken {
    pub(super) operations: Vec<(Operation, Entry)>,
    pub(super) lines: u64,
    pub(super) skipped: u64,
    pub(super) last_skipped: Option<SkippedLine>,
    /// What is after the mark at the end of the file, and is no complete line.
    pub(super) half: Option<SkippedLine>,
    /// After the last complete line.
    pub(super) mark: Mark,
    pub(super) scanned: u64,
    /// Whether everything was read.
    pub(super) is_end: bool,
}

/// Reads complete lines, as many as a poll may have.
pub(super) fn take(file: &File, inode: u64, range: Range, now: Timestamp) -> io::Result<Taken> {
    let Range { from: mark, scanned, to, is_last } = range;
    let mut is_too_long = scanned > mark.offset;
    let mut at = if is_too_long { scanned } else { mark.offset };
    let end = to.min(at + MAX_BYTES);
    let mut taking = Taking {
        inode,
        now,
        weight: 0,
        taken: Taken { scanned: if is_too_long { scanned } else { 0 }, mark, ..Taken::default() },
    };
    let (mut rest, mut piece) = (Vec::new(), vec![0; PIECE]);
    while at < end && !taking.is_full() {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let read = match file.read_at(&mut piece[..most], at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            break;
        }
        at += read as u64;
        let mut new = &piece[..read];
        if is_too_long {
            let Some(feed) = new.iter().position(|byte| *byte == b'\n') else {
                taking.taken.scanned = at;
                continue;
            };
            let after = at - (new.len() - feed - 1) as u64;
            taking.pass(file, after)?;
            is_too_long = false;
            new = &new[feed + 1..];
        }
        let searched = rest.len();
        rest.extend_from_slice(new);
        let used = taking.lines(&rest, searched);
        rest.drain(..used);
        // One more, for a carriage return.
        if rest.len() > MAX_RECORD + 1 && !taking.is_full() {
            is_too_long = true;
            taking.taken.scanned = at;
            rest.clear();
        }
    }
    let is_end = at >= to && !taking.is_full();
    if is_end && is_last {
        taking.taken.half = if is_too_long {
            Some(SkippedLine { offset: taking.taken.mark.offset, reason: too_long() })
        } else {
            taking.last(&rest)
        };
    }
    taking.taken.is_end = is_end;
    Ok(taking.taken)
}

impl Taken {
    /// Counts a half line that nobody goes on with.
    pub(super) fn give_up(&mut self, half: SkippedLine) {
        self.lines += 1;
        self.skipped += 1;
        self.last_skipped = Some(half);
    }
}

struct Taking {
    inode: u64,
    now: Timestamp,
    weight: usize,
    taken: Taken,
}

impl Taking {
    fn is_full(&self) -> bool {
        self.taken.lines >= MAX_LINES || self.weight >= FULL
    }

    /// Takes the complete lines of `bytes`, of which the first ones have no line feed. Returns how many bytes were used.
    fn lines(&mut self, bytes: &[u8], mut searched: usize) -> usize {
        let mut start = 0;
        while !self.is_full()
            && let Some(feed) = bytes[searched..].iter().position(|byte| *byte == b'\n')
        {
            let end = searched + feed + 1;
            self.line(&bytes[start..end]);
            (start, searched) = (end, end);
        }
        start
    }

    /// Takes one line, with its line feed if it has one.
    fn line(&mut self, whole: &[u8]) {
        let start = self.taken.mark.offset;
        self.taken.mark.advance(whole);
        let mut line = whole;
        if start == 0 {
            line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        }
        let line = line.trim_ascii();
        if line.is_empty() {
            return;
        }
        self.taken.lines += 1;
        match self.operation(line) {
            Ok((operation, entry)) => {
                self.weight += entry.body().len() + ENTRY;
                self.taken.operations.push((operation, entry));
            }
            Err(reason) => self.skip(start, reason),
        }
    }

    /// Takes what has no line feed, if it is a complete line. If not, its writer may go on with it: it stays.
    fn last(&mut self, rest: &[u8]) -> Option<SkippedLine> {
        let Taken { lines, skipped, ref mark, ref last_skipped, .. } = self.taken;
        let (mark, last_skipped) = (mark.clone(), last_skipped.clone());
        self.line(rest);
        if self.taken.skipped == skipped {
            return None;
        }
        (self.taken.lines, self.taken.skipped, self.taken.mark) = (lines, skipped, mark);
        std::mem::replace(&mut self.taken.last_skipped, last_skipped)
    }

    fn operation(&self, line: &[u8]) -> Result<(Operation, Entry), String> {
        if line.len() > MAX_RECORD {
            return Err(too_long());
        }
        let text = std::str::from_utf8(line).map_err(|_| "the line is no UTF-8".to_owned())?;
        let read = Operation::read_correction(text, self.now);
        let (operation, entry) = read.map_err(|error| one_line(&error.to_string(), 300))?;
        let position = self.taken.mark.position(self.inode).to_string();
        let entry = entry.with_position(&position).map_err(|error| error.to_string())?;
        Ok((operation, entry))
    }

    /// Passes a line that is too long, and ends before `after`.
    fn pass(&mut self, file: &File, after: u64) -> io::Result<()> {
        let start = self.taken.mark.offset;
        // Truncated meanwhile: the caller finds out.
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.taken.mark = Mark::load(file, after)?.ok_or_else(gone)?;
        self.taken.scanned = 0;
        self.taken.lines += 1;
        self.skip(start, too_long());
        Ok(())
    }

    fn skip(&mut self, offset: u64, reason: String) {
        self.taken.skipped += 1;
        self.taken.last_skipped = Some(SkippedLine { offset, reason });
    }
}

fn too_long() -> String {
    format!("the line has more than {MAX_RECORD} bytes")
}
