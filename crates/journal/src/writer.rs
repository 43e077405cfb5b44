//! Appending groups of records to segments. It runs on one thread, and knows nothing of threads.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::{Durability, JournalConfig};
use crate::entry::Entry;
use crate::error::AppendError;
use crate::line::{self, Batch, Extras, MAX_BATCH_BYTES};
use crate::medium::{Medium, MediumFile, append_all};
use crate::recovery::{IDENTITY, NEW_IDENTITY, Opened, write_identity};
use crate::segment::{Frontier, RESERVE, Segment, segment_name};

/// The most bytes of records that wait in memory for a disk that cannot be written, with `buffered`.
pub(crate) const BACKLOG: usize = 16 * 1024 * 1024;

/// How many times the segments that are kept may be there beside them, cut short.
const SHORT: usize = 3;

/// One call to append.
pub(crate) struct Request {
    pub(crate) entries: Vec<Entry>,
    /// Its entries are a batch.
    pub(crate) is_batch: bool,
    /// When it was called.
    pub(crate) at: Instant,
}

impl Request {
    fn weight(&self) -> usize {
        self.entries.iter().map(|entry| entry.weight() + 64).sum()
    }
}

/// What became of a request: the number of its first record, and what is promised.
pub(crate) type Written = Result<(u64, Durability), AppendError>;

/// What has happened besides the answers.
#[derive(Debug)]
pub(crate) enum Event {
    /// A segment is complete: it is to be verified, from the byte that it had when it was opened.
    Sealed(Segment, u64),
    /// The disk is full.
    Full,
    /// A write failed for another reason.
    WriteFailed(String),
    /// A sync failed.
    SyncFailed(String),
    /// The file of the active segment was removed by somebody.
    Deleted(String),
    /// The file of the active segment has another size than it was left with.
    Altered(String),
    /// The reserve could not be made at the start.
    NoReserve(String),
    /// A removed segment could not be deleted.
    RetentionFailed(String),
}

struct Active {
    file: Arc<dyn MediumFile>,
    first: u64,
    /// What was there when it was opened.
    start: u64,
    /// The bytes written, and of them those that were synced.
    end: u64,
    synced: u64,
    born: Instant,
    /// Bytes of a failed write may be after `end`: nothing is written before they are gone for good.
    is_torn: bool,
    /// Nothing is appended to it again.
    is_left: bool,
}

impl Active {
    fn new(file: Arc<dyn MediumFile>, Segment { first, end }: Segment, born: Instant) -> Self {
        Self { file, first, start: end, end, synced: end, born, is_torn: false, is_left: false }
    }
}

pub(crate) struct Writer {
    medium: Arc<dyn Medium>,
    config: JournalConfig,
    instance: u128,
    /// Without the active one.
    sealed: Vec<Segment>,
    /// Those of them that a failure has ended: retention does not count them, or a bad disk would remove what is good.
    cut_short: BTreeSet<u64>,
    active: Option<Active>,
    /// The number of the next record.
    next: u64,
    /// The number after the last record that readers may read.
    readable: u64,
    /// Lines that could not be written, with `buffered`.
    backlog: Vec<u8>,
    backlog_records: u64,
    /// A sync failed, with `buffered`. A later one may not cover what it should have.
    unsynced: Option<Arc<io::Error>>,
    /// The disk was full, and the reserve is gone.
    is_full: Option<Arc<io::Error>>,
    pub(crate) events: Vec<Event>,
    /// Keeps other processes out.
    _lock: Box<dyn std::any::Any + Send>,
}

/// Why a group was not written.
enum Failed {
    /// The bytes are not in the segment, or are removed before the next write: their numbers are used again.
    Undone(Arc<io::Error>),
    /// The sync failed. The bytes may survive: their numbers are not used again.
    Unsynced(Arc<io::Error>),
}

impl Writer {
    pub(crate) fn new(medium: Arc<dyn Medium>, config: JournalConfig, opened: Opened, now: Instant) -> Self {
        let Opened { lock, instance, mut segments, active, next, .. } = opened;
        let active = active.and_then(|file| {
            let segment = segments.pop()?;
            Some(Active::new(file, segment, now))
        });
        let mut writer = Self {
            medium,
            config,
            instance,
            sealed: segments,
            cut_short: BTreeSet::new(),
            active,
            next,
            readable: next,
            backlog: Vec::new(),
            backlog_records: 0,
            unsynced: None,
            is_full: None,
            events: Vec::new(),
            _lock: lock,
        };
        if let Err(error) = writer.make_reserve() {
            writer.events.push(Event::NoReserve(error.to_string()));
        }
        writer
    }

    pub(crate) fn frontier(&self) -> Frontier {
        let active = self.active.as_ref().map(|active| Segment { first: active.first, end: active.end });
        // An empty segment has no record.
        let active = active.filter(|segment| segment.end > 0);
        let segments = self.sealed.iter().copied().chain(active).collect();
        Frontier { segments, next: self.readable, limit: self.readable }
    }

    /// How many records wait in memory for the disk.
    pub(crate) fn backlog(&self) -> u64 {
        self.backlog_records
    }

    /// Writes the requests in order, and syncs once for all, or for each with `always`.
    pub(crate) fn commit(&mut self, requests: &[Request]) -> Vec<Written> {
        let mut written = Vec::with_capacity(requests.len());
        while written.len() < requests.len() {
            let rest = &requests[written.len()..];
            let taken = self.take(rest);
            self.commit_some(&rest[..taken], &mut written);
        }
        written
    }

    /// How many of the requests go into one write.
    fn take(&self, requests: &[Request]) -> usize {
        if self.config.durability == Durability::Always {
            return 1;
        }
        let room = usize::try_from(self.config.segment_bytes).unwrap_or(usize::MAX);
        let used = self.active.as_ref().map_or(0, |active| usize::try_from(active.end).unwrap_or(usize::MAX));
        let mut left = room.saturating_sub(used).min(MAX_BATCH_BYTES);
        let fits = |request: &&Request| {
            let weight = request.weight();
            let fits = weight <= left;
            left = left.saturating_sub(weight);
            fits
        };
        requests.iter().take_while(fits).count().max(1)
    }

    fn commit_some(&mut self, requests: &[Request], written: &mut Vec<Written>) {
        let Some(now) = requests.first().map(|request| request.at) else { return };
        let first = self.next;
        let mut lines = std::mem::take(&mut self.backlog);
        let waiting = lines.len();
        let mut firsts = Vec::with_capacity(requests.len());
        for request in requests {
            firsts.push(self.next);
            self.encode(request, &mut lines);
        }
        let failed = match self.write(&lines, now) {
            Ok(()) => {
                self.backlog_records = 0;
                self.readable = self.next;
                let level = self.config.durability;
                written.extend(firsts.into_iter().map(|first| Ok((first, level))));
                return;
            }
            Err(failed) => failed,
        };
        if self.config.durability == Durability::Buffered && lines.len() <= BACKLOG {
            self.backlog = lines;
            self.backlog_records += self.next - first;
            written.extend(firsts.into_iter().map(|first| Ok((first, Durability::Memory))));
            return;
        }
        lines.truncate(waiting);
        self.backlog = lines;
        let error = match failed {
            Failed::Undone(source) => {
                self.next = first;
                if self.is_full.is_some() {
                    AppendError::Full { reserve: self.config.reserve, source }
                } else {
                    AppendError::Write { source }
                }
            }
            Failed::Unsynced(source) => AppendError::Sync { source },
        };
        written.extend(firsts.iter().map(|_| Err(error.clone())));
    }

    /// Writes what waits in memory, and makes everything durable. Returns how many records are not written.
    pub(crate) fn close(&mut self, now: Instant) -> Result<(), (u64, Arc<io::Error>)> {
        let failed = |writer: &Self, error| (writer.backlog_records, Arc::new(error));
        let is_there = self.active.is_some();
        self.look().map_err(|error| failed(self, error))?;
        if is_there && self.active.is_none() && self.backlog.is_empty() {
            // The numbers of what somebody has removed are not used again. What waits begins a segment of its own.
            self.begin_segment(now, &[]).map_err(|error| failed(self, error))?;
        }
        self.cut().map_err(|error| failed(self, error))?;
        if !self.backlog.is_empty() {
            let lines = std::mem::take(&mut self.backlog);
            match self.write(&lines, now) {
                Ok(()) => (self.backlog_records, self.readable) = (0, self.next),
                Err(Failed::Undone(error) | Failed::Unsynced(error)) => {
                    return Err((self.backlog_records, error));
                }
            }
        }
        if let Some(active) = self.active.as_ref().filter(|active| active.end > active.synced) {
            active.file.sync().map_err(|error| (0, Arc::new(error)))?;
        }
        self.unsynced.take().map_or(Ok(()), |error| Err((0, error)))
    }

    fn encode(&mut self, request: &Request, lines: &mut Vec<u8>) {
        let batch =
            request.is_batch.then_some(Batch { first: self.next, count: request.entries.len() as u64 });
        for entry in &request.entries {
            let extras = Extras { batch, key: entry.key.as_deref(), position: entry.position.as_deref() };
            line::encode(lines, entry.body(), extras, self.next);
            self.next += 1;
        }
    }

    fn write(&mut self, lines: &[u8], now: Instant) -> Result<(), Failed> {
        if let Some(error) = &self.is_full {
            let error = Arc::clone(error);
            self.make_reserve().map_err(|_| Failed::Undone(error))?;
            self.is_full = None;
        }
        // If somebody has removed or changed the file meanwhile, the lines go into a new segment.
        for _ in 0..2 {
            if self.write_once(lines, now)? {
                return Ok(());
            }
        }
        Err(Failed::Undone(Arc::new(io::ErrorKind::NotFound.into())))
    }

    /// Returns whether the lines are where they should be.
    fn write_once(&mut self, lines: &[u8], now: Instant) -> Result<bool, Failed> {
        if let Err(error) = self.make_ready(lines, now) {
            self.failed(&error);
            return Err(Failed::Undone(Arc::new(error)));
        }
        let Some(active) = &mut self.active else { return Ok(false) };
        if let Err(error) = append_all(&*active.file, lines) {
            let is_left = self.failed(&error);
            self.tear(is_left);
            return Err(Failed::Undone(Arc::new(error)));
        }
        let before = active.end;
        active.end += lines.len() as u64;
        if matches!(self.config.durability, Durability::Memory | Durability::Buffered) {
            return Ok(true);
        }
        match active.file.sync() {
            Ok(()) => {
                // What cannot be asked for is not known to be gone.
                let is_there =
                    active.file.size_and_removal().map_or(true, |found| found == (active.end, false));
                active.end = if is_there { active.end } else { before };
                active.synced = active.end;
                Ok(is_there)
            }
            Err(error) => {
                // What the operating system still has of it may be gone, whatever a second sync says.
                active.end = before;
                self.events.push(Event::SyncFailed(format!("{}: {error}", segment_name(active.first))));
                self.tear(true);
                Err(Failed::Unsynced(Arc::new(error)))
            }
        }
    }

    /// Makes an active segment that can be appended to.
    fn make_ready(&mut self, lines: &[u8], now: Instant) -> io::Result<()> {
        self.look()?;
        self.cut()?;
        self.roll(lines.len() as u64, now);
        if self.active.is_none() { self.begin_segment(now, lines) } else { Ok(()) }
    }

    /// Leaves a segment that somebody has removed or changed. Nothing of it is cut, if it has records: it is not as it was left.
    fn look(&mut self) -> io::Result<()> {
        let Some(active) = &self.active else { return Ok(()) };
        let (size, is_removed) = active.file.size_and_removal()?;
        if is_removed {
            self.events.push(Event::Deleted(segment_name(active.first)));
            self.active = None;
        } else if !active.is_torn && active.end == 0 && size > 0 {
            // Nothing of the journal is in it.
            self.events.push(Event::Altered(segment_name(active.first)));
            self.tear(false);
        } else if !active.is_torn && size != active.end {
            self.events.push(Event::Altered(segment_name(active.first)));
            let segment = Segment { first: active.first, end: active.end };
            active.file.sync()?;
            self.active = None;
            self.sealed.push(segment);
            self.cut_short.insert(segment.first);
        }
        Ok(())
    }

    /// Notes that bytes of a failed write may be after the end of the active segment, and tries to remove them.
    fn tear(&mut self, is_left: bool) {
        if let Some(active) = &mut self.active {
            (active.is_torn, active.is_left) = (true, is_left);
        }
        // Otherwise the next write tries it again.
        let _ = self.cut();
    }

    /// Removes the bytes of a failed write, so that no power cut brings them back, and ends a segment that is left.
    fn cut(&mut self) -> io::Result<()> {
        let Some(active) = &mut self.active else { return Ok(()) };
        if active.is_torn {
            active.file.truncate(active.end)?;
            active.file.sync()?;
            (active.is_torn, active.synced) = (false, active.end);
        }
        if active.is_left {
            self.seal(false);
        }
        Ok(())
    }

    /// Records a failed write. Returns whether the segment is not to be written any more.
    fn failed(&mut self, error: &io::Error) -> bool {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                self.events.push(Event::Full);
                // Room for what is needed to close the segment.
                let _ = self.medium.remove(RESERVE);
                self.is_full = Some(Arc::new(io::Error::from(error.kind())));
                true
            }
            kind => {
                let name = self.active.as_ref().map_or(self.next, |active| active.first);
                self.events.push(Event::WriteFailed(format!("{}: {error}", segment_name(name))));
                kind == io::ErrorKind::FileTooLarge
            }
        }
    }

    /// Leaves the active segment if it is full or too old.
    fn roll(&mut self, more: u64, now: Instant) {
        let Some(active) = &self.active else { return };
        let is_old =
            self.config.segment_age.is_some_and(|age| now.saturating_duration_since(active.born) >= age);
        if active.end > 0 && (active.end + more > self.config.segment_bytes || is_old) {
            self.seal(true);
        }
    }

    /// Ends the active segment: nothing is appended to it again.
    fn seal(&mut self, is_sound: bool) {
        let Some(active) = self.active.take() else { return };
        if active.end > active.synced
            && let Err(error) = active.file.sync()
        {
            // It goes on beyond its size: only the newest segment may have what is not durable.
            self.events.push(Event::SyncFailed(format!("{}: {error}", segment_name(active.first))));
            self.unsynced = Some(Arc::new(error));
            self.active = Some(active);
            return;
        }
        let segment = Segment { first: active.first, end: active.end };
        // Its name is free for the segment that begins with the same number. One that stays is retired in its turn.
        if active.end == 0 && self.medium.remove(&segment.name()).is_ok() {
            return;
        }
        self.sealed.push(segment);
        if is_sound {
            self.events.push(Event::Sealed(segment, active.start));
        } else {
            self.cut_short.insert(segment.first);
        }
    }

    /// Begins the segment of the first of the `lines`.
    fn begin_segment(&mut self, now: Instant, lines: &[u8]) -> io::Result<()> {
        let first = lines.split(|byte| *byte == b'\n').next().and_then(line::parse);
        let first = first.map_or(self.next, |parsed| parsed.number);
        let name = segment_name(first);
        if self.medium.open(IDENTITY, false).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            // Somebody has emptied the directory.
            let _ = self.medium.remove(NEW_IDENTITY);
            write_identity(&*self.medium, self.instance)?;
        }
        let file = match self.medium.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // An empty one, of an attempt that failed: a segment with records has an earlier name.
                self.sealed.pop_if(|last| last.first == first);
                self.cut_short.remove(&first);
                let file = self.medium.open(&name, true)?;
                file.truncate(0)?;
                file
            }
            created => created?,
        };
        self.medium.sync_names()?;
        self.active = Some(Active::new(file, Segment { first, end: 0 }, now));
        // Retention parses nothing.
        let mut has_removed = false;
        while self.sealed.len() + 1 > self.most_segments() {
            let name = self.sealed[0].name();
            match self.medium.remove(&name) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    // It is tried again with the next segment.
                    self.events.push(Event::RetentionFailed(format!("{name}: {error}")));
                    break;
                }
                _ => {
                    has_removed = true;
                    self.cut_short.remove(&self.sealed.remove(0).first);
                }
            }
        }
        if has_removed {
            // Or a power cut may bring some of them back, and not others.
            self.medium.sync_names()?;
        }
        Ok(())
    }

    /// How many segments are kept. Those that a failure has cut short come on top, as long as all of them together have no
    /// more bytes than the others would have.
    fn most_segments(&self) -> usize {
        let most = usize::try_from(self.config.segments).unwrap_or(usize::MAX).max(2);
        let bytes = self.sealed.iter().fold(0_u64, |bytes, segment| bytes.saturating_add(segment.end));
        if bytes > self.config.segments.saturating_mul(self.config.segment_bytes) {
            return most;
        }
        most.saturating_add(self.cut_short.len().min(most.saturating_mul(SHORT)))
    }

    /// Makes the file that is removed when the disk is full.
    fn make_reserve(&self) -> io::Result<()> {
        let bytes = self.config.reserve;
        if bytes == 0 || self.medium.is_memory() {
            return Ok(());
        }
        if let Ok(file) = self.medium.open(RESERVE, false)
            && file.size()? >= bytes
        {
            return Ok(());
        }
        let _ = self.medium.remove(RESERVE);
        let made = || -> io::Result<()> {
            let file = self.medium.create(RESERVE)?;
            let zeros = vec![0; 256 * 1024];
            let mut left = bytes;
            while left > 0 {
                let some = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
                append_all(&*file, &zeros[..some])?;
                left -= some as u64;
            }
            file.sync()
        };
        made().inspect_err(|_| {
            let _ = self.medium.remove(RESERVE);
        })
    }
}
