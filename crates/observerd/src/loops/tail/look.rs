//! One look at the path and at the open file: what is read, and what is due then. It blocks, and changes nothing.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use jiff::Timestamp;

use super::lines::{Range, Taken, take};
use super::mark::{Mark, Position};
use super::place::{self, NotOpen, Open};
use super::report::{FileState, SkippedLine, TailEvent};

/// After how many looks to its end a file is left though it still grows.
const MOST_LOOKS: u32 = 20;

/// What is read, and how far.
#[derive(Clone, Debug, Default)]
pub(super) struct Reading {
    open: Option<Open>,
    mark: Mark,
    /// How far the line at the mark was read, if it is too long.
    scanned: u64,
    /// Set while the path does not lead to the open file.
    left: Option<Left>,
    /// A half line at the end of a file that was left. It counts when another file is opened.
    half: Option<Half>,
    /// Where to go on if the file of this position is there.
    resume: Option<Position>,
    /// The file may have another name by now.
    is_restarted: bool,
    pub(super) state: FileState,
    pub(super) problem: String,
}

/// The path does not lead to the open file, whose writer may need a moment to learn of it.
#[derive(Clone, Copy, Debug, Default)]
struct Left {
    /// The size at the last look, if everything was read.
    size: Option<u64>,
    /// How many looks have reached the end.
    looks: u32,
}

#[derive(Clone, Debug)]
struct Half {
    device: u64,
    inode: u64,
    line: SkippedLine,
}

/// What the path leads to.
enum There {
    Same,
    /// Another file, or what is no file.
    Other(Option<NotOpen>),
    /// It cannot be found out: it may be the same.
    Unknown(String),
}

/// What a look has found.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) reading: Reading,
    pub(super) taken: Taken,
    pub(super) events: Vec<TailEvent>,
    /// The file was opened, and nothing was read yet.
    pub(super) is_opened: bool,
    /// The next look is due at once.
    pub(super) has_more: bool,
    /// Every complete line was read.
    pub(super) is_end: bool,
}

impl Reading {
    /// Begins at a position, or with the first byte.
    pub(super) fn new(resume: Option<Position>) -> Self {
        Self { resume, is_restarted: resume.is_some(), ..Self::default() }
    }

    /// Where to go on after a restart.
    pub(super) fn position(&self) -> Option<Position> {
        match &self.open {
            Some(open) if self.mark.offset > 0 => Some(self.mark.position(open.inode)),
            Some(_) => None,
            None => self.resume,
        }
    }

    pub(super) fn offset(&self) -> u64 {
        self.mark.offset
    }

    /// Looks at the path, and reads what one poll may read.
    pub(super) fn look(&self, path: &Path, now: Timestamp) -> io::Result<Look> {
        let mut look = Look {
            reading: self.clone(),
            taken: Taken::default(),
            events: Vec::new(),
            is_opened: false,
            has_more: false,
            is_end: true,
        };
        let Some(open) = self.open.clone() else {
            look.open(path)?;
            return Ok(look);
        };
        // Before anything is read: what was written before a renaming is read after it was seen.
        let there = match place::status(path) {
            Ok(metadata) if open.is(&metadata) => There::Same,
            Ok(_) => There::Other(None),
            Err(NotOpen { state: FileState::Unreadable, problem }) => There::Unknown(problem),
            Err(not_open) => There::Other(Some(not_open)),
        };
        look.read(&open, there, now)?;
        Ok(look)
    }

    fn begin(&mut self) {
        (self.mark, self.scanned, self.left) = (Mark::default(), 0, None);
    }
}

impl Look {
    /// Opens the file. It is read by the next look, so that it stays open whatever becomes of its lines.
    fn open(&mut self, path: &Path) -> io::Result<()> {
        let reading = &mut self.reading;
        let opened = place::open(path);
        let mut found = None;
        if let Some(position) = reading.resume {
            if let Ok(open) = &opened
                && let Some(mark) = position.find(&open.file, open.inode)?
            {
                found = Some((open.clone(), mark));
            } else if reading.is_restarted {
                found = place::find_renamed(path, position);
            }
        }
        reading.is_restarted = false;
        let (open, mark) = match (found, opened) {
            (Some(found), _) => found,
            (None, Ok(open)) => (open, Mark::default()),
            (None, Err(not_open)) => {
                self.is_not_open(not_open);
                return Ok(());
            }
        };
        reading.begin();
        reading.resume = None;
        if let Some(half) = reading.half.take()
            && (half.device, half.inode) != (open.device, open.inode)
        {
            self.taken.give_up(half.line);
        }
        (reading.state, reading.problem) = (FileState::Reading, String::new());
        self.events.push(TailEvent::Appeared { offset: mark.offset });
        (reading.open, reading.mark) = (Some(open), mark);
        (self.is_opened, self.is_end) = (true, false);
        Ok(())
    }

    fn is_not_open(&mut self, NotOpen { state, problem }: NotOpen) {
        let reading = &mut self.reading;
        if reading.state != state {
            self.events.push(match state {
                FileState::Missing => TailEvent::Missing,
                _ => TailEvent::Unusable { problem: problem.clone() },
            });
        }
        (reading.state, reading.problem) = (state, problem);
    }

    /// Reads the open file, and leaves it if the path leads elsewhere and nothing more comes.
    fn read(&mut self, open: &Open, there: There, now: Timestamp) -> io::Result<()> {
        let (is_same, is_other) = (matches!(there, There::Same), matches!(there, There::Other(_)));
        let reading = &mut self.reading;
        let problem = if let There::Unknown(problem) = &there { problem.as_str() } else { "" };
        if !problem.is_empty() && reading.problem != problem {
            self.events.push(TailEvent::Unusable { problem: problem.to_owned() });
        }
        problem.clone_into(&mut reading.problem);
        if !reading.mark.is_in(&open.file)? {
            self.events.push(TailEvent::Truncated { offset: reading.mark.offset });
            reading.begin();
        }
        let metadata = open.file.metadata()?;
        let size = metadata.len();
        if is_same {
            reading.left = None;
        }
        let left = reading.left.unwrap_or_default();
        let is_last = is_other && (left.size == Some(size) || left.looks >= MOST_LOOKS);
        let scanned = if reading.scanned <= size { reading.scanned } else { 0 };
        let range = Range { from: reading.mark.clone(), scanned, to: size, is_last };
        let taken = take(&open.file, open.inode, range, now);
        if !reading.mark.is_in(&open.file)? {
            // Truncated while it was read: what was read is no line. The next look finds it.
            (self.has_more, self.is_end) = (true, false);
            return Ok(());
        }
        let mut taken = taken?;
        reading.mark = std::mem::take(&mut taken.mark);
        reading.scanned = taken.scanned;
        (self.has_more, self.is_end) = (!taken.is_end, taken.is_end);
        let is_end = taken.is_end;
        if is_other {
            // Looks at a backlog follow each other at once, and give its writer no time.
            let left = Left { size: is_end.then_some(size), looks: left.looks + u32::from(is_end) };
            reading.left = Some(left);
        }
        self.taken = taken;
        match there {
            There::Other(not_open) if is_last && is_end => {
                self.leave(open, metadata.nlink() == 0, not_open);
            }
            _ => self.is_end &= is_same,
        }
        Ok(())
    }

    /// The path leads elsewhere, and the open file was read to its end.
    fn leave(&mut self, open: &Open, is_removed: bool, not_open: Option<NotOpen>) {
        let reading = &mut self.reading;
        let offset = reading.mark.offset;
        if let Some(line) = self.taken.half.take() {
            if is_removed {
                self.taken.give_up(line);
            } else {
                reading.half = Some(Half { device: open.device, inode: open.inode, line });
            }
        }
        // A removed one does not come back: its inode may be the next file's.
        reading.resume = (!is_removed && offset > 0).then(|| reading.mark.position(open.inode));
        reading.open = None;
        reading.begin();
        if let Some(not_open) = not_open {
            self.is_not_open(not_open);
        } else {
            self.events.push(TailEvent::Rotated { offset });
            (self.has_more, self.is_end) = (true, false);
        }
    }
}
